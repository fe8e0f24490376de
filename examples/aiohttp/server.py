"""aiohttp: a context manager consumes, before the handshake is answered."""

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from aiohttp import web

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


@asynccontextmanager
async def let_in(request):
    """Yield a good ticket until its login ends, or refuse the client."""
    headers = request.headers
    if headers.get("Origin") not in origins:
        raise web.HTTPForbidden
    async with AsyncExitStack() as stack:
        try:
            value = find_ticket(
                subprotocols=headers.getall("Sec-WebSocket-Protocol", []),
                query=request.rel_url.raw_query_string,
                authorization=headers.get("Authorization"),
            )
            ticket = await tickets.aconsume(value)
            await stack.enter_async_context(live.hold(ticket))
        except InvalidTicket:
            raise web.HTTPUnauthorized from None
        except StorageError:
            raise web.HTTPServiceUnavailable from None
        yield ticket


async def chat(request):
    websocket = web.WebSocketResponse(protocols=[PROTOCOL], heartbeat=30)
    try:
        async with let_in(request) as ticket:
            await websocket.prepare(request)
            await websocket.send_str(f"Hello, {ticket.username}!")
            async for message in websocket:
                if message.type is web.WSMsgType.TEXT:
                    await websocket.send_str(f"{ticket.username}: {message.data}")
    except Revoked as exc:
        reason = exc.close_reason.encode()
        await websocket.close(code=exc.close_code, message=reason)
    return websocket


async def events(request):
    stream = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "Access-Control-Allow-Origin": ORIGIN,
        }
    )
    with suppress(Revoked):
        async with let_in(request) as ticket:
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
