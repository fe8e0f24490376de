"""Calls from all sides while a fault is on, and what came of them."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections

from realtime_ticket import InvalidTicket, StorageError, Ticket, TicketService
from tests.helpers import CLAIMS, eventually

DOORS = ["sync", "async"]
TEAMS = {"sync": 4, "async": 16}
CALLERS = 3
"""Each ticket is shown by so many at once."""

PAUSE = 0.005
"""Seconds between a team's tickets, to leave the fault its share of the processor."""

PATIENCE = 60
"""Seconds after which a call hangs."""

BOUND = {"sync": 4.5, "async": 9.0}
"""Seconds that a call may take: to connect, to be answered twice, and a busy machine.
A coroutine waits for the batch before its own too."""

BULKY = CLAIMS | {"text": "x" * 3000}
"""Claims that fill a memory soon."""


class Load:
    """Issue tickets and show each to three callers at once, until the block ends.

    By the ``sync`` door each caller is a thread, by the ``async`` door a coroutine of
    one loop. At the end every ticket is shown once more.
    """

    def __init__(self, service: TicketService, door: str) -> None:
        self.service = service
        self.issued: dict[str, Ticket] = {}
        self.accepted: Counter[str] = Counter()
        self.doubtful: set[str] = set()
        """Tickets of which a call failed."""
        self.operations = self.outages = self.crossed = 0
        self.longest = 0.0
        """Seconds of the call that took most."""
        self.surprises: list[Exception] = []
        """Errors that are not documented."""
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._end = threading.Event()
        if door == "async":
            self._threads = [threading.Thread(target=lambda: asyncio.run(self._loop()))]
        else:
            teams = [_Team() for _ in range(TEAMS[door])]
            self._threads = [
                threading.Thread(target=self._take_part, args=(team, number == 0))
                for team in teams
                for number in range(CALLERS)
            ]

    @property
    def doubles(self) -> int:
        """How many tickets let someone in more than once."""
        return sum(count > 1 for count in self.accepted.values())

    @property
    def lost(self) -> int:
        """How many tickets let nobody in, though none of their calls failed."""
        return len(self.issued.keys() - self.accepted.keys() - self.doubtful)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self._end.set()
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        if kind is not None:
            return  # what failed in the block says more
        assert not any(thread.is_alive() for thread in self._threads), "a call hangs"
        for ticket in list(self.issued.values()):
            self.show(ticket)
        if self.surprises:
            raise ExceptionGroup("not documented", self.surprises)

    def goes_on(self, tickets: int = 30) -> bool:
        """Wait until so many tickets, issued from now on, have let someone in."""
        known = set(self.issued)
        return eventually(lambda: len(self.accepted.keys() - known) >= tickets, 20)

    def fails(self, calls: int = 3) -> bool:
        """Wait until so many more calls have failed."""
        enough = self.outages + calls
        return eventually(lambda: self.outages >= enough, 20)

    def issue(self) -> Ticket | None:
        ticket = None
        with self._watching():
            ticket = self._issued(self.service.issue(self._claims(), expire=60))
        return ticket

    def show(self, ticket: Ticket) -> None:
        with self._watching(ticket):
            self._let_in(ticket, self.service.consume(ticket.value))

    async def aissue(self) -> Ticket | None:
        ticket = None
        with self._watching():
            ticket = self._issued(await self.service.aissue(self._claims(), expire=60))
        return ticket

    async def ashow(self, ticket: Ticket) -> None:
        with self._watching(ticket):
            self._let_in(ticket, await self.service.aconsume(ticket.value))

    def _take_part(self, team: _Team, leads: bool) -> None:
        """Show the team's tickets. The leader gets them."""
        while True:
            if leads:
                team.over = self._end.wait(PAUSE)
                team.ticket = self.issue()
            team.barrier.wait()
            if team.over:
                break
            if team.ticket:
                self.show(team.ticket)
            team.barrier.wait()
        connections.close_all()  # this thread's

    async def _loop(self) -> None:
        await asyncio.gather(*(self._run_team() for _ in range(TEAMS["async"])))
        await self.service.aclose()

    async def _run_team(self) -> None:
        while not self._end.is_set():
            await asyncio.sleep(PAUSE)
            if ticket := await self.aissue():
                await asyncio.gather(*(self.ashow(ticket) for _ in range(CALLERS)))

    def _claims(self) -> dict[str, Any]:
        number = next(self._numbers)
        return {"id": number, "username": f"user {number}"}

    def _issued(self, ticket: Ticket) -> Ticket:
        self.issued[ticket.value] = ticket
        return ticket

    def _let_in(self, shown: Ticket, got: Ticket) -> None:
        with self._lock:
            self.accepted[shown.value] += 1
            self.crossed += got != shown

    @contextmanager
    def _watching(self, ticket: Ticket | None = None) -> Iterator[None]:
        """Time the call in the block, and write down how it fails."""
        started, error = time.monotonic(), None
        try:
            yield
        except InvalidTicket:
            pass
        except Exception as exc:
            error = exc
        with self._lock:
            self.operations += 1
            self.longest = max(self.longest, time.monotonic() - started)
            if isinstance(error, StorageError):
                self.outages += 1
                self.doubtful |= {ticket.value} if ticket else set()
            elif error:
                self.surprises.append(error)
        # Its traceback refers to this frame, and to those that hold connections. Until
        # Python looked for garbage, they would stay open.
        del error


@dataclass
class _Team:
    """Threads that show the same tickets, each at the same moment."""

    barrier: threading.Barrier = field(
        default_factory=lambda: threading.Barrier(CALLERS, timeout=PATIENCE)
    )
    ticket: Ticket | None = None
    over: bool = False


def lets_in(service: TicketService, ticket: Ticket) -> bool:
    try:
        return service.consume(ticket.value) == ticket
    except InvalidTicket:
        return False
