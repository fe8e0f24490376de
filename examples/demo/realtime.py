"""The realtime server: a chat room, in a process of its own."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import django
from django.conf import settings
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from realtime_ticket import InvalidTicket, StorageError, get_service
from realtime_ticket.handshake import AllowedOrigins, find_ticket, select_subprotocol
from realtime_ticket.live import LiveTickets, Revoked

ORIGINS = AllowedOrigins(
    [f"http://{host}:{settings.DJANGO_PORT}" for host in settings.ALLOWED_HOSTS],
    allow_missing=True,
)
ROOM: set[ServerConnection] = set()


async def let_in(connection: ServerConnection, request: Request) -> Response | None:
    """Consume the ticket before the connection is accepted, or refuse it."""
    headers = request.headers
    # A preflight would spend the ticket. Older versions of websockets let in GET alone.
    if getattr(request, "method", "GET") != "GET":
        return connection.respond(HTTPStatus.METHOD_NOT_ALLOWED, "Use GET.\n")
    if headers.get("Origin") not in ORIGINS:
        return connection.respond(HTTPStatus.FORBIDDEN, "Wrong origin.\n")
    try:
        value = find_ticket(
            subprotocols=headers.get_all("Sec-WebSocket-Protocol"),
            query=request.path.partition("?")[2],
            authorization=headers.get("Authorization"),
        )
        ticket = await get_service().aconsume(value)
    except InvalidTicket:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "No valid ticket.\n")
    except StorageError:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Try again.\n")
    connection.ticket = ticket
    return None


async def chat(connection: ServerConnection) -> None:
    """Let the user talk until they leave, or until their login has ended."""
    try:
        async with LiveTickets(get_service()).hold(connection.ticket):
            await talk(connection, connection.ticket.username)
    except Revoked as revoked:
        await connection.close(revoked.close_code, revoked.close_reason)
    except InvalidTicket:  # the login ended before the ticket was shown
        await connection.close(Revoked.close_code)
    except StorageError:
        await connection.close(CloseCode.TRY_AGAIN_LATER)


async def talk(connection: ServerConnection, username: str) -> None:
    """Greet the user, then pass on what everyone says."""
    await connection.send(f"Hello, {username}!")
    ROOM.add(connection)
    try:
        async for text in connection:
            if text == "/drop":  # a button of the page: lose the connection
                connection.transport.abort()
            else:
                broadcast(ROOM, f"{username}: {text}")
    finally:
        ROOM.discard(connection)


async def main() -> None:
    django.setup()
    async with serve(
        chat,
        "127.0.0.1",
        settings.REALTIME_PORT,
        process_request=let_in,
        select_subprotocol=lambda connection, offered: select_subprotocol(offered),
        max_size=4096,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
