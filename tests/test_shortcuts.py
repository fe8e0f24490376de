"""issue_ticket and get_user, and their twins."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError

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
from tests.helpers import GOOD


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


def a_request(user: Any, **attributes: Any) -> Any:
    async def auser() -> Any:
        return user

    return SimpleNamespace(user=user, auser=auser, **attributes)


def ticket_of(user_id: Any) -> Ticket:
    claims = {"id": user_id, "username": "ada"}
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
