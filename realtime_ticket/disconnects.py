"""End the open connections of users, by hand and from the receivers of signals."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import router, transaction
from django.db.models import Model, QuerySet

from . import conf
from .backends.base import require_read_many
from .exceptions import OpenTransaction, StorageError
from .logs import logger
from .revocations import user_key
from .sessions import ticket_id
from .tickets import check_session


def disconnect(users: Any, *, session: str | None = None) -> None:
    """End the open connections of users, wherever LiveTickets holds them.

    They end within about a second. The users stay logged in, so their pages come back.
    ``users`` is a user, the primary key of one, or any iterable of these, such as a
    QuerySet. ``session`` ends only the connections whose tickets name that session
    (``Ticket.session``); the empty string, those whose tickets name none.

    In a transaction on the users' database it happens after the commit, and not at all
    after a rollback. An error of the storage is then logged, and the disconnect is
    tried again for two minutes. Otherwise raise StorageError, and try again as well.

    Raise TypeError for what is not a user or a primary key, such as a username, and
    UnsupportedBackend when the backend has no
    ``read_many()``.
    """
    service = conf.get_service()
    require_read_many(service.backend)
    user_ids = _ids_of(users)
    check_session(session or "", None)
    if not user_ids:
        return
    alias = router.db_for_write(get_user_model())
    if transaction.get_connection(alias).in_atomic_block:
        transaction.on_commit(
            partial(disconnect_quietly, *user_ids, session=session), using=alias
        )
        return
    _write(*user_ids, session=session)


async def adisconnect(users: Any, *, session: str | None = None) -> None:
    """See disconnect()."""
    await sync_to_async(disconnect)(users, session=session)


def disconnect_quietly(*user_ids: int | str, session: str | None = None) -> None:
    """Do what disconnect() does at once, and log what fails. Never raise.

    A backend without ``read_many()`` is left alone: a system check reports it.
    """
    try:
        service = conf.get_service()
        if not service.backend.supports_read_many():
            return
        # While the storage is down, one caller has to wait for it, and not all.
        is_down = not service.outbox.join(0)
        _write(*user_ids, session=session, background=is_down)
    except StorageError:  # reported, and tried again
        logger.info("A disconnect waits for the storage.")
    except Exception:
        logger.exception("A user could not be disconnected.")


def _write(*user_ids: int | str, session: str | None, background: bool = False) -> None:
    """Write a disconnect, from a thread if this one's transaction could undo it."""
    service = conf.get_service()
    try:
        service.disconnect(*user_ids, session=session, background=background)
    except OpenTransaction:  # on the database that holds the tickets
        service.disconnect(*user_ids, session=session, background=True)


def _ids_of(users: Any) -> list[int | str]:
    """Return the ids that tickets have of these users. Raise TypeError."""
    model = get_user_model()
    if isinstance(users, QuerySet) and issubclass(users.model, model):
        users = users.values_list("pk", flat=True)
    elif isinstance(users, (str, bytes, Model)) or not isinstance(users, Iterable):
        users = [users]
    return [_id_of(user, model) for user in users]


def _id_of(user: Any, model: type[Model]) -> int | str:
    if not isinstance(user, Model):
        user_key(user)  # raises TypeError for what cannot be a primary key
        try:
            return ticket_id(model._meta.pk.to_python(user))
        except ValidationError:
            raise TypeError(
                f"{user!r} is not a primary key of a {model.__name__}."
            ) from None
    if not isinstance(user, model):
        raise TypeError(f"A user is a {model.__name__}, not {user!r}.")
    if user.pk is None:
        raise TypeError("A user who is not in the database has no connections.")
    return ticket_id(user.pk)
