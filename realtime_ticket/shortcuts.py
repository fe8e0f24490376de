"""From a request to a ticket, and from a ticket to a user."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, connections

from . import conf
from .exceptions import InvalidClaims, InvalidTicket, NotAuthenticated
from .logs import logger
from .sessions import Login, login_of, ticket_id
from .tickets import Ticket

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from django.http import HttpRequest


def issue_ticket(request: HttpRequest, *, audience: str = "") -> Ticket:
    """Return a new ticket for ``request.user``, by session, token or any middleware.

    Any well-formed ``audience`` will do: ``REALTIME_TICKET_AUDIENCES`` are those that
    clients may ask for.

    Raise NotAuthenticated when nobody is logged in, StorageError when the storage
    failed, InvalidAudience for a malformed ``audience``, and InvalidClaims when
    ``REALTIME_TICKET_CLAIMS`` returned something that a ticket cannot hold.
    """
    claims, login = _told_by(request)
    return conf.get_service().issue(claims, audience=audience, **login._asdict())


async def aissue_ticket(request: HttpRequest, *, audience: str = "") -> Ticket:
    """See issue_ticket()."""
    # Not request.auser(): it is the session's user, even where an API token or a
    # middleware has set request.user to another, or to nobody.
    claims, login = await sync_to_async(_told_by)(request)
    service = conf.get_service()
    return await service.aissue(claims, audience=audience, **login._asdict())


def get_user(ticket: Ticket) -> AbstractBaseUser:
    """Return the user of a consumed ticket, fresh from the database.

    Raise InvalidTicket, with the reason ``user``, when the user no longer exists, is
    inactive, or has another username than the ticket says. The last is a user who was
    renamed since the ticket was issued, or a user of another project or tenant with
    the same primary key, whose tickets are in the same storage.
    """
    users = get_user_model()._default_manager
    try:
        user: AbstractBaseUser = users.get(pk=ticket.user_id)
    except (users.model.DoesNotExist, ValueError, ValidationError):
        raise InvalidTicket("user") from None
    if not user.is_active:
        raise InvalidTicket("user")
    if _username(user) != ticket.username:
        logger.warning(
            "Refused %r: the user with this id has another username. Do two projects "
            "or tenants keep tickets under one prefix?",
            ticket,
        )
        raise InvalidTicket("user")
    return user


async def aget_user(ticket: Ticket) -> AbstractBaseUser:
    """See get_user(). It survives a restart of the database, also in a process without
    requests."""
    return await sync_to_async(_get_user_again)(ticket)


def _get_user_again(ticket: Ticket) -> AbstractBaseUser:
    """See get_user(). Try twice when the connection turns out to be dead.

    Django looks for dead connections between requests, and so never for a WebSocket.
    """
    try:
        return get_user(ticket)
    except (OperationalError, InterfaceError):
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:  # which would be rolled back
                connection.close_if_unusable_or_obsolete()
        return get_user(ticket)


def _told_by(request: HttpRequest) -> tuple[dict[str, Any], Login]:
    """Return the claims and the login of this request. It may query the database."""
    started = time.time()  # the user may be disconnected meanwhile
    claims = _user_claims(request.user) | _extra_claims(request)
    login = login_of(request, request.user)
    return claims, login._replace(authenticated_at=started)


def _user_claims(user: Any) -> dict[str, Any]:
    # In Django REST framework, it is None where UNAUTHENTICATED_USER is.
    if user is None or not user.is_authenticated:
        raise NotAuthenticated("A ticket is for a logged-in user.")
    return {"id": ticket_id(user.pk), "username": _username(user)}


def _username(user: Any) -> str:
    """Return the username as a ticket has it: a str, empty for a user without one."""
    username = user.get_username()
    return "" if username is None else str(username)


def _extra_claims(request: HttpRequest) -> dict[str, Any]:
    function = conf.claims()
    claims = function(request) if function else {}
    if not isinstance(claims, dict) or not claims.keys().isdisjoint({"id", "username"}):
        raise InvalidClaims(
            "REALTIME_TICKET_CLAIMS must return a dict without 'id' and 'username'."
        )
    return claims
