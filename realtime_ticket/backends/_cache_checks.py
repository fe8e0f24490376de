"""What ``manage.py check`` reports about a cache that keeps tickets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.cache.backends.redis import RedisCache

from ._cache_classes import check_class, names_of
from ._memory_checks import check_memory

_DEFAULT_MAX_ENTRIES = 300
_DJANGO_REDIS = "django_redis.cache.RedisCache"
_DEFAULT_CLIENT = "django_redis.client.default.DefaultClient"
_REDIS_HINT = (
    "redis-py 8 waits 5 seconds and tries ten times. Set socket_timeout, "
    "socket_connect_timeout and retry=Retry(NoBackoff(), 0) in its OPTIONS (with "
    "django-redis: in OPTIONS['CONNECTION_POOL_KWARGS'])."
)
# Without dead_timeout, pymemcache does not ask a server for a minute after a failure.
_MEMCACHED_HINT = (
    "Set timeout, connect_timeout and dead_timeout, in seconds, in its OPTIONS."
)


def check_cache(alias: str) -> list[checks.CheckMessage]:
    """Return the findings about the cache with this alias, without asking it."""
    cache: BaseCache = caches[alias]
    options = settings.CACHES[alias].get("OPTIONS", {})
    return [
        *_sharing(cache, alias),
        *check_class(cache, alias),
        *_capacity(cache, alias),
        *_disconnects(cache, alias),
        *_hidden_errors(cache, alias, options),
        *_failing_servers(cache, alias, options),
        *_timeouts(cache, alias, options),
    ]


def _sharing(cache: BaseCache, alias: str) -> Iterator[checks.CheckMessage]:
    if isinstance(cache, DummyCache):
        yield checks.Warning(
            f"The cache {alias!r} keeps nothing, so no ticket is ever valid.",
            hint="Set REALTIME_TICKET_CACHE to the alias of a real cache.",
            id="realtime_ticket.W010",
        )
    elif isinstance(cache, LocMemCache):
        yield from check_memory(
            f"The cache {alias!r}", "REALTIME_TICKET_CACHE", "the alias of a cache"
        )


def _capacity(cache: Any, alias: str) -> Iterator[checks.CheckMessage]:
    if (
        isinstance(cache, (DatabaseCache, FileBasedCache, LocMemCache))
        and cache._max_entries == _DEFAULT_MAX_ENTRIES
    ):
        yield checks.Warning(
            f"The cache {alias!r} drops live tickets beyond {_DEFAULT_MAX_ENTRIES} "
            "entries of any kind.",
            hint="Give tickets a cache of their own and raise OPTIONS['MAX_ENTRIES'].",
            id="realtime_ticket.W003",
        )


def _disconnects(cache: Any, alias: str) -> Iterator[checks.CheckMessage]:
    if isinstance(cache, FileBasedCache):
        yield checks.Warning(
            f"The cache {alias!r} can lose a disconnect when two are written at the "
            "same moment.",
            hint="Use another cache, or a backend of this package that is not a cache.",
            id="realtime_ticket.W025",
        )
    elif _reads_replicas(cache):
        yield checks.Warning(
            f"The cache {alias!r} reads from replicas, which may not have a ticket or "
            "a disconnect yet.",
            hint="Name one server in its LOCATION, or use RedisSentinelBackend.",
            id="realtime_ticket.W026",
        )


def _reads_replicas(cache: Any) -> bool:
    """Tell whether the cache writes to its first server and reads from the others."""
    if isinstance(cache, RedisCache):
        return len(cache._servers) > 1  # type: ignore[attr-defined]
    # Not those that are derived from it: a ShardClient has each value on one server.
    client = getattr(cache, "_client_cls", object)
    if names_of(client)[0] != _DEFAULT_CLIENT:
        return False
    servers = cache._server
    return len(servers.split(",") if isinstance(servers, str) else servers) > 1


def _hidden_errors(
    cache: Any, alias: str, options: dict[str, Any]
) -> Iterator[checks.CheckMessage]:
    if getattr(cache, "_ignore_exceptions", False) or options.get("ignore_exc"):
        yield checks.Error(
            f"The cache {alias!r} hides its errors, so an outage looks like an "
            "invalid ticket.",
            hint="Remove IGNORE_EXCEPTIONS (django-redis) or ignore_exc (pymemcache), "
            "or give tickets a cache of their own.",
            id="realtime_ticket.E011",
        )


def _failing_servers(
    cache: Any, alias: str, options: dict[str, Any]
) -> Iterator[checks.CheckMessage]:
    if not isinstance(cache, PyMemcacheCache):
        return
    servers: Any = cache._servers  # type: ignore[attr-defined]
    if options.get("retry_attempts") != 0 or len(servers) > 1:
        yield checks.Warning(
            f"The cache {alias!r} treats a Memcached server that is down as empty, so "
            "for a while an outage looks like an invalid ticket.",
            hint="Set retry_attempts to 0 in its OPTIONS and use one server, or use "
            "MemcachedBackend.",
            id="realtime_ticket.W012",
        )


def _timeouts(
    cache: BaseCache, alias: str, options: dict[str, Any]
) -> Iterator[checks.CheckMessage]:
    # django-redis spells its own options in capitals.
    given = {name.lower() for name in options}
    given |= set(options.get("CONNECTION_POOL_KWARGS", {}))
    if isinstance(cache, RedisCache) or _DJANGO_REDIS in names_of(type(cache)):
        wanted = {"socket_timeout", "socket_connect_timeout", "retry"}
        hint = _REDIS_HINT
    elif isinstance(cache, PyMemcacheCache):
        wanted = {"timeout", "connect_timeout", "dead_timeout"}
        hint = _MEMCACHED_HINT
    else:
        return
    if missing := sorted(wanted - given):
        yield checks.Warning(
            f"The cache {alias!r} does not say how long to wait for a server that is "
            f"down: {', '.join(missing)} not set.",
            hint=hint,
            id="realtime_ticket.W004",
        )
