"""websockets: consume in process_request(), before the handshake is answered."""

import asyncio
import os
from http import HTTPStatus

from websockets.asyncio.server import serve

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL, AllowedOrigins, find_ticket
from realtime_ticket.live import LiveTickets, Revoked

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))

tickets = TicketService(RedisBackend(url=REDIS))
live = LiveTickets(tickets)
origins = AllowedOrigins([ORIGIN], allow_missing=True)


async def let_in(connection, request):
    """Set connection.ticket, or return the response that refuses."""
    headers = request.headers
    path, _, query = request.path.partition("?")
    if path != "/ws":
        return connection.respond(HTTPStatus.NOT_FOUND, "Connect to /ws.\n")
    # A preflight would spend the ticket. Older versions of websockets let in GET alone.
    if getattr(request, "method", "GET") != "GET":
        return connection.respond(HTTPStatus.METHOD_NOT_ALLOWED, "Use GET.\n")
    # Not with serve(origins=...), which is asked when the ticket is already spent.
    if headers.get("Origin") not in origins:
        return connection.respond(HTTPStatus.FORBIDDEN, "Wrong origin.\n")
    try:
        value = find_ticket(
            subprotocols=headers.get_all("Sec-WebSocket-Protocol"),
            query=query,
            authorization=headers.get("Authorization"),
        )
        connection.ticket = await tickets.aconsume(value)
    except InvalidTicket:
        return connection.respond(HTTPStatus.UNAUTHORIZED, "No valid ticket.\n")
    except StorageError:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Try again.\n")


def select(connection, offered):
    return PROTOCOL if PROTOCOL in offered else None


async def chat(connection):
    name = connection.ticket.username
    try:
        async with live.hold(connection.ticket):
            await connection.send(f"Hello, {name}!")
            async for text in connection:
                await connection.send(f"{name}: {text}")
    except Revoked as exc:
        await connection.close(exc.close_code, exc.close_reason)
    except InvalidTicket:  # its login ended before it was shown
        await connection.close(Revoked.close_code)
    except StorageError:  # nobody can tell whether it has
        await connection.close(4013)


async def main():
    async with serve(
        chat, "127.0.0.1", PORT, process_request=let_in, select_subprotocol=select
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
