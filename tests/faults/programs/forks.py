"""Fork under load, from a process with open connections and a thread for its batches.

The children and the parent show the same tickets, and each issues tickets of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from realtime_ticket import Ticket, TicketService
from tests.faults.load import DOORS, PATIENCE, Load
from tests.faults.programs.common import SQLITE, figures_of, say, service_on
from tests.faults.storages import PATIENT

CHILDREN = 4
PAIRS = 300
SHARED = 100


def main(kind: str, place: str) -> None:
    service = service_on(kind, place, PATIENT)
    ours = Load(service, "sync")
    shared = [ticket for _ in range(SHARED) if (ticket := ours.issue())]
    # SQLite's library has locks that a fork copies locked when a thread holds them.
    doors = [] if kind == SQLITE else DOORS
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(service, door)) for door in doors]
        assert all(load.goes_on(5) for load in loads)
        receivers = [start(service, shared) for _ in range(CHILDREN)]
        for ticket in shared:
            ours.show(ticket)
        results = [receive(receiver) for receiver in receivers]
        assert all(load.goes_on(5) for load in loads)
    for result in results:
        ours.accepted.update(result.pop("accepted"))
    say([figures_of([ours, *loads]), *results])


def start(service: TicketService, shared: list[Ticket]) -> Connection:
    """Fork a child, and return where its figures come from."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    context.Process(target=child, args=(service, shared, sender), daemon=True).start()
    return receiver


def child(service: TicketService, shared: list[Ticket], results: Connection) -> None:
    ours, own = Load(service, "sync"), Load(service, "async")
    for ticket in shared:
        ours.show(ticket)
    for _ in range(PAIRS):
        if ticket := own.issue():
            own.show(ticket)
            own.show(ticket)
    # Django's thread does not live on in a child: see TestForks.
    if not service.backend.thread_sensitive:
        asyncio.run(pairs(own))
    results.send(figures_of([ours, own]) | {"accepted": dict(ours.accepted)})


async def pairs(load: Load) -> None:
    for _ in range(PAIRS):
        if ticket := await load.aissue():
            await asyncio.gather(load.ashow(ticket), load.ashow(ticket))


def receive(results: Connection) -> dict[str, Any]:
    assert results.poll(PATIENCE), "a child hangs"
    received: dict[str, Any] = results.recv()
    return received


if __name__ == "__main__":
    main(*sys.argv[1:])
