"""python-socketio: check a connection by the ``auth`` that io(url, {auth}) sends."""

import os

import socketio
import uvicorn
from socketio.exceptions import ConnectionRefusedError as Refused

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import AllowedOrigins
from realtime_ticket.live import LiveTickets

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))

tickets = TicketService(RedisBackend(url=REDIS))
live = LiveTickets(tickets)
origins = AllowedOrigins([ORIGIN], allow_missing=True)

# Refuses a foreign origin's handshake with 400, and answers CORS for long polling.
server = socketio.AsyncServer(
    async_mode="asgi", cors_allowed_origins=lambda origin, environ: origin in origins
)
app = socketio.ASGIApp(server)


@server.event
async def connect(sid, environ, auth):
    # Again, because the check above is not made when there is no Origin.
    if environ.get("HTTP_ORIGIN") not in origins:
        raise Refused("This origin may not connect.", {"status": 403})
    value = auth.get("ticket") if isinstance(auth, dict) else None
    try:
        ticket = await tickets.aconsume(value)
        watch = await live.awatch(ticket, lambda revoked: end(sid))
    except InvalidTicket:
        raise Refused("No valid ticket.", {"status": 401}) from None
    except StorageError:
        raise Refused("Try again.", {"status": 503}) from None
    await server.save_session(sid, {"name": ticket.username, "watch": watch})
    # For broadcasts: without to="members" they reach those who are still being judged.
    await server.enter_room(sid, "members")
    await server.emit("message", f"Hello, {ticket.username}!", to=sid)


def end(sid):
    """Tell the client that it is disconnected. Socket.IO has no code that says why."""
    server.start_background_task(server.disconnect, sid)


@server.event
async def disconnect(sid, reason):
    session = await server.get_session(sid)
    session["watch"].close()


@server.event
async def message(sid, text):
    session = await server.get_session(sid)
    await server.emit("message", f"{session['name']}: {text}", to=sid)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, access_log=False)
