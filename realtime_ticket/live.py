"""Connections that live no longer than the login that they came from. No Django.

Consume the ticket, then hold the connection::

    live = LiveTickets(service)

    async with live.hold(ticket):
        ...  # serve the connection; Revoked is raised when it must end
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, get_args

from .backends.base import require_read_many
from .exceptions import InvalidTicket, Revoked
from .listener import MAX_SILENCE
from .tickets import Ticket, seconds_left
from .watches import InDoubt, Watch

if TYPE_CHECKING:
    from .service import TicketService

__all__ = ["LiveTickets", "Revoked", "Watch"]

_EARLIER: Final = 0.1
"""The part of ``max_age`` that chance may take off, so that not all end at once."""

_CANCEL_AGAIN: Final = 10.0
"""Seconds for a block to clean up. Then it is cancelled again, for it may not know: the
``asyncio.wait_for()`` of Python 3.11 loses a cancellation that comes with its result.
"""

_LOOK_AGAIN: Final = 0.02
"""Seconds between two looks whether the first reading is done."""


class LiveTickets:
    """Ends connections when their user is disconnected, or logs out.

    One instance serves all connections of a process; several of one service share the
    threads that read the storage twice a second. They begin with the first connection.

    - ``max_age``: seconds after which every connection must end, up to a tenth earlier
      by chance. None for no limit. A ticket whose session expires sooner ends its
      connection then. OWASP ASVS 5.0, 7.3.2, asks for a limit.
    - ``in_doubt``: what happens to open connections when disconnects may have been
      lost, because the storage lost its memory or could not be read for two minutes.
      ``"close"``: all end, and come back with a new ticket. ``"keep"``: they stay.
    - ``thread=False``: call poll() yourself, as tests do.

    Raise UnsupportedBackend when the service's backend has no ``read_many()``.
    """

    def __init__(
        self,
        service: TicketService,
        *,
        max_age: float | None = None,
        in_doubt: InDoubt = "close",
        thread: bool = True,
    ) -> None:
        check_options(max_age, in_doubt)
        require_read_many(service.backend)
        self.service = service
        self.max_age = max_age
        self.in_doubt: InDoubt = in_doubt
        self._thread = thread

    @property
    def last_read(self) -> float | None:
        """Return when the storage was last read, by ``time.monotonic()``, or None.

        New connections are refused when that is more than five seconds ago.
        """
        return self.service.listener.last_read

    def start(self) -> None:
        """Begin to listen, and wait for the first reading, five seconds at most.

        watch() and awatch() do so with the first connection. Call this before an event
        loop in which watch() must not wait, such as Twisted's.
        """
        self.service.listener.start().wait(MAX_SILENCE)

    def watch(self, ticket: Ticket, callback: Callable[[Revoked], object]) -> Watch:
        """Call ``callback`` with a Revoked when the connection must end.

        It is called once at most, from a thread of the service; those of two
        connections may run at the same time. It must not wait: wake up the connection,
        and return. What it raises is logged. Close the Watch that comes back when the
        connection has ended, or use it in ``with``.

        Raise InvalidTicket when the ticket's login has ended since it was issued, and
        StorageError when the storage could not be read for five seconds: refuse the
        connection. The first call waits for the first reading.
        """
        if self._thread:
            self.start()
        try:
            return self._watch(ticket, callback)
        except InvalidTicket as exc:
            self.service.notify("rejected", **_rejection(exc, ticket))
            raise

    async def awatch(
        self, ticket: Ticket, callback: Callable[[Revoked], object]
    ) -> Watch:
        """See watch(). The callback is called in the running event loop."""
        loop = asyncio.get_running_loop()

        def wake(revoked: Revoked) -> None:
            # A loop that is closed has no connections.
            if not loop.is_closed():
                loop.call_soon_threadsafe(callback, revoked)

        if self._thread:
            tried = self.service.listener.start()
            deadline = loop.time() + MAX_SILENCE
            while not tried.is_set() and loop.time() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_AGAIN)
        try:
            return self._watch(ticket, wake)
        except InvalidTicket as exc:
            await self.service.anotify("rejected", **_rejection(exc, ticket))
            raise

    def hold(self, ticket: Ticket) -> Hold:
        """Return an async context manager whose block ends with Revoked.

        It works like ``asyncio.timeout()``: the block is cancelled where it waits, and
        the cancellation becomes Revoked on the way out. A block that is not done ten
        seconds later is cancelled again. Raise what watch() raises on the way in.
        """
        return Hold(self, ticket)

    def poll(self) -> None:
        """Read the storage once, and end the connections that must end.

        Raise one of the storage's errors when it cannot be read.
        """
        self.service.listener.poll()

    def close(self) -> None:
        """End the threads and close their connections. The next watch starts others."""
        self.service.listener.close()

    def _watch(self, ticket: Ticket, end: Callable[[Revoked], object]) -> Watch:
        if not isinstance(ticket, Ticket):  # without it: it may be a ticket's value
            raise TypeError("Watch the Ticket that consume() has returned.")
        ages = []
        if self.max_age is not None:
            ages.append(self.max_age * (1 - _EARLIER * random.random()))
        if (left := seconds_left(ticket, time.time())) is not None:
            ages.append(left)
        return self.service.listener.watch(
            ticket, end, max_age=min(ages, default=None), in_doubt=self.in_doubt
        )


class Hold:
    """What hold() returns. It works once; call hold() again for another block."""

    def __init__(self, live: LiveTickets, ticket: Ticket) -> None:
        self._live = live
        self._ticket = ticket
        self._revoked: Revoked | None = None
        self._cancels = 0
        self._was_entered = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("hold() works only in a task.")
        if self._was_entered:
            raise RuntimeError("Call hold() again for another block.")
        self._was_entered = True
        self._task = task
        self._cancelling = task.cancelling()
        self._is_active = True
        self._watch = await self._live.awatch(self._ticket, self._revoke)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_active = False
        self._watch.close()
        if self._revoked is None:
            return
        # Take the cancellation back however the block ended. If one is left, it comes
        # from elsewhere and goes on, as with asyncio.timeout().
        self._again.cancel()
        for _ in range(self._cancels):
            self._task.uncancel()
        is_ours = self._task.cancelling() <= self._cancelling
        if exc is None or (is_ours and isinstance(exc, asyncio.CancelledError)):
            raise self._revoked from exc

    def _revoke(self, revoked: Revoked) -> None:
        """Cancel the block, unless it has ended, and again until it has."""
        if self._is_active:
            self._revoked = revoked
            self._cancels += 1
            self._task.cancel()
            loop = self._task.get_loop()
            self._again = loop.call_later(_CANCEL_AGAIN, self._revoke, revoked)


def _rejection(error: InvalidTicket, ticket: Ticket) -> dict[str, str]:
    """Return what TicketService.notify() takes for a rejection."""
    return {
        "reason": error.reason,
        "fingerprint": ticket.fingerprint,
        "audience": ticket.audience,
    }


def check_options(max_age: float | None, in_doubt: InDoubt) -> None:
    """Accept options of LiveTickets. Raise ValueError for anything else."""
    is_number = isinstance(max_age, (int, float)) and not isinstance(max_age, bool)
    if max_age is not None and not (is_number and max_age > 0):
        raise ValueError(f"max_age is a number of seconds > 0, not {max_age!r}.")
    if in_doubt not in get_args(InDoubt):
        raise ValueError(f"in_doubt is 'close' or 'keep', not {in_doubt!r}.")
