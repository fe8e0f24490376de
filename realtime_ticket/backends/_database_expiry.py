"""How expired rows leave the table: some with issued tickets, all of them on demand."""

from __future__ import annotations

import random
import time
from typing import Any

from django.db import Error as DatabaseError

from realtime_ticket.logs import logger

from ._database_sql import Dialect

_SWEEP_EVERY = 25
_SWEEP_ROWS = 100
"""One issued ticket in 25 removes up to about 100 expired rows: four times what comes
in, so the table stays small without a cron job."""

_CLEAR_ROWS = 250
"""Rows that are removed at a time when all have to go."""


def sweep(connection: Any, dialect: Dialect, added: int) -> None:
    """Remove some expired rows, now and then, where so many tickets were added.

    If that fails, the ticket is issued all the same, and a later one tries again.
    """
    if random.random() * _SWEEP_EVERY >= added:
        return
    if connection.in_atomic_block:
        return  # an error would end the user's transaction
    try:
        _remove(connection, dialect, _SWEEP_ROWS + 2 * added)
    except DatabaseError as exc:
        logger.info("Could not clear expired tickets: %s", type(exc).__name__)


def clear(connection: Any, dialect: Dialect) -> int:
    """Remove all expired rows, and return their number.

    After each step it rests for as long as that took: SQLite lets one process write at
    a time, and those that wait for their turn have to find a gap.
    """
    total, started = 0, time.monotonic()
    while (count := _remove(connection, dialect, _CLEAR_ROWS)) is not None:
        total += count
        time.sleep(time.monotonic() - started)
        started = time.monotonic()
    return total


def _remove(connection: Any, dialect: Dialect, rows: int) -> int | None:
    """Remove at most this many expired rows.

    Return their number, or None where there are no more to be found.
    """
    with connection.cursor() as cursor:
        if not dialect.expired:
            cursor.execute(dialect.clear, [rows])
            return cursor.rowcount or None
        cursor.execute(dialect.expired, [rows])
        if not (keys := [key for (key,) in cursor.fetchall()]):
            return None
        cursor.execute(dialect.clear.format(", ".join(["%s"] * len(keys))), keys)
        removed: int = cursor.rowcount
    # None of them, when someone else was faster: there may be more all the same. In a
    # transaction, though, what others removed would be found again and again.
    return removed if removed or connection.get_autocommit() else None
