"""SQLite files that are locked, full, read-only, replaced, and shared by processes."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from realtime_ticket import InvalidTicket, StorageError, Ticket, TicketService
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.models import StoredTicket
from tests.faults.databases import BOUND, Storm, database, refused
from tests.helpers import CLAIMS, using

PROCESSES = 8
TICKETS = 40
PATIENT = {"timeout": 30}

MODES: dict[str, dict[str, Any]] = {
    "write-ahead log": {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
    "rollback journal": {"init_command": "PRAGMA synchronous=OFF;"},
}
"""The OPTIONS that the documentation names, and Django's own, with a faster disk."""

every_mode = pytest.mark.parametrize("mode", MODES)

Open = Callable[..., DatabaseBackend]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite3"


@pytest.fixture
def opened(
    path: Path, django_db_setup: None, django_db_blocker: Any
) -> Iterator[Callable[..., DatabaseBackend]]:
    """Give a function that returns a backend on the file, with its table."""
    engine = connections.settings["default"]

    def make(mode: str = "write-ahead log", **options: Any) -> DatabaseBackend:
        options = {"timeout": 0.3} | MODES[mode] | options
        backend = database(engine | {"NAME": path, "OPTIONS": options})
        call_command("migrate", "realtime_ticket", database=backend.alias, verbosity=0)
        return backend

    with django_db_blocker.unblock():
        yield make


@contextmanager
def writing(path: Path, how: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """Write to the file, as another process would, until the block ends."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {how}")
        other.execute("INSERT INTO realtime_ticket VALUES ('other', '{}', '')")
        yield other
        other.execute("COMMIT")


@every_mode
@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_locked_by_another(opened: Open, path: Path, mode: str, how: str) -> None:
    """Every call waits as long as ``timeout`` in OPTIONS says, and fails.

    Mutants: database-knows-outages-of-another-kind, database-hides-its-outage,
    database-issues-into-the-void.
    """
    with using(opened(mode)) as service:
        ticket = service.issue(CLAIMS)
        with writing(path, how):
            refused(service.issue, CLAIMS)
            refused(service.consume, ticket.value)
        assert service.consume(ticket.value) == ticket


def test_transactions_that_begin_by_reading(opened: Open, path: Path) -> None:
    """Not IMMEDIATE, one cannot go on to issue once another has written: it fails.

    Mutants: database-knows-outages-of-another-kind, database-issues-into-the-void.
    """
    backend = opened(transaction_mode="DEFERRED")
    with using(backend) as service:
        service.issue(CLAIMS)
        with pytest.raises(StorageError), transaction.atomic(using=backend.alias):
            assert StoredTicket.objects.using(backend.alias).count() == 1
            with writing(path):
                pass
            service.issue(CLAIMS)
        assert StoredTicket.objects.using(backend.alias).count() == 2
        ticket = service.issue(CLAIMS)
        assert service.consume(ticket.value) == ticket


def test_read_only(opened: Open, path: Path) -> None:
    """Who cannot spend a ticket lets nobody in, and issues none.

    Mutants: database-knows-outages-of-another-kind, database-hides-its-outage,
    database-issues-into-the-void.
    """
    with using(opened("rollback journal")) as service:
        ticket = service.issue(CLAIMS)
        settings = connections.settings[service.backend.alias]  # type: ignore[attr-defined]
        with using(database(settings | {"NAME": f"file:{path}?mode=ro"})) as reader:
            refused(reader.issue, CLAIMS)
            refused(reader.consume, ticket.value)
        assert service.consume(ticket.value) == ticket


@every_mode
def test_full(opened: Open, mode: str) -> None:
    """No ticket is issued that is not there. Those that are there work, once.

    Mutants: database-knows-outages-of-another-kind, database-issues-into-the-void.
    """
    init = f"{MODES[mode]['init_command']}PRAGMA max_page_count=16"
    bulky = CLAIMS | {"text": "x" * 1000}
    tickets = []
    with using(opened(mode, init_command=init)) as service:
        with pytest.raises(StorageError):
            tickets += (service.issue(bulky, expire=60) for _ in range(100))
        refused(service.issue, bulky)
        assert len(tickets) > 5
        for ticket in tickets:
            assert service.consume(ticket.value) == ticket
            with pytest.raises(InvalidTicket):
                service.consume(ticket.value)
        ticket = service.issue(bulky)
        assert service.consume(ticket.value) == ticket


@every_mode
def test_deleted(opened: Open, path: Path, mode: str) -> None:
    """Whether the file that is gone still works or not, no ticket works twice.

    Mutants: database-knows-outages-of-another-kind.
    """
    with using(opened(mode)) as service:
        tickets = [service.issue(CLAIMS, expire=60) for _ in range(9)]
        for file in path.parent.iterdir():
            file.unlink()
        accepted = Counter(ticket for ticket in tickets * 2 if lets_in(service, ticket))
        service.close()
        refused(service.consume, tickets[0].value)  # in a new file, without the table
        refused(service.issue, CLAIMS)
        assert max(accepted.values(), default=0) <= 1


def lets_in(service: TicketService, ticket: Ticket) -> bool:
    with suppress(InvalidTicket, StorageError):
        return service.consume(ticket.value) == ticket
    return False


def test_replaced_by_an_older_copy(opened: Open, path: Path) -> None:
    """A LIMIT, which guarantees.md names: what was spent since the copy comes back.

    It does for all who open the copy, and for what is left of the ticket's time.

    Mutants: sqlite-ignores-expiry.
    """
    with using(opened("rollback journal")) as service:
        brief, ticket = (service.issue(CLAIMS, expire=expire) for expire in (6, 60))
        copy = shutil.copy(path, f"{path}.copy")
        assert service.consume(brief.value) == brief
        assert service.consume(ticket.value) == ticket
        Path(copy).replace(path)
        assert not lets_in(service, ticket)
        service.close()
        time.sleep(6)
        assert service.consume(ticket.value) == ticket
        for spent in brief, ticket:
            with pytest.raises(InvalidTicket):
                service.consume(spent.value)


@dataclass
class Race:
    """What processes counted that showed the same tickets at the same time."""

    accepted: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    crossed: int = 0
    longest: float = 0.0

    @property
    def doubles(self) -> int:
        return sum(count > 1 for count in self.accepted.values())

    def run(self, service: TicketService, tickets: list[Ticket], gate: Any) -> Race:
        """Show each of these tickets when all do, and one that nobody else has."""
        for shared in tickets:
            own = service.issue(CLAIMS)
            gate.wait(60)
            for ticket in shared, own:
                started = time.monotonic()
                with suppress(InvalidTicket):
                    self.crossed += service.consume(ticket.value) != ticket
                    self.accepted[ticket.value] += 1
                self.operations += 1
                self.longest = max(self.longest, time.monotonic() - started)
        return self

    def add(self, other: Race) -> None:
        self.accepted += other.accepted
        self.operations += other.operations
        self.crossed += other.crossed
        self.longest = max(self.longest, other.longest)


@every_mode
def test_processes(opened: Open, mode: str, record: Any) -> None:
    """Of eight processes that show a ticket one gets in. With patience, none fails.

    Mutants: database-reads-and-then-deletes.
    """
    race = Race()
    # Not a Pool: it forks beside threads of its own, and may then wait for ever.
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(PROCESSES)
    pipes = [context.Pipe(duplex=False) for _ in range(PROCESSES)]
    with using(opened(mode, **PATIENT)) as service:
        tickets = [service.issue(CLAIMS, expire=60) for _ in range(TICKETS)]
        service.close()
        with warnings.catch_warnings():
            # Python 3.12 and newer warn of a fork beside threads. Ours are at rest.
            warnings.simplefilter("ignore", DeprecationWarning)
            for _, result in pipes:
                arguments = (result, service.backend, tickets, gate)
                context.Process(target=run_race, args=arguments, daemon=True).start()
        for results, _ in pipes:
            assert results.poll(60), "a process is stuck"
            share = results.recv()
            assert isinstance(share, Race), share
            race.add(share)
    assert len(race.accepted) == TICKETS * (1 + PROCESSES)
    record(f"{PROCESSES} processes, {mode}", "SQLite", race, bound=PATIENT["timeout"])


def run_race(
    result: Connection, backend: DatabaseBackend, tickets: list[Ticket], gate: Any
) -> None:
    try:
        with using(backend) as service:
            result.send(Race().run(service, tickets, gate))
    except BaseException as exc:
        gate.abort()  # nobody may wait for this one
        result.send(exc)


@every_mode
def test_batches_that_meet(opened: Open, mode: str, record: Any) -> None:
    """Batches with the same tickets, and sweeps, fail nobody.

    Mutants: database-reads-and-then-deletes.
    """
    storm = Storm(opened(mode, **PATIENT))
    storm.rage(1)
    assert storm.errors == {}
    record("batches and sweeps that meet", "SQLite", storm, bound=BOUND)
