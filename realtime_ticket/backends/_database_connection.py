"""Django's database connections, used where Django does not look after them.

Django drops dead connections between requests. A realtime server has no requests, and
may fork.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from django.db import connections, transaction

from realtime_ticket.exceptions import OpenTransaction

from ._database_sql import Dialect, dialect_of

_IDLE = 30
"""Seconds without use after which a connection is tried before it is trusted."""

_IN_TRANSACTION = (2, 3)
"""libpq's PQTRANS_INTRANS and PQTRANS_INERROR. It says PQTRANS_UNKNOWN of a connection
that is lost, which is an outage."""


@contextmanager
def lent(alias: str) -> Iterator[tuple[Any, Dialect]]:
    """Lend this thread's connection, a new one if it has died, and its dialect.

    A connection from Django's pool for PostgreSQL goes back, unless it was in use
    before: a thread that ends returns nothing, and the pool would count it as taken.
    """
    connection = live_connection(alias)
    was_open = connection.connection is not None
    try:
        yield connection, dialect_of(connection)
    finally:
        is_mine = not was_open and not connection.in_atomic_block
        if is_mine and getattr(connection, "pool", None):
            connection.close()


def live_connection(alias: str) -> Any:
    """Return this thread's connection, a new one if it has died."""
    connection = own_connection(alias)
    now = time.monotonic()
    idle = now - getattr(connection, "_realtime_ticket_used", now)
    connection._realtime_ticket_used = now
    is_open = connection.connection is not None and not connection.in_atomic_block
    if is_open and (connection.errors_occurred or idle > _IDLE):
        connection.errors_occurred = False
        if not connection.is_usable():
            connection.close()
    return connection


def own_connection(alias: str) -> Any:
    """Return this thread's connection, a new one if a fork handed it down.

    Two processes on one socket read each other's replies. The inherited connection is
    kept and never closed: closing would end the session on the socket that the parent
    still uses.
    """
    connection: Any = connections[alias]
    pid = os.getpid()
    if getattr(connection, "_realtime_ticket_pid", pid) != pid:
        inherited = connection
        del connections[alias]
        connection = connections[alias]
        connection._realtime_ticket_inherited = inherited
    connection._realtime_ticket_pid = pid
    return connection


def in_savepoint(connection: Any) -> AbstractContextManager[None]:
    """Run a block whose failure must not end the caller's transaction, if there is one.

    PostgreSQL refuses everything after an error in a transaction, and a page that
    renders without a ticket would fail at its next query.
    """
    if not connection.in_atomic_block:
        return nullcontext()
    savepoint: AbstractContextManager[None] = transaction.atomic(connection.alias)
    return savepoint


@contextmanager
def for_good(connection: Any) -> Iterator[None]:
    """Run the block where no rollback can make a spent ticket valid again.

    A single statement outside a transaction commits by itself. In a transaction,
    ``durable`` refuses, and this raises OpenTransaction, except in the transaction
    that a TestCase wraps each test in. A transaction that was begun with SQL, which
    Django does not know of, is seen on PostgreSQL and SQLite, by their drivers.
    """
    if connection.get_autocommit() and not _begun_by_hand(connection):
        yield
        return
    alias = connection.alias
    with ExitStack() as stack:
        try:
            if not connection.in_atomic_block:
                raise RuntimeError("autocommit is off, or SQL has begun a transaction")
            stack.enter_context(transaction.atomic(using=alias, durable=True))
        except RuntimeError as exc:
            raise OpenTransaction(
                f"Consume and disconnect outside of transactions on {alias!r}: a "
                "rollback would undo it, and make a spent ticket valid again. Or give "
                "tickets a database alias of their own."
            ) from exc
        yield


def _begun_by_hand(connection: Any) -> bool:
    """Tell whether SQL has begun a transaction that Django does not know of.

    The driver knows it from the server's last reply, so no query is sent. The driver of
    MySQL and MariaDB does not say.
    """
    driver = connection.connection
    if connection.vendor == "sqlite":
        return bool(driver.in_transaction)
    if connection.vendor == "postgresql":
        return driver.info.transaction_status in _IN_TRANSACTION
    return False
