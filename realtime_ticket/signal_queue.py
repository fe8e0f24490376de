"""Signals from coroutines, whose receivers must not delay other calls.

Django runs a plain receiver in the thread that also runs the batches of databases and
caches. Anyone can send thousands of bad tickets in a second, and that thread would be
busy with receivers alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final

from django.dispatch import Signal

from .batching import thread_owner
from .logs import logger

MAX_WAIT: Final = 0.5
"""Seconds that a coroutine waits for the receivers of its signal. If that is too short,
they are called later."""

MAX_WAITING: Final = 10_000
"""Signals of one kind, in one event loop, that wait for their receivers. Beyond, a
signal is not sent, and the log says how many were not."""

_LOG_EVERY: Final = 1.0
"""Seconds between two log records of signals that were not sent, at least."""

Send = Callable[[], Coroutine[Any, Any, Any]]


class SignalQueue:
    """Send signals from coroutines, those of each kind one after the other.

    In a request, and under ``async_to_sync``, there is a thread for its synchronous
    code. Receivers run there and at once, as with Django's ``asend_robust()``.
    """

    def __init__(self) -> None:
        self._local = _Local()

    async def send(
        self, name: str, signal: Signal, sender: Any, **details: Any
    ) -> None:
        """Return when the receivers are done, or after MAX_WAIT seconds.

        Receivers run in a copy of the caller's context. What they raise is logged.
        """
        if not signal.has_listeners(sender):
            return
        if thread_owner():
            await signal.asend_robust(sender, **details)
            return
        done = self._queue(name).put(partial(signal.asend_robust, sender, **details))
        await asyncio.wait([done], timeout=MAX_WAIT)

    def _queue(self, name: str) -> _Queue:
        """Return the running event loop's queue for the signals of this name."""
        loop, local = asyncio.get_running_loop(), self._local
        if local.loop is not loop:
            local.loop = loop
            local.queues = {}
        return local.queues.setdefault(name, _Queue(name, loop))


class _Local(threading.local):
    """The queues of the event loop that this thread runs; it runs one at a time."""

    loop: asyncio.AbstractEventLoop | None = None
    queues: dict[str, _Queue]


class _Queue:
    """The signals of one kind that wait for their receivers."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._loop = loop
        self._waiting: deque[tuple[Send, Context, asyncio.Future[None]]] = deque()
        self._worker: asyncio.Task[None]  # the event loop has only a weak reference
        self._busy = False
        self._lost = 0
        self._logged_at = 0.0

    def put(self, send: Send) -> asyncio.Future[None]:
        """Queue a signal. Return a future that is done when the receivers are."""
        done: asyncio.Future[None] = self._loop.create_future()
        if len(self._waiting) >= MAX_WAITING:
            done.set_result(None)
            self._lost += 1
            if time.monotonic() - self._logged_at >= _LOG_EVERY:
                self._log_lost()
            return done
        self._waiting.append((send, copy_context(), done))
        if not self._busy:
            self._busy = True
            self._worker = self._loop.create_task(self._work(), context=Context())
        return done

    async def _work(self) -> None:
        """Send what waits, one signal at a time, until nothing does."""
        done = None
        try:
            while self._waiting:
                send, context, done = self._waiting.popleft()
                task = self._loop.create_task(send(), context=context)
                # Not awaited itself: a receiver may raise CancelledError, too.
                await asyncio.wait([task])
                if not task.cancelled() and (error := task.exception()):
                    logger.error("%s could not be sent.", self._name, exc_info=error)
                _finish(done)
        finally:
            # Nothing is left here, unless the event loop ends and cancels this task.
            _finish(done)
            self._busy = False
            self._lost += len(self._waiting)
            while self._waiting:
                _finish(self._waiting.popleft()[2])
            self._log_lost()

    def _log_lost(self) -> None:
        if self._lost:
            logger.warning(
                "Signals %s that were not sent, because receivers take too long: %d",
                self._name,
                self._lost,
            )
            self._logged_at = time.monotonic()
            self._lost = 0


def _finish(done: asyncio.Future[None] | None) -> None:
    if done is not None and not done.done():
        done.set_result(None)
