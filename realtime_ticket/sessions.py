"""The name of a login, in the session's data, and what tickets say about that login.

Not the key of the session: it is a credential, it changes while the user stays logged
in, and in signed cookies it is the whole session.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured, ValidationError

if TYPE_CHECKING:
    from django.http import HttpRequest

SESSION_NAME: Final = "_realtime_ticket_session"
"""The key in the session's data."""

_NAME_BYTES: Final = 16


class Login(NamedTuple):
    """What a ticket says about its login; see TicketService.issue()."""

    session: str = ""
    max_age: int | None = None
    authenticated_at: float | None = None


def name_session(request: HttpRequest | None, user: Any) -> None:
    """Give the session of a user who logged in a name, unless it has one.

    The session of another user is not changed: a request that logs in with a token may
    carry the cookie of someone else.
    """
    session = _session_of(request)
    if session is not None and owner_of(session) == user.pk:
        session.setdefault(SESSION_NAME, secrets.token_urlsafe(_NAME_BYTES))


def login_of(request: HttpRequest, user: Any) -> Login:
    """Return what a ticket says about this user's login: nothing without a session.

    Never write to the session: each page asks for tickets, and saving a session
    prolongs it.
    """
    session = _session_of(request)
    # An empty one was not read yet, and reading makes the response vary by cookie.
    if session is None or session.is_empty() or owner_of(session) != user.pk:
        return Login()
    return Login(name_of(session), max(0, int(session.get_expiry_age())))


def name_of(session: SessionBase) -> str:
    """Return the session's name; it is empty for a login older than this feature."""
    name: str = session.get(SESSION_NAME, "")
    return name


def ended_by_logout(
    request: HttpRequest | None, user: Any
) -> list[tuple[int | str, str]]:
    """Return whose connections a logout ends: ids as in tickets, each with a session.

    A logout ends the session of the user who is logged in there. ``user`` may be
    another one, of a token or of impersonation; their tickets name no session.
    """
    ended: list[tuple[int | str, str]] = []
    owner = None
    session = _session_of(request)
    if session is not None and (owner := owner_of(session)) is not None:
        ended.append((ticket_id(owner), name_of(session)))
    if user is not None and user.pk not in (None, owner):
        ended.append((ticket_id(user.pk), ""))
    return ended


def ticket_id(pk: Any) -> int | str:
    """Return the ``id`` in the tickets of a user with this primary key."""
    return pk if isinstance(pk, int) else str(pk)


def owner_of(session: SessionBase) -> object:
    """Return the primary key of the user who is logged in there, or None."""
    value = session.get(SESSION_KEY)
    if value is None:
        return None
    try:
        return get_user_model()._meta.pk.to_python(value)
    except (ImproperlyConfigured, ValidationError):
        return None


def _session_of(request: HttpRequest | None) -> SessionBase | None:
    session = getattr(request, "session", None)
    return session if isinstance(session, SessionBase) else None
