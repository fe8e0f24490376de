"""Row 4: tickets in Memcached, and in the caches of Django."""

from __future__ import annotations

from django.core.cache import caches
from pymemcache.client.base import Client

from realtime_ticket import TicketService
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from tests import servers

from . import by_hand, ours
from .harness import Contender, Effort, Finding, Target, calls, compare

TITLE = "Memcached and Django's caches: issue a ticket and consume it"

SERVER = f"unix:{servers.MEMCACHED[0]}"
ALIASES = ("redis", "django-redis", "memcached", "file", "default")


def run(effort: Effort) -> list[Finding]:
    servers.start("memcached")
    servers.start("redis")
    findings = [memcached(effort)]
    for alias in ALIASES:
        service, cache = TicketService(CacheBackend(alias=alias)), caches[alias]
        name = type(cache).__name__
        if alias == "django-redis":
            name = "django-redis"
        findings.append(
            side_by_side(
                f"CacheBackend, {name}",
                service,
                calls("add, get, delete", lambda cache=cache: by_hand.in_cache(cache)),
                effort,
            )
        )
    return findings


def memcached(effort: Effort) -> Finding:
    service = TicketService(MemcachedBackend(servers=[SERVER]))
    client = Client(
        SERVER, no_delay=True, default_noreply=False, timeout=1, connect_timeout=1
    )
    bare = calls("pymemcache", lambda: by_pymemcache(client))
    return side_by_side("MemcachedBackend", service, bare, effort, target=1.1)


def side_by_side(
    work: str,
    service: TicketService,
    bare: Contender,
    effort: Effort,
    target: float = 1.15,
) -> Finding:
    result = compare(
        [calls("realtime_ticket", lambda: ours.pair(service)), bare], effort
    )
    service.close()
    return result.ratio(work, bare.name, "time", Target(at_most=target))


def by_pymemcache(client: Client) -> None:
    value, data = by_hand.make()
    if not client.add(value, data, expire=by_hand.EXPIRE):
        raise RuntimeError
    stored = client.get(value)
    if not client.delete(value):
        raise LookupError
    by_hand.read(stored)
