"""Databases with other settings, who gives them orders, and who uses them."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connections

from realtime_ticket import StorageError, TicketService
from realtime_ticket.backends.base import Item
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.tickets import new_value
from tests import servers
from tests.faults.nodes import DEAD, PgBouncerNode, states_of
from tests.faults.storages import Storage
from tests.helpers import CLAIMS, within

BOUND = 4.5
"""Seconds that a call may take on a busy machine, while someone holds a lock."""

Attempt = Callable[[], bool]

_numbers = itertools.count()


def alias_of(given: Storage) -> str:
    backend = given.backend()
    assert isinstance(backend, DatabaseBackend)
    return backend.alias


def database(settings: dict[str, Any]) -> DatabaseBackend:
    """Return a backend on a database with these settings, by an alias of its own."""
    alias = f"database-{next(_numbers)}"
    connections.settings[alias] = settings
    return DatabaseBackend(alias=alias)


def variant(given: Storage, **changes: Any) -> DatabaseBackend:
    """Return a backend on this server with other settings."""
    return database(connections.settings[alias_of(given)] | changes)


@contextmanager
def administrator(given: Storage) -> Iterator[Any]:
    """Give a cursor on the server itself, with the patience of its driver."""
    connection: Any = connections[alias_of(given)].copy()
    connection.settings_dict |= {"PORT": given.node.port, "OPTIONS": {}}
    with closing(connection), connection.cursor() as cursor:
        yield cursor


def order(given: Storage, *statements: str) -> None:
    with administrator(given) as cursor:
        for statement in statements:
            cursor.execute(statement)


def end_connections(given: Storage) -> None:
    """Let the server drop all clients but the one that asks for it."""
    with administrator(given) as cursor:
        if given.name == "PostgreSQL":
            cursor.execute(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            ended = [pid for pid, _ in cursor.fetchall()]
            servers.until(lambda: states_of(ended) <= DEAD)
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist"
            " WHERE user = 'root' AND id <> CONNECTION_ID()"
        )
        for (number,) in cursor.fetchall():
            with suppress(Exception):  # it may have gone by itself
                cursor.execute(f"KILL {number}")


@contextmanager
def pgbouncer(given: Storage) -> Iterator[DatabaseBackend]:
    """Run a PgBouncer, and give a backend that goes through it."""
    node = PgBouncerNode(given.proxy.port)
    yield variant(given, PORT=node.port)
    node.kill()


@contextmanager
def worker(backend: DatabaseBackend, door: str) -> Iterator[Attempt]:
    """Give a function that issues a ticket and consumes it. It says if that worked.

    All of that is done in one thread, or in one event loop, as in a process that is
    never restarted and has no requests.
    """
    service = TicketService(backend)

    def attempt() -> bool:
        with suppress(StorageError):
            ticket = service.issue(CLAIMS)
            return service.consume(ticket.value) == ticket
        return False

    async def aattempt() -> bool:
        with suppress(StorageError):
            ticket = await service.aissue(CLAIMS)
            return await service.aconsume(ticket.value) == ticket
        return False

    with asyncio.Runner() as runner:
        if door == "async":
            yield lambda: runner.run(aattempt())
            runner.run(service.aclose())
        else:
            yield attempt
            service.close()


def refused(call: Callable[[Any], object], argument: object) -> None:
    """Demand that the call fails soon, as one does in an outage."""
    with within(BOUND), pytest.raises(StorageError):
        call(argument)


@dataclass
class Storm:
    """Batches from eight threads, with the same tickets in any order.

    Tickets are shown again and again, while others are added, and cleared away. They
    are added once: no two tickets have one key.
    """

    backend: DatabaseBackend
    accepted: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    crossed: int = 0
    longest: float = 0.0
    _open: deque[str] = field(default_factory=lambda: deque(maxlen=120))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def doubles(self) -> int:
        return sum(count > 1 for count in self.accepted.values())

    def rage(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with ThreadPoolExecutor(8) as pool:
            runs = [pool.submit(self._run, seed, deadline) for seed in range(8)]
            for run in runs:
                run.result(60)

    def _run(self, seed: int, deadline: float) -> None:
        chance = random.Random(seed)
        calls = [self._add, self._pop, self._pop, self._clear]
        while (started := time.monotonic()) < deadline:
            error = ""
            try:
                chance.choice(calls)(chance)
            except Exception as exc:
                error = repr(exc)
            with self._lock:
                self.operations += 1
                self.longest = max(self.longest, time.monotonic() - started)
                self.errors.update([error] if error else [])
        connections.close_all()  # this thread's

    def _add(self, chance: random.Random) -> None:
        keys = [new_value() for _ in range(chance.choice([1, 5, 30]))]
        # For 0 seconds, so that there is always something to clear.
        items = [Item(key, key, chance.choice([0, 60])) for key in keys]
        assert all(self.backend.add_many(items))
        with self._lock:
            self._open.extend(keys)

    def _pop(self, chance: random.Random) -> None:
        with self._lock:
            keys = list(self._open)
        keys = chance.sample(keys, min(len(keys), chance.choice([1, 5, 30])))
        if not keys:
            return
        for key, text in zip(keys, self.backend.pop_many(keys), strict=True):
            if text is not None:
                with self._lock:
                    self.accepted[key] += 1
                    self.crossed += text != key

    def _clear(self, chance: random.Random) -> None:
        self.backend.clear_expired()
