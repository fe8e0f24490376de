"""Row 3: tickets in a database."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from dataclasses import replace

from django.core.cache import caches
from django.utils import timezone

from realtime_ticket import TicketService
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.models import StoredTicket
from realtime_ticket.tickets import storage_key

from . import by_hand, ours, tables
from .harness import Effort, Finding, Target, calls, compare, flights

TITLE = "Databases: issue a ticket and consume it"

DRIVERS = {"sqlite": "sqlite3", "postgresql": "psycopg", "mariadb": "mysqlclient"}


def run(effort: Effort) -> list[Finding]:
    findings = []
    for vendor in tables.VENDORS:
        tables.create(vendor)
        service = TicketService(DatabaseBackend(alias=vendor))
        findings += one_by_one(vendor, service, effort)
        findings += many_at_once(vendor, service, effort)
        service.close()
    return findings + (prepared(effort) if "postgresql" in tables.VENDORS else [])


def one_by_one(vendor: str, service: TicketService, effort: Effort) -> list[Finding]:
    cache = caches[f"{vendor}-table"]
    result = compare(
        [
            calls("realtime_ticket", lambda: ours.pair(service)),
            calls(DRIVERS[vendor], by_driver(vendor, "few")),
            calls("Django's ORM", lambda: orm(vendor)),
            calls("DatabaseCache", lambda: by_hand.in_cache(cache)),
        ],
        effort,
    )
    return [
        result.ratio(vendor, DRIVERS[vendor], "time", Target(at_most=1.5)),
        result.ratio(vendor, "Django's ORM", "time", Target(at_most=1)),
        result.ratio(vendor, "DatabaseCache", "time", Target(at_most=1)),
    ]


def prepared(effort: Effort) -> list[Finding]:
    """Let PostgreSQL keep our statements' plans. psycopg does, but not under Django."""
    service = TicketService(DatabaseBackend(alias="postgresql-prepared"))
    other = TicketService(DatabaseBackend(alias="postgresql"))
    result = compare(
        [
            calls("realtime_ticket", lambda: ours.pair(service)),
            calls("not prepared", lambda: ours.pair(other)),
            calls("psycopg", by_driver("postgresql", "few")),
        ],
        effort,
    )
    service.close()
    other.close()
    work = "postgresql, prepared"
    return [
        result.ratio(work, "psycopg", "time", Target(at_most=1.2)),
        result.ratio(work, "not prepared", "time"),
    ]


def many_at_once(vendor: str, service: TicketService, effort: Effort) -> list[Finding]:
    workers = min(1000, effort.most)
    effort = replace(effort, rounds=min(3, effort.rounds))  # each takes seconds
    with asyncio.Runner() as runner:
        result = compare(
            [
                flights(
                    "realtime_ticket", lambda: ours.apair(service), workers, runner
                ),
                flights("Django's ORM", lambda: async_orm(vendor), workers, runner),
            ],
            effort,
        )
        runner.run(service.aclose())
    work = f"{vendor}, {workers:,} in flight"
    return [result.ratio(work, "Django's ORM", "rate", Target(at_least=10))]


def by_driver(vendor: str, database: str) -> Callable[[], None]:
    """Return what does the same with our statements and nothing around them."""
    execute, dialect = tables.connect(vendor, database), tables.DIALECTS[vendor]
    add, pop = dialect.add.format(dialect.row), dialect.pop.format("%s")

    def run() -> None:
        value, data = by_hand.make()
        key = storage_key(value, hashed=True)
        if not execute(add, (key, data, by_hand.EXPIRE)):
            raise RuntimeError
        ((_, stored),) = execute(pop, (key,))
        by_hand.read(stored)

    return run


def orm(alias: str) -> None:
    value, data = by_hand.make()
    expires_at = timezone.now() + datetime.timedelta(seconds=by_hand.EXPIRE)
    rows = StoredTicket.objects.using(alias)
    rows.create(ticket_key=value, data=data, expires_at=expires_at)
    ticket = rows.filter(expires_at__gt=timezone.now()).get(pk=value)
    if not rows.filter(pk=value).delete()[0]:
        raise LookupError
    by_hand.read(ticket.data)


async def async_orm(alias: str) -> None:
    value, data = by_hand.make()
    expires_at = timezone.now() + datetime.timedelta(seconds=by_hand.EXPIRE)
    rows = StoredTicket.objects.using(alias)
    await rows.acreate(ticket_key=value, data=data, expires_at=expires_at)
    ticket = await rows.filter(expires_at__gt=timezone.now()).aget(pk=value)
    if not (await rows.filter(pk=value).adelete())[0]:
        raise LookupError
    by_hand.read(ticket.data)
