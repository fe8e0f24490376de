"""Sanic: check a connection in a middleware, before the handshake is answered."""

import asyncio
import os
from contextlib import suppress

from sanic import Sanic
from sanic.exceptions import (
    Forbidden,
    MethodNotAllowed,
    ServiceUnavailable,
    Unauthorized,
)

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL, AllowedOrigins, find_ticket
from realtime_ticket.live import LiveTickets, Revoked

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))

app = Sanic("chat")
app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 3  # seconds for open streams, when it stops
tickets = TicketService(RedisBackend(url=REDIS))
live = LiveTickets(tickets)
origins = AllowedOrigins([ORIGIN], allow_missing=True)


@app.on_request
async def let_in(request):
    """Set request.ctx.ticket, or refuse the request."""
    headers = request.headers
    if request.method != "GET":  # a preflight would spend the ticket
        raise MethodNotAllowed("Use GET.", request.method, ["GET"])
    if headers.get("Origin") not in origins:
        raise Forbidden("This origin may not connect.")
    try:
        value = find_ticket(
            subprotocols=headers.getall("Sec-WebSocket-Protocol", []),
            query=request.query_string,
            authorization=headers.get("Authorization"),
        )
        request.ctx.ticket = await tickets.aconsume(value)
    except InvalidTicket:
        raise Unauthorized("No valid ticket.", scheme="Ticket") from None
    except StorageError:
        raise ServiceUnavailable("Try again with a new ticket.") from None


# Having named subprotocols, Sanic answers 400 to a client that offers none of them:
# offer this one also where the ticket is not among the subprotocols.
@app.websocket("/ws", subprotocols=[PROTOCOL])
async def chat(request, websocket):
    name = request.ctx.ticket.username
    try:
        async with live.hold(request.ctx.ticket):
            await websocket.send(f"Hello, {name}!")
            async for text in websocket:
                await websocket.send(f"{name}: {text}")
    except Revoked as exc:
        await websocket.close(exc.close_code, exc.close_reason)
    except InvalidTicket:  # its login ended before it was shown
        await websocket.close(Revoked.close_code)
    except StorageError:  # nobody can tell whether it has
        await websocket.close(4013)
    except asyncio.CancelledError:  # Sanic stops, and would say 1000: for good
        await websocket.close(1001)
        raise


@app.get("/events")
async def events(request):
    stream = await request.respond(
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": ORIGIN},
    )
    with suppress(Revoked, InvalidTicket, StorageError):
        async with live.hold(request.ctx.ticket):
            await stream.send(": connected\n\n")
            await stream.send(f"data: Hello, {request.ctx.ticket.username}!\n\n")
            await asyncio.sleep(3600)
    await stream.eof()


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=PORT, single_process=True)
