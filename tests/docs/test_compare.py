"""The page that compares: what its table says is what the real packages do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from rest_framework_simplejwt.authentication import (
    JWTAuthentication,
    JWTStatelessUserAuthentication,
)
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import AccessToken

from realtime_ticket import InvalidTicket, TicketService
from tests import matrix
from tests.docs.pages import read

pytestmark = pytest.mark.django_db

SESAME = {
    "AUTHENTICATION_BACKENDS": [
        "django.contrib.auth.backends.ModelBackend",
        "sesame.backends.ModelBackend",
    ]
}
ELSEWHERE = {"SECRET_KEY": "another one, and as long as it has to be for HS256"}


def table() -> dict[str, list[str]]:
    """Return the cells of each row: ours, the cookie's, the JWT's, and sesame's."""
    rows = re.findall(r"^\| (\w.*?) \| (.*) \|$", read("compare.md"), re.M)
    return {name: cells.split(" | ") for name, cells in rows}


TABLE = table()


def says(row: str, column: int) -> str:
    """Return the first word of a cell."""
    return re.split(r"\W", TABLE[row][column])[0]


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ana", password="a pass phrase")


def queries(function: Any, *arguments: Any) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert function(*arguments)
    return len(captured)


def test_a_ticket(issuer: TicketService, user: User) -> None:
    value = issuer.issue({"id": user.pk, "username": "ana"}).value
    with override_settings(**ELSEWHERE):
        asked = queries(issuer.consume, value)
    assert says("the realtime server needs `SECRET_KEY`", 0) == "no"
    assert asked == int(says("database queries for each connection", 0))
    with pytest.raises(InvalidTicket):
        issuer.consume(value)
    assert says("works once", 0) == "yes"
    assert says("usable from a log", 0) == "no"


def user_of(cookie: str) -> User | None:
    """Return whom Channels finds for a session cookie, and None for a guest."""
    matrix.require(matrix.ROWS["channels-daphne"])
    from channels.auth import AuthMiddlewareStack

    async def application(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["user"])

    found: list[Any] = []
    header = (b"cookie", f"sessionid={cookie}".encode())
    scope = {"type": "websocket", "path": "/", "headers": [header]}
    async_to_sync(AuthMiddlewareStack(application))(scope, None, None)
    (user,) = found
    return user if user.is_authenticated else None


@pytest.mark.django_db(transaction=True)  # Channels closes the connection
def test_a_session_cookie(user: User, settings: Any) -> None:
    client = Client()
    client.force_login(user)
    cookie = client.cookies["sessionid"].value
    asked = queries(user_of, cookie)
    assert asked == int(says("database queries for each connection", 1))
    assert user_of(cookie) == user
    assert says("works once", 1) == "no"
    assert settings.SESSION_COOKIE_AGE == 14 * 24 * 3600
    assert "two weeks" in TABLE["usable from a log"][1]
    with override_settings(**ELSEWHERE):
        # Channels flushes a session that it cannot verify, so of a copy.
        copy = SessionStore()
        copy.update(SessionStore(cookie).load())
        copy.save()
        assert user_of(copy.session_key) is None
    assert says("the realtime server needs `SECRET_KEY`", 1) == "yes"
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    cached = CacheStore()
    cached.update(SessionStore(cookie).load())
    cached.save()
    assert queries(user_of, cached.session_key) == 1
    assert "With sessions in a cache it is one." in read("compare.md")


def test_a_jwt(user: User, settings: Any) -> None:
    token = str(AccessToken.for_user(user))
    assert AccessToken(token)["user_id"] == AccessToken(token)["user_id"]
    assert says("works once", 2) == "no"
    assert api_settings.ACCESS_TOKEN_LIFETIME.total_seconds() == 5 * 60
    assert "five minutes" in TABLE["usable from a log"][2]
    asked = [
        queries(kind().get_user, AccessToken(token))
        for kind in (JWTStatelessUserAuthentication, JWTAuthentication)
    ]
    cell = TABLE["database queries for each connection"][2]
    assert asked == [int(number) for number in re.findall(r"\d", cell)]
    assert api_settings.SIGNING_KEY == settings.SECRET_KEY
    assert api_settings.ALGORITHM == "HS256"
    assert says("the realtime server needs `SECRET_KEY`", 2) == "yes"
    with pytest.raises(TokenError):
        AccessToken(token[:-3] + "AAA")


def test_a_token_of_django_sesame(user: User) -> None:
    with override_settings(**SESAME):
        from sesame import settings as defaults
        from sesame.utils import get_token, get_user

        assert defaults.MAX_AGE is None
        assert "for ever" in TABLE["usable from a log"][3]
        token = get_token(user)
        asked = queries(get_user, token)
        assert asked == int(says("database queries for each connection", 3))
        assert get_user(token) == user
        assert says("works once", 3) == "no"
        with override_settings(**ELSEWHERE):
            assert get_user(token) is None
    assert says("the realtime server needs `SECRET_KEY`", 3) == "yes"


def test_a_one_time_token_of_django_sesame_is_best_effort(user: User) -> None:
    """Of two callers who both check before either writes, both get in."""
    with override_settings(**SESAME, SESAME_ONE_TIME=True):
        from sesame.utils import get_token, get_user

        token, other = get_token(user), get_token(user)
        checked = [get_user(token, update_last_login=False) for _ in range(2)]
        assert checked == [user, user]
        assert get_user(token) == user
        assert get_user(token) is None
        assert get_user(other) is None
    assert "best effort" in TABLE["works once"][3]
