"""Waiting for the replies of a storage in the event loop, without a thread.

A small batch needs less time than it takes to hand it over to a thread and back.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

Outcome = bool | str | Exception | None
"""What ``add`` or ``pop`` returned or raised."""


class Request(ABC):
    """Calls that were sent to a storage, and whose replies an event loop waits for."""

    timeout: float
    """Seconds that the storage has to reply."""

    is_sent: bool = True
    """Whether nothing of the request is left for outcomes() to send."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when there are replies."""

    @abstractmethod
    def is_answered(self) -> bool:
        """Return whether outcomes() would return without waiting.

        Call it when the file descriptor is readable, or it waits for that.
        """

    @abstractmethod
    def outcomes(self) -> list[Outcome]:
        """Return what add() or pop() would return for each call, in order.

        Wait for replies that have not arrived. An exception in the list, one of the
        backend's ``storage_errors``, stands for a call that failed. Raise one of them
        where all calls failed.
        """

    @abstractmethod
    def expire(self) -> None:
        """Give up: close the connection, so that nobody reads the replies.

        outcomes() raises one of the backend's ``storage_errors`` from now on.
        """


class Waiting:
    """Wait in the running event loop until a request is answered or has expired.

    Then ``done`` is called, once. Its argument says whether ``request.outcomes()`` can
    be called in the event loop. It is False where only a part of the replies has
    arrived, because the rest has to be waited for in a thread, and where the event loop
    cannot watch the file descriptor.
    """

    def __init__(self, request: Request, done: Callable[[bool], object]) -> None:
        self._request = request
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._descriptor = request.fileno()
        # Two timers, one after the other: after a loop was busy for the whole time, it
        # looks at its file descriptors between them.
        self._watch(timers=2)

    # The loop alone refers to this object and to its timer, without a cycle. So when
    # the loop is closed, the request ends at once, and not with a garbage collection:
    # it holds one of few connections.
    def _watch(self, timers: int) -> None:
        timer = self._loop.call_later(
            self._request.timeout / 2, self._on_timer, timers - 1
        )
        try:
            self._loop.add_reader(self._descriptor, self._on_readable, timer)
        except Exception:  # it never can, or watches too many already
            timer.cancel()
            self._done(False)

    def _on_readable(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._loop.remove_reader(self._descriptor)
        try:
            is_answered = self._request.is_answered()
        except Exception:  # outcomes() may raise it too, in a thread
            is_answered = False
        self._done(is_answered)

    def _on_timer(self, timers: int) -> None:
        if timers:
            self._watch(timers)
        else:
            self._loop.remove_reader(self._descriptor)
            self._request.expire()
            self._done(True)
