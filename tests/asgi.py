"""An ASGI server and an application, simulated: what stands around the middleware."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync

from realtime_ticket import TicketService
from realtime_ticket.handshake import PROTOCOL
from realtime_ticket.integrations.asgi import TicketMiddleware

DENIAL = "websocket.http.response"


class App:
    """An application that accepts, or answers, and remembers its scope."""

    def __init__(self, error: Exception | None = None, **accept: Any) -> None:
        self.error = error
        self.accept = {"type": "websocket.accept", **accept}
        self.received: tuple[Any, ...] = ()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.received = (scope, receive, send)
        if self.error:
            raise self.error
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            await send(self.accept)
            await send({"type": "websocket.send", "text": "hello"})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})

    @property
    def scope(self) -> dict[str, Any]:
        """What the middleware let in."""
        assert self.received, "it let nobody in"
        scope: dict[str, Any] = self.received[0]
        return scope


class Peer:
    """The server's side of one connection: what it offers, and what it is told."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.sent: list[dict[str, Any]] = []
        self.asked = False

    async def receive(self) -> dict[str, Any]:
        self.asked = True
        kind = self.scope["type"]
        return {"type": "http.request" if kind == "http" else f"{kind}.connect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.scope["type"] == "websocket":
            assert self.asked, "nothing may be sent before websocket.connect"
        self.sent.append(message)

    def connect(self, app: Any) -> Peer:
        async_to_sync(app)(self.scope, self.receive, self.send)
        return self

    @property
    def is_let_in(self) -> bool:
        first = self.sent[0]
        return first["type"] == "websocket.accept" or first.get("status") == 200


def a_scope(
    kind: str = "websocket",
    *,
    subprotocols: tuple[str, ...] | None = None,
    query: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return a scope as a server makes it."""
    scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "path": "/chat/",
        "raw_path": b"/chat/",
        "query_string": query.encode("latin-1"),
        "headers": [(b"host", b"testserver")],
        "extensions": {DENIAL: {}},
        "state": {"shared": object()},
        **more,
    }
    scope["headers"] += [(name.encode(), value.encode()) for name, value in headers]
    if kind == "websocket":
        scope["subprotocols"] = list(subprotocols or ())
    if subprotocols:
        line = ", ".join(subprotocols).encode()
        scope["headers"].append((b"sec-websocket-protocol", line))
    return scope


def showing(value: str, kind: str = "websocket", carrier: str = "", **more: Any) -> Any:
    """Return a scope that shows this ticket, by the usual carrier if none is named."""
    carrier = carrier or ("subprotocol" if kind == "websocket" else "query")
    return a_scope(
        kind,
        **{
            "subprotocol": {"subprotocols": (PROTOCOL, f"ticket.{value}")},
            "query": {"query": f"room=7&ticket={value}"},
            "authorization": {"headers": (("authorization", f"Ticket {value}"),)},
        }[carrier],
        **more,
    )


def guard(app: App, service: TicketService | None, **options: Any) -> TicketMiddleware:
    return TicketMiddleware(app, **{"origins": None, "service": service} | options)
