"""FastAPI: the middleware consumes the ticket, a dependency passes it on."""

import asyncio
import os
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import StreamingResponse

from realtime_ticket import Ticket, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import AllowedOrigins
from realtime_ticket.integrations.asgi import TicketMiddleware

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))

app = FastAPI()
app.add_middleware(
    TicketMiddleware,
    service=TicketService(RedisBackend(url=REDIS)),
    origins=AllowedOrigins([ORIGIN], allow_missing=True),
    refusal="visible",  # the page's script sees 4401, 4403 or 4013
)


def shown(connection: HTTPConnection) -> Ticket:
    return connection.scope["ticket"]


Shown = Annotated[Ticket, Depends(shown)]


@app.websocket("/ws")
async def chat(websocket: WebSocket, ticket: Shown):
    await websocket.accept()
    await websocket.send_text(f"Hello, {ticket.username}!")
    async for text in websocket.iter_text():
        await websocket.send_text(f"{ticket.username}: {text}")


@app.get("/events")
async def events(ticket: Shown):
    async def stream():
        yield ": connected\n\n"  # some servers send headers with the first byte
        yield f"data: Hello, {ticket.username}!\n\n"
        await asyncio.sleep(3600)

    return StreamingResponse(
        stream(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": ORIGIN},
    )


if __name__ == "__main__":
    # Or an open stream would keep it from stopping.
    uvicorn.run(app, host="127.0.0.1", port=PORT, timeout_graceful_shutdown=3)
