"""Disconnects that the storage may not have, and the thread that writes them."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from weakref import WeakSet

from .exceptions import StorageError
from .journal import Journal
from .logs import logger

KEEP: Final = 120.0
"""Seconds for which a disconnect is tried again. It is logged as lost after that."""

MAX_KEPT: Final = 10_000
"""Entries that wait in one process. Beyond, the oldest is given up."""

CONFIRM_AFTER: Final = 2.5
"""Seconds after which an entry that was written is written again."""

AT_EXIT: Final = 3.0
"""Seconds that a process which ends waits for the storage to take what is left."""

_PAUSE: Final = 0.5
"""Seconds between two attempts."""


class Outbox:
    """Writes entries to the journal from a thread, until the storage takes them.

    The thread has its own connection to a database, outside of everyone's transactions.
    It ends when nothing is left. A process that ends before waits three seconds for it,
    and logs what is lost then.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._states: dict[int, _State] = {}
        _outboxes.add(self)

    def put(self, texts: Iterable[str]) -> None:
        """Write the entries soon, and try again for two minutes if that fails.

        Raise StorageError when no thread can do it; the next call tries to start one.
        """
        deadline = time.monotonic() + KEEP
        state = self._state
        with state.lock:
            state.kept.extend((text, deadline) for text in texts)
            while len(state.kept) > MAX_KEPT:
                state.kept.popleft()
                logger.error("A disconnect is lost: too many wait for the storage.")
            try:
                self._start(state)
            except RuntimeError as exc:
                raise StorageError("No thread can write a disconnect.") from exc

    def confirm(self, text: str) -> None:
        """Write an entry again soon, for a storage that may lose its memory.

        Such a storage, Redis or Memcached, can be killed a moment after it has stored
        the entry, or a replica without it takes over. A reader that has not read it yet
        cannot know that it is gone. It goes into a slot of that later time: after an
        outage nobody looks at the old one any more, or another entry may be there.
        Readers know an entry that they have read by its id.

        Not for a database, whose connection in another thread is outside of the
        transaction of a test, and may be to another database after the tests.
        """
        if self._journal.backend.database:
            return
        state = self._state
        with state.lock:
            state.written.append((text, time.monotonic() + CONFIRM_AFTER))
            try:
                self._start(state)
            except RuntimeError:
                state.written.clear()  # it was written once, which mostly is enough

    def close(self) -> None:
        """Write nothing again that was written. What is kept stays."""
        state = self._state
        with state.lock:
            state.written.clear()

    def finish(self, timeout: float) -> None:
        """Wait as join() does, and log what is left."""
        if not self.join(timeout):
            logger.error(
                "%d disconnects are lost: the process ends, and the storage failed.",
                len(self._state.kept),
            )

    def join(self, timeout: float) -> bool:
        """Wait until nothing is kept, for ``timeout`` seconds. Return whether so."""
        state = self._state
        with state.lock:
            return state.lock.wait_for(lambda: not state.kept, timeout)

    @property
    def _state(self) -> _State:
        # A fork copies neither the thread nor the right to write its entries, and may
        # copy a lock while it is held. So each process has a state of its own.
        return self._states.setdefault(os.getpid(), _State())

    def _start(self, state: _State) -> None:
        if state.thread is None or not state.thread.is_alive():
            thread = threading.Thread(
                target=self._run, name="realtime-ticket-outbox", daemon=True
            )
            thread.start()
            state.thread = thread

    def _run(self) -> None:
        state = self._state
        try:
            while True:
                self._write(state)
                self._write_again(state)
                with state.lock:
                    if not state.kept and not state.written:
                        state.thread = None
                        return
                time.sleep(_PAUSE)
        finally:
            self._journal.backend.close()  # the connections of this thread

    def _write(self, state: _State) -> None:
        """Write what is kept, until the storage fails."""
        while state.kept:
            text, deadline = state.kept[0]
            try:
                self._journal.write(text)
            except Exception as exc:
                if time.monotonic() < deadline:
                    return
                logger.error(
                    "A disconnect is lost: the storage failed for %d seconds (%s).",
                    KEEP,
                    type(exc).__name__,
                )
            else:
                self.confirm(text)
            with state.lock:
                if state.kept and state.kept[0] == (text, deadline):
                    state.kept.popleft()
                state.lock.notify_all()

    def _write_again(self, state: _State) -> None:
        """Write again what is due, until the storage fails."""
        while entry := self._next_written(state):
            text, due = entry
            late = time.monotonic() - due
            if late < 0:
                return
            try:
                # Readers remember its id for longer than an entry lives.
                if late < self._journal.expire:
                    self._journal.write(text)
            except Exception:
                return
            with state.lock, suppress(ValueError):  # close() may have removed it
                state.written.remove(entry)

    def _next_written(self, state: _State) -> tuple[str, float] | None:
        with state.lock:
            return next(iter(state.written), None)


class _State:
    """What one process keeps."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.kept: deque[tuple[str, float]] = deque()
        """Entries that the storage did not take, and until when to try."""
        self.written: deque[tuple[str, float]] = deque()
        """Entries that it took, and when to write them again."""
        self.thread: threading.Thread | None = None


_outboxes: WeakSet[Outbox] = WeakSet()


@atexit.register
def _finish() -> None:
    """Let every outbox write what is left: its thread would just stop."""
    deadline = time.monotonic() + AT_EXIT
    for outbox in list(_outboxes):
        outbox.finish(max(0.0, deadline - time.monotonic()))
