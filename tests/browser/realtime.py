"""A realtime server that keeps a record, and misbehaves when its test says so.

``python -m tests.browser.realtime RECORD``. Each line of the record is one JSON object:
``shown`` is a ticket and ``outcome`` what became of it, ``left`` the code with which a
WebSocket ended, ``resumed`` the last event's id that an EventSource came with, and
``said`` a text that was received.
"""

from __future__ import annotations

import asyncio
import html
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import django
import uvicorn
from django.conf import settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from realtime_ticket import InvalidTicket, Ticket, TicketService, get_service
from realtime_ticket.handshake import AllowedOrigins
from realtime_ticket.integrations.asgi import TicketMiddleware

ORIGIN = f"http://127.0.0.1:{settings.DJANGO_PORT}"
OWN_ORIGIN = f"http://127.0.0.1:{settings.REALTIME_PORT}"
ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "realtime_ticket/static/realtime_ticket/realtime-ticket.js"
OPEN: set[WebSocket] = set()
RECORD = open(sys.argv[1], "a", buffering=1)  # noqa: SIM115
under_way = 0
"""How many connections there are, and requests that may become one."""

mode = "welcome"
"""``welcome``; ``refuse`` every ticket; or ``hang up`` on whom was welcomed."""


def record(**fields: Any) -> None:
    RECORD.write(json.dumps(fields) + "\n")


class Service:
    """The project's service. It records each ticket that it consumes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(get_service(), name)

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


async def serve(websocket: WebSocket, talk: Callable[[], Awaitable[None]]) -> None:
    """Talk until the client or the server closes the connection."""
    OPEN.add(websocket)
    try:
        while True:
            await talk()
    except WebSocketDisconnect as exc:
        record(left=exc.code)
    finally:
        OPEN.discard(websocket)


async def chat(websocket: WebSocket) -> None:
    """Greet, and then repeat everything."""
    await websocket.accept()
    if mode == "hang up":
        return await websocket.close(1011)
    await websocket.send_text(f"Hello, {websocket.scope['ticket'].username}!")

    async def talk() -> None:
        text = await websocket.receive_text()
        record(said=text)
        await websocket.send_text(text)

    await serve(websocket, talk)


async def markup(websocket: WebSocket) -> None:
    """As chat(), for htmx."""
    await websocket.accept()
    name = websocket.scope["ticket"].username
    await websocket.send_text(f'<div id="chat">Hello, {name}!</div>')

    async def talk() -> None:
        text = html.escape((await websocket.receive_json())["text"])
        await websocket.send_text(f'<div id="chat">{text}</div>')

    await serve(websocket, talk)


async def graphql(websocket: WebSocket) -> None:
    """Speak as much graphql-transport-ws as one subscription needs."""
    await websocket.accept("graphql-transport-ws")
    name = websocket.scope["ticket"].username

    async def talk() -> None:
        message = await websocket.receive_json()
        if message["type"] == "connection_init":
            await websocket.send_json({"type": "connection_ack"})
        if message["type"] == "subscribe":
            payload = {"data": {"greeting": f"Hello, {name}!"}}
            answer = {"id": message["id"], "type": "next", "payload": payload}
            await websocket.send_json(answer)

    await serve(websocket, talk)


async def relay(websocket: WebSocket) -> None:
    """Send what each says to all others: enough for Yjs, whose peers do the rest."""
    await websocket.accept()

    async def talk() -> None:
        data = await websocket.receive_bytes()
        for other in OPEN - {websocket}:
            await other.send_bytes(data)

    await serve(websocket, talk)


async def events(request: Request) -> Response:
    last = request.query_params.get("lastEventId", "0")
    record(resumed=last)

    async def stream() -> Any:
        for number in range(int(last) + 1, 1000):
            yield f"id: {number}\nevent: price\ndata: {number}0\n\n"
            yield f"data: <b>news {number}</b>\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(stream(), media_type="text/event-stream")


async def control(request: Request) -> Response:
    """Change the mode, close all that are open, or disconnect a user.

    Tell how many are open or under way.
    """
    global mode
    wishes = await request.json()
    mode = wishes.get("mode", mode)
    if code := wishes.get("close"):
        for websocket in [*OPEN]:
            await websocket.close(code, wishes.get("reason", ""))
    if user := wishes.get("disconnect"):
        await TicketService(get_service().backend).adisconnect(user)
    return JSONResponse({"open": under_way})


async def application(request: Request) -> Response:
    """Return a single-page application that never rendered a template of Django's."""
    page = (Path(__file__).parent / "templates" / "application.html").read_text()
    return HTMLResponse(page.replace("DJANGO", ORIGIN))


async def client(request: Request) -> Response:
    return FileResponse(CLIENT, media_type="text/javascript")


class Counted:
    """Count the connections while they are under way."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, *words: Any) -> None:
        global under_way
        under_way += 1
        try:
            await self.app(*words)
        finally:
            under_way -= 1


def guarded(*, disconnect: bool) -> list[Middleware]:
    """Ask for a ticket, and perhaps end the connection with its login."""
    return [
        Middleware(Counted),
        Middleware(CORSMiddleware, allow_origins=[ORIGIN]),
        Middleware(
            TicketMiddleware,
            service=Service(),
            origins=AllowedOrigins([ORIGIN, OWN_ORIGIN], allow_missing=False),
            disconnect=disconnect,
        ),
    ]


django.setup()
app = Starlette(
    routes=[
        Route("/control", control, methods=["POST"]),
        Route("/application/", application),
        Route("/client.js", client),
        Mount(
            "/login",
            routes=[WebSocketRoute("/ws", chat), Route("/events", events)],
            middleware=guarded(disconnect=True),
        ),
        Mount(
            "/",
            routes=[
                WebSocketRoute("/", chat),
                WebSocketRoute("/ws", chat),
                WebSocketRoute("/html", markup),
                WebSocketRoute("/graphql", graphql),
                WebSocketRoute("/relay/{room}", relay),
                Route("/events", events),
            ],
            middleware=guarded(disconnect=False),
        ),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=settings.REALTIME_PORT, log_level="warning")
