"""issue_ticket and get_user, and their twins."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection, connections, transaction
from django.test import TestCase

from realtime_ticket import (
    InvalidAudience,
    InvalidClaims,
    InvalidTicket,
    NotAuthenticated,
    Ticket,
    aget_user,
    aissue_ticket,
    get_service,
    get_user,
    issue_ticket,
    shortcuts,
)
from tests import servers
from tests.helpers import GOOD, REMOTE, kill_connection
from tests.journals import START, Clocks


class Person:
    """A user model of a project's own."""

    is_authenticated = True

    def __init__(self, pk: Any, name: str = "ada") -> None:
        self.pk = pk
        self.name = name

    def get_username(self) -> str:
        return self.name


def add_room(request: Any) -> dict[str, Any]:
    return {"room": request.room}


def takes_a_minute(request: Any) -> dict[str, Any]:
    request.clocks.advance(60)
    return {}


def a_request(user: Any, **attributes: Any) -> Any:
    return SimpleNamespace(user=user, **attributes)


def ticket_of(user_id: Any, username: str = "ada") -> Ticket:
    claims = {"id": user_id, "username": username}
    return Ticket(value=GOOD, claims=claims, audience="", issued_at=1, expires_at=2)


@pytest.fixture(params=["sync", "async"])
def issue(request: pytest.FixtureRequest) -> Callable[..., Ticket]:
    """issue_ticket and its twin."""
    return issue_ticket if request.param == "sync" else async_to_sync(aissue_ticket)


@pytest.fixture(params=["sync", "async"])
def find(request: pytest.FixtureRequest) -> Callable[[Ticket], Any]:
    """get_user and its twin."""
    return get_user if request.param == "sync" else async_to_sync(aget_user)


class TestIssueTicket:
    def test_is_as_old_as_the_authentication(
        self,
        issue: Callable[..., Ticket],
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A disconnect while REALTIME_TICKET_CLAIMS runs refuses the ticket.

        Mutants: authenticated-after-the-claims.
        """
        clocks = Clocks()
        monkeypatch.setattr("realtime_ticket.shortcuts.time", clocks)
        monkeypatch.setattr("realtime_ticket.service.time", clocks)
        settings.REALTIME_TICKET_CLAIMS = f"{__name__}.takes_a_minute"
        ticket = issue(a_request(Person(7), clocks=clocks))
        assert ticket.issued_at == START

    @pytest.mark.parametrize(
        ("pk", "user_id"),
        [
            (7, 7),
            (0, 0),
            ("abc", "abc"),
            (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
            (2**63, str(2**63)),
        ],
    )
    def test_speaks_for_the_user(
        self, issue: Callable[..., Ticket], pk: Any, user_id: int | str
    ) -> None:
        """The ticket holds the primary key, an int or a string, and the user name."""
        ticket = issue(a_request(Person(pk, "Ада")))
        assert (ticket.user_id, ticket.username) == (user_id, "Ада")
        assert get_service().consume(ticket.value) == ticket

    def test_says_the_name_in_text(self, issue: Callable[..., Ticket]) -> None:
        """USERNAME_FIELD may be a number, or an object such as a telephone's."""
        person: Any = Person(7)
        person.name = 4711
        assert issue(a_request(person)).username == "4711"

    def test_is_for_an_audience(self, issue: Callable[..., Ticket]) -> None:
        """Code may issue for any well-formed audience: it is not a client."""
        ticket = issue(a_request(Person(7)), audience="chat")
        assert get_service().consume(ticket.value, audience="chat") == ticket

    def test_refuses_a_malformed_audience(self, issue: Callable[..., Ticket]) -> None:
        """InvalidAudience."""
        with pytest.raises(InvalidAudience):
            issue(a_request(Person(7)), audience="a b")

    def test_refuses_the_anonymous(self, issue: Callable[..., Ticket]) -> None:
        """NotAuthenticated."""
        with pytest.raises(NotAuthenticated):
            issue(a_request(AnonymousUser()))

    def test_adds_claims(self, issue: Callable[..., Ticket], settings: Any) -> None:
        """REALTIME_TICKET_CLAIMS gets the request."""
        settings.REALTIME_TICKET_CLAIMS = f"{__name__}.add_room"
        ticket = issue(a_request(Person(7), room="r1"))
        assert ticket.claims == {"id": 7, "username": "ada", "room": "r1"}

    def test_refuses_claims_that_change_the_user(
        self, issue: Callable[..., Ticket], settings: Any
    ) -> None:
        """Who the user is, is not for the function to say."""
        settings.REALTIME_TICKET_CLAIMS = f"{__name__}.pretend"
        with pytest.raises(InvalidClaims, match="without 'id'"):
            issue(a_request(Person(7)))


def pretend(request: Any) -> dict[str, Any]:
    return {"id": 1, "room": "r1"}


@pytest.mark.django_db
class TestGetUser:
    def test_returns_the_user(self, find: Callable[[Ticket], Any]) -> None:
        """Fresh from the database, by the id as a number or as a string."""
        user = User.objects.create_user("ada")
        assert find(ticket_of(user.pk)) == user
        assert find(ticket_of(str(user.pk))) == user

    @pytest.mark.parametrize(
        "user_id",
        [
            0,
            -1,
            10**6,
            "",
            "abc",
            "1.5",
            str(2**63),
            str(2**70),
            "9" * 5000,
            "\0",
            "٣x",
        ],
        ids=lambda value: ascii(value)[:20],
    )
    def test_refuses_who_does_not_exist(
        self, find: Callable[[Ticket], Any], user_id: int | str
    ) -> None:
        """A user who is gone, or an id that no user can have, is InvalidTicket."""
        with pytest.raises(InvalidTicket) as caught:
            find(ticket_of(user_id))
        assert caught.value.reason == "user"
        assert caught.value.__cause__ is None

    def test_refuses_the_inactive(self, find: Callable[[Ticket], Any]) -> None:
        """Someone may have been deactivated since the ticket was issued."""
        user = User.objects.create_user("ada", is_active=False)
        with pytest.raises(InvalidTicket) as caught:
            find(ticket_of(user.pk))
        assert caught.value.reason == "user"

    @pytest.mark.parametrize("username", ["admin", "Ada", "ada ", "", "None"])
    def test_refuses_a_user_of_another_project_with_the_same_id(
        self,
        find: Callable[[Ticket], Any],
        caplog: pytest.LogCaptureFixture,
        username: str,
    ) -> None:
        """User 1 of another site on the same Redis is not user 1 of this one.

        Mutants: user-of-another-project.
        """
        user = User.objects.create_superuser("ada")
        with pytest.raises(InvalidTicket) as caught:
            find(ticket_of(user.pk, username))
        assert caught.value.reason == "user"
        (record,) = caplog.records
        assert "another username" in record.getMessage()
        assert GOOD not in record.getMessage()

    def test_finds_a_user_without_a_name(
        self, find: Callable[[Ticket], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where USERNAME_FIELD may be NULL, the ticket says an empty username."""
        user = User.objects.create_user("ada")
        monkeypatch.setattr(User, "get_username", lambda self: None)
        assert find(ticket_of(user.pk, "")) == user

    def test_refuses_what_the_model_refuses(
        self, find: Callable[[Ticket], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A UUID field raises ValidationError for an id that is none."""

        def no_uuid(**kwargs: object) -> None:
            raise ValidationError("no UUID")

        users = SimpleNamespace(get=no_uuid, model=User)
        model = SimpleNamespace(_default_manager=users)
        monkeypatch.setattr(shortcuts, "get_user_model", lambda: model)
        with pytest.raises(InvalidTicket):
            find(ticket_of("7"))


class UsersElsewhere:
    """A router that finds users in another database."""

    alias = ""

    def db_for_read(self, model: type, **hints: object) -> str | None:
        return self.alias or None

    db_for_write = db_for_read


@pytest.mark.django_db(transaction=True, databases=["default", *REMOTE])
class TestInALongLivedProcess:
    """A realtime server has no requests, at whose ends Django mends connections."""

    @pytest.fixture(params=["postgresql", "mariadb"])
    def alias(
        self,
        request: pytest.FixtureRequest,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> str:
        """The alias of each database server, where the users are."""
        servers.require(request.param)
        monkeypatch.setattr(UsersElsewhere, "alias", request.param)
        settings.DATABASE_ROUTERS = [f"{__name__}.UsersElsewhere"]
        return str(request.param)

    @pytest.fixture(params=[0, None], ids=["one-query", "for-ever"])
    def max_age(
        self, request: pytest.FixtureRequest, alias: str, monkeypatch: Any
    ) -> int | None:
        """CONN_MAX_AGE, for connections that are yet to be made."""
        # The dict is that of all threads.
        monkeypatch.setitem(
            connections[alias].settings_dict, "CONN_MAX_AGE", request.param
        )
        age: int | None = request.param
        return age

    @pytest.fixture
    def run(self) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
        """A function that runs a coroutine as a realtime server would.

        In a thread of its own, and so is the database connection.
        """
        with ThreadPoolExecutor(1) as thread, asyncio.Runner() as runner:
            yield lambda coroutine: thread.submit(runner.run, coroutine).result(30)
            thread.submit(runner.run, sync_to_async(connections.close_all)()).result()

    def test_the_database_may_restart(
        self, alias: str, max_age: int | None, run: Callable[..., Any]
    ) -> None:
        """Nobody notices: the query that failed is sent again."""
        ticket = ticket_of(User.objects.create_user("ada").pk)

        async def scenario() -> list[object]:
            await aget_user(ticket)
            await sync_to_async(kill_connection)(alias)
            found: list[object] = []
            for _ in range(3):
                found.append((await aget_user(ticket)).get_username())
            return found

        assert run(scenario()) == ["ada"] * 3

    def test_the_connection_is_kept(
        self, alias: str, max_age: int | None, run: Callable[..., Any]
    ) -> None:
        """Nothing closes it in the middle of what the caller does with it."""
        user = User.objects.create_user("ada")

        async def scenario() -> list[bool]:
            backend = sync_to_async(lambda: connections[alias].connection)
            await aget_user(ticket_of(user.pk))
            before = await backend()
            with pytest.raises(InvalidTicket):
                await aget_user(ticket_of(0))
            return [before is not None, await backend() is before]

        assert run(scenario()) == [True, True]


class TestInATestCase(TestCase):
    def test_aget_user_leaves_the_transaction_alone(self) -> None:
        """A TestCase can test a consumer: the connection is not closed under it."""
        ticket = ticket_of(User.objects.create_user("ada").pk)
        for _ in range(2):
            assert async_to_sync(aget_user)(ticket).get_username() == "ada"
        assert connection.in_atomic_block
        assert User.objects.count() == 1

    async def test_aget_user_in_an_async_test(self) -> None:
        """And so can one with async def."""
        user = await User.objects.acreate_user("ada")
        assert await aget_user(ticket_of(user.pk)) == user
        assert await User.objects.acount() == 1


@pytest.mark.django_db(transaction=True)
def test_a_failure_ends_no_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the caller's to roll back: mutant, closing every connection."""

    def fail(ticket: Ticket) -> None:
        connection.errors_occurred = True
        raise OperationalError("gone")

    monkeypatch.setattr(shortcuts, "get_user", fail)
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    with transaction.atomic():
        User.objects.create_user("ada")
        with pytest.raises(OperationalError):
            async_to_sync(aget_user)(ticket_of(1))
        assert connection.connection is not None
    assert User.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_aget_user_leaves_any_transaction_alone() -> None:
    """Neither in a transaction of the caller's own."""
    with transaction.atomic():
        ticket = ticket_of(User.objects.create_user("ada").pk)
        assert async_to_sync(aget_user)(ticket).get_username() == "ada"
    assert User.objects.count() == 1
