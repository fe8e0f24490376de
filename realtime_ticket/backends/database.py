"""Tickets in a table of a database that Django is connected to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from django.db import Error as DatabaseError

from ._database_connection import for_good, in_savepoint, lent, own_connection
from ._database_expiry import clear, sweep
from ._database_sql import MYSQL_REMOVE
from .base import BaseBackend, Item

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from realtime_ticket.outages import Outage


class DatabaseBackend(BaseBackend):
    """Keep each ticket in a row with an expiry column, under the hash of its value.

    Options: ``alias`` (``"default"``), of PostgreSQL, MariaDB, MySQL or SQLite. It is
    always this database, never a router's replica.
    """

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (DatabaseError,)
    # Databases compare text as they please: MariaDB without case. Hex digits are safe.
    hashes_keys: ClassVar[bool] = True
    setting: ClassVar[str] = "DATABASE"
    shorthand: ClassVar[str] = "alias"

    def __init__(self, *, alias: str = "default") -> None:
        self.alias = alias

    def add(self, key: str, data: str, expire: int) -> bool:
        return self.add_many([Item(key, data, expire)])[0]

    def pop(self, key: str) -> str | None:
        return self.pop_many([key])[0]

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        with lent(self.alias) as (connection, dialect):
            if not dialect.returns_rows and len(items) > 1:
                return super().add_many(items)
            sql = dialect.add.format(", ".join([dialect.row] * len(items)))
            with in_savepoint(connection), connection.cursor() as cursor:
                cursor.execute(sql, [value for item in items for value in item])
                if dialect.returns_rows:
                    added = {key: True for (key,) in cursor.fetchall()}
                else:
                    added = {items[0].key: cursor.rowcount == 1}
            sweep(connection, dialect, len(items))
        return [added.pop(key, False) for key, _, _ in items]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        placeholders = ", ".join(["%s"] * len(keys))
        with (
            lent(self.alias) as (connection, dialect),
            for_good(connection),
            connection.cursor() as cursor,
        ):
            cursor.execute(dialect.pop.format(placeholders), keys)
            found: dict[str, str] = dict(cursor.fetchall())
            if not dialect.returns_rows:
                for key in list(found):
                    cursor.execute(MYSQL_REMOVE, [key])
                    if cursor.rowcount != 1:
                        del found[key]
        return [found.pop(key, None) for key in keys]

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        """See BaseBackend.

        Read in autocommit. In a transaction of SQLite, and elsewhere in one with the
        isolation level REPEATABLE READ or above, every reading shows what the first
        statement of that transaction saw.
        """
        placeholders = ", ".join(["%s"] * len(keys))
        with (
            lent(self.alias) as (connection, dialect),
            connection.cursor() as cursor,
        ):
            cursor.execute(dialect.read.format(placeholders), keys)
            found: dict[str, str] = dict(cursor.fetchall())
        return [found.get(key) for key in keys]

    def add_durably(self, key: str, data: str, expire: int) -> bool:
        with lent(self.alias) as (connection, _), for_good(connection):
            return self.add(key, data, expire)

    def clear_expired(self) -> int:
        with lent(self.alias) as (connection, dialect):
            return clear(connection, dialect)

    @property
    def database(self) -> str:
        return self.alias

    def check(self, databases: Collection[str] = ()) -> list[CheckMessage]:
        from ._database_checks import check_database

        return check_database(self.alias, may_query=self.alias in databases)

    def explain(self, error: Exception) -> Outage:
        from ._database_outages import explain_database

        return explain_database(self.alias, error)

    def diagnose(self) -> list[CheckMessage]:
        from ._database_diagnosis import diagnose

        return diagnose(self.alias)

    def close(self) -> None:
        connection = own_connection(self.alias)
        if not connection.in_atomic_block:  # which would be rolled back
            connection.close()
