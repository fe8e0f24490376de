"""Web and realtime servers whose clocks are wrong: only the storage's clock counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache.backends import db
from django.core.management import call_command
from django.utils.timezone import now

from realtime_ticket import TicketService
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from tests.faults.load import lets_in
from tests.faults.storages import KINDS, Storage
from tests.helpers import CLAIMS, using

MINUTE, YEAR = 60, 365 * 24 * 60 * 60
SKEWS = [
    (5 * MINUTE, -5 * MINUTE),
    (-5 * MINUTE, 5 * MINUTE),
    (20 * YEAR, -20 * YEAR),
    (-20 * YEAR, 20 * YEAR),
]
"""How far ahead the clock of who issues is, and of who consumes, in seconds."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Any]:
    """Give a function that sets this machine's clock ahead for as long as a block."""
    right = time.time

    @contextmanager
    def ahead(seconds: float) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: right() + seconds)
            patch.setattr(db, "tz_now", lambda: now() + timedelta(seconds=seconds))
            yield

    return ahead


def check(service: TicketService, clock: Any) -> None:
    """Issue tickets under wrong clocks, and consume them under others."""
    issued = []
    for issuer, consumer in SKEWS:
        with clock(issuer):
            issued.append(
                (consumer, *(service.issue(CLAIMS, expire=n) for n in (60, 1)))
            )
    time.sleep(1.5)
    for consumer, live, expired in issued:
        with clock(consumer):
            assert [lets_in(service, live) for _ in range(2)] == [True, False]
            assert not lets_in(service, expired)


@pytest.mark.parametrize("given", KINDS, indirect=True)
def test_on_a_server(given: Storage, clock: Any) -> None:
    """A ticket lives as long as it should, however far two machines are apart.

    Mutants: service-goes-by-its-own-clock, redis-goes-by-the-clock-of-who-issues,
    memcached-goes-by-the-clock-of-who-issues.
    """
    with using(given.backend()) as service:
        check(service, clock)


@pytest.mark.django_db(transaction=True)
def test_in_a_file(clock: Any) -> None:
    """SQLite asks the machine, and not Python.

    Mutants: service-goes-by-its-own-clock.
    """
    with using(DatabaseBackend()) as service:
        check(service, clock)


def test_in_memory(clock: Any) -> None:
    """A process measures time, and does not look at its clock.

    Mutants: service-goes-by-its-own-clock, locmem-goes-by-the-clock-on-the-wall.
    """
    with using(LocMemBackend()) as service:
        check(service, clock)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("alias", ["default", "file", "database"])
def test_in_a_cache_of_django(alias: str, clock: Any) -> None:
    """A limit, documented under "Clocks": in Django's local-memory, file and database
    caches the expiry is judged by the clocks of those who use them. Where one is ahead,
    a ticket is refused at once, or outlives its time by as much. It lets in once.

    Mutants: cache-winner-deletes-nothing.
    """
    if alias == "database":
        call_command("createcachetable", "cache_table", verbosity=0)
    with using(CacheBackend(alias=alias)) as service:
        with clock(5 * MINUTE):
            ticket, expired = (service.issue(CLAIMS, expire=n) for n in (60, 1))
        with clock(10 * MINUTE):
            assert not lets_in(service, ticket)
        with clock(5 * MINUTE):
            ticket = service.issue(CLAIMS, expire=60)
        time.sleep(1.1)
        with clock(0):
            for each in (ticket, expired):
                assert [lets_in(service, each) for _ in range(2)] == [True, False]
