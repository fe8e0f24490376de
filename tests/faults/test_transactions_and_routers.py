"""Transactions around tickets, and routers that send queries elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path

from realtime_ticket import (
    AsyncRealtimeTicketView,
    InvalidTicket,
    OpenTransaction,
    StorageError,
    TicketService,
    get_service,
    issue_ticket,
)
from realtime_ticket.backends import _database_expiry
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from tests.faults.databases import (
    alias_of,
    database,
    end_connections,
    order,
    variant,
    worker,
)
from tests.faults.load import DOORS
from tests.faults.storages import Storage
from tests.helpers import CLAIMS, NOWHERE, REMOTE, in_child, using

DATABASE = "realtime_ticket.backends.database.DatabaseBackend"

every_server = pytest.mark.parametrize(
    "given", ["PostgreSQL", "MariaDB"], indirect=True
)

issued: list[str] = []
"""Tickets of requests that failed."""


def consume(request: HttpRequest, value: str) -> HttpResponse:
    return HttpResponse(get_service().consume(value).username)


@transaction.non_atomic_requests
def consume_freely(request: HttpRequest, value: str) -> HttpResponse:
    return consume(request, value)


def fail(request: HttpRequest) -> HttpResponse:
    issued.append(issue_ticket(request).value)
    raise LookupError


urlpatterns = [
    path("", include("realtime_ticket.urls")),
    path("consume/<value>", consume),
    path("free/<value>", consume_freely),
    path("fail/", fail),
    path("async/", AsyncRealtimeTicketView.as_view()),
]

on_every_database = pytest.mark.parametrize(
    "alias",
    [
        pytest.param(
            alias, marks=pytest.mark.django_db(transaction=True, databases=[alias])
        )
        for alias in ("default", *REMOTE)
    ],
)


def is_good(service: TicketService, value: str) -> bool:
    try:
        service.consume(value)
    except InvalidTicket:
        return False
    return True


@on_every_database
class TestTransactions:
    def test_savepoints(self, alias: str) -> None:
        """A ticket goes with the savepoint it was issued in, and leaves no other.

        Mutants: database-issues-for-good.
        """
        with using(DatabaseBackend(alias=alias)) as service:
            with transaction.atomic(using=alias):
                kept = service.issue(CLAIMS)
                with pytest.raises(LookupError), transaction.atomic(using=alias):
                    lost = service.issue(CLAIMS)
                    raise LookupError
                with transaction.atomic(using=alias):
                    inner = service.issue(CLAIMS)
            tickets = [kept, lost, inner]
            assert [is_good(service, ticket.value) for ticket in tickets] == [
                True,
                False,
                True,
            ]

    def test_consuming_in_a_savepoint(self, alias: str) -> None:
        """It is refused however deep, and does no harm to what else is done there.

        Mutants: database-consumes-in-a-transaction.
        """
        with using(DatabaseBackend(alias=alias)) as service:
            ticket = service.issue(CLAIMS)
            with transaction.atomic(using=alias):
                with transaction.atomic(using=alias):
                    with pytest.raises(OpenTransaction):
                        service.consume(ticket.value)
                    other = service.issue(CLAIMS)
                with pytest.raises(OpenTransaction):
                    service.revoke(ticket.value)
            assert is_good(service, ticket.value)
            assert is_good(service, other.value)

    def test_consuming_in_a_transaction_begun_with_sql(self, alias: str) -> None:
        """Django knows nothing of it, but the drivers of PostgreSQL and SQLite do.

        On MariaDB the ticket is good again, as the documentation says.

        Mutants: database-consumes-in-a-transaction-begun-with-sql.
        """
        with using(DatabaseBackend(alias=alias)) as service:
            ticket = service.issue(CLAIMS)
            with connections[alias].cursor() as cursor:
                cursor.execute("BEGIN")
                if alias == "mariadb":
                    service.consume(ticket.value)
                else:
                    with pytest.raises(OpenTransaction):
                        service.consume(ticket.value)
                cursor.execute("ROLLBACK")
            assert is_good(service, ticket.value)
            assert not is_good(service, ticket.value)

    def test_on_commit(self, alias: str) -> None:
        """What runs after a transaction may consume, for it is over.

        Mutants: database-refuses-on-commit.
        """
        found = []
        with using(DatabaseBackend(alias=alias)) as service:
            with transaction.atomic(using=alias):
                ticket = service.issue(CLAIMS)
                transaction.on_commit(
                    lambda: found.append(service.consume(ticket.value)), using=alias
                )
            assert found == [ticket]
            assert not is_good(service, ticket.value)


# MariaDB commits when a table is renamed, and an error there ends no transaction.
@pytest.mark.parametrize("alias", ["default", "postgresql"])
@pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
def test_issuing_that_fails_does_not_end_a_transaction(alias: str) -> None:
    """A page that does without its ticket goes on asking the database.

    Mutants: database-ends-the-transaction-of-its-caller.
    """
    with using(DatabaseBackend(alias=alias)) as service:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("ALTER TABLE realtime_ticket RENAME TO elsewhere")
            with pytest.raises(StorageError):
                service.issue(CLAIMS)
            cursor.execute("SELECT 1")
            cursor.execute("ALTER TABLE elsewhere RENAME TO realtime_ticket")
        assert is_good(service, service.issue(CLAIMS).value)


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
class TestAtomicRequests:
    """A project whose views each run in a transaction."""

    @pytest.fixture(autouse=True)
    def _project(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.REALTIME_TICKET_BACKEND = DATABASE
        atomic = connections.settings["default"]
        monkeypatch.setitem(atomic, "ATOMIC_REQUESTS", True)

    @pytest.fixture
    def client(self) -> Client:
        client = Client()
        client.force_login(User.objects.create_user("ada"))
        return client

    def test_issuing_works(self, client: Client) -> None:
        """The ticket is there when the response is.

        Mutants: database-only-reads.
        """
        value = client.post("/ticket/").json()["message"]
        assert is_good(get_service(), value)
        assert not is_good(get_service(), value)

    def test_a_view_that_fails_has_issued_nothing(self, client: Client) -> None:
        """Its transaction is rolled back, and the ticket with it.

        Mutants: database-issues-by-another-connection.
        """
        with pytest.raises(LookupError):
            client.get("/fail/")
        assert not is_good(get_service(), issued.pop())

    def test_consuming_in_a_view_is_refused(self, client: Client) -> None:
        """The programmer is told, and the ticket is left alone.

        Mutants: database-consumes-in-a-transaction.
        """
        ticket = get_service().issue(CLAIMS)
        with pytest.raises(OpenTransaction):
            client.get(f"/consume/{ticket.value}")
        assert is_good(get_service(), ticket.value)

    def test_consuming_in_a_view_that_opted_out_works(self, client: Client) -> None:
        """As the hint of the check W007 says.

        Mutants: database-minds-atomic-requests.
        """
        ticket = get_service().issue(CLAIMS)
        assert client.get(f"/free/{ticket.value}").content == b"ada"
        assert not is_good(get_service(), ticket.value)

    @pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
    def test_a_database_for_tickets_works(self, client: Client, settings: Any) -> None:
        """As the other half of the hint says. The view's transaction is none of it.

        Mutants: database-minds-other-transactions.
        """
        settings.REALTIME_TICKET_DATABASE = "postgresql"
        ticket = get_service().issue(CLAIMS)
        assert client.get(f"/consume/{ticket.value}").content == b"ada"
        assert not is_good(get_service(), ticket.value)

    def test_the_asynchronous_view_works(self) -> None:
        """Django refuses async views in transactions, so ours opts out.

        Mutants: view-is-atomic.
        """
        client = AsyncClient()
        client.force_login(User.objects.create_user("ada"))
        response = async_to_sync(client.post)("/async/")
        assert is_good(get_service(), response.json()["message"])


class Router:
    """A router that sends what is read to one database, and the rest to another."""

    def __init__(self, read: str, write: str) -> None:
        self.read, self.write = read, write

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self.read

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return self.write

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool:
        return model_name != "storedticket" or db == self.write


@pytest.fixture
def astray(settings: Any) -> None:
    """Have a router that sends everything to a database that is not there."""
    nowhere = {"NAME": f"{NOWHERE}/db.sqlite3"}
    alias = database(connections.settings["default"] | nowhere).alias
    settings.DATABASE_ROUTERS = [Router(read=alias, write=alias)]


@pytest.mark.parametrize("door", DOORS)
@on_every_database
def test_no_router_is_asked(
    alias: str, door: str, astray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to issue, to sweep, to consume, or to clear.

    Mutants: database-asks-the-router.
    """
    monkeypatch.setattr(_database_expiry.random, "random", lambda: 0.0)
    backend = DatabaseBackend(alias=alias)
    with worker(backend, door) as attempt:
        assert attempt()
        assert backend.clear_expired() == 0
    connections[alias].close()


@pytest.mark.django_db(transaction=True)
def test_no_router_is_asked_by_commands(astray: None, settings: Any) -> None:
    """The doctor is content, and so are the other commands and the checks.

    Mutants: database-asks-the-router.
    """
    settings.REALTIME_TICKET_BACKEND = DATABASE
    out = StringIO()
    call_command("ticket_doctor", stdout=out)
    call_command("clear_expired_tickets", stdout=out)
    call_command("check", "realtime_ticket", databases=["default"])
    assert "OK      race" in out.getvalue()
    assert "0 expired tickets removed" in out.getvalue()


@pytest.mark.parametrize("given", ["PostgreSQL"], indirect=True)
def test_the_table_is_where_the_router_wants_it(given: Storage, settings: Any) -> None:
    """``migrate`` leaves other databases alone, and works there.

    Mutants: migration-asks-no-router.
    """
    order(given, "CREATE DATABASE elsewhere")
    elsewhere = variant(given, NAME="elsewhere")
    settings.DATABASE_ROUTERS = [Router(read="default", write=alias_of(given))]
    call_command("migrate", "realtime_ticket", database=elsewhere.alias, verbosity=0)
    with using(elsewhere) as service, pytest.raises(StorageError):
        service.issue(CLAIMS)
    order(given, "DROP DATABASE elsewhere")


@every_server
def test_a_mirror_is_the_same_database(given: Storage) -> None:
    """What tests declare a mirror of the primary gives no ticket twice.

    Mutants: database-only-reads.
    """
    mirror = variant(given, NAME="elsewhere")
    connections[mirror.alias].creation.set_as_test_mirror(
        connections.settings[alias_of(given)]
    )
    with using(given.backend()) as one, using(mirror) as other:
        ticket = one.issue(CLAIMS)
        assert is_good(other, ticket.value)
        assert not is_good(one, ticket.value)


class TestDatabaseCache:
    """Django's cache in a table, which its router sends to a database."""

    @pytest.fixture
    def service(self, given: Storage, settings: Any) -> Iterator[TicketService]:
        alias = alias_of(given)
        settings.DATABASE_ROUTERS = [Router(read=alias, write=alias)]
        call_command("createcachetable", database=alias, verbosity=0)
        with using(CacheBackend(alias="database")) as service:
            yield service
        connections[alias].close()

    @every_server
    def test_minds_the_transactions_there(
        self, given: Storage, service: TicketService
    ) -> None:
        """A rollback there would revive a ticket. One elsewhere would not.

        Mutants: cache-consumes-in-a-transaction, cache-minds-the-default-database.
        """
        ticket = service.issue(CLAIMS)
        with (
            transaction.atomic(using=alias_of(given)),
            pytest.raises(OpenTransaction),
        ):
            service.consume(ticket.value)
        with transaction.atomic():
            assert is_good(service, ticket.value)

    @every_server
    def test_reading_from_a_replica(
        self, given: Storage, service: TicketService, settings: Any, tmp_path: Path
    ) -> None:
        """A LIMIT, as with Redis: where it lags behind, a ticket is refused at first.

        One that was spent, and is still there, lets nobody in.

        Mutants: cache-ignores-who-deleted.
        """
        file = {"NAME": tmp_path / "replica"}
        replica = database(connections.settings["default"] | file).alias
        call_command("createcachetable", database=replica, verbosity=0)
        settings.DATABASE_ROUTERS = [Router(read=replica, write=alias_of(given))]
        ticket = service.issue(CLAIMS)
        assert not is_good(service, ticket.value)
        copy_row(alias_of(given), replica)
        assert is_good(service, ticket.value)
        assert not is_good(service, ticket.value)
        connections[replica].close()

    @every_server
    def test_after_its_connection_died(
        self, given: Storage, service: TicketService
    ) -> None:
        """One call fails, and the next has a new one, in a process without requests.

        Mutants: cache-trusts-its-connection.
        """
        outcomes = []
        for _ in range(4):
            ticket = None
            with suppress(StorageError):
                ticket = service.issue(CLAIMS)
            outcomes.append(bool(ticket) and is_good(service, ticket.value))
            if len(outcomes) == 1:
                end_connections(given)
        assert outcomes == [True, False, True, True]

    @every_server
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_after_a_fork(self, given: Storage, service: TicketService) -> None:
        """A child connects again, and leaves the parent's connection to the parent.

        Mutants: cache-trusts-its-connection.
        """
        alias = alias_of(given)
        tickets = [service.issue(CLAIMS) for _ in range(2)]
        parents = connections[alias].connection

        def child() -> bool:
            assert is_good(service, tickets[0].value)
            own = connections[alias].connection
            connections[alias].close()
            return own is parents

        assert in_child(child) is False
        assert [is_good(service, ticket.value) for ticket in tickets] == [False, True]


def copy_row(source: str, target: str) -> None:
    """Let a replica learn of the ticket."""
    with connections[source].cursor() as cursor:
        cursor.execute("SELECT cache_key, value, expires FROM cache_table")
        rows = cursor.fetchall()
    with connections[target].cursor() as cursor:
        cursor.executemany("INSERT INTO cache_table VALUES (%s, %s, %s)", rows)
