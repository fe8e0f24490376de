"""From a request to a ticket, and from a ticket to a user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError, connections

from . import conf
from .exceptions import InvalidClaims, InvalidTicket, NotAuthenticated
from .tickets import Ticket

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from django.http import HttpRequest


def issue_ticket(request: HttpRequest, *, audience: str = "") -> Ticket:
    """Return a new ticket for the user of this request.

    Raise NotAuthenticated when nobody is logged in, StorageError when the storage
    failed, InvalidAudience for a malformed ``audience``, and InvalidClaims when
    ``REALTIME_TICKET_CLAIMS`` returned something that a ticket cannot hold.
    """
    claims = _user_claims(request.user) | _extra_claims(request)
    return conf.get_service().issue(claims, audience=audience)


async def aissue_ticket(request: HttpRequest, *, audience: str = "") -> Ticket:
    """See issue_ticket()."""
    claims = _user_claims(await request.auser())
    if conf.claims():
        claims |= await sync_to_async(_extra_claims)(request)
    return await conf.get_service().aissue(claims, audience=audience)


def get_user(ticket: Ticket) -> AbstractBaseUser:
    """Return the user of a consumed ticket, fresh from the database.

    Raise InvalidTicket, with the reason ``user``, when the user no longer exists or is
    inactive: both may have happened since the ticket was issued.
    """
    users = get_user_model()._default_manager
    try:
        user: AbstractBaseUser = users.get(pk=ticket.user_id)
    except (users.model.DoesNotExist, ValueError, ValidationError):
        raise InvalidTicket("user") from None
    if not user.is_active:
        raise InvalidTicket("user")
    return user


async def aget_user(ticket: Ticket) -> AbstractBaseUser:
    """See get_user(). It outlives a restart of the database, in a process without
    requests too."""
    return await sync_to_async(_get_user_anew)(ticket)


def _get_user_anew(ticket: Ticket) -> AbstractBaseUser:
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


def _user_claims(user: Any) -> dict[str, Any]:
    if not user.is_authenticated:
        raise NotAuthenticated("A ticket is for a logged-in user.")
    pk = user.pk
    return {
        "id": pk if isinstance(pk, int) else str(pk),
        "username": str(user.get_username()),
    }


def _extra_claims(request: HttpRequest) -> dict[str, Any]:
    function = conf.claims()
    claims = function(request) if function else {}
    if not isinstance(claims, dict) or not claims.keys().isdisjoint({"id", "username"}):
        raise InvalidClaims(
            "REALTIME_TICKET_CLAIMS must return a dict without 'id' and 'username'."
        )
    return claims
