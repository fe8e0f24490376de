"""Group commit: the calls of many coroutines go to the storage in batches.

Calls that arrive while a batch is under way wait, and form the next batch. The busier
the process, the larger its batches; a lone call is not delayed. So no client is bound
to an event loop, no cancelled call leaves a reply unread, and one connection serves
hundreds of callers.
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
from .replies import Request, Waiting

MAX_BATCH: Final = 1000
"""Calls in one batch. A larger one saves nothing more and makes every caller wait."""

MAX_WAITING: Final = 50_000
"""Calls of one event loop that may wait. Any further call fails at once."""

MAX_WAIT: Final = 5.0
"""Seconds that a call waits for the batches before its own, and then again for its own
batch. An event loop that is busy with other things adds to that."""

_TIMER_STEPS: Final = 10
"""A batch times out after so many timers, one after the other, that last MAX_WAIT
together. With a single timer, an event loop that was busy for longer than MAX_WAIT
would time a batch out that is done, before it reads that it is done."""

_LONE_BATCHES: Final = 8
"""After so many batches of a single call, the next call is taken for a lone one too."""

Call = TypeVar("Call")
Outcome = TypeVar("Outcome")
Commit = Callable[..., list[Outcome | Exception]]
Send = Callable[[list[Call]], Request | None]


class GroupCommit(Generic[Call, Outcome]):
    """Collect the calls of coroutines and hand them to a function in batches.

    ``commit`` is a synchronous function. It takes a list of calls and returns a list of
    as many outcomes. An exception in that list is raised for its caller, and an
    exception that ``commit`` raises, for all callers of the batch. It runs in asgiref's
    thread-sensitive thread or in a thread of its own, and sees the context variables of
    no caller, because a batch belongs to many.

    ``send``, if there is one, is called first, in the event loop: it returns a request
    that is under way, or None. ``commit(calls, request)`` then reads its outcomes, in
    the event loop if it has been answered, see :mod:`.replies`.
    """

    def __init__(
        self,
        commit: Commit[Outcome],
        *,
        thread_sensitive: bool,
        send: Send[Call] | None = None,
    ) -> None:
        self.commit = commit
        self.send = send
        self._thread_sensitive = thread_sensitive
        self._executor: ThreadPoolExecutor | None = None
        self._executor_pid = 0
        self._local: _Local[Call, Outcome] = _Local()

    def submit(self, call: Call) -> asyncio.Future[Outcome]:
        """Return the future of this call's outcome.

        The future raises StorageError when the storage takes too long, or too many
        calls wait. A call that is cancelled before its batch starts is not made.
        """
        return self._queue().submit(call)

    def close(self) -> None:
        """End the thread once it is idle. The next call starts another one."""
        # An executor without references ends its thread after the calls that it has.
        # shutdown() would refuse a call that another thread is just handing over, and
        # takes locks, which in a forked child can be locked for ever.
        self._executor = None

    def _queue(self) -> _Queue[Call, Outcome]:
        """Return the queue of the running event loop, or of the caller's own thread.

        Django's ASGI handler gives each request a thread-sensitive context, with a
        thread and database connections of its own. One request's statements must not
        run on another's connection, so each request has its own queue. So does
        synchronous code that waits in async_to_sync(), because its batch has to run in
        the waiting thread. A realtime server mostly has neither, and there all callers
        share the queue of the event loop.
        """
        loop, local = _running_loop(), self._local
        if local.loop is not loop:
            local.loop = loop
            local.shared = _Queue(loop, self)
            local.by_owner = WeakKeyDictionary()
        owner = thread_owner() if self._thread_sensitive else None
        if not owner:
            return local.shared
        return local.by_owner.setdefault(owner, _Queue(loop, self))

    def in_thread(
        self, work: Callable[[], list[Outcome | Exception]]
    ) -> asyncio.Future[list[Outcome | Exception]]:
        """Run this in the thread for batches."""
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
    """Return the object whose own thread sync_to_async() would use here.

    Return a false value where it would use the thread that all callers share.
    """
    return (  # in the order in which asgiref looks for a thread
        getattr(AsyncToSync.executors, "current", None)
        or SyncToAsync.thread_sensitive_context.get(None)
        # Here asgiref raises instead, to prevent a deadlock. Only this task may fail.
        or (SyncToAsync.deadlock_context.get(False) and asyncio.current_task())
    )


class _Local(threading.local, Generic[Call, Outcome]):
    """The queues of the event loop that this thread runs; it runs one at a time."""

    loop: asyncio.AbstractEventLoop | None = None
    shared: _Queue[Call, Outcome]
    by_owner: WeakKeyDictionary[Any, _Queue[Call, Outcome]]


class _Batch(Generic[Call, Outcome]):
    """Calls that go to the storage together, and the futures of their outcomes."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.waiters: list[asyncio.Future[Outcome]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.seconds = 0.0
        """How long ``run`` took."""

    def run(
        self, commit: Commit[Outcome], *request: Request
    ) -> list[Outcome | Exception]:
        """Make the calls, or read the outcomes of a request that was sent for them."""
        started = time.monotonic()
        try:
            # sync_to_async() copies the context of the first caller. A tenant that one
            # caller has set in it must not be read on behalf of another.
            return Context().run(commit, self.calls, *request)
        finally:
            self.seconds = time.monotonic() - started


class _Queue(Generic[Call, Outcome]):
    """One batch that is under way, and the calls that wait for the next one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        group: GroupCommit[Call, Outcome],
    ) -> None:
        self._loop = loop
        self._group = group
        self._waiting: deque[tuple[Call, asyncio.Future[Outcome], float]] = deque()
        # Seconds that the storage has taken so far. Deadlines are measured by this
        # clock: when the event loop is busy with 20,000 handshakes, the storage is not
        # slow, and clients that are refused come back and make the loop busier.
        self._clock = 0.0
        self._busy = False
        self._timed_out = False
        self._lone_batches = 0
        """How many of the last batches, one after the other, were a single call."""

    def submit(self, call: Call) -> asyncio.Future[Outcome]:
        """Queue the call and return the future of its outcome."""
        waiter: asyncio.Future[Outcome] = self._loop.create_future()
        if self._timed_out or len(self._waiting) >= MAX_WAITING:
            # Not raised from here: an error report would show the call, and so the key.
            waiter.set_exception(
                StorageError("The storage is too slow: too many calls wait for it.")
            )
            return waiter
        self._waiting.append((call, waiter, self._clock + MAX_WAIT))
        if not self._busy:
            self._busy = True
            if self._lone_batches >= _LONE_BATCHES:
                self._start_batch()
            else:
                # More calls may follow in this iteration of the loop, from all tasks
                # that the last batch woke up for instance.
                self._loop.call_soon(self._start_batch)
        return waiter

    def _start_batch(self) -> None:
        """Start the next batch, if there is one."""
        batch = self._next_batch()
        self._busy = bool(batch.calls)
        self._lone_batches = self._lone_batches + 1 if len(batch.calls) == 1 else 0
        if batch.calls:
            try:
                self._send(batch)
            except BaseException as exc:  # no thread can be started, or Ctrl-C
                # Not from here: submit() would raise Ctrl-C and return no future.
                self._loop.call_soon(self._fail, batch, exc)

    def _next_batch(self) -> _Batch[Call, Outcome]:
        """Return a batch of the waiting calls that are not cancelled or overdue."""
        batch: _Batch[Call, Outcome] = _Batch()
        while self._waiting and len(batch.calls) < MAX_BATCH:
            call, waiter, deadline = self._waiting.popleft()
            if deadline < self._clock:
                _resolve(waiter, _late())
            elif not waiter.done():
                batch.calls.append(call)
                batch.waiters.append(waiter)
        return batch

    def _send(self, batch: _Batch[Call, Outcome]) -> None:
        """Send the batch from here, or have a thread do it."""
        send = self._group.send
        request = Context().run(send, batch.calls) if send else None
        if request is None:
            self._run_in_thread(batch)
        elif not request.is_sent:  # there may be no reply before a thread sends it
            self._read(batch, request, False)
        else:
            request.timeout = min(request.timeout, MAX_WAIT)
            Waiting(request, partial(self._read, batch, request))

    def _read(
        self, batch: _Batch[Call, Outcome], request: Request, is_done: bool
    ) -> None:
        if is_done:
            read = partial(batch.run, self._group.commit, request)
            self._finish_batch(batch, read)
            return
        try:
            self._run_in_thread(batch, request)
        except BaseException as exc:  # no thread to read the rest, or Ctrl-C
            request.expire()
            # Not from here: _send() may be the caller, and would fail the batch again.
            self._loop.call_soon(self._fail, batch, exc)

    def _run_in_thread(self, batch: _Batch[Call, Outcome], *request: Request) -> None:
        self._set_timer(batch)
        work = partial(batch.run, self._group.commit, *request)
        done = self._group.in_thread(work)
        done.add_done_callback(lambda done: self._finish_batch(batch, done.result))

    def _finish_batch(
        self,
        batch: _Batch[Call, Outcome],
        result: Callable[[], list[Outcome | Exception]],
    ) -> None:
        """Give each caller its outcome from ``result()``, or the error it raises."""
        try:
            outcomes = result()
        except BaseException as exc:
            self._fail(batch, exc)
        else:
            self._hand_out(batch, outcomes)

    def _fail(self, batch: _Batch[Call, Outcome], error: BaseException) -> None:
        """Give all callers the error. For Ctrl-C, which is raised, a StorageError."""
        if isinstance(error, Exception):
            self._hand_out(batch, [error] * len(batch.calls))
            return
        self._hand_out(batch, [_late() for _ in batch.calls])
        if not isinstance(error, asyncio.CancelledError):
            raise error  # Ctrl-C: the loop may run on, to clean up

    def _hand_out(
        self, batch: _Batch[Call, Outcome], outcomes: list[Outcome | Exception]
    ) -> None:
        """Hand out the outcomes, and start the next batch."""
        if batch.timer:
            batch.timer.cancel()
        self._clock += batch.seconds
        self._busy = self._timed_out = False
        for waiter, outcome in zip(batch.waiters, outcomes, strict=True):
            _resolve(waiter, outcome)
        if self._waiting:
            self._busy = True
            self._loop.call_soon(self._start_batch)

    def _set_timer(
        self, batch: _Batch[Call, Outcome], steps: int = _TIMER_STEPS
    ) -> None:
        """Let the batch time out after so many steps."""
        if steps:
            step = MAX_WAIT / _TIMER_STEPS
            batch.timer = self._loop.call_later(step, self._set_timer, batch, steps - 1)
        else:
            self._time_out(batch)

    def _time_out(self, batch: _Batch[Call, Outcome]) -> None:
        """Fail all calls: the thread waits for the storage, and cannot be stopped."""
        self._timed_out = True
        for waiter in [*batch.waiters, *(waiter for _, waiter, _ in self._waiting)]:
            _resolve(waiter, _late())
        self._waiting.clear()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "Coroutines of a ticket service need asyncio. With trio, call the twin "
            "without the 'a' in a thread: trio.to_thread.run_sync(service.consume, ...)"
        ) from None


def _resolve(waiter: asyncio.Future[Any], outcome: Any) -> None:
    if waiter.done():
        return  # cancelled, or timed out
    if isinstance(outcome, StopIteration):  # which no future can hold
        outcome = RuntimeError(repr(outcome))
    if isinstance(outcome, BaseException):
        waiter.set_exception(outcome)
    else:
        waiter.set_result(outcome)


def _late() -> StorageError:
    return StorageError("The storage did not answer in time.")
