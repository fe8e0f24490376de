"""A realtime server for each backend of row 11: the path is the backend's name."""

from __future__ import annotations

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"

import django

from benchmarks.backends import BACKENDS
from realtime_ticket import TicketService
from realtime_ticket.integrations.asgi import Receive, Scope, Send, TicketMiddleware

django.setup()


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


SERVERS = {
    f"/{name}": TicketMiddleware(accept, origins=None, service=TicketService(make()))
    for name, make in BACKENDS.items()
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await SERVERS[scope["path"]](scope, receive, send)
