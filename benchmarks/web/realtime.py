"""A realtime server: an application that accepts, behind several kinds of doorkeeper.

The path says which.
"""

from __future__ import annotations

import json

import django
import jwt
import redis.asyncio
from channels.auth import AuthMiddlewareStack
from django.conf import settings

from benchmarks import by_hand
from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL, find_ticket
from realtime_ticket.integrations.asgi import (
    Application,
    Receive,
    Scope,
    Send,
    TicketMiddleware,
)
from realtime_ticket.tickets import value_format
from tests import servers

django.setup()

CONNECTIONS = 50
"""What redis.asyncio may open, as many as ours may for threads."""

PATIENCE = 60
"""Seconds. No client is refused only because it had to wait."""


class _WithoutStorage(TicketService):
    """Does everything but ask the storage, which would return this text."""

    _TEXT = json.dumps(by_hand.CLAIMS | {"iat": 2**40, "exp": 2**40})

    async def _submit(self, what: object) -> str:
        return self._TEXT


_backend = RedisBackend(unix_socket_path=str(servers.REDIS))
_service = TicketService(_backend)
_redis = redis.asyncio.Redis.from_pool(
    redis.asyncio.BlockingConnectionPool.from_url(
        f"unix://{servers.REDIS}", max_connections=CONNECTIONS, timeout=PATIENCE
    )
)
_FORMAT = value_format()


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    protocol = PROTOCOL if PROTOCOL in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": protocol})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def per_call(scope: Scope, receive: Receive, send: Send) -> None:
    """Consume a ticket as one would by hand: a command for each, awaited."""
    value = find_ticket(subprotocols=scope["subprotocols"])
    data = await _redis.getdel(value) if _FORMAT.fullmatch(value) else None
    if data is None:
        return await _refuse(receive, send)
    await accept({**scope, "claims": json.loads(data)}, receive, send)


async def by_jwt(scope: Scope, receive: Receive, send: Send) -> None:
    value = find_ticket(subprotocols=scope["subprotocols"])
    try:
        claims = jwt.decode(value, settings.SECRET_KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return await _refuse(receive, send)
    await accept({**scope, "claims": claims}, receive, send)


async def by_session(scope: Scope, receive: Receive, send: Send) -> None:
    """Let in whom Channels' middleware found."""
    if not scope["user"].is_authenticated:
        return await _refuse(receive, send)
    await accept(scope, receive, send)


async def _refuse(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})


DOORS: dict[str, Application] = {
    "/floor": accept,
    "/ticket": TicketMiddleware(accept, origins=None, service=_service),
    "/ticket-without-storage": TicketMiddleware(
        accept, origins=None, service=_WithoutStorage(_backend)
    ),
    "/ticket-and-user": TicketMiddleware(
        accept, origins=None, service=_service, load_user=True
    ),
    "/session": AuthMiddlewareStack(by_session),
    "/jwt": by_jwt,
    "/per-call": per_call,
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    await DOORS[scope["path"]](scope, receive, send)
