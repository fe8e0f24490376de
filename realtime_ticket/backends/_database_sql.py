"""The statements of the database backend, in each database's own dialect.

Each does its work in one round trip and compares times by the database's clock. All
take key, text and lifetime in seconds from parameters; ``{}`` is where one placeholder,
or one group of them, is repeated for each ticket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Dialect:
    row: str
    """The group of placeholders for one ticket in ``add``."""
    add: str
    pop: str
    read: str
    clear: str
    """Takes the largest number of rows to remove, or the keys from ``expired``."""
    expired: str = ""
    """Finds the rows for ``clear`` if that statement must not do so itself."""
    returns_rows: bool = True
    """Whether ``add`` and ``pop`` say which rows they changed, by RETURNING."""


_READ: Final = (
    "SELECT ticket_key, data FROM realtime_ticket WHERE ticket_key IN ({}) AND"
)

# A row that someone else has locked is a ticket being spent, so it is skipped: waiting
# for it could only end in "gone", and two waiting batches could deadlock. ARRAY() makes
# PostgreSQL run the subquery once; under IN it may run it again for each row. The order
# keeps clearing on the index: of a table where most has expired, the planner would read
# all that is already deleted.
POSTGRESQL: Final = Dialect(
    row="(%s, %s, statement_timestamp() + %s * interval '1 second')",
    add="INSERT INTO realtime_ticket (ticket_key, data, expires_at) VALUES {}"
    " ON CONFLICT DO NOTHING RETURNING ticket_key",
    pop="DELETE FROM realtime_ticket WHERE ticket_key = ANY(ARRAY("
    "SELECT ticket_key FROM realtime_ticket"
    " WHERE ticket_key IN ({}) AND expires_at > statement_timestamp()"
    " FOR UPDATE SKIP LOCKED)) RETURNING ticket_key, data",
    read=f"{_READ} expires_at > statement_timestamp()",
    clear="DELETE FROM realtime_ticket WHERE ticket_key = ANY(ARRAY("
    "SELECT ticket_key FROM realtime_ticket"
    " WHERE expires_at <= statement_timestamp()"
    " ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED))",
)

_SQLITE_NOW: Final = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now'"

SQLITE: Final = Dialect(
    row=f"(%s, %s, {_SQLITE_NOW}, '+' || %s || ' seconds'))",
    add="INSERT INTO realtime_ticket (ticket_key, data, expires_at) VALUES {}"
    " ON CONFLICT DO NOTHING RETURNING ticket_key",
    pop="DELETE FROM realtime_ticket WHERE ticket_key IN ({})"
    f" AND expires_at > {_SQLITE_NOW}) RETURNING ticket_key, data",
    read=f"{_READ} expires_at > {_SQLITE_NOW})",
    clear="DELETE FROM realtime_ticket WHERE ticket_key IN ("
    "SELECT ticket_key FROM realtime_ticket"
    f" WHERE expires_at <= {_SQLITE_NOW}) LIMIT %s)",
)

_MARIADB_WAITS: Final = (
    "SET STATEMENT innodb_lock_wait_timeout=1, lock_wait_timeout=1 FOR"
)
"""For a row, and for the table. The server's own defaults are 50 seconds and a day."""
_MYSQL_READ: Final = f"{_READ} expires_at > UTC_TIMESTAMP(6)"
_EXPIRED: Final = (
    "SELECT ticket_key FROM realtime_ticket WHERE expires_at <= UTC_TIMESTAMP(6)"
    " ORDER BY expires_at LIMIT %s"
)
_CLEAR: Final = "DELETE FROM realtime_ticket WHERE ticket_key IN ({})"

# MariaDB's DELETE cannot skip locked rows, so it waits for them. Adding no interval
# keeps it off the index on expires_at: one batch in that order and one in the order of
# keys can deadlock. For the same reason expired rows are found first, without locks,
# and then deleted by their keys.
MARIADB: Final = Dialect(
    row="(%s, %s, UTC_TIMESTAMP(6) + INTERVAL %s SECOND)",
    add=f"{_MARIADB_WAITS} INSERT IGNORE INTO realtime_ticket"
    " (ticket_key, data, expires_at) VALUES {} RETURNING ticket_key",
    pop=f"{_MARIADB_WAITS} DELETE FROM realtime_ticket"
    " WHERE ticket_key IN ({})"
    " AND expires_at + INTERVAL 0 SECOND > UTC_TIMESTAMP(6)"
    " RETURNING ticket_key, data",
    read=f"{_MARIADB_WAITS} {_MYSQL_READ}",
    expired=f"{_MARIADB_WAITS} {_EXPIRED}",
    clear=f"{_MARIADB_WAITS} {_CLEAR}",
)

# MySQL has no RETURNING. Its pop only reads; the backend then deletes row by row, and
# whose DELETE finds the row wins. Locking in the first step (FOR UPDATE SKIP LOCKED)
# made batches deadlock, and skip tickets that were free.
MYSQL: Final = Dialect(
    row=MARIADB.row,
    add="INSERT IGNORE INTO realtime_ticket (ticket_key, data, expires_at) VALUES {}",
    pop=_MYSQL_READ,
    read=_MYSQL_READ,
    expired=_EXPIRED,
    clear=_CLEAR,
    returns_rows=False,
)
MYSQL_REMOVE: Final = "DELETE FROM realtime_ticket WHERE ticket_key = %s"

VENDORS: Final = frozenset({"postgresql", "sqlite", "mysql"})


def dialect_of(connection: Any) -> Dialect:
    """Return the dialect for a Django database connection. MariaDB says it is MySQL."""
    if connection.vendor == "postgresql":
        return POSTGRESQL
    if connection.vendor == "sqlite":
        return SQLITE
    return MARIADB if connection.mysql_is_mariadb else MYSQL
