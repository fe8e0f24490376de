"""aiohttp: a decorator consumes, before the handler answers the handshake."""

import asyncio
import functools
import os

from aiohttp import web

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL, AllowedOrigins, find_ticket

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))

tickets = TicketService(RedisBackend(url=REDIS))
origins = AllowedOrigins([ORIGIN], allow_missing=True)


def with_ticket(handler):
    """Call the handler with who showed a good ticket, or refuse the request."""

    @functools.wraps(handler)
    async def guarded(request):
        headers = request.headers
        if headers.get("Origin") not in origins:
            raise web.HTTPForbidden
        try:
            value = find_ticket(
                subprotocols=headers.getall("Sec-WebSocket-Protocol", []),
                query=request.rel_url.raw_query_string,
                authorization=headers.get("Authorization"),
            )
            ticket = await tickets.aconsume(value)
        except InvalidTicket:
            raise web.HTTPUnauthorized from None
        except StorageError:
            raise web.HTTPServiceUnavailable from None
        return await handler(request, ticket)

    return guarded


@with_ticket
async def chat(request, ticket):
    websocket = web.WebSocketResponse(protocols=[PROTOCOL], heartbeat=30)
    await websocket.prepare(request)
    await websocket.send_str(f"Hello, {ticket.username}!")
    async for message in websocket:
        if message.type is web.WSMsgType.TEXT:
            await websocket.send_str(f"{ticket.username}: {message.data}")
    return websocket


@with_ticket
async def events(request, ticket):
    stream = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "Access-Control-Allow-Origin": ORIGIN,
        }
    )
    await stream.prepare(request)
    await stream.write(b": connected\n\n")
    await stream.write(f"data: Hello, {ticket.username}!\n\n".encode())
    await asyncio.sleep(3600)
    return stream


app = web.Application()
app.router.add_get("/ws", chat, allow_head=False)
app.router.add_get("/events", events, allow_head=False)

if __name__ == "__main__":
    # Or a stream goes on when its client has left, and when the server is to stop.
    web.run_app(
        app, host="127.0.0.1", port=PORT, handler_cancellation=True, shutdown_timeout=1
    )
