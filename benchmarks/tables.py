"""The databases of the benchmarks, and their drivers without Django."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.core.management import call_command

from realtime_ticket.backends import _database_sql
from tests import servers

_SERVERS = ("postgresql", "mariadb")
VENDORS = ("sqlite", *(name for name in _SERVERS if not servers.missing(name)))
"""Those that are here."""
DIALECTS = {
    "sqlite": _database_sql.SQLITE,
    "postgresql": _database_sql.POSTGRESQL,
    "mariadb": _database_sql.MARIADB,
}

MARIADB = ("innodb_buffer_pool_size", "innodb_log_file_size")
"""What gets 512 MB, enough for a million tickets. Whenever the log is full, everyone
waits for InnoDB to write pages; by default it has 96 MB."""

Execute = Callable[[str, Sequence[Any]], Sequence[Any]]
"""Run a statement of its own, with parameters for %s, and return the rows."""


@functools.cache
def create(vendor: str) -> None:
    """Start the server, make both databases, and all tables in them."""
    if vendor != "sqlite":
        servers.start(vendor)
        execute = connect(vendor, "postgres" if vendor == "postgresql" else "mysql")
        for name in ("few", "many"):
            execute(f"CREATE DATABASE {name}", ())
        if vendor == "mariadb":
            for option in MARIADB:
                execute(f"SET GLOBAL {option} = 512 * 1024 * 1024", ())
    for alias in (vendor, f"{vendor}-many"):
        call_command("migrate", database=alias, verbosity=0)
        call_command("createcachetable", database=alias, verbosity=0)


def connect(vendor: str, database: str) -> Execute:
    """Return what runs a statement on a new connection of the bare driver."""
    return {
        "sqlite": _connect_sqlite,
        "postgresql": _connect_postgresql,
        "mariadb": _connect_mariadb,
    }[vendor](database)


def _connect_sqlite(database: str) -> Execute:
    connection = sqlite3.connect(servers.DIRECTORY / f"{database}.sqlite3", timeout=20)
    connection.isolation_level = None
    connection.executescript(settings.DATABASES["sqlite"]["OPTIONS"]["init_command"])

    @functools.cache
    def translated(sql: str) -> str:
        return sql.replace("%s", "?").replace("%%", "%")

    return lambda sql, values: connection.execute(translated(sql), values).fetchall()


def _connect_postgresql(database: str) -> Execute:
    import psycopg

    connection = psycopg.connect(
        host=str(servers.POSTGRESQL), user="postgres", dbname=database, autocommit=True
    )

    def execute(sql: str, values: Sequence[Any]) -> Sequence[Any]:
        cursor = connection.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []

    return execute


def _connect_mariadb(database: str) -> Execute:
    import MySQLdb

    connection = MySQLdb.connect(
        unix_socket=str(servers.MARIADB), user="root", database=database
    )
    connection.autocommit(True)

    def execute(sql: str, values: Sequence[Any]) -> Sequence[Any]:
        with connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            rows: Sequence[Any] = cursor.fetchall()
        return rows

    return execute
