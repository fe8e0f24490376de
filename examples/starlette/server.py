"""Starlette: the middleware consumes, the endpoint finds scope["ticket"]."""

import asyncio
import os

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import AllowedOrigins
from realtime_ticket.integrations.asgi import TicketMiddleware

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))


async def chat(websocket):
    name = websocket.scope["ticket"].username
    await websocket.accept()
    await websocket.send_text(f"Hello, {name}!")
    async for text in websocket.iter_text():
        await websocket.send_text(f"{name}: {text}")


async def events(request):
    async def stream():
        yield ": connected\n\n"  # some servers send headers with the first byte
        yield f"data: Hello, {request.scope['ticket'].username}!\n\n"
        await asyncio.sleep(3600)

    return StreamingResponse(
        stream(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": ORIGIN},
    )


with_ticket = Middleware(
    TicketMiddleware,
    service=TicketService(RedisBackend(url=REDIS)),
    origins=AllowedOrigins([ORIGIN], allow_missing=True),
)
app = Starlette(
    routes=[WebSocketRoute("/ws", chat), Route("/events", events)],
    middleware=[with_ticket],
)

if __name__ == "__main__":
    # Or an open stream would keep it from stopping.
    uvicorn.run(app, host="127.0.0.1", port=PORT, timeout_graceful_shutdown=3)
