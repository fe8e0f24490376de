"""Reads the journal of disconnects: once for each service and process."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Final

from .exceptions import Cause, InvalidTicket, Revoked, StorageError
from .journal import OVERLAP, Journal
from .journal_reader import JournalReader, Reading
from .logs import logger
from .tickets import Ticket
from .watches import LATE_TOLERANCE, TOLERANCE, InDoubt, Watch, Watches

POLL: Final = 0.5
"""Seconds between two readings."""

MAX_SILENCE: Final = 5.0
"""Seconds since the last reading after which nobody is admitted."""

_RETURN_AFTER: Final[dict[Cause, float]] = {
    "session": 0.0,
    "user": TOLERANCE + 1.0,
    "doubt": LATE_TOLERANCE + 1.0,
    "age": 0.0,
}
"""Seconds after which a new ticket is certainly younger than what ended a connection:
Django wrote a disconnect by its own clock, but a doubt is this machine's."""

RETURNS: Final = 200
MAX_SPREAD: Final = 60.0
"""Connections that are closed together are told to come back at different times: so
many in each second, and all within MAX_SPREAD seconds."""

_MEMORY_MARGIN: Final = 2 * OVERLAP
"""Seconds that a disconnect is remembered for longer than it stays in the journal."""


class Listener:
    """Reads the journal twice a second, and ends the connections that it concerns.

    Its thread begins with the first connection, and so does one that ends connections
    which are too old, because a reading may hang. No exception ends them. Each process
    has a state of its own: a fork copies neither the threads nor the connections, and
    may copy a lock while it is held.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._states: dict[int, _State] = {}

    @property
    def last_read(self) -> float | None:
        """Return when the last reading began, by ``time.monotonic()``, or None."""
        return self._state.last_read

    @property
    def is_ready(self) -> bool:
        """Tell whether the journal was read within the last five seconds."""
        last = self.last_read
        return last is not None and time.monotonic() - last <= MAX_SILENCE

    def start(self) -> Event:
        """Start the threads if they do not run. Return what is set after the first try
        to read."""
        state = self._state
        with state.lock:
            if not (state.threads and all(map(Thread.is_alive, state.threads))):
                state.stopped.set()  # for the other thread, if one was killed
                state.stopped, state.tried = Event(), Event()
                args = state, state.stopped
                try:
                    state.threads = [
                        _start("clock", self._run_clock, *args),
                        _start("listener", self._run, *args, state.tried),
                    ]
                except RuntimeError as exc:
                    state.stopped.set()
                    raise StorageError("No thread can read the journal.") from exc
            return state.tried

    def close(self) -> None:
        """End the threads. The next connection starts others."""
        state = self._state
        with state.lock:
            threads, state.threads = state.threads, []
            state.stopped.set()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(MAX_SILENCE)

    def watch(
        self,
        ticket: Ticket,
        end: Callable[[Revoked], object],
        *,
        max_age: float | None = None,
        in_doubt: InDoubt = "close",
    ) -> Watch:
        """Admit a connection, and call ``end`` once, from a thread, when it must end.

        ``max_age`` is in seconds. Raise InvalidTicket when the ticket's login has ended
        already, and StorageError when the journal was not read for five seconds.
        """
        state = self._state
        watch = Watch(ticket, end, in_doubt=in_doubt, forget=state.forget)
        end_at = None if max_age is None else time.monotonic() + max_age
        # Under one lock, so that no disconnect is heard between the two.
        with state.lock:
            self._admit(state, watch)
            state.watches.add(watch, end_at)
        return watch

    def poll(self) -> None:
        """Read the journal once, and end what it concerns.

        Raise one of the storage's errors when nothing could be read.
        """
        state = self._state
        with state.reading:
            self._end_aged(state)
            reading = state.reader.read()
            with state.lock:
                ended = self._hear(state, reading)
            _end(ended)
            state.reader.remember(reading)
            state.last_read = reading.monotonic
        self._log(state, reading)

    @property
    def _state(self) -> _State:
        pid = os.getpid()
        state = self._states.get(pid)
        return state or self._states.setdefault(pid, _State(self._journal))

    def _run_clock(self, state: _State, stopped: Event) -> None:
        """End connections whose time is over, also while a reading hangs."""
        while not stopped.wait(POLL):
            with suppress(BaseException):  # MemoryError, for example
                self._end_aged(state)

    def _end_aged(self, state: _State) -> None:
        with state.lock:
            aged = state.watches.take_aged(time.monotonic())
        _end(aged)

    def _run(self, state: _State, stopped: Event, tried: Event) -> None:
        """Poll until it is stopped, whatever happens."""
        is_blind = False
        while not stopped.is_set():
            try:
                self.poll()
            except BaseException as exc:
                if not is_blind:
                    logger.error(
                        "The journal of disconnects cannot be read (%s). Connections "
                        "stay open, and new ones are refused in %d seconds.",
                        type(exc).__name__,
                        MAX_SILENCE,
                    )
                is_blind = True
            else:
                if is_blind:
                    logger.warning("The journal of disconnects can be read again.")
                is_blind = False
            tried.set()
            stopped.wait(POLL)
        tried.set()  # if it was stopped before it began
        self._journal.backend.close()  # the connections of this thread

    def _admit(self, state: _State, watch: Watch) -> None:
        """Raise what refuses a new connection."""
        if not self.is_ready:
            raise StorageError("The journal of disconnects cannot be read.")
        remembered_from = time.time() - self._journal.expire
        if watch.in_doubt == "close":
            remembered_from = max(remembered_from, state.lost_until)
        if watch.issued_at < remembered_from:
            logger.warning("Refused a ticket: disconnects may be forgotten or lost.")
            raise InvalidTicket("revoked")
        if state.watches.is_refused(watch):
            raise InvalidTicket("revoked")

    def _log(self, state: _State, reading: Reading) -> None:
        if reading.doubt:
            logger.warning("Disconnects may have been lost: %s.", reading.doubt)
        if reading.unreadable:
            logger.error(
                "%d entries of the journal of disconnects cannot be understood.",
                reading.unreadable,
            )
        expires = {disconnect.expire for disconnect in reading.disconnects}
        if unlike := expires - {self._journal.expire, *state.unlike}:
            state.unlike |= unlike
            logger.error(
                "Disconnects are kept for %d seconds where they are written, and for "
                "%d here. Set the same journal_expire on both sides.",
                min(unlike),
                self._journal.expire,
            )

    def _hear(self, state: _State, reading: Reading) -> list[tuple[Watch, Cause]]:
        """Remember what was read. Return the connections that must end."""
        state.watches.forget_disconnects(reading.monotonic)
        forget_at = reading.monotonic + self._journal.expire + _MEMORY_MARGIN
        ended = [
            pair
            for disconnect in reading.disconnects
            for pair in state.watches.hear(
                disconnect,
                late=reading.late or reading.wall - disconnect.at > LATE_TOLERANCE,
                forget_at=forget_at,
            )
        ]
        if reading.doubt:
            state.lost_until = reading.wall + LATE_TOLERANCE
            ended += state.watches.take_doubtful()
        return ended


class _State:
    """What one process has: its thread, its connections, and what it has read."""

    def __init__(self, journal: Journal) -> None:
        self.lock = threading.RLock()
        """Held around the watches, and while the thread is started or stopped."""
        self.watches = Watches()
        self.lost_until = 0.0
        """Tickets issued before this Unix time may have been revoked unheard."""
        self.reading = threading.RLock()
        """Held by the one who reads. A callback may do so too, hence the RLock."""
        self.reader = JournalReader(journal)
        self.last_read: float | None = None
        self.unlike: set[int] = set()
        """Lives of entries that are not the journal's, and were logged."""
        self.threads: list[Thread] = []
        self.stopped = Event()
        self.tried = Event()
        """Set when they have read, or failed to, for the first time."""

    def forget(self, watch: Watch) -> None:
        with self.lock:
            self.watches.remove(watch)


def _start(name: str, run: Callable[..., None], *args: object) -> Thread:
    thread = Thread(target=run, args=args, name=f"realtime-ticket-{name}", daemon=True)
    thread.start()
    return thread


def _end(ended: list[tuple[Watch, Cause]]) -> None:
    """Tell connections to end, and when to come back."""
    spread = min(len(ended) / RETURNS, MAX_SPREAD)
    for watch, cause in ended:
        wait = _RETURN_AFTER[cause] + random.random() * spread
        watch.end(Revoked(cause, retry_after=wait))
