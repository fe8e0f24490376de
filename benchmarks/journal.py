"""Row 10: what it costs a process to read disconnects, and Django to write them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from realtime_ticket import TicketService, revocations
from realtime_ticket.backends.base import Item
from realtime_ticket.journal import Slot
from realtime_ticket.live import LiveTickets
from realtime_ticket.tickets import Ticket

from . import backends
from .harness import Effort, Finding, Target, calls, once

TITLE = "Disconnects: what it costs to hear of them, and to write them"

PREFIX = "bench_"

LOGOUTS = 500
"""In one second, which is what a project with a million users may have."""

HELD = 10_000
OTHERS = 1_000
"""Connections that a process holds, and disconnects of users without any there."""

USERS = 10_000
"""The users of one call."""

_POLLS = 0.4
"""Seconds of polls after the logouts of a second. After ten they need no reading."""


def run(effort: Effort) -> list[Finding]:
    backends.start()
    return [
        finding
        for name in backends.BACKENDS
        for finding in (
            *_polls(name, effort),
            *_others(name, effort),
            *_writing(name, effort),
        )
    ]


@contextmanager
def _listening(name: str) -> Iterator[tuple[TicketService, LiveTickets]]:
    """Give a service of its own, and live tickets that were just read."""
    prefix = f"{PREFIX}{time.monotonic_ns()}"
    service = TicketService(backends.BACKENDS[name](), prefix=prefix[-32:])
    with closing(service):
        live = LiveTickets(service, thread=False)
        live.poll()
        yield service, live


def _polls(name: str, effort: Effort) -> Iterator[Finding]:
    """Measure a poll where nothing happens, and after a second full of logouts."""
    with _listening(name) as (service, live):
        idle = calls("poll", live.poll).run(effort.seconds)
        yield once(f"{name}: poll, idle", "time", idle["time"], Target(at_most=0.001))
        logouts = min(LOGOUTS, effort.most)
        _write(service, (str(number) for number in range(logouts)), logouts)
        live.poll()
        busy = calls("poll", live.poll).run(min(_POLLS, effort.seconds))
        work = f"{name}: poll, after {logouts} logouts in a second"
        yield once(work, "time", busy["time"], Target(at_most=0.02))


def _others(name: str, effort: Effort) -> Iterator[Finding]:
    """Measure a poll that reads disconnects of users without connections here."""
    held, others = min(HELD, effort.most), min(OTHERS, effort.most)
    with _listening(name) as (service, live):
        ended = [live.watch(_ticket(number), _never) for number in range(held)]
        _write(service, (f"other-{number}" for number in range(others)), others // 4)
        gc.collect()  # or this poll pays for what another left behind
        started = time.perf_counter()
        live.poll()
        took = time.perf_counter() - started
        work = f"{name}: {others:,} disconnects of others, {held:,} held"
        yield once(work, "time", took, Target(at_most=0.05))
        for watch in ended:
            watch.close()


def _writing(name: str, effort: Effort) -> Iterator[Finding]:
    users = min(USERS, effort.most)
    with _listening(name) as (service, _):
        started = time.perf_counter()
        service.disconnect(*range(users))
        took = time.perf_counter() - started
        yield once(
            f"{name}: disconnect {users:,} users at once", "last", took, Target(2)
        )


def _write(service: TicketService, users: Iterable[str], each: int) -> None:
    """Write an entry for each user, so many in a second: more than one writer can."""
    now = int(time.time())
    items = []
    for number, user in enumerate(users):
        slot = Slot(now - number // each, number % each)
        expire = service.journal.expire
        (text,) = revocations.encode("user", [user], at=now, expire=expire)
        items.append(Item(service.journal.key(slot), text, expire))
    for first in range(0, len(items), 500):
        service.backend.add_many(items[first : first + 500])


def _ticket(number: int) -> Ticket:
    now = int(time.time())
    return Ticket(
        value=str(number),
        claims={"id": number, "username": f"user-{number}"},
        audience="",
        issued_at=now,
        expires_at=now + 10,
        session=f"session-{number}",
    )


def _never(_: object) -> None:
    raise AssertionError("Somebody else was disconnected.")
