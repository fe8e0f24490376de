"""What ``manage.py ticket_doctor`` reports about a database that keeps tickets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks

from . import _clock
from ._database_connection import lent


def diagnose(alias: str) -> list[checks.CheckMessage]:
    """Return the findings about the database with this alias."""
    with lent(alias) as (connection, _), connection.cursor() as cursor:
        examine = {"postgresql": _postgresql, "sqlite": _sqlite, "mysql": _mysql}
        return list(examine[connection.vendor](cursor))


def _postgresql(cursor: Any) -> Iterator[checks.CheckMessage]:
    version, isolation = _row(
        cursor,
        "SELECT current_setting('server_version'),"
        " current_setting('transaction_isolation')",
    )
    yield checks.Info(
        f"PostgreSQL {version}, isolation level {isolation}.",
        id="realtime_ticket.I004",
    )
    (persistence,) = _row(
        cursor,
        "SELECT relpersistence FROM pg_class"
        " WHERE oid = to_regclass('realtime_ticket')",
    )
    if persistence != "u":
        yield checks.Warning(
            "The table for tickets is not UNLOGGED. After a failover or a restore, a "
            "spent ticket may be valid again for what is left of its time.",
            hint="Run: ALTER TABLE realtime_ticket SET UNLOGGED",
            id="realtime_ticket.W017",
        )
    yield from _clock.compare(
        lambda: float(_row(cursor, "SELECT extract(epoch FROM clock_timestamp())")[0])
    )


def _sqlite(cursor: Any) -> Iterator[checks.CheckMessage]:
    (version,) = _row(cursor, "SELECT sqlite_version()")
    (mode,) = _row(cursor, "PRAGMA journal_mode")
    yield checks.Info(
        f"SQLite {version}, journal mode {mode}.", id="realtime_ticket.I005"
    )
    if mode not in ("wal", "memory"):
        yield checks.Warning(
            f"SQLite keeps its journal in the mode {mode!r}, so one writer locks out "
            "everyone else.",
            hint="Set OPTIONS['init_command'] to 'PRAGMA journal_mode=WAL; PRAGMA "
            "synchronous=NORMAL;'.",
            id="realtime_ticket.W018",
        )


def _mysql(cursor: Any) -> Iterator[checks.CheckMessage]:
    version, flush = _row(cursor, "SELECT @@version, @@innodb_flush_log_at_trx_commit")
    number, _, rest = version.partition("-")
    name = "MariaDB" if "MariaDB" in rest else "MySQL"
    yield checks.Info(f"{name} {number}.", id="realtime_ticket.I006")
    if flush != 1:
        yield checks.Warning(
            f"innodb_flush_log_at_trx_commit is {flush}. After a crash, a spent ticket "
            "may be valid again for what is left of its time.",
            hint="Set it to 1, or accept it.",
            id="realtime_ticket.W019",
        )
    yield from _clock.compare(
        lambda: float(_row(cursor, "SELECT UNIX_TIMESTAMP(NOW(6))")[0])
    )


def _row(cursor: Any, sql: str) -> tuple[Any, ...]:
    cursor.execute(sql)
    row: tuple[Any, ...] = cursor.fetchone()
    return row
