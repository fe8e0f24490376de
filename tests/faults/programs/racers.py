"""Show tickets from a new process, and tell of each that lets someone in at once."""

from __future__ import annotations

from multiprocessing.connection import Connection

from realtime_ticket import InvalidTicket
from tests.faults.programs.common import service_on


def race(kind: str, place: str, values: list[str], results: Connection) -> None:
    service = service_on(kind, place)
    results.send(None)  # ready
    results.recv()
    for value in values:
        try:
            service.consume(value)
        except InvalidTicket:
            continue
        results.send(value)
    results.send(None)
    service.close()
