"""Examine a service as it is configured: does it keep its promises, and how fast?

Each examination uses the real storage. Its tickets have an audience of their own, so no
server accepts them.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Barrier, BrokenBarrierError
from typing import Any

from django.core import checks
from django.db import connections
from django.utils.crypto import salted_hmac

from .backends.base import BaseBackend
from .exceptions import InvalidTicket, OpenTransaction, Revoked, StorageError
from .live import LiveTickets
from .service import MAX_EXPIRE, TicketService
from .tickets import Ticket, new_value, storage_key

AUDIENCE = "ticket-doctor"
CLAIMS = {"id": 0, "username": "ticket_doctor"}
EXPIRE = 60
RACERS = 16
RACES = 25
PAIRS = 200
HEARD_WITHIN = 1.0
"""Seconds within which a disconnect must be heard."""
GRACE = 1.5
"""Seconds that a ticket may outlive its lifetime: some stores count whole seconds."""

_NOT_ATOMIC = "This storage does not remove a ticket atomically: use another backend."
_LOST = "Does another process, or a replica that is read, answer for the storage?"

_DOWN = "Is the storage running, and may this process use it?"
_OPEN = "Run the command outside of a transaction."


class ExaminedService(TicketService):
    """A service whose outages are findings, not log records."""

    def report(self, error: StorageError) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Finding:
    """What one examination found: ``level`` as in ``django.core.checks`` (0 is fine).

    ``figures`` are numbers by name, times in milliseconds.
    """

    name: str
    message: str
    level: int = 0
    hint: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def check_reading(backend: BaseBackend) -> list[checks.CheckMessage]:
    """Report a backend without disconnects. No I/O."""
    if backend.supports_read_many():
        return []
    return [
        checks.Warning(
            f"{type(backend).__name__} has no read_many(), so open connections do not "
            "end at a logout.",
            hint="Write read_many(), or use a backend that has it. Until then, a "
            "connection can outlive the login that it came from.",
            id="realtime_ticket.W022",
        )
    ]


def examine(service: TicketService) -> Iterator[Finding]:
    """Yield what the backend's checks find, what each examination finds, and what the
    storage reports. Skip the remaining examinations when it fails.

    The text of a finding holds no ticket, and nothing that a driver said.
    """
    probe = _Probe(service)
    failures: tuple[type[Exception], ...] = (
        *(StorageError, OpenTransaction),
        *service.backend.storage_errors,
    )
    try:
        yield from of_checks(service.backend.check(list(connections)))
        yield from of_checks(check_reading(service.backend))
        for examination in (_round_trip, _race, _expiry, _latency, _project):
            yield examination(probe)
        if service.backend.supports_read_many():
            yield _disconnect(probe)
    except failures as exc:
        yield _outage(service, exc)
    finally:
        with suppress(*failures):
            probe.clean_up()
    with suppress(*failures):
        yield from of_checks(service.backend.diagnose())


def failure(service: TicketService) -> StorageError | None:
    """Return why tickets can neither be issued nor consumed, or None.

    The documentation gives each side a Redis user that can do only one of them.
    """
    try:
        ticket = service.issue(CLAIMS, audience=AUDIENCE, expire=1)
    except StorageError as exc:
        with suppress(StorageError):
            service.revoke(new_value(service.prefix), audience=AUDIENCE)
            return None
        return exc
    with suppress(StorageError, OpenTransaction):
        service.revoke(ticket.value, audience=AUDIENCE)
    return None


def _outage(service: TicketService, error: Exception) -> Finding:
    if isinstance(error, StorageError):
        return Finding("storage", error.args[0], checks.ERROR, error.hint or _DOWN)
    if isinstance(error, OpenTransaction):
        return Finding("storage", str(error), checks.ERROR, _OPEN)
    message, hint = service.backend.explain(error)
    return Finding("storage", f"The storage failed: {message}", checks.ERROR, hint)


def of_checks(messages: Iterable[checks.CheckMessage]) -> Iterator[Finding]:
    """Yield the messages of system checks that are not silenced, as findings."""
    for each in messages:
        if not each.is_silenced():
            yield Finding(each.id or "", each.msg, each.level, each.hint or "")


class _Probe:
    """Issues and consumes tickets of a service, and remembers those still open."""

    def __init__(self, service: TicketService) -> None:
        self.service = service
        self._open: set[str] = set()

    def issue(self, expire: int = EXPIRE) -> Ticket:
        ticket = self.service.issue(CLAIMS, audience=AUDIENCE, expire=expire)
        self._open.add(ticket.value)
        return ticket

    def lets_in(self, ticket: Ticket) -> bool:
        try:
            self.service.consume(ticket.value, audience=AUDIENCE)
        except InvalidTicket:
            return False
        self._open.discard(ticket.value)
        return True

    def clean_up(self) -> None:
        """Remove all tickets that are left."""
        for value in self._open:
            self.service.revoke(value, audience=AUDIENCE)
        self.service.backend.clear_expired()


def _round_trip(probe: _Probe) -> Finding:
    ticket = probe.issue()
    if not probe.lets_in(ticket):
        message = "A new ticket was refused."
        return Finding("round trip", message, checks.ERROR, _LOST)
    if probe.lets_in(ticket):
        message = "A spent ticket was accepted again."
        return Finding("round trip", message, checks.ERROR, _NOT_ATOMIC)
    return Finding("round trip", "A ticket was accepted once, and then refused.")


def _race(probe: _Probe) -> Finding:
    """Let several threads show each ticket at the same moment."""
    tickets = [probe.issue() for _ in range(RACES)]
    start = Barrier(RACERS)

    def run(_: int) -> list[bool]:
        won = []
        try:
            for ticket in tickets:
                start.wait()
                won.append(probe.lets_in(ticket))
        except BaseException:
            start.abort()
            raise
        finally:
            connections.close_all()  # this thread's
        return won

    with ThreadPoolExecutor(RACERS) as racers:
        runs = [racers.submit(run, number) for number in range(RACERS)]
    for error in filter(None, (run.exception() for run in runs)):
        if not isinstance(error, BrokenBarrierError):
            raise error
    outcomes = zip(*(run.result() for run in runs), strict=True)
    winners = [sum(outcome) for outcome in outcomes]
    figures = {"races": RACES, "racers": RACERS, "most winners": max(winners)}
    if set(winners) == {1}:
        message = (
            f"{RACES} tickets, each shown by {RACERS} at once: one of them got in."
        )
        return Finding("race", message, figures=figures)
    message = (
        f"Of {RACERS} who showed one ticket, {min(winners)} to {max(winners)} got in."
    )
    hint = _NOT_ATOMIC if max(winners) > 1 else _LOST
    return Finding("race", message, checks.ERROR, hint, figures)


def _expiry(probe: _Probe) -> Finding:
    ticket = probe.issue(expire=1)
    time.sleep(1 + GRACE)
    if probe.lets_in(ticket):
        message = f"A ticket for 1 second was accepted {1 + GRACE} seconds later."
        hint = "The storage ignores expiry, or its clock stands still."
        return Finding("expiry", message, checks.ERROR, hint)
    return Finding("expiry", "A ticket for 1 second was refused when it was over.")


def _latency(probe: _Probe) -> Finding:
    """Time pairs of issuing and consuming, one after the other."""
    times = []
    for _ in range(PAIRS):
        start = time.perf_counter()
        probe.lets_in(probe.issue())
        times.append((time.perf_counter() - start) * 1000)
    median, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
    return Finding(
        "latency",
        f"Issuing and consuming took {median:.2f} ms together (99th percentile "
        f"{p99:.2f} ms).",
        figures={"median": round(median, 3), "p99": round(p99, 3)},
    )


def _disconnect(probe: _Probe) -> Finding:
    """Disconnect a user who cannot exist, and wait until their connection ends.

    The entry stays in the journal until it expires: readers that have seen it would
    treat its absence as a loss.
    """
    service, heard = probe.service, list[Revoked]()
    live = LiveTickets(service, thread=False)
    nobody = f"{AUDIENCE}:{secrets.token_hex(8)}"
    ticket = replace(probe.issue(), claims=CLAIMS | {"id": nobody})
    live.poll()
    with live.watch(ticket, heard.append):
        start = time.perf_counter()
        service.disconnect(nobody)
        written = time.perf_counter()
        while not heard and time.perf_counter() < written + HEARD_WITHIN:
            live.poll()
        read = time.perf_counter()
    if not heard:
        message = "A connection did not end when its user was disconnected."
        return Finding("disconnect", message, checks.ERROR, _LOST)
    figures = {"written": (written - start) * 1000, "read": (read - written) * 1000}
    return Finding(
        "disconnect",
        f"A connection ended when its user was disconnected: written in "
        f"{figures['written']:.2f} ms, read in {figures['read']:.2f} ms.",
        figures={name: round(figure, 3) for name, figure in figures.items()},
    )


def _project(probe: _Probe) -> Finding:
    """Leave a mark of this project, and look for that of another one.

    Projects differ in their SECRET_KEY. The mark does not reveal it.
    """
    service, backend = probe.service, probe.service.backend
    value = service.prefix + "project".ljust(43, "_")
    key = storage_key(value, AUDIENCE, prefix=service.prefix, hashed=service.hash_keys)
    mark = salted_hmac("realtime_ticket.doctor", "project", algorithm="sha256")
    ours = f"project {mark.hexdigest()}"
    if backend.add(key, ours, MAX_EXPIRE):
        return Finding("project", "No other project was seen with this prefix.")
    theirs = backend.pop(key)
    backend.add(key, ours, MAX_EXPIRE)
    if theirs in (ours, None):
        return Finding("project", "No other project was seen with this prefix.")
    return Finding(
        "project",
        f"Another project keeps tickets in this storage with the prefix "
        f"{service.prefix!r}, so its tickets are good here, and yours there.",
        checks.WARNING,
        "Give each project a REALTIME_TICKET_PREFIX of its own. If you only changed "
        "SECRET_KEY, the next run is quiet.",
    )
