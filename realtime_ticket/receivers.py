"""Receivers of Django's own signals: they name a login, and they end its connections.

No receiver raises. Django's logout stops when a receiver of its signal does, and then
the session stays logged in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save

from . import conf, sessions
from .disconnects import disconnect_quietly
from .logs import logger

_LOCKED_OUT = "_realtime_ticket_locked_out"


def _never_raises(receiver: Callable[..., None]) -> Callable[..., None]:
    """Log what the receiver raises."""

    @wraps(receiver)
    def wrapper(**kwargs: Any) -> None:
        try:
            receiver(**kwargs)
        except Exception:
            logger.exception("Connections may stay open after their login has ended.")

    return wrapper


def connect() -> None:
    """Connect the receivers. Doing so twice is fine."""
    # Without a sender, which would leave out proxies of the user model.
    user_logged_in.connect(after_login, dispatch_uid="realtime_ticket")
    user_logged_out.connect(before_logout, dispatch_uid="realtime_ticket")
    pre_save.connect(before_save, dispatch_uid="realtime_ticket")
    post_save.connect(after_save, dispatch_uid="realtime_ticket")
    # But this one with each sender there is. A receiver without one would let Django
    # fetch the rows of every model, sessions for example, before it deletes them.
    for model in filter(_is_user_model, apps.get_models()):
        post_delete.connect(after_delete, sender=model, dispatch_uid="realtime_ticket")


@_never_raises
def after_login(request: Any, user: Any, **kwargs: Any) -> None:
    """Name the session."""
    sessions.name_session(request, user)


@_never_raises
def before_logout(request: Any, user: Any, **kwargs: Any) -> None:
    """Disconnect the session. The signal comes before it is gone.

    This is done at once, because the user wanted to leave, and a rollback must not lose
    that. If a rollback keeps the session, its connections are refused for two minutes.
    It is done again after the commit, for connections without a session that began in
    the meantime.
    """
    if not conf.disconnects_by_itself():
        return
    alias = router.db_for_write(get_user_model())
    for user_id, session in sessions.ended_by_logout(request, user):
        end = partial(disconnect_quietly, user_id, session=session)
        end()
        if transaction.get_connection(alias).in_atomic_block:
            transaction.on_commit(end, using=alias, robust=True)


@_never_raises
def before_save(
    instance: Model,
    using: str,
    update_fields: frozenset[str] | None = None,
    raw: bool = False,
    **kwargs: Any,
) -> None:
    """Find out whether this locks the user out.

    It asks the database, but only for a user who is inactive or has no usable password.
    The values that the instance was loaded with may be old.
    """
    if raw or not _is_user_model(type(instance)):
        return
    locks = _locks(instance, update_fields)
    if not locks or not conf.disconnects_by_itself():
        return
    if instance._state.adding:
        # Usually a new user, but with the key of a stored one it replaces them.
        instance.__dict__[_LOCKED_OUT] = True
        return
    users = get_user_model()._base_manager.using(using)
    stored = users.filter(pk=instance.pk).values(*locks).first()
    instance.__dict__[_LOCKED_OUT] = stored not in (None, locks)


@_never_raises
def after_save(instance: Model, created: bool, using: str, **kwargs: Any) -> None:
    """Disconnect a user whose password was changed, or who is locked out."""
    if not _is_user_model(type(instance)):
        return
    is_locked_out = instance.__dict__.pop(_LOCKED_OUT, False)
    if created:
        return
    # Set by set_password(), until save() has returned. An upgrade of the hash takes
    # it back before it saves.
    is_changed = getattr(instance, "_password", None) is not None
    if is_locked_out or is_changed:
        _disconnect_after_commit(instance, using)


@_never_raises
def after_delete(instance: Model, using: str, **kwargs: Any) -> None:
    """Disconnect a user who was deleted."""
    if _is_user_model(type(instance)):
        _disconnect_after_commit(instance, using)


def _locks(user: Model, update_fields: frozenset[str] | None) -> dict[str, object]:
    """Return the fields that are saved, and keep the user out."""
    locks: dict[str, object] = {}
    fields = {field.name for field in user._meta.concrete_fields}
    # Not deferred fields: to read one would fetch it.
    fields &= user.__dict__.keys()
    if update_fields is not None:
        fields &= update_fields
    if "is_active" in fields and not user.__dict__["is_active"]:
        locks["is_active"] = user.__dict__["is_active"]
    if "password" in fields and not is_password_usable(user.__dict__["password"]):
        locks["password"] = user.__dict__["password"]
    return locks


def _disconnect_after_commit(user: Model, using: str) -> None:
    if not conf.disconnects_by_itself():
        return
    # The primary key now: after its deletion, an instance has none.
    user_id = sessions.ticket_id(user.pk)
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        batch = _Batch.of(connection)
        batch.user_ids.append(user_id)
        transaction.on_commit(batch.disconnect, using=using, robust=True)
    else:
        disconnect_quietly(user_id)


class _Batch:
    """Users who are disconnected together, because one transaction concerns them all.

    One by one, the deletion of 2,000 users in a QuerySet took half a minute. The first
    of their callbacks disconnects them all. Either all of the callbacks run or none: a
    batch ends where a savepoint begins or ends, and with the transaction, when Django
    starts another list of callbacks.
    """

    def __init__(self, callbacks: list[Any], savepoints: list[Any]) -> None:
        self.callbacks = callbacks
        self.savepoints = savepoints
        self.user_ids: list[int | str] = []

    @classmethod
    def of(cls, connection: Any) -> _Batch:
        """Return the batch of this transaction, or of this savepoint."""
        callbacks, savepoints = connection.run_on_commit, connection.savepoint_ids
        batch: _Batch | None = getattr(connection, "_realtime_ticket_batch", None)
        if (
            batch is None
            or batch.callbacks is not callbacks
            or batch.savepoints != savepoints
        ):
            batch = connection._realtime_ticket_batch = cls(callbacks, [*savepoints])
        return batch

    def disconnect(self) -> None:
        """Disconnect the users who are not disconnected yet."""
        user_ids, self.user_ids = dict.fromkeys(self.user_ids), []
        if user_ids:
            disconnect_quietly(*user_ids)


def _is_user_model(model: type[Model]) -> bool:
    """Tell whether it is the user model, a proxy of it, or a child."""
    try:
        return issubclass(model, get_user_model())
    except ImproperlyConfigured:  # a project without users
        return False
