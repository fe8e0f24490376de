"""Group commit: many coroutines, one trip to the storage.

Calls that arrive while a batch is under way wait, and make up the next one. The busier
the process, the larger its batches; a lone call is not held back. So there is no client
bound to an event loop, no command that a cancellation leaves half read, and one
connection where a client per call would open hundreds.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async

from .exceptions import StorageError

MAX_BATCH: Final = 1000
"""Calls in one batch. A larger one saves nothing more and makes every caller wait."""

MAX_WAITING: Final = 50_000
"""Calls of one event loop that may wait. Beyond, a call fails at once."""

MAX_WAIT: Final = 5.0
"""Seconds that a call waits for the storage to be done with the batches before its own,
and then with its own. An event loop that is busy with other things adds to that."""

_TICKS: Final = 10
"""Turns of the loop, at least, that MAX_WAIT has to take before a batch is given up. A
loop that was busy for longer than that has yet to hear that the batch is done."""

Call = TypeVar("Call")
Outcome = TypeVar("Outcome")
Commit = Callable[[list[Call]], list[Outcome | Exception]]


class GroupCommit(Generic[Call, Outcome]):
    """Collect the calls of coroutines and hand them to a function in batches.

    ``commit`` is synchronous. It takes a list of calls and returns a list of as many
    outcomes; an exception among them is raised for its caller, and one that ``commit``
    raises, for all. It runs in asgiref's thread-sensitive thread or in a thread of its
    own, without the context variables of any caller: a batch is made for many.
    """

    def __init__(
        self, commit: Commit[Call, Outcome], *, thread_sensitive: bool
    ) -> None:
        self._commit = commit
        self._thread_sensitive = thread_sensitive
        self._executor: ThreadPoolExecutor | None = None
        self._executor_pid = 0
        self._local: _Local[Call, Outcome] = _Local()

    def submit(self, call: Call) -> asyncio.Future[Outcome]:
        """Return the future of this call's outcome.

        It raises StorageError when the storage takes too long, or too many wait. A call
        that is cancelled before its batch starts is not made.
        """
        return self._lane().board(call)

    def close(self) -> None:
        """Let the thread go. The next call starts another."""
        # An executor that is forgotten ends its thread after the calls it was given.
        # shutdown() would refuse the call that another thread is just handing over, and
        # takes locks, which in a forked child can be locked for ever.
        self._executor = None

    def _lane(self) -> _Lane[Call, Outcome]:
        """Return the lane of the running event loop.

        Django's ASGI handler gives each request a thread-sensitive context, with a
        thread and database connections of its own. One request's statements must not
        run on another's, so there each request has a lane, and a batch is what one
        request does at once. So has a synchronous caller who waits in async_to_sync():
        the batch runs in his thread, and nobody else's. A realtime server mostly has
        neither, and all share a lane.
        """
        loop, local = _running_loop(), self._local
        if local.loop is not loop:
            local.loop = loop
            local.shared = _Lane(loop, self._start)
            local.by_owner = WeakKeyDictionary()
        owner = thread_owner() if self._thread_sensitive else None
        if not owner:
            return local.shared
        return local.by_owner.setdefault(owner, _Lane(loop, self._start))

    def _start(
        self, batch: _Batch[Call, Outcome]
    ) -> asyncio.Future[list[Outcome | Exception]]:
        work = partial(batch.make, self._commit)
        if self._thread_sensitive:
            return asyncio.ensure_future(sync_to_async(work)())
        executor = self._executor
        if executor is None or self._executor_pid != os.getpid():
            # A forked child inherits the executor, but not the thread behind it.
            executor = ThreadPoolExecutor(1, thread_name_prefix="realtime-ticket")
            self._executor, self._executor_pid = executor, os.getpid()
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(executor, work)


def thread_owner() -> Any:
    """Return who has the thread of sync_to_async() to themselves here, or a false value
    where it is one for all."""
    return (  # in the order in which asgiref looks for a thread
        getattr(AsyncToSync.executors, "current", None)
        or SyncToAsync.thread_sensitive_context.get(None)
        # and where it refuses a task one, for fear of a deadlock: that task
        or (SyncToAsync.deadlock_context.get(False) and asyncio.current_task())
    )


class _Local(threading.local, Generic[Call, Outcome]):
    """The lanes of the event loop that this thread runs; it runs one at a time."""

    loop: asyncio.AbstractEventLoop | None = None
    shared: _Lane[Call, Outcome]
    by_owner: WeakKeyDictionary[Any, _Lane[Call, Outcome]]


class _Batch(Generic[Call, Outcome]):
    """Calls that go to the storage together, and who waits for them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.waiters: list[asyncio.Future[Outcome]] = []
        self.alarm: asyncio.TimerHandle
        self.seconds = 0.0
        """How long the storage took."""

    def make(self, commit: Commit[Call, Outcome]) -> list[Outcome | Exception]:
        """Make the calls, in the thread for it."""
        started = time.monotonic()
        try:
            # sync_to_async() copies the context of the first caller. A tenant that one
            # caller has set in it must not be read on behalf of another.
            return Context().run(commit, self.calls)
        finally:
            self.seconds = time.monotonic() - started


class _Lane(Generic[Call, Outcome]):
    """The calls that go together: one batch under way, the next one gathering."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        start: Callable[
            [_Batch[Call, Outcome]], asyncio.Future[list[Outcome | Exception]]
        ],
    ) -> None:
        self._loop = loop
        self._start = start
        self._waiting: deque[tuple[Call, asyncio.Future[Outcome], float]] = deque()
        # Seconds that the storage has taken so far. Deadlines are by this clock: a loop
        # that is busy with 20,000 handshakes is no storage that is slow, and whoever is
        # turned away comes back and makes it busier.
        self._clock = 0.0
        self._busy = False
        self._stuck = False

    def board(self, call: Call) -> asyncio.Future[Outcome]:
        """Queue the call and return the future of its outcome."""
        waiter: asyncio.Future[Outcome] = self._loop.create_future()
        if self._stuck or len(self._waiting) >= MAX_WAITING:
            # Not raised from here: an error report would show the call, and so the key.
            waiter.set_exception(
                StorageError("The storage is too slow: too many calls wait for it.")
            )
            return waiter
        self._waiting.append((call, waiter, self._clock + MAX_WAIT))
        if not self._busy:
            # Not at once: whoever is about to call in this turn of the loop, all that
            # the last batch woke up for instance, shall come along.
            self._busy = True
            self._loop.call_soon(self._depart)
        return waiter

    def _depart(self) -> None:
        """Start a batch of those who wait. Drop the cancelled, fail the overdue."""
        batch: _Batch[Call, Outcome] = _Batch()
        while self._waiting and len(batch.calls) < MAX_BATCH:
            call, waiter, deadline = self._waiting.popleft()
            if deadline < self._clock:
                _fail(waiter)
            elif not waiter.done():
                batch.calls.append(call)
                batch.waiters.append(waiter)
        self._busy = bool(batch.calls)
        if batch.calls:
            self._watch(batch)
            try:
                done = self._start(batch)
            except Exception as exc:  # no thread to be had
                done = self._loop.create_future()
                done.set_exception(exc)
            done.add_done_callback(partial(self._arrive, batch))

    def _arrive(
        self,
        batch: _Batch[Call, Outcome],
        done: asyncio.Future[list[Outcome | Exception]],
    ) -> None:
        """Hand out the outcomes and let the next batch go."""
        batch.alarm.cancel()
        self._clock += batch.seconds
        self._busy = self._stuck = False
        if done.cancelled():
            for waiter in batch.waiters:
                _fail(waiter)
        elif error := done.exception():
            for waiter in batch.waiters:
                _settle(waiter, error)
        else:
            for waiter, outcome in zip(batch.waiters, done.result(), strict=True):
                _settle(waiter, outcome)
        if self._waiting:
            self._busy = True
            self._loop.call_soon(self._depart)

    def _watch(self, batch: _Batch[Call, Outcome], ticks: int = _TICKS) -> None:
        """Give the batch up after so many ticks."""
        if ticks:
            tick = MAX_WAIT / _TICKS
            batch.alarm = self._loop.call_later(tick, self._watch, batch, ticks - 1)
        else:
            self._give_up(batch)

    def _give_up(self, batch: _Batch[Call, Outcome]) -> None:
        """Fail everyone: the storage holds the thread, and nobody can take it back."""
        self._stuck = True
        for waiter in [*batch.waiters, *(waiter for _, waiter, _ in self._waiting)]:
            _fail(waiter)
        self._waiting.clear()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "Coroutines of a ticket service need asyncio. With trio, call the twin "
            "without the 'a' in a thread: trio.to_thread.run_sync(service.consume, ...)"
        ) from None


def _settle(waiter: asyncio.Future[Any], outcome: Any) -> None:
    if waiter.done():
        return  # cancelled, or given up on
    if isinstance(outcome, StopIteration):  # which no future can hold
        outcome = RuntimeError(repr(outcome))
    if isinstance(outcome, BaseException):
        waiter.set_exception(outcome)
    else:
        waiter.set_result(outcome)


def _fail(waiter: asyncio.Future[Any]) -> None:
    _settle(waiter, StorageError("The storage did not answer in time."))
