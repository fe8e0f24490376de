"""An ASGI connection whose login ends: how its application and its client are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar, cast

from realtime_ticket.exceptions import Revoked
from realtime_ticket.logs import logger

if TYPE_CHECKING:
    from realtime_ticket.live import LiveTickets
    from realtime_ticket.tickets import Ticket

    from ._asgi_types import Application, Message, Receive, Scope, Send

Result = TypeVar("Result")

_CLOSE_WAIT: Final = 3.0
"""Seconds for closing a socket. A client may read nothing, or ignore a close frame."""

_PAUSE: Final = 0.01
"""Seconds that a call takes once it has no effect: an application that goes on in a
loop must not keep the others of its event loop waiting."""

_CANCEL_AGAIN: Final = 10.0
"""Seconds after which an application that goes on is cancelled again: it may not know,
for the ``asyncio.wait_for()`` of Python 3.11 can lose a cancellation."""

_current_task = cast("Callable[[], asyncio.Task[object]]", asyncio.current_task)

_BEGINS: Final = ("websocket.accept", "http.response.start")
_ENDS: Final = (
    "websocket.close",
    "websocket.http.response.start",
    "http.response.pathsend",
)


class ConnectionRevoked(OSError):
    """The application sends to a client whose login has ended."""

    def __init__(self) -> None:
        super().__init__("The connection is closed, because its login has ended.")


class Connection:
    """What an application has of its connection, until the login ends.

    Closing the socket would be too little. Servers wait for the client to answer the
    close frame, and hand its messages on meanwhile. Cancelling the application would be
    too much: it skips the clean-up that a disconnect causes. So the application is cut
    off first. receive() returns nothing but a disconnect, also where the application
    waits in it already. send() has no effect for half of ``grace``, so that a handler
    which is under way can end, and the application then hears of the disconnect; after
    that send() raises an OSError, as the ASGI specification asks for. An application
    that has not returned after ``grace`` seconds is cancelled.

    ``refuse`` answers a client whom the application has not answered yet.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        refuse: Callable[[Receive, Send], Awaitable[None]],
        close_code: int,
        grace: float,
    ) -> None:
        self._receive = receive
        self._send = send
        self._refuse = refuse
        self._close_code = close_code
        self._grace = grace
        self._task: asyncio.Task[object] | None = None
        """The application's, while it runs."""
        self._revoked: Revoked | None = None
        self._waiting: set[asyncio.Task[object]] = set()
        """The application's tasks that are in a call of the server's."""
        self._is_connected = False
        """Whether the application has received its first message."""
        self._begun = self._ended = False
        """Whether the client got the beginning, and the end, of an answer."""
        self._cancels = 0
        """How often the application was cancelled."""

    async def watch(self, live: LiveTickets, ticket: Ticket) -> None:
        """Let the login of this ticket end the connection. Raise what awatch() does."""
        self._loop = asyncio.get_running_loop()
        self._watch = await live.awatch(ticket, self.revoke)

    async def serve(self, app: Application, scope: Scope) -> None:
        """Call the application. Return when it has, and its connection is closed."""
        self._type = scope["type"]
        self._task = task = _current_task()
        cancelling = task.cancelling()
        try:
            await app(scope, self.receive, self.send)
        except ConnectionRevoked:
            logger.debug("An application ended because it could not send any more.")
        except asyncio.CancelledError:
            # Ours are not taken back yet. More than those come from the server.
            if not self._cancels or task.cancelling() > cancelling + self._cancels:
                raise
        finally:
            self._task = None
            self._watch.close()
            if self._revoked:
                self._overdue.cancel()
                for _ in range(self._cancels):
                    task.uncancel()
                await self._closing

    def revoke(self, revoked: Revoked) -> None:
        """Cut the application off, and close the socket. Call it in the event loop."""
        if self._task is None:
            return
        self._revoked = revoked
        for task in self._waiting:
            task.cancel()
        self._sending_ends = self._loop.time() + self._grace / 2
        self._overdue = self._loop.call_later(self._grace, self._cancel)
        # The calls that were just cancelled end before this begins.
        self._closing = self._loop.create_task(self._close(revoked))

    async def receive(self) -> Message:
        """Return the client's next message, or a disconnect."""
        message = await self._call(self._receive)
        if message is None or self._revoked:
            message = self._disconnect(cast("Revoked", self._revoked))
        self._is_connected = True
        return message

    async def send(self, message: Message) -> None:
        """Send to the client, unless its login has ended."""
        if not self._revoked:
            self._note(message)
        await self._call(self._send, message)
        if self._revoked and self._loop.time() > self._sending_ends:
            raise ConnectionRevoked

    async def _call(
        self, method: Callable[..., Awaitable[Result]], *args: Message
    ) -> Result | None:
        """Call the server, and wait no longer than until the connection is revoked.

        A task of its own for each call would cost more than the call.
        """
        if self._revoked:
            await asyncio.sleep(_PAUSE)
            return None
        # The caller's, who may be in a thread with an event loop of its own.
        task = _current_task()
        cancelling = task.cancelling()
        self._waiting.add(task)
        try:
            return await method(*args)
        except asyncio.CancelledError:
            # revoke() has cancelled this task once. More than that come from elsewhere.
            if not self._revoked or task.cancelling() > cancelling + 1:
                raise
            return None
        finally:
            self._waiting.remove(task)
            if self._revoked:
                task.uncancel()

    def _note(self, message: Message) -> None:
        """Remember how far the application's answer has come."""
        kind = message["type"]
        self._begun |= kind in _BEGINS
        self._ended |= kind in _ENDS or (
            kind == "http.response.body" and not message.get("more_body")
        )

    def _disconnect(self, revoked: Revoked) -> Message:
        """Return what an application hears whose connection is revoked."""
        if self._type == "http":
            return {"type": "http.disconnect"}
        if not self._is_connected:  # frameworks insist on this order
            return {"type": "websocket.connect"}
        return self._ending("websocket.disconnect", revoked)

    async def _close(self, revoked: Revoked) -> None:
        """Close the socket, or end the stream, if that is possible soon."""
        try:
            async with asyncio.timeout(_CLOSE_WAIT):
                if not self._begun and not self._ended:
                    await self._refuse(self._connect, self._send)
                elif not self._ended:
                    await self._send(self._end(revoked))
        except Exception as exc:
            # Its client left, or does not listen. The server cuts it off when the
            # application has returned.
            logger.debug("A revoked connection was not closed properly: %r", exc)

    async def _connect(self) -> Message:
        """Receive the first message for _refuse(), unless the application has."""
        return {} if self._is_connected else await self._receive()

    def _end(self, revoked: Revoked) -> Message:
        """Return what ends an answer that has begun."""
        if self._type == "http":
            return {"type": "http.response.body", "body": b"", "more_body": False}
        return self._ending("websocket.close", revoked)

    def _ending(self, kind: str, revoked: Revoked) -> Message:
        return {
            "type": kind,
            "code": self._close_code,
            "reason": revoked.close_reason,
        }

    def _cancel(self) -> None:
        """Cancel the application, which has had its time, and again until it ends."""
        logger.warning(
            "An application has not returned %g seconds after its user was "
            "disconnected, and is cancelled.",
            self._grace,
        )
        self._cancels += 1
        cast("asyncio.Task[object]", self._task).cancel()
        self._overdue = self._loop.call_later(_CANCEL_AGAIN, self._cancel)
