"""What ``manage.py check`` reports about a database that keeps tickets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.db import connections

from ._database_sql import VENDORS

_SQLITE_RETURNING = (3, 35)


def check_database(alias: str, *, may_query: bool) -> list[checks.CheckMessage]:
    """Return the findings about the database with this alias."""
    connection: Any = connections[alias]
    if problem := _unsupported(connection):
        return [
            checks.Error(
                f"The database {alias!r} cannot keep tickets: {problem}.",
                hint="Use PostgreSQL, MariaDB, MySQL or SQLite 3.35 or newer.",
                id="realtime_ticket.E012",
            )
        ]
    return [
        *_transactions(connection, alias),
        *_sqlite_options(connection, alias),
        *(_table(connection, alias) if may_query else ()),
    ]


def _unsupported(connection: Any) -> str:
    if connection.vendor not in VENDORS:
        return f"its vendor is {connection.vendor!r}"
    if connection.vendor == "sqlite":
        version = connection.Database.sqlite_version_info
        if version < _SQLITE_RETURNING:
            return f"its SQLite is {'.'.join(map(str, version))}"
    return ""


def _transactions(connection: Any, alias: str) -> Iterator[checks.CheckMessage]:
    if connection.settings_dict["ATOMIC_REQUESTS"]:
        yield checks.Warning(
            f"ATOMIC_REQUESTS is on for the database {alias!r}: a view cannot consume "
            "a ticket, because a rollback would make it valid again.",
            hint="Give tickets a database alias of their own, or decorate the views "
            "that consume with transaction.non_atomic_requests. Issuing is fine.",
            id="realtime_ticket.W007",
        )


def _sqlite_options(connection: Any, alias: str) -> Iterator[checks.CheckMessage]:
    if connection.vendor != "sqlite" or connection.is_in_memory_db():
        return
    options = connection.settings_dict["OPTIONS"]
    mode = str(options.get("transaction_mode", "")).upper()
    if mode != "IMMEDIATE" or "wal" not in options.get("init_command", "").lower():
        yield checks.Warning(
            f"The SQLite database {alias!r} does not use the write-ahead log and "
            "immediate transactions, so racing writers get 'database is locked'.",
            hint="Set OPTIONS = {'transaction_mode': 'IMMEDIATE', 'init_command': "
            "'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;'}.",
            id="realtime_ticket.W006",
        )


def _table(connection: Any, alias: str) -> Iterator[checks.CheckMessage]:
    if "realtime_ticket" not in connection.introspection.table_names():
        yield checks.Warning(
            f"The table for tickets is missing in the database {alias!r}.",
            hint=f"Run 'manage.py migrate realtime_ticket --database {alias}'.",
            id="realtime_ticket.W005",
        )
