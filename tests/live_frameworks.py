"""The same with frameworks: what each makes of a revoked connection."""

from __future__ import annotations

import asyncio
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from fastapi import FastAPI
from fastapi import WebSocket as FastAPIWebSocket
from litestar import Litestar, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect as LitestarDisconnect
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from tests.live_record import note

settings.configure(
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
)
django.setup()


async def converse(websocket: Any) -> None:
    """Repeat what a Starlette or FastAPI WebSocket hears, and note how it ends."""
    path = websocket.scope["path"]
    await websocket.accept()
    note(path, "accepted")
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as exc:
        note(path, "disconnect", exc.code)


async def events(request: Any) -> StreamingResponse:
    async def stream() -> Any:
        note(request.scope["path"], "accepted")
        while True:
            yield "data: 1\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(stream(), media_type="text/event-stream")


fastapi = FastAPI()


@fastapi.websocket("/fastapi/{name}")
async def converse_with_fastapi(websocket: FastAPIWebSocket) -> None:
    await converse(websocket)


@websocket("/litestar/{name:str}")
async def converse_with_litestar(socket: WebSocket) -> None:
    path = socket.scope["path"]
    await socket.accept()
    note(path, "accepted")
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except LitestarDisconnect as exc:
        note(path, "disconnect", exc.code)


class Room(AsyncWebsocketConsumer):
    """Everyone in it hears what each of them says."""

    groups = ["room"]

    async def connect(self) -> None:
        await self.accept()
        note(self.scope["path"], "accepted")

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event: Any) -> None:
        note(self.scope["path"], "heard", event["text"])
        await self.send(event["text"])

    async def disconnect(self, code: int) -> None:
        note(self.scope["path"], "disconnect", code)


APPLICATIONS: dict[str, Any] = {
    "starlette": Starlette(
        routes=[
            WebSocketRoute("/starlette/{name}", converse),
            Route("/starlette/{name}/events", events),
        ]
    ),
    "fastapi": fastapi,
    "litestar": Litestar([converse_with_litestar]),
    "channels": Room.as_asgi(),
}
