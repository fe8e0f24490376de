"""What ``manage.py ticket_doctor`` reports about Memcached servers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.core import checks

from . import _clock


def diagnose(clients: Iterable[Any]) -> list[checks.CheckMessage]:
    """Return the findings about the servers of these clients, each once."""
    found: list[checks.CheckMessage] = []
    for client in clients:
        found.append(
            checks.Info(
                f"Memcached {client.version().decode()}.",
                id="realtime_ticket.I003",
            )
        )
        if client.stats("settings").get(b"evictions") == b"on":
            found.append(
                checks.Warning(
                    "When its memory is full, Memcached drops live tickets.",
                    hint="Start it with -M: it then refuses new ones instead.",
                    id="realtime_ticket.W016",
                )
            )
        found += _clock.compare(partial(_time, client), unit=1)
    return [message for n, message in enumerate(found) if message not in found[:n]]


def _time(client: Any) -> float:
    return float(client.stats()[b"time"])
