"""Litestar: the middleware consumes, the handler finds scope["ticket"]."""

import asyncio
import os
from collections.abc import AsyncIterator

import uvicorn
from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.middleware import DefineMiddleware
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import AllowedOrigins
from realtime_ticket.integrations.asgi import TicketMiddleware

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))


@websocket("/ws")
async def chat(socket: WebSocket) -> None:
    name = socket.scope["ticket"].username
    await socket.accept()
    try:
        await socket.send_text(f"Hello, {name}!")
        async for text in socket.iter_data():
            await socket.send_text(f"{name}: {text}")
    except WebSocketDisconnect:
        pass


@get("/events")
async def events(request: Request) -> ServerSentEvent:
    async def stream() -> AsyncIterator[str | ServerSentEventMessage]:
        # Some servers send headers with the first byte.
        yield ServerSentEventMessage(data=None, comment="connected")
        yield f"Hello, {request.scope['ticket'].username}!"
        await asyncio.sleep(3600)

    return ServerSentEvent(
        stream(),
        headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": ORIGIN},
    )


with_ticket = DefineMiddleware(
    TicketMiddleware,
    service=TicketService(RedisBackend(url=REDIS)),
    origins=AllowedOrigins([ORIGIN], allow_missing=True),
)
app = Litestar([chat, events], middleware=[with_ticket])

if __name__ == "__main__":
    # Or an open stream would keep it from stopping.
    uvicorn.run(app, host="127.0.0.1", port=PORT, timeout_graceful_shutdown=3)
