"""What the programs share: a service on the storage that they are told, and figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import django
from django.core.management import call_command
from django.db import connections

from realtime_ticket import TicketService
from realtime_ticket.backends.database import DatabaseBackend
from tests.faults.load import Load
from tests.faults.storages import KINDS

SQLITE = "SQLite"


def service_on(kind: str, place: str, patience: int | None = None) -> TicketService:
    """Return a service on a storage of this kind, at this port (SQLite: this path)."""
    django.setup()
    if kind != SQLITE:
        return TicketService(KINDS[kind][2](int(place), patience))
    connections.settings["default"] |= {"NAME": place}
    call_command("migrate", "realtime_ticket", verbosity=0)
    return TicketService(DatabaseBackend())


def figures_of(loads: Iterable[Load]) -> dict[str, Any]:
    """Return what was counted, all in all."""
    loads = list(loads)
    counts = ("operations", "doubles", "crossed", "lost", "outages")
    return {
        "longest": max(load.longest for load in loads),
        "surprises": [repr(error) for load in loads for error in load.surprises],
        **{name: sum(getattr(load, name) for load in loads) for name in counts},
    }


def say(message: object) -> None:
    """Tell the test, which reads our standard output line by line."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
