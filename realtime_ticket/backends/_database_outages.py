"""What the errors of a database mean, in texts that are safe to log."""

from __future__ import annotations

from typing import Any

from django.db import connections

from realtime_ticket.outages import Outage, explain, place_of

# Not the connection's display_name: it asks the server whether it is MariaDB.
_NAMES = {"postgresql": "PostgreSQL", "mysql": "MariaDB or MySQL", "sqlite": "SQLite"}


def explain_database(
    alias: str,
    error: Exception,
    *,
    table: str = "realtime_ticket",
    make: str = "migrate realtime_ticket",
) -> Outage:
    """Return what an error of the database with this alias means.

    ``make`` is the command that creates the table.
    """
    connection: Any = connections[alias]
    return explain(
        error,
        storage=f"The database {alias!r} ({_NAMES.get(connection.vendor, '')})",
        setting=f"DATABASES[{alias!r}]",
        place=_place_of(connection),
        hints={
            "table": f"Run manage.py {make} --database {alias}.",
            "permission": "Grant the user of {setting} SELECT, INSERT, UPDATE and "
            f"DELETE on {table}.",
        },
    )


def _place_of(connection: Any) -> str:
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return str(settings["NAME"])
    host = settings["OPTIONS"].get("unix_socket") or settings["HOST"] or "localhost"
    return place_of(host, settings["PORT"])
