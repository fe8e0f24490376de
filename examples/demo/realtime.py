"""The realtime server: a chat room, in a process of its own."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import django
from django.conf import settings
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

from realtime_ticket import InvalidTicket, StorageError, get_service

PROTOCOL = "realtime-ticket.v1"
ROOM: set[ServerConnection] = set()


async def let_in(connection: ServerConnection, request: Request) -> Response | None:
    """Consume the ticket before the connection is accepted, or refuse it."""
    origins = {
        f"http://{host}:{settings.DJANGO_PORT}" for host in settings.ALLOWED_HOSTS
    }
    if request.headers.get("Origin", next(iter(origins))) not in origins:
        return connection.respond(HTTPStatus.FORBIDDEN, "Wrong origin.\n")
    try:
        ticket = await get_service().aconsume(find_ticket(request))
    except InvalidTicket:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "No valid ticket.\n")
    except StorageError:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Try again.\n")
    connection.username = ticket.username
    return None


def find_ticket(request: Request) -> str:
    """Return the ticket offered as a subprotocol, ``ticket.<value>``, or nothing."""
    for header in request.headers.get_all("Sec-WebSocket-Protocol"):
        for protocol in header.split(","):
            if protocol.strip().startswith("ticket."):
                return protocol.strip().removeprefix("ticket.")
    return ""


async def chat(connection: ServerConnection) -> None:
    """Greet the user, then pass on what everyone says."""
    await connection.send(say("server", f"Hello, {connection.username}!"))
    ROOM.add(connection)
    try:
        async for text in connection:
            broadcast(ROOM, say(connection.username, str(text)))
    finally:
        ROOM.discard(connection)


def say(who: str, text: str) -> str:
    return json.dumps({"who": who, "text": text})


async def main() -> None:
    django.setup()
    async with serve(
        chat,
        "127.0.0.1",
        settings.REALTIME_PORT,
        process_request=let_in,
        subprotocols=[PROTOCOL],
        max_size=4096,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
