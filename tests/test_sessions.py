"""The name of a session, and what tickets say of the login that they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import (
    SESSION_KEY,
    alogin,
    aupdate_session_auth_hash,
    login,
    update_session_auth_hash,
)
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import SessionBase
from django.utils import timezone

from realtime_ticket import Ticket, aissue_ticket, issue_ticket
from realtime_ticket.sessions import SESSION_NAME
from tests.accounts.models import Person
from tests.requests import a_request

pytestmark = pytest.mark.django_db

ENGINES = ["db", "cache", "cached_db", "file", "signed_cookies"]


@pytest.fixture(autouse=True, params=["db"])
def engine(request: pytest.FixtureRequest, settings: Any, tmp_path: Any) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    settings.SESSION_FILE_PATH = str(tmp_path)


@pytest.fixture(params=["sync", "async"])
def doors(request: pytest.FixtureRequest) -> Iterator[Any]:
    """login(), update_session_auth_hash() and issue_ticket(), or their twins."""
    if request.param == "sync":
        yield login, update_session_auth_hash, issue_ticket
    else:
        twins = alogin, aupdate_session_auth_hash, aissue_ticket
        yield tuple(map(async_to_sync, twins))


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password="enigma")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob", password="enigma")


def next_request(request: Any) -> Any:
    """Return the next request of the same browser."""
    request.session.save()
    following = a_request(request.session.session_key)
    following.user = request.user
    return following


def name_in(session: SessionBase) -> str:
    return str(session[SESSION_NAME])


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_ticket_names_the_session(doors: Any, ada: User) -> None:
    """Whatever the engine; and all tickets of a session have the same name.

    Mutants: session-without-a-name, ticket-without-its-session.
    """
    login, _, issue = doors
    request = a_request()
    login(request, ada)
    first: Ticket = issue(request)
    second = issue(next_request(request))

    assert len(first.session) == 22  # 128 bits in base64
    assert first.session == second.session == name_in(request.session)
    assert request.session.session_key not in (first.session, None)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_issuing_does_not_write_to_the_session(doors: Any, ada: User) -> None:
    """Or each ticket would make it live longer."""
    login, _, issue = doors
    request = a_request()
    login(request, ada)
    request = next_request(request)
    issue(request)
    assert not request.session.modified


def test_each_login_has_a_name_of_its_own(doors: Any, ada: User) -> None:
    login, _, issue = doors
    requests = [a_request() for _ in range(3)]
    for request in requests:
        login(request, ada)
    assert len({issue(request).session for request in requests}) == 3


def test_the_name_stays_while_the_user_is_logged_in(doors: Any, ada: User) -> None:
    """Another login, and a change of password, change the key of the session only.

    Mutants: session-named-again.
    """
    login, update_session_auth_hash, issue = doors
    request = a_request()
    login(request, ada)
    name, key = issue(request).session, request.session.session_key

    login(request, ada)
    request.session.cycle_key()
    assert issue(request).session == name
    ada.set_password("bombe")
    ada.save()
    update_session_auth_hash(request, ada)
    request = next_request(request)
    assert request.session.session_key != key
    assert issue(request).session == name


def test_another_user_gets_another_name(doors: Any, ada: User, bob: User) -> None:
    """Django makes a new session when someone else logs in over an open one."""
    login, _, issue = doors
    request = a_request()
    login(request, ada)
    name = issue(request).session
    login(request, bob)
    assert issue(request).session not in (name, "")


class TestATicketNamesNoSession:
    """What it came from is no session of the user's."""

    def test_of_another_user(self, doors: Any, ada: User, bob: User) -> None:
        """request.user may come from a token, or from impersonation.

        Mutants: session-of-whom-ever.
        """
        login, _, issue = doors
        request = a_request()
        login(request, ada)
        request = next_request(request)
        request.user = bob
        ticket = issue(request)
        assert (ticket.username, ticket.session, ticket.max_age) == ("bob", "", None)

    def test_of_nobody(self, doors: Any, ada: User) -> None:
        """A session of a visitor, and the user of a token."""
        _, _, issue = doors
        request = a_request()
        request.session["basket"] = [1]
        request = next_request(request)
        request.user = ada
        ticket = issue(request)
        assert (ticket.session, ticket.max_age) == ("", None)

    def test_that_nobody_opened(self, doors: Any, ada: User) -> None:
        """It is not read either, so that the answer does not vary by cookie.

        Mutants: session-read-in-vain.
        """
        _, _, issue = doors
        request = a_request()
        request.user = ada
        ticket = issue(request)
        assert (ticket.session, ticket.max_age) == ("", None)
        assert not request.session.accessed

    @pytest.mark.parametrize("session", [None, {}, {SESSION_KEY: "1"}, object()])
    def test_that_is_no_session(self, doors: Any, ada: User, session: Any) -> None:
        """A project without sessions, and a test with a dict in place of one."""
        _, _, issue = doors
        request = a_request()
        request.user, request.session = ada, session
        assert issue(request).session == ""
        del request.session
        assert issue(request).session == ""

    @pytest.mark.parametrize("owner", ["", "x", "-1", "1.5", [], None])
    def test_of_an_owner_who_cannot_be(
        self, doors: Any, ada: User, owner: object
    ) -> None:
        """As after a change of the user model."""
        _, _, issue = doors
        request = a_request()
        request.session[SESSION_KEY] = owner
        request.user = ada
        assert issue(request).session == ""


def test_a_login_from_before_the_upgrade_has_no_name(doors: Any, ada: User) -> None:
    """Its tickets name no session, but say how long it lasts."""
    login, _, issue = doors
    request = a_request()
    login(request, ada)
    del request.session[SESSION_NAME]
    ticket = issue(next_request(request))
    assert (ticket.session, ticket.max_age) == ("", 14 * 24 * 60 * 60)


@pytest.mark.parametrize(
    ("expiry", "seconds"),
    [
        (300, 300),
        (None, 14 * 24 * 60 * 60),
        (0, 14 * 24 * 60 * 60),  # ends with the browser, and then at the latest
        (timedelta(minutes=5), 300),
        (timedelta(seconds=-5), 0),
    ],
)
def test_a_ticket_says_how_long_its_session_lasts(
    doors: Any, ada: User, expiry: Any, seconds: int
) -> None:
    """At most, as Django says it.

    Mutants: age-below-zero.
    """
    login, _, issue = doors
    request = a_request()
    login(request, ada)
    if isinstance(expiry, timedelta):
        expiry = timezone.now() + expiry
    request.session.set_expiry(expiry)
    max_age = issue(request).max_age
    assert 0 <= seconds - max_age <= 2


def test_a_primary_key_need_not_be_a_number(doors: Any, settings: Any) -> None:
    settings.AUTH_USER_MODEL = "accounts.Person"
    login, _, issue = doors
    person = Person.objects.create(email="ada@example.com")
    request = a_request()
    login(request, person)
    ticket = issue(next_request(request))
    assert (ticket.user_id, len(ticket.session)) == (str(person.pk), 22)


def test_a_login_by_token_leaves_sessions_alone(ada: User, bob: User) -> None:
    """Django's signal is sent for such a login too, also without a request."""
    with_session, without = a_request(), a_request()
    login(with_session, ada)
    del with_session.session[SESSION_NAME]
    send: Callable[..., Any] = user_logged_in.send
    send(User, request=with_session, user=bob)
    send(User, request=without, user=bob)
    send(User, request=None, user=bob)
    assert SESSION_NAME not in with_session.session
    assert without.session.is_empty()
