"""What ``manage.py ticket_doctor`` reports about Memcached servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from django.core import checks

from . import _clock


def unique(findings: Iterable[checks.CheckMessage]) -> list[checks.CheckMessage]:
    """Return each finding once."""
    found: list[checks.CheckMessage] = []
    for message in findings:
        if message not in found:
            found.append(message)
    return found


def examine(client: Any) -> list[checks.CheckMessage]:
    """Return the findings about the server of this client."""
    return [*_server(client)]


def _server(client: Any) -> Iterator[checks.CheckMessage]:
    yield checks.Info(
        f"Memcached {client.version().decode()}.", id="realtime_ticket.I003"
    )
    if client.stats("settings").get(b"evictions") == b"on":
        yield checks.Warning(
            "When its memory is full, Memcached drops live tickets.",
            hint="Start it with -M: it then refuses new ones instead.",
            id="realtime_ticket.W016",
        )
    # Memcached adds whole seconds of the monotonic clock, up to a second old, to the
    # whole second of the wall clock at which it was started.
    yield from _clock.compare(partial(_time, client), fast=1, slow=3)


def _time(client: Any) -> float:
    return float(client.stats()[b"time"])
