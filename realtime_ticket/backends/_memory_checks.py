"""What ``manage.py check`` reports about a storage in the memory of one process."""

from __future__ import annotations

from django.conf import settings
from django.core import checks


def check_memory(storage: str, setting: str, other: str) -> list[checks.CheckMessage]:
    """Return a warning; in development, where one process may be enough, a remark.

    ``other`` is what the setting should name instead.
    """
    message = f"{storage} keeps tickets in the memory of one process."
    if settings.DEBUG:
        return [
            checks.Info(
                f"{message} A realtime server in another process refuses them all.",
                hint=f"Unless it is the same process, set {setting} to {other} that "
                "both share.",
                id="realtime_ticket.I007",
            )
        ]
    return [
        checks.Warning(
            message,
            hint=f"Outside development, set {setting} to {other} that the realtime "
            "server shares.",
            id="realtime_ticket.W001",
        )
    ]
