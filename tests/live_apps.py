"""ASGI applications that write down what they receive, for test_live_servers.py.

The first part of a path names the application, and the whole path the connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.integrations.asgi import TicketMiddleware
from tests.live_record import note

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

GRACE = 1.0


async def accept(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    note(scope["path"], "accepted")


async def hear(scope: Any, receive: Receive) -> str | None:
    """Return the next text, or None for a disconnect, and note both."""
    message = await receive()
    if message["type"] in ("websocket.disconnect", "http.disconnect"):
        note(scope["path"], "disconnect", message.get("code"))
        return None
    note(scope["path"], "heard", message.get("text"))
    return message.get("text", "")


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """Repeat what it hears."""
    await accept(scope, receive, send)
    while (text := await hear(scope, receive)) is not None:
        await send({"type": "websocket.send", "text": text})


async def greedy(scope: Any, receive: Receive, send: Send) -> None:
    """Go on receiving when it was told that its client is gone."""
    await accept(scope, receive, send)
    disconnects = 0
    while disconnects < 10:
        disconnects += await hear(scope, receive) is None


async def busy(scope: Any, receive: Receive, send: Send) -> None:
    """Take half a second over each message."""
    await accept(scope, receive, send)
    while await hear(scope, receive) is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.5)


async def sender(scope: Any, receive: Receive, send: Send) -> None:
    """Only send."""
    await accept(scope, receive, send)
    try:
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.02)
    except OSError:
        note(scope["path"], "OSError")
        raise


async def duplex(scope: Any, receive: Receive, send: Send) -> None:
    """Send as much as possible in a task of its own, and repeat nothing."""
    await accept(scope, receive, send)

    async def flood() -> None:
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            await asyncio.sleep(0)

    task = asyncio.create_task(flood())
    while await hear(scope, receive) is not None:
        pass
    task.cancel()
    await asyncio.wait([task])


async def sleeper(scope: Any, receive: Receive, send: Send) -> None:
    """Wait for something that does not come."""
    await accept(scope, receive, send)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        note(scope["path"], "cancelled")
        raise


async def hesitant(scope: Any, receive: Receive, send: Send) -> None:
    """Accept nobody."""
    await receive()
    note(scope["path"], "accepted")
    await hear(scope, receive)


async def stream(scope: Any, receive: Receive, send: Send) -> None:
    """Send events until the client has left."""
    headers = [(b"content-type", b"text/event-stream")]
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    body = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
    await send(body)
    note(scope["path"], "accepted")
    await hear(scope, receive)


async def application(scope: Any, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        return
    name = scope["path"].split("/")[1]
    if name in APPLICATIONS:
        app: Any = APPLICATIONS[name]
    else:  # only the server that is asked for a framework takes the time to load it
        from tests import live_frameworks

        app = live_frameworks.APPLICATIONS[name]
    try:
        await app(scope, receive, send)
    finally:
        note(scope["path"], "end")


APPLICATIONS = {
    app.__name__: app
    for app in (echo, greedy, busy, sender, duplex, sleeper, hesitant, stream)
}

guarded = TicketMiddleware(
    application,
    origins=None,
    service=TicketService(RedisBackend(unix_socket_path=os.environ["REDIS"])),
    grace=GRACE,
)
