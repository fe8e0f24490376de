"""The database backend on SQLite, PostgreSQL and MariaDB: what is its own."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connections, transaction
from django.test import TestCase, TransactionTestCase

from realtime_ticket import (
    InvalidTicket,
    OpenTransaction,
    StorageError,
    Ticket,
    TicketService,
)
from realtime_ticket.backends import _database_connection, _database_expiry
from realtime_ticket.backends._database_sql import (
    MARIADB,
    MYSQL,
    MYSQL_REMOVE,
    POSTGRESQL,
    SQLITE,
    Dialect,
    dialect_of,
)
from realtime_ticket.backends.base import Item
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.models import StoredTicket
from tests import servers
from tests.helpers import (
    CLAIMS,
    WAIT,
    in_child,
    kill_connection,
    same_ticket,
    using,
    within,
)

SERVERS = {"default": None, "postgresql": "postgresql", "mariadb": "mariadb"}
ALIASES = [
    alias for alias in SERVERS if alias == "default" or not servers.missing(alias)
]

NO_SUCH_THREAD = 1094
"""The number of MariaDB's error about a connection that is not there."""

for_real = pytest.mark.django_db(transaction=True, databases=ALIASES)


def on(alias: str) -> pytest.MarkDecorator:
    """Say that a test commits on one database only, which saves emptying the others."""
    return pytest.mark.django_db(transaction=True, databases=[alias])


@pytest.fixture(
    params=[pytest.param(alias, marks=on(alias)) for alias in SERVERS],
    ids=["sqlite", "postgresql", "mariadb"],
)
def alias(request: pytest.FixtureRequest) -> str:
    """The alias of each database that this machine has a server for."""
    if server := SERVERS[request.param]:
        servers.require(server)
    return str(request.param)


@pytest.fixture
def service(alias: str) -> Iterator[TicketService]:
    """A service that keeps its tickets in that database."""
    with using(DatabaseBackend(alias=alias)) as service:
        yield service


@pytest.fixture
def never_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_database_expiry.random, "random", lambda: 1.0)
    monkeypatch.setattr(_database_expiry, "_SWEEP_EVERY", 10**9)


@pytest.fixture
def always_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_database_expiry.random, "random", lambda: 0.0)


def rows(alias: str) -> int:
    return StoredTicket.objects.using(alias).count()


def put_expired(alias: str, count: int, batch: str = "old") -> None:
    """Store rows whose time is over, by the database's own clock."""
    past = {
        "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-1 seconds')",
        "postgresql": "statement_timestamp() - interval '1 second'",
        "mysql": "UTC_TIMESTAMP(6) - INTERVAL 1 SECOND",
    }[connections[alias].vendor]
    with connections[alias].cursor() as cursor:
        cursor.executemany(
            "INSERT INTO realtime_ticket (ticket_key, data, expires_at) "
            f"VALUES (%s, '{{}}', {past})",
            [(f"{batch}{n}",) for n in range(count)],
        )


@contextmanager
def statements(alias: str) -> Iterator[list[str]]:
    """Note the SQL that is sent."""
    sent: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        sent.append(sql)
        return execute(sql, *args)

    with connections[alias].execute_wrapper(note):
        yield sent


@contextmanager
def overtaken(alias: str) -> Iterator[None]:
    """Let another connection make the first DELETE before this one does."""
    other = connections[alias].copy()
    turns = iter(range(10))

    def overtake(execute: Any, sql: str, params: Any, *args: Any) -> Any:
        if "DELETE" in sql and next(turns) == 0:  # after the last, there is an error
            with other.cursor() as cursor:
                cursor.execute(sql, params)
        return execute(sql, params, *args)

    try:
        with connections[alias].execute_wrapper(overtake):
            yield
    finally:
        other.close()


def fail(execute: Any, sql: str, *args: Any) -> Any:
    raise OperationalError(f"no: {sql}")


@for_real
class TestTransactions:
    def test_consuming_in_one_is_refused(
        self, alias: str, service: TicketService
    ) -> None:
        """A rollback would undo it: OpenTransaction, and the ticket stays good.

        Mutants: database-consumes-in-a-transaction.
        """
        ticket = service.issue(CLAIMS)
        with (
            pytest.raises(OpenTransaction, match=f"transactions on '{alias}'"),
            transaction.atomic(using=alias),
        ):
            service.consume(ticket.value)
        with transaction.atomic(using=alias):
            with pytest.raises(RuntimeError) as caught:
                service.revoke(ticket.value)
            assert isinstance(caught.value, OpenTransaction)
            assert rows(alias) == 1, "the user's transaction is broken"
        assert ticket.value not in str(caught.value)
        assert same_ticket(service.consume(ticket.value), ticket)

    def test_consuming_without_autocommit_is_refused(
        self, alias: str, service: TicketService
    ) -> None:
        """With autocommit off every statement waits for a commit that may not come.

        Mutants: database-consumes-without-autocommit.
        """
        ticket = service.issue(CLAIMS)
        transaction.set_autocommit(False, using=alias)
        try:
            with pytest.raises(OpenTransaction):
                service.consume(ticket.value)
        finally:
            transaction.rollback(using=alias)
            transaction.set_autocommit(True, using=alias)
        assert service.consume(ticket.value) == ticket

    def test_coroutines_are_refused_too(
        self, alias: str, service: TicketService
    ) -> None:
        """By the asynchronous door, alone and in a batch, with the same error.

        Mutants: database-consumes-in-a-transaction, batch-returns-exceptions.
        """
        tickets = [service.issue(CLAIMS) for _ in range(3)]

        async def consume(*batch: Ticket) -> list[object]:
            calls = [service.aconsume(ticket.value) for ticket in batch]
            return await asyncio.gather(*calls, return_exceptions=True)

        with transaction.atomic(using=alias):
            errors = async_to_sync(consume)(*tickets)
            errors += async_to_sync(consume)(tickets[0])
        assert [type(error) for error in errors] == [OpenTransaction] * 4
        assert async_to_sync(consume)(*tickets) == tickets

    @for_real
    def test_another_database_does_not_matter(
        self, alias: str, service: TicketService
    ) -> None:
        """A transaction elsewhere is none of ours.

        Mutants: database-minds-other-transactions.
        """
        other = next((a for a in ALIASES if a != alias), None)
        if other is None:
            pytest.skip("there is only one database")
        ticket = service.issue(CLAIMS)
        with transaction.atomic(using=other):
            assert service.consume(ticket.value) == ticket

    def test_issuing_in_one_is_fine(self, alias: str, service: TicketService) -> None:
        """The ticket is there when the transaction commits, and not if it does not.

        Mutants: database-issues-for-good.
        """
        with transaction.atomic(using=alias):
            kept = service.issue(CLAIMS)
        with transaction.atomic(using=alias):
            lost = service.issue(CLAIMS)
            transaction.set_rollback(True, using=alias)
        assert service.consume(kept.value) == kept
        with pytest.raises(InvalidTicket):
            service.consume(lost.value)

    def test_a_taken_key_leaves_the_transaction_alone(
        self, alias: str, service: TicketService
    ) -> None:
        """add answers False without an error that would end the transaction.

        Mutants: postgresql-raises-when-a-key-is-taken.
        """
        with transaction.atomic(using=alias):
            assert service.backend.add("key", "first", 9) is True
            assert service.backend.add("key", "second", 9) is False
            assert rows(alias) == 1
        assert service.backend.pop("key") == "first"


class TestInsideATestCase(TestCase):
    """Users' tests run in a transaction of their own, which is no reason to refuse."""

    def test_by_the_synchronous_door(self) -> None:
        """Issue, consume and refuse, as in production.

        Mutants: database-minds-the-transaction-of-a-test.
        """
        service = TicketService(DatabaseBackend())
        ticket = service.issue(CLAIMS)
        assert service.consume(ticket.value) == ticket
        with pytest.raises(InvalidTicket):
            service.consume(ticket.value)
        assert StoredTicket.objects.count() == 0

    async def test_by_the_asynchronous_door(self) -> None:
        """Coroutines see the transaction of the test.

        Mutants: database-minds-the-transaction-of-a-test.
        """
        service = TicketService(DatabaseBackend())
        ticket = await service.aissue(CLAIMS)
        assert await StoredTicket.objects.acount() == 1
        assert await service.aconsume(ticket.value) == ticket
        with pytest.raises(InvalidTicket):
            await service.aconsume(ticket.value)

    def test_a_transaction_within_is_still_refused(self) -> None:
        """An atomic block of the code under test is what it would be in production.

        Mutants: database-consumes-in-a-transaction.
        """
        service = TicketService(DatabaseBackend())
        ticket = service.issue(CLAIMS)
        with pytest.raises(OpenTransaction), transaction.atomic():
            service.consume(ticket.value)


class TestClosingInsideATestCase(TestCase):
    def test_leaves_the_transaction_alone(self) -> None:
        """close, which overriding a setting brings about too, ends no test's data.

        Mutants: database-close-ends-a-transaction.
        """
        with using(DatabaseBackend()) as service:
            service.issue(CLAIMS)
        assert StoredTicket.objects.count() == 1


class TestInsideATransactionTestCase(TransactionTestCase):
    def test_works_without_the_transaction(self) -> None:
        """Issue and consume, as in production."""
        with using(DatabaseBackend()) as service:
            ticket = service.issue(CLAIMS)
            assert service.consume(ticket.value) == ticket


@for_real
class TestStatements:
    def test_one_for_a_batch(self, alias: str, never_sweep: None) -> None:
        """A storm costs one INSERT and one DELETE."""
        connections[alias].ensure_connection()
        backend = DatabaseBackend(alias=alias)
        items = [Item(f"k{n}", f"t{n}", 9) for n in range(300)]
        with statements(alias) as sent:
            assert backend.add_many(items) == [True] * 300
            assert backend.pop_many([item.key for item in items]) == [
                item.data for item in items
            ]
        assert len(sent) == 2

    def test_texts_with_percent_signs_and_quotes(self, alias: str) -> None:
        """Keys and texts are parameters, never part of a statement."""
        backend = DatabaseBackend(alias=alias)
        text = """%s %(x)s {} '"; DROP TABLE realtime_ticket; --"""
        assert backend.add(text, text, 9) is True
        assert backend.pop("' OR '1'='1") is None
        assert backend.pop(text) == text

    def test_hashed_keys_only(self, alias: str, service: TicketService) -> None:
        """Who reads the table cannot use what it holds."""
        ticket = service.issue(CLAIMS)
        (row,) = StoredTicket.objects.using(alias).all()
        assert len(row.ticket_key) == 67
        assert ticket.value not in f"{row.ticket_key}{row.data}"
        assert str(row) == row.ticket_key

    @pytest.mark.parametrize("offset", [-3600, 3600])
    def test_the_clock_of_the_application_does_not_matter(
        self,
        alias: str,
        service: TicketService,
        offset: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """An issuer whose clock is an hour off makes tickets of the right lifetime.

        Mutants: sqlite-ignores-expiry.
        """
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + offset)
        fresh = service.issue(CLAIMS)
        put_expired(alias, 1)
        assert abs(fresh.issued_at - now() - offset) < 5
        assert service.consume(fresh.value) == fresh
        assert service.backend.pop("old0") is None

    @pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
    @pytest.mark.parametrize("use_tz", [True, False])
    def test_the_time_zone_of_the_project_does_not_matter(
        self, alias: str, zone: str, use_tz: bool, settings: Any
    ) -> None:
        """Whatever USE_TZ and TIME_ZONE are, a ticket lives as long as it should."""
        settings.USE_TZ = use_tz
        settings.TIME_ZONE = zone
        connections[alias].close()
        backend = DatabaseBackend(alias=alias)
        assert backend.add("alive", "{}", 5) is True
        put_expired(alias, 1)
        assert backend.pop_many(["alive", "old0"]) == ["{}", None]
        connections[alias].close()

    def test_the_write_database_is_used(
        self, alias: str, settings: Any, service: TicketService
    ) -> None:
        """A router that sends reads elsewhere is not asked."""
        settings.DATABASE_ROUTERS = ["tests.test_backends_database.Astray"]
        ticket = service.issue(CLAIMS)
        assert service.consume(ticket.value) == ticket


class Astray:
    """A router that sends everything to a database that does not exist."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    db_for_write = db_for_read


@for_real
class TestSweeping:
    def test_keeps_the_table_small(self, alias: str, service: TicketService) -> None:
        """500 issues clear away what 1,000 expired tickets left behind."""
        random.seed(1)
        put_expired(alias, 1000)
        for _ in range(500):
            service.issue(CLAIMS, expire=60)
        assert rows(alias) - 500 < 500

    def test_batches_sweep_more(self, alias: str, always_sweep: None) -> None:
        """A batch removes at least as many rows as it adds."""
        put_expired(alias, 700)
        DatabaseBackend(alias=alias).add_many(
            [Item(f"k{n}", "{}", 60) for n in range(300)]
        )
        assert rows(alias) == 300

    def test_spares_the_living(
        self, alias: str, service: TicketService, always_sweep: None
    ) -> None:
        """Only what expired goes."""
        put_expired(alias, 5)
        tickets = [service.issue(CLAIMS) for _ in range(3)]
        assert rows(alias) == 3
        for ticket in tickets:
            assert service.consume(ticket.value) == ticket

    def test_failing_fails_no_issue(
        self,
        alias: str,
        service: TicketService,
        always_sweep: None,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The ticket is issued, and the log names the error without its text.

        Mutants: database-sweeps-or-fails.
        """

        def broken(*args: object) -> int:
            raise DatabaseError("s3cret")

        monkeypatch.setattr(_database_expiry, "_remove", broken)
        with caplog.at_level(logging.INFO, logger="realtime_ticket"):
            ticket = service.issue(CLAIMS)
        assert service.consume(ticket.value) == ticket
        assert "DatabaseError" in caplog.text
        assert "s3cret" not in caplog.text

    def test_waits_for_the_end_of_a_transaction(
        self, alias: str, service: TicketService, always_sweep: None
    ) -> None:
        """In a user's transaction nothing is swept: an error there would end it.

        Mutants: database-sweeps-in-a-transaction.
        """
        put_expired(alias, 5)
        with transaction.atomic(using=alias):
            service.issue(CLAIMS)
        assert rows(alias) == 6
        service.issue(CLAIMS)
        assert rows(alias) == 2

    def test_is_rare(
        self, alias: str, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A single issue sweeps in one case of 25."""
        swept: list[int] = []
        monkeypatch.setattr(
            _database_expiry, "_remove", lambda *args: swept.append(args[2])
        )
        for step in range(100):
            chance = step / 100
            monkeypatch.setattr(_database_expiry.random, "random", lambda: chance)  # noqa: B023
            service.issue(CLAIMS)
        assert len(swept) == 4


@for_real
class TestClearExpired:
    def test_removes_everything_that_expired(
        self, alias: str, never_sweep: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also beyond the number of rows that go at a time; the living stay.

        After each time it leaves others room, for as long as it has taken.

        Mutants: database-clears-without-a-rest.
        """
        monkeypatch.setattr(_database_expiry, "_CLEAR_ROWS", 10)
        rests: list[float] = []
        monkeypatch.setattr(_database_expiry.time, "sleep", rests.append)
        backend = DatabaseBackend(alias=alias)
        put_expired(alias, 25)
        backend.add("alive", "{}", 60)
        assert backend.clear_expired() == 25
        assert len(rests) == 3 and min(rests) > 0
        assert backend.clear_expired() == 0
        assert backend.pop("alive") == "{}"

    @pytest.mark.parametrize(
        "dialect",
        [MARIADB, MYSQL],
        ids=["mariadb", "mysql"],
    )
    def test_goes_on_when_another_was_faster(
        self,
        dialect: Dialect,
        never_sweep: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A sweep may have removed all that was found. It is not all that there is.

        Mutants: mariadb-clears-until-overtaken.
        """
        servers.require("mariadb")
        monkeypatch.setattr(
            _database_connection, "dialect_of", lambda connection: dialect
        )
        monkeypatch.setattr(_database_expiry, "_CLEAR_ROWS", 10)
        put_expired("mariadb", 25)
        with overtaken("mariadb"):
            assert DatabaseBackend(alias="mariadb").clear_expired() == 15
        assert rows("mariadb") == 0

    def test_ends_in_a_transaction(
        self, never_sweep: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where it does not see that another has removed what it finds.

        Mutants: mariadb-clears-for-ever.
        """
        servers.require("mariadb")
        monkeypatch.setattr(_database_expiry, "_CLEAR_ROWS", 10)
        put_expired("mariadb", 25)
        with transaction.atomic(using="mariadb"), overtaken("mariadb"):
            assert DatabaseBackend(alias="mariadb").clear_expired() == 0
        assert rows("mariadb") == 15


@pytest.fixture(
    params=[pytest.param(alias, marks=on(alias)) for alias in ("postgresql", "mariadb")]
)
def remote(request: pytest.FixtureRequest) -> str:
    """The alias of each database that is a server."""
    servers.require(request.param)
    return str(request.param)


@for_real
class TestRecovery:
    def test_after_the_server_ended_the_connection(self, remote: str) -> None:
        """At most one call fails, with StorageError; then all is well.

        Mutants: database-trusts-its-connection.
        """
        with using(DatabaseBackend(alias=remote)) as service:
            service.consume(service.issue(CLAIMS).value)
            kill_connection(remote)
            failures = 0
            for _ in range(4):
                try:
                    service.consume(service.issue(CLAIMS).value)
                except StorageError as exc:
                    assert exc.__cause__ is not None
                    failures += 1
        assert failures <= 1

    def test_by_the_asynchronous_door(self, remote: str) -> None:
        """A realtime server gets over it too, where no request cleans up.

        Mutants: database-trusts-its-connection.
        """

        async def session() -> int:
            await service.aconsume((await service.aissue(CLAIMS)).value)
            await asyncio.to_thread(kill_all, remote)
            failures = 0
            for _ in range(4):
                try:
                    await service.aconsume((await service.aissue(CLAIMS)).value)
                except StorageError:
                    failures += 1
            await sync_to_async(lambda: connections[remote].close())()
            return failures

        service = TicketService(DatabaseBackend(alias=remote))
        assert asyncio.run(session()) <= 1
        connections[remote].close()  # this thread's, which is dead as well

    def test_an_idle_connection_is_tried_first(
        self, remote: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a long rest not even one call fails.

        Mutants: database-trusts-an-idle-connection.
        """
        with using(DatabaseBackend(alias=remote)) as service:
            ticket = service.issue(CLAIMS)
            kill_connection(remote)
            monkeypatch.setattr(_database_connection, "_IDLE", -1)
            assert service.consume(ticket.value) == ticket

    def test_a_connection_that_lives_is_kept(
        self, alias: str, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Trying costs no reconnection; nor does an error that was none of it.

        Mutants: database-reconnects-in-doubt.
        """
        service.issue(CLAIMS)
        before = connections[alias].connection
        connections[alias].errors_occurred = True
        monkeypatch.setattr(_database_connection, "_IDLE", -1)
        service.issue(CLAIMS)
        assert connections[alias].connection is before
        assert connections[alias].errors_occurred is False

    def test_a_busy_connection_is_not_tried(
        self, alias: str, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without rest and errors no call pays for a trial.

        Mutants: database-tries-its-connection-each-time.
        """
        service.issue(CLAIMS)

        def tried() -> bool:
            raise AssertionError("tried")

        monkeypatch.setattr(connections[alias], "is_usable", tried)
        service.issue(CLAIMS)

    def test_a_transaction_is_not_disturbed(
        self, alias: str, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a transaction the connection is the user's, and is left alone.

        Mutants: database-tries-a-connection-in-a-transaction.
        """
        monkeypatch.setattr(_database_connection, "_IDLE", -1)
        with transaction.atomic(using=alias):
            connections[alias].errors_occurred = True
            monkeypatch.setattr(connections[alias], "is_usable", lambda: False)
            before = connections[alias].connection
            service.issue(CLAIMS)
            assert connections[alias].connection is before

    def test_after_close(self, alias: str, service: TicketService) -> None:
        """close ends the connection, and the next call makes another.

        Mutants: database-close-closes-nothing.
        """
        ticket = service.issue(CLAIMS)
        service.close()
        assert connections[alias].connection is None
        assert service.consume(ticket.value) == ticket

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_after_a_fork(self, alias: str, service: TicketService) -> None:
        """A child connects again, and leaves the parent's connection to the parent.

        Mutants: database-shares-a-connection-with-a-child.
        """
        tickets = [service.issue(CLAIMS) for _ in range(2)]
        parents = connections[alias].connection

        def child() -> tuple[bool, str]:
            consumed = service.consume(tickets[0].value)
            own = connections[alias].connection
            connections[alias].close()
            return own is parents, consumed.username

        assert in_child(child) == (False, "ada")
        assert connections[alias].connection is parents
        with pytest.raises(InvalidTicket):
            service.consume(tickets[0].value)
        assert service.consume(tickets[1].value) == tickets[1]

    def test_errors_are_storage_errors(
        self, alias: str, service: TicketService
    ) -> None:
        """What the database raises becomes StorageError, without the key.

        Mutants: database-knows-outages-of-another-kind.
        """
        with (
            connections[alias].execute_wrapper(fail),
            pytest.raises(StorageError) as caught,
        ):
            service.issue(CLAIMS)
        assert isinstance(caught.value.__cause__, OperationalError)
        assert f"The database {alias!r}" in str(caught.value)


def kill_all(alias: str) -> None:
    """End every connection but the one that gives the order."""
    own = connections[alias]
    with own.cursor() as cursor:
        if own.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        else:
            cursor.execute(
                "SELECT id FROM information_schema.processlist "
                "WHERE user = 'root' AND id <> CONNECTION_ID()"
            )
            for (number,) in cursor.fetchall():
                kill(cursor, number)
    own.close()


def kill(cursor: Any, number: int) -> None:
    """End this connection to MariaDB, if it has not just ended by itself."""
    try:
        cursor.execute(f"KILL {number}")
    except OperationalError as exc:
        if exc.args[0] != NO_SUCH_THREAD:
            raise


@on("postgresql")
class TestPostgreSQL:
    def test_the_table_is_unlogged(self) -> None:
        """After a crash, and on a standby, it is empty: no spent ticket comes back.

        Mutants: postgresql-logs-tickets.
        """
        servers.require("postgresql")
        with connections["postgresql"].cursor() as cursor:
            cursor.execute(
                "SELECT relpersistence FROM pg_class WHERE relname = 'realtime_ticket'"
            )
            assert cursor.fetchall() == [("u",)]

    def test_threads_that_end_leave_the_pool_full(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Django's pool has two connections. Ten threads come and go: each gets one.

        Mutants: postgresql-pool-is-used-up.
        """
        servers.require("postgresql")
        pool = {"min_size": 1, "max_size": 2, "timeout": 10}
        settings = connections["postgresql"].settings_dict
        monkeypatch.setitem(settings, "OPTIONS", {"pool": pool})
        monkeypatch.setitem(settings, "CONN_MAX_AGE", 0)
        outcomes: list[object] = []

        def work() -> None:
            """Do it as in a thread of the user's own, where nobody closes."""
            service = TicketService(DatabaseBackend(alias="postgresql"))
            try:
                value = service.issue(CLAIMS).value
                outcomes.append(service.consume(value).username)
            except StorageError as exc:
                outcomes.append(exc)

        for _ in range(10):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            if outcomes[-1] != "ada":
                break  # the others would wait as long
        connections["postgresql"].close_pool()
        assert outcomes == ["ada"] * 10

    def test_a_locked_row_is_being_spent(self) -> None:
        """A row that someone else has locked is skipped at once, not waited for.

        Mutants: postgresql-fails-on-a-locked-row.
        """
        servers.require("postgresql")
        backend = DatabaseBackend(alias="postgresql")
        backend.add_many([Item("locked", "{}", 9), Item("free", "{}", 9)])
        other = connections["postgresql"].copy()
        try:
            other.set_autocommit(False)
            with other.cursor() as cursor:
                cursor.execute(
                    "SELECT 1 FROM realtime_ticket WHERE ticket_key = 'locked' "
                    "FOR UPDATE"
                )
                with within(WAIT):
                    assert backend.pop_many(["locked", "free"]) == [None, "{}"]
        finally:
            other.rollback()
            other.close()


@on("mariadb")
class TestMariaDB:
    def test_a_locked_row_fails_in_a_second(self) -> None:
        """The server's own patience, 50 seconds, is not ours.

        Mutants: mariadb-waits-five-seconds.
        """
        servers.require("mariadb")
        other = connections["mariadb"].copy()
        with using(DatabaseBackend(alias="mariadb")) as service:
            ticket = service.issue(CLAIMS)
            try:
                other.set_autocommit(False)
                with other.cursor() as cursor:
                    cursor.execute("SELECT 1 FROM realtime_ticket FOR UPDATE")
                    with within(4.5), pytest.raises(StorageError):
                        service.consume(ticket.value)
            finally:
                other.rollback()
                other.close()
            assert service.consume(ticket.value) == ticket

    def test_a_locked_table_fails_in_a_second(self) -> None:
        """The server's own patience is a day.

        Mutants: mariadb-waits-for-tables, mariadb-waits-to-clear.
        """
        servers.require("mariadb")
        other = connections["mariadb"].copy()
        with using(DatabaseBackend(alias="mariadb")) as service:
            ticket = service.issue(CLAIMS)
            calls = [
                lambda: service.issue(CLAIMS),
                lambda: service.consume(ticket.value),
            ]
            try:
                with other.cursor() as cursor:
                    cursor.execute("LOCK TABLES realtime_ticket WRITE")
                    for call in calls:
                        with within(3.5), pytest.raises(StorageError):
                            call()
                    with within(3.5), pytest.raises(DatabaseError):
                        service.backend.clear_expired()
            finally:
                other.close()
            assert service.consume(ticket.value) == ticket


@on("mariadb")
class TestMySQL:
    """MySQL's statements, which MariaDB understands, where there is no RETURNING."""

    @pytest.fixture(autouse=True)
    def _dialect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        servers.require("mariadb")
        monkeypatch.setattr(
            _database_connection, "dialect_of", lambda connection: MYSQL
        )

    def test_a_row_that_another_deleted_is_not_ours(self) -> None:
        """Between reading a row and deleting it another caller may win.

        Mutants: mysql-ignores-who-deleted.
        """
        backend = DatabaseBackend(alias="mariadb")
        backend.add_many([Item("lost", "{}", 9), Item("won", "{}", 9)])

        def overtake(execute: Any, sql: str, params: Any, *args: Any) -> Any:
            if sql == MYSQL_REMOVE and params == ["lost"]:
                execute(sql, params, *args)
            return execute(sql, params, *args)

        with connections["mariadb"].execute_wrapper(overtake):
            assert backend.pop_many(["lost", "won"]) == [None, "{}"]

    def test_sweeping(self, always_sweep: None) -> None:
        """Expired rows are found first and deleted by their keys."""
        put_expired("mariadb", 7)
        assert DatabaseBackend(alias="mariadb").add("k", "{}", 9) is True
        assert rows("mariadb") == 1


class TestDialects:
    @pytest.mark.parametrize(
        ("vendor", "is_mariadb", "dialect"),
        [
            ("postgresql", None, POSTGRESQL),
            ("sqlite", None, SQLITE),
            ("mysql", True, MARIADB),
            ("mysql", False, MYSQL),
        ],
    )
    def test_go_by_the_vendor(
        self, vendor: str, is_mariadb: bool | None, dialect: Dialect
    ) -> None:
        """Each database has its own words; MariaDB says that it is MySQL."""
        connection = type("C", (), {"vendor": vendor, "mysql_is_mariadb": is_mariadb})
        assert dialect_of(connection) is dialect

    def test_sqlite_is_new_enough_here(self) -> None:
        """RETURNING needs SQLite 3.35."""
        assert sqlite3.sqlite_version_info >= (3, 35)


@pytest.mark.django_db
class TestMigrations:
    def test_are_complete(self) -> None:
        """The model needs no migration that is not there."""
        call_command("makemigrations", "realtime_ticket", check=True, verbosity=0)
