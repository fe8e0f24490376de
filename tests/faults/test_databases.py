"""Databases that die, freeze, fill up and are altered, and the locks of others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Timer
from typing import Any

import pytest
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import connections

from realtime_ticket import InvalidTicket, StorageError, batching
from realtime_ticket.backends import _database_connection
from realtime_ticket.backends._database_sql import MYSQL
from realtime_ticket.backends.database import DatabaseBackend
from tests import servers
from tests.faults.databases import (
    BOUND,
    Storm,
    administrator,
    end_connections,
    order,
    pgbouncer,
    refused,
    variant,
    worker,
)
from tests.faults.load import DOORS, Load
from tests.faults.storages import Storage
from tests.helpers import CLAIMS, eventually, using, within

IDLE = 3.0
"""Seconds after which the server drops a connection that nobody uses."""


def on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("given", names, indirect=True)


every_door = pytest.mark.parametrize("door", DOORS)
every_server = on("PostgreSQL", "MariaDB")


@pytest.fixture
def clerk(given: Storage) -> Iterator[DatabaseBackend]:
    """Give a backend whose user may do what it must, twice at a time, and no more."""
    begin, end = {
        "PostgreSQL": (
            [
                "CREATE ROLE clerk LOGIN CONNECTION LIMIT 2",
                "GRANT SELECT, INSERT, DELETE, UPDATE ON realtime_ticket TO clerk",
            ],
            ["DROP OWNED BY clerk", "DROP ROLE clerk"],
        ),
        "MariaDB": (
            [
                "CREATE USER clerk@localhost WITH MAX_USER_CONNECTIONS 2",
                "GRANT SELECT, INSERT, DELETE ON realtime_ticket TO clerk@localhost",
            ],
            ["DROP USER clerk@localhost"],
        ),
    }[given.name]
    order(given, *begin)
    backend = variant(given, USER="clerk")
    yield backend
    backend.close()
    order(given, *end)


@every_server
class TestConnections:
    @every_door
    def test_after_a_restart_one_call_fails(self, given: Storage, door: str) -> None:
        """A process that has no requests finds out by itself, and goes on.

        Mutants: database-trusts-its-connection, database-forgets-errors.
        """
        with worker(given.backend(), door) as attempt:
            assert attempt()
            given.node.kill()
            assert not attempt()
            assert not attempt()  # it cannot connect either
            given.node.start()
            assert attempt()
            given.node.kill()
            given.node.start()
            assert [attempt() for _ in range(4)] == [False, True, True, True]

    @pytest.mark.parametrize(
        ("settings", "failures"),
        [
            ({"CONN_MAX_AGE": 0}, 0),
            ({"CONN_MAX_AGE": None}, 1),
            ({"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}, 0),
        ],
    )
    def test_between_requests(
        self, given: Storage, settings: Any, failures: int
    ) -> None:
        """In Django's requests it goes as with all other queries of the project.

        Mutants: database-knows-outages-of-another-kind.
        """
        outcomes = []
        with worker(variant(given, **settings), "sync") as attempt:
            for number in range(4):
                if number == 1:
                    end_connections(given)
                request_started.send(None)
                outcomes.append(attempt())
                request_finished.send(None)
        assert outcomes == [True, not failures, True, True]

    @every_door
    def test_ended_under_load(self, given: Storage, door: str, record: Any) -> None:
        """Their clients ask for new tickets; the next call has a new connection.

        Mutants: database-trusts-its-connection, database-reads-and-then-deletes.
        """
        with using(given.backend()) as service, Load(service, door) as load:
            for _ in range(5):
                assert load.goes_on()
                end_connections(given)
            assert load.goes_on()
        assert load.outages >= 5
        record("connections ended by the server", given.name, load, bound=BOUND)

    def test_dropped_when_idle(
        self, given: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One call fails, unless the rest was long enough to try the connection first.

        Mutants: database-trusts-its-connection, database-trusts-an-idle-connection.
        """
        options = {
            "PostgreSQL": {"options": f"-c idle_session_timeout={IDLE:.0f}s"},
            "MariaDB": {"init_command": f"SET SESSION wait_timeout={IDLE:.0f}"},
        }[given.name]
        with worker(variant(given, OPTIONS=options), "sync") as attempt:
            assert attempt()
            time.sleep(IDLE + 0.5)
            assert [attempt(), attempt()] == [False, True]
            monkeypatch.setattr(_database_connection, "_IDLE", IDLE)
            time.sleep(IDLE + 0.5)
            assert attempt()

    def test_too_many(self, given: Storage, clerk: DatabaseBackend) -> None:
        """Nobody gets in, nor a ticket, until one of the others goes.

        Mutants: database-knows-outages-of-another-kind.
        """
        with using(clerk) as service:
            ticket = service.issue(CLAIMS)
            service.close()
            with ExitStack() as others:
                for _ in range(2):
                    other = connections[clerk.alias].copy()
                    others.callback(other.close)
                    assert eventually(lambda other=other: connects(other))
                for call in (service.issue, CLAIMS), (service.consume, ticket.value):
                    refused(*call)
            assert eventually(lambda: connects(connections[clerk.alias]))
            assert service.consume(ticket.value) == ticket


def connects(connection: Any) -> bool:
    """Tell whether there is room. Servers take a moment to see who has left."""
    with suppress(Exception):
        connection.ensure_connection()
    return connection.connection is not None


@on("PostgreSQL")
def test_starting_up(given: Storage) -> None:
    """A server that still recovers refuses connections: an outage, until it is over.

    Mutants: database-knows-outages-of-another-kind.
    """
    order(
        given,
        "ALTER SYSTEM SET hot_standby = off",
        "ALTER SYSTEM SET restore_command = 'sleep 0.5; false'",
    )
    given.node.kill()
    signal = given.node.data / "data" / "recovery.signal"
    signal.touch()
    signal.chmod(0o666)  # the server, another user perhaps, opens and removes it
    answers = set()
    with using(given.backend()) as service, ThreadPoolExecutor(1) as pool:
        starting = pool.submit(given.node.start)
        while not starting.done():
            try:
                service.issue(CLAIMS)
            except StorageError as exc:
                answers.add(str(exc.__cause__))
            time.sleep(0.05)
        starting.result()
        assert any("the database system is" in answer for answer in answers)
        ticket = service.issue(CLAIMS)
        assert service.consume(ticket.value) == ticket
    order(
        given,
        "ALTER SYSTEM RESET hot_standby",
        "ALTER SYSTEM RESET restore_command",
    )


@every_door
@on("PostgreSQL")
def test_behind_pgbouncer(given: Storage, door: str, record: Any) -> None:
    """Where each statement may go by another connection, all is as it was.

    Mutants: database-reads-and-then-deletes, database-forgets-errors.
    """
    servers.need("pgbouncer")
    with (
        pgbouncer(given) as backend,
        using(backend) as service,
        Load(service, door) as load,
    ):
        assert load.goes_on(100)
        end_connections(given)
        assert load.goes_on()
        given.node.kill()
        assert load.fails()
        given.node.start()
        assert load.goes_on()
    record("PgBouncer, transactions pooled", given.name, load, bound=BOUND)


@every_server
def test_read_only(given: Storage, clerk: DatabaseBackend) -> None:
    """Who cannot spend a ticket lets nobody in. Nothing is spent meanwhile.

    Mutants: database-knows-outages-of-another-kind, database-hides-its-outage,
    database-issues-into-the-void.
    """
    begin, end = {
        "PostgreSQL": (
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "ALTER SYSTEM RESET default_transaction_read_only",
        ),
        "MariaDB": ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
    }[given.name]
    reload = ["SELECT pg_reload_conf()"] if given.name == "PostgreSQL" else []
    with using(clerk) as service:
        ticket = service.issue(CLAIMS, expire=60)
        order(given, begin, *reload)
        try:
            assert eventually(lambda: is_read_only(clerk.alias))
            refused(service.issue, CLAIMS)
            refused(service.consume, ticket.value)
        finally:
            order(given, end, *reload)
        assert eventually(lambda: not is_read_only(clerk.alias))
        assert service.consume(ticket.value) == ticket


def is_read_only(alias: str) -> bool:
    with connections[alias].cursor() as cursor:
        if connections[alias].vendor == "postgresql":
            cursor.execute("SHOW default_transaction_read_only")
        else:
            cursor.execute("SELECT @@read_only")
        return cursor.fetchone()[0] in ("on", 1)


class TestFrozen:
    @pytest.mark.parametrize(
        ("given", "options"),
        [
            (
                "PostgreSQL",
                {
                    "options": "-c statement_timeout=1000 -c lock_timeout=1000",
                    "tcp_user_timeout": 300,
                    **dict.fromkeys(
                        ["keepalives_idle", "keepalives_interval", "keepalives_count"],
                        1,
                    ),
                },
            ),
            ("MariaDB", {"connect_timeout": 1}),
        ],
        indirect=["given"],
    )
    def test_holds_a_caller(self, given: Storage, options: Any) -> None:
        """A LIMIT, which guarantees.md names: the call waits as long as its driver.

        PostgreSQL's has no option that helps: its server is the one that minds
        timeouts, and the network is alive. MariaDB's has one, which nobody set. When
        the server goes on, the ticket is spent, once.

        Mutants: database-only-reads.
        """
        backend = variant(given, OPTIONS=options)
        with using(backend) as service, ThreadPoolExecutor(1) as pool:
            ticket = pool.submit(service.issue, CLAIMS, expire=60).result(20)
            given.node.freeze()
            asked = pool.submit(service.consume, ticket.value)
            with pytest.raises(TimeoutError):
                asked.result(2.5)
            given.node.thaw()
            assert asked.result(20) == ticket
            with pytest.raises(InvalidTicket):
                pool.submit(service.consume, ticket.value).result(20)
            pool.submit(connections.close_all).result(20)

    @on("MariaDB")
    def test_is_given_up_by_a_driver_that_was_told_to(self, given: Storage) -> None:
        """With read_timeout the caller is free again. The ticket is spent, or not.

        Mutants: database-knows-outages-of-another-kind.
        """
        with using(given.backend()) as service:
            ticket = service.issue(CLAIMS, expire=60)
            given.node.freeze()
            refused(service.consume, ticket.value)
            given.node.thaw()
            with suppress(InvalidTicket):
                assert service.consume(ticket.value) == ticket
            with pytest.raises(InvalidTicket):
                service.consume(ticket.value)

    @on("PostgreSQL")
    def test_is_given_up_by_the_asynchronous_door(
        self, given: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever the driver does. Later calls fail at once, until the server goes on.

        Mutants: batch-sets-no-timer.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 2.0)
        with worker(given.backend(), "async") as attempt:
            assert attempt()
            given.node.freeze()
            thawing = Timer(BOUND, given.node.thaw)
            thawing.start()
            with within(BOUND):
                assert not attempt()
            with within(1.9):
                assert not attempt()
            thawing.cancel()
            given.node.thaw()
            assert eventually(attempt)


LOCKED = {
    "PostgreSQL": (["BEGIN", "LOCK TABLE realtime_ticket"], "ROLLBACK"),
    "MariaDB": (["LOCK TABLES realtime_ticket WRITE"], "UNLOCK TABLES"),
}
"""How to lock the whole table, and how to let it go."""

ALTERED = {
    "PostgreSQL": [
        "ALTER TABLE realtime_ticket ADD COLUMN more text DEFAULT 'x'",
        "CREATE INDEX more ON realtime_ticket (more)",
        "ALTER TABLE realtime_ticket DROP COLUMN more",
        "REINDEX TABLE realtime_ticket",
        "VACUUM FULL realtime_ticket",
        "ANALYZE realtime_ticket",
    ],
    "MariaDB": [
        "ALTER TABLE realtime_ticket ADD COLUMN more text DEFAULT 'x'",
        "CREATE INDEX more ON realtime_ticket (more(9))",
        "ALTER TABLE realtime_ticket DROP COLUMN more",
        "ALTER TABLE realtime_ticket FORCE, ALGORITHM=COPY",
        "OPTIMIZE TABLE realtime_ticket",
        "ANALYZE TABLE realtime_ticket",
    ],
}


class TestLocks:
    @pytest.mark.parametrize(
        ("given", "options"),
        [
            ("PostgreSQL", {"options": "-c lock_timeout=500"}),
            ("PostgreSQL", {"options": "-c statement_timeout=1000"}),
            ("MariaDB", {"read_timeout": 1}),
            ("MariaDB", {"init_command": "SET SESSION lock_wait_timeout=1"}),
        ],
        indirect=["given"],
    )
    def test_on_the_table(self, given: Storage, options: Any) -> None:
        """With a limit in OPTIONS, no call waits until who has locked it lets it go.

        Mutants: database-knows-outages-of-another-kind, database-hides-its-outage,
        database-issues-into-the-void.
        """
        begin, end = LOCKED[given.name]
        with using(variant(given, OPTIONS=options)) as service:
            ticket = service.issue(CLAIMS, expire=60)
            with administrator(given) as other:
                for statement in begin:
                    other.execute(statement)
                refused(service.issue, CLAIMS)
                refused(service.consume, ticket.value)
                other.execute(end)
            # MariaDB's driver has gone, and its statement may have had its turn.
            with suppress(InvalidTicket):
                assert service.consume(ticket.value) == ticket
            with pytest.raises(InvalidTicket):
                service.consume(ticket.value)

    @every_server
    def test_while_it_is_altered(self, given: Storage, record: Any) -> None:
        """Who works on the table keeps others waiting, and no ticket is lost.

        Mutants: database-reads-and-then-deletes.
        """
        with using(given.backend()) as service, Load(service, "sync") as load:
            for statement in ALTERED[given.name]:
                assert load.goes_on(10)
                order(given, statement)
            assert load.goes_on()
        assert load.lost == 0
        record("table altered, rebuilt and vacuumed", given.name, load, bound=BOUND)

    @every_server
    def test_while_it_is_emptied(self, given: Storage, record: Any) -> None:
        """Tickets that are gone let nobody in; others are issued and work.

        Mutants: database-reads-and-then-deletes.
        """
        with using(given.backend()) as service, Load(service, "sync") as load:
            for _ in range(5):
                assert load.goes_on(10)
                order(given, "TRUNCATE TABLE realtime_ticket")
            assert load.goes_on()
        record("table emptied", given.name, load, bound=BOUND)

    @every_server
    @every_door
    def test_while_it_is_dropped(self, given: Storage, door: str, record: Any) -> None:
        """Migrated away it is an outage, and over when it is migrated back.

        Mutants: database-knows-outages-of-another-kind.
        """
        # DROP TABLE waits its turn, longer perhaps than a call should.
        patient = variant(given, OPTIONS={})
        target = {"database": patient.alias, "verbosity": 0}
        # A MariaDB that was killed may have forgotten that it has the table.
        call_command("migrate", "realtime_ticket", fake=True, **target)
        with using(given.backend()) as service, Load(service, door) as load:
            assert load.goes_on()
            try:
                call_command("migrate", "realtime_ticket", "zero", **target)
                assert load.fails()
            finally:
                call_command("migrate", "realtime_ticket", **target)
            assert load.goes_on()
        patient.close()
        record("table dropped and made again", given.name, load, bound=BOUND)


@pytest.fixture
def dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have MariaDB hear MySQL's words, which it understands, when MySQL is asked for.

    Give the name of the dialect.
    """
    if request.param == "MySQL":
        monkeypatch.setattr(_database_connection, "dialect_of", lambda _: MYSQL)
    return str(request.param)


DIALECTS = [
    ("PostgreSQL", "PostgreSQL"),
    ("MariaDB", "MariaDB"),
    ("MariaDB", "MySQL"),
]
"""The server that each dialect is tried on."""

LEVELS = ["read uncommitted", "read committed", "repeatable read", "serializable"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("given", "dialect"), DIALECTS, indirect=True)
def test_isolation(given: Storage, dialect: str, level: str, record: Any) -> None:
    """At every level one of those who race gets in, and if a call failed, none may.

    Mutants: database-reads-and-then-deletes, mysql-ignores-who-deleted.
    """
    backend = variant(given, OPTIONS={"isolation_level": isolation(given, level)})
    with using(backend) as service, Load(service, "sync") as load:
        assert load.goes_on(100)
    assert load.lost == 0
    record(f"isolation level {level}", dialect, load, bound=BOUND)


def isolation(given: Storage, level: str) -> Any:
    """Return the level as the OPTIONS of this database spell it."""
    if given.name == "MariaDB":
        return level
    from psycopg import IsolationLevel

    return IsolationLevel[level.upper().replace(" ", "_")]


@pytest.mark.parametrize(("given", "dialect"), DIALECTS, indirect=True)
def test_batches_that_meet(given: Storage, dialect: str, record: Any) -> None:
    """Batches with the same tickets, and sweeps, fail nobody: there is no deadlock.

    Mutants: postgresql-fails-on-a-locked-row, mariadb-clears-by-the-index-on-expiry,
    mysql-ignores-who-deleted.
    """
    storm = Storm(variant(given, OPTIONS={}))
    storm.rage(2)
    assert storm.errors == {}
    record("batches and sweeps that meet", dialect, storm, bound=BOUND)
