"""A realtime server that keeps a record, and misbehaves when its test says so.

``python -m tests.browser.realtime RECORD``. Each line of the record is one JSON object:
``shown`` is a ticket and ``outcome`` what became of it, ``left`` the code with which a
WebSocket ended, ``resumed`` the last event's id that an EventSource came with.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import django
import uvicorn
from django.conf import settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from realtime_ticket import InvalidTicket, Ticket, get_service
from realtime_ticket.handshake import AllowedOrigins
from realtime_ticket.integrations.asgi import TicketMiddleware

ORIGIN = f"http://127.0.0.1:{settings.DJANGO_PORT}"
OPEN: set[WebSocket] = set()
RECORD = open(sys.argv[1], "a", buffering=1)  # noqa: SIM115
mode = "welcome"
"""``welcome``; ``refuse`` every ticket; or ``hang up`` on whom was welcomed."""


def record(**fields: Any) -> None:
    RECORD.write(json.dumps(fields) + "\n")


class Service:
    """Record each ticket, and consume it."""

    async def aconsume(self, value: str, *, audience: str = "") -> Ticket:
        outcome = "error"
        try:
            if mode == "refuse":
                raise InvalidTicket("unknown")
            ticket = await get_service().aconsume(value, audience=audience)
            outcome = "consumed"
            return ticket
        except InvalidTicket:
            outcome = "refused"
            raise
        finally:
            record(shown=value, outcome=outcome)


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    if mode == "hang up":
        return await websocket.close(1011)
    await websocket.send_text(f"Hello, {websocket.scope['ticket'].username}!")
    OPEN.add(websocket)
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as exc:
        record(left=exc.code)
    finally:
        OPEN.discard(websocket)


async def events(request: Request) -> Response:
    last = request.query_params.get("lastEventId", "0")
    record(resumed=last)

    async def stream() -> Any:
        for number in range(int(last) + 1, 1000):
            yield f"id: {number}\nevent: price\ndata: {number}0\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(stream(), media_type="text/event-stream")


async def control(request: Request) -> Response:
    """Change the mode, or close all that are open with a code."""
    global mode
    wishes = await request.json()
    mode = wishes.get("mode", mode)
    if code := wishes.get("close"):
        for websocket in [*OPEN]:
            await websocket.close(code)
    return Response()


with_ticket = [
    Middleware(
        CORSMiddleware,
        allow_origins=[ORIGIN],
    ),
    Middleware(
        TicketMiddleware,
        service=Service(),
        origins=AllowedOrigins([ORIGIN], allow_missing=False),
    ),
]
app = Starlette(
    routes=[
        Route("/control", control, methods=["POST"]),
        Mount(
            "/",
            routes=[
                WebSocketRoute("/", chat),
                WebSocketRoute("/ws", chat),
                Route("/events", events),
            ],
            middleware=with_ticket,
        ),
    ]
)

if __name__ == "__main__":
    django.setup()
    uvicorn.run(app, host="127.0.0.1", port=settings.REALTIME_PORT, log_level="warning")
