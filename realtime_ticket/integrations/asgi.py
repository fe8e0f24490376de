"""Middleware for ASGI: Channels, Starlette, FastAPI, Litestar, Quart, or none of them.

It needs no framework, and no Django unless it is to find its service or its users.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Container
from functools import partial
from typing import Any, Literal, NamedTuple

from realtime_ticket.exceptions import (
    InvalidTicket,
    RealtimeTicketError,
    Revoked,
    StorageError,
    UnsupportedBackend,
)
from realtime_ticket.handshake import (
    CARRIERS,
    Carrier,
    check_carriers,
    check_origins,
    find_ticket,
    select_subprotocol,
    strip_query,
    without_ticket,
)
from realtime_ticket.live import LiveTickets, check_options
from realtime_ticket.outages import Report, explain
from realtime_ticket.service import TicketService
from realtime_ticket.tickets import Ticket, check_audience
from realtime_ticket.watches import InDoubt

from ._asgi_live import Connection
from ._asgi_types import Application, Message, Receive, Scope, Send

logger = logging.getLogger("realtime_ticket")


class _ForeignOrigin(RealtimeTicketError):
    """The handshake comes from a page of another site."""


class _Preflight(RealtimeTicketError):
    """A browser asks whether the page may send the request that has the ticket."""


class _Refusal(NamedTuple):
    status: int
    close_code: int | None
    message: str
    header: tuple[bytes, bytes] | None = None


_REFUSALS: dict[type[RealtimeTicketError], _Refusal] = {
    # A 401 names a scheme (RFC 9110, section 15.5.2).
    InvalidTicket: _Refusal(
        401, 4401, "No valid ticket.", (b"www-authenticate", b"Ticket")
    ),
    # 1013 is not for applications (WebSocket API, close()), and daphne cannot send it.
    StorageError: _Refusal(
        503, 4013, "Try again with a new ticket.", (b"retry-after", b"1")
    ),
    _ForeignOrigin: _Refusal(403, 4403, "This origin may not connect."),
    _Preflight: _Refusal(403, None, "No CORS middleware answered this preflight."),
}

_GUARDED = ("websocket", "http")
_NOBODYS = ("lifespan", "channel")
"""Scopes that no client opens: the server's own, and that of a worker of Channels."""


class TicketMiddleware:
    """Let in the connections that show a good ticket, and say whose they are.

    It handles the scopes ``websocket`` and ``http`` (for server-sent events), and
    consumes one ticket for each connection, whatever its method: HEAD spends a ticket
    as GET does. The application finds in its scope ``ticket``, a Ticket, and with
    ``load_user=True`` also ``user``, who exists and is active. The ticket itself is
    taken out of the query string and the headers, so the application does not see it.
    A server that logs the URL of its scope does not see it either (uvicorn; daphne has
    a URL of its own), if this is the outermost middleware: a CORS middleware or a
    router around it needs HideTickets around both.

    A CORS preflight spends no ticket. It is for a CORS middleware, which is either
    around this one, or is in the application: then say ``pass_preflights=True``, and
    the application gets preflights with None as ``ticket``. Otherwise they are refused
    with 403.

    ``origins`` holds the origins whose pages may connect, mostly AllowedOrigins; None
    lets every origin in. It is judged first, so a foreign page spends no ticket.
    ``service`` is a TicketService; without it, Django's settings describe one.
    ``audience`` is whom the tickets are for. ``carriers`` says where they may be.
    ``required=False`` lets in who shows no ticket, with None as ``ticket`` and an
    AnonymousUser as ``user``; a bad ticket is refused all the same.
    ``scope_types=("websocket",)`` leaves HTTP alone.

    ``refusal`` says how a WebSocket is refused. ``"strict"``: before it is accepted,
    with HTTP 401, 403 for a foreign origin, 503 when the storage failed; always 403
    with a server that lacks the extension ``websocket.http.response``. ``"visible"``:
    accepted, then closed with 4401, 4403 or 4013, because a browser shows no HTTP
    status to the page's script. HTTP requests are always answered with the status.

    A connection ends with the login that its ticket came from: when the user logs out,
    or is disconnected. A WebSocket is closed with ``close_code``, and a response ends.
    The application receives a disconnect, and nothing after it; if it has not returned
    ``grace`` seconds later, it is cancelled. ``max_age``, in seconds, and ``in_doubt``
    are those of LiveTickets. ``disconnect=False`` turns all of this off; a backend
    without ``read_many()`` needs that, and raises UnsupportedBackend without it.

    A scope of a type that is not known here, as ``webtransport``, is refused with a
    ValueError, as the ASGI specification asks for.
    """

    def __init__(
        self,
        app: Application,
        *,
        origins: Container[str | None] | None,
        service: TicketService | None = None,
        audience: str = "",
        carriers: Collection[Carrier] = CARRIERS,
        required: bool = True,
        refusal: Literal["strict", "visible"] = "strict",
        load_user: bool = False,
        pass_preflights: bool = False,
        scope_types: Collection[str] = _GUARDED,
        disconnect: bool = True,
        max_age: float | None = None,
        in_doubt: InDoubt = "close",
        close_code: int = Revoked.close_code,
        grace: float = 10.0,
    ) -> None:
        if refusal not in ("strict", "visible"):
            raise ValueError(f"A refusal is 'strict' or 'visible', not {refusal!r}.")
        check_origins(origins)
        check_audience(audience)
        check_carriers(carriers)
        if others := {*scope_types} - {*_GUARDED}:
            raise ValueError(f"Only scopes {_GUARDED} can be guarded, not {others}.")
        check_options(max_age, in_doubt)
        if not (close_code == 1000 or 3000 <= close_code <= 4999):
            raise ValueError(f"A server closes with 3000 to 4999, not {close_code!r}.")
        if not grace >= 0:
            raise ValueError(f"grace is a number of seconds >= 0, not {grace!r}.")
        self.app = app
        self.origins = origins
        self.service = service
        self.audience = audience
        self.carriers = carriers
        self.required = required
        self.refusal = refusal
        self.load_user = load_user
        self.pass_preflights = pass_preflights
        self.scope_types = scope_types
        self._report = Report()
        self.disconnect = disconnect
        self.max_age = max_age
        self.in_doubt: InDoubt = in_doubt
        self.close_code = close_code
        self.grace = grace
        if disconnect and service:
            self._live(service)  # raises where it cannot work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in self.scope_types:
            if scope["type"] not in (*_GUARDED, *_NOBODYS):
                raise ValueError(f"Scopes {scope['type']!r} cannot be guarded.")
            return await self.app(scope, receive, send)
        answer = _echoing(send, scope)
        connection = None
        try:
            admitted = await self._admit(scope)
            if self.disconnect and (ticket := admitted["ticket"]):
                connection = await self._watch(ticket, scope, receive, answer)
        except tuple(_REFUSALS) as exc:
            kind = next(kind for kind in _REFUSALS if isinstance(exc, kind))
            return await self._refuse(_REFUSALS[kind], scope, receive, send)
        if connection is None:
            return await self.app(admitted, receive, answer)
        await connection.serve(self.app, admitted)

    async def _admit(self, scope: Scope) -> Scope:
        """Return the scope for the application. Raise what refuses the connection."""
        headers = _Headers(scope)
        query = scope.get("query_string", b"").decode("latin-1")
        # In place, where all else goes into a copy: servers log the URL of their scope.
        scope["query_string"] = strip_query(query).encode("latin-1")
        origin = headers.get(b"origin")
        if self.origins is not None and origin not in self.origins:
            logger.warning("Refused a connection from the origin %.200r.", origin)
            raise _ForeignOrigin
        offered = scope.get("subprotocols", ())
        if _is_preflight(scope, headers):
            if self.required and not self.pass_preflights:
                raise _Preflight
            ticket = None
        else:
            value = find_ticket(
                subprotocols=offered,
                query=query,
                authorization=headers.get(b"authorization"),
                carriers=self.carriers,
            )
            ticket = await self._consume(value) if value or self.required else None
        admitted = {**scope, "ticket": ticket, "headers": headers.without_ticket()}
        if offered:
            admitted["subprotocols"] = without_ticket(offered)
        if self.load_user:
            try:
                admitted["user"] = await _user(ticket)
            except StorageError as exc:
                self._report(exc)
                raise
        return admitted

    async def _consume(self, value: str) -> Ticket:
        return await self._service.aconsume(value, audience=self.audience)

    async def _watch(
        self, ticket: Ticket, scope: Scope, receive: Receive, send: Send
    ) -> Connection:
        """Return a connection that ends with the ticket's login. Raise if it has."""
        connection = Connection(
            receive,
            send,
            refuse=partial(self._refuse, _REFUSALS[InvalidTicket], scope),
            close_code=self.close_code,
            grace=self.grace,
        )
        await connection.watch(self._live(self._service), ticket)
        return connection

    @property
    def _service(self) -> TicketService:
        if self.service is None:
            from realtime_ticket import conf

            return conf.get_service()
        return self.service

    def _live(self, service: TicketService) -> LiveTickets:
        """Return what hears of disconnects. All of one service share one thread."""
        try:
            return LiveTickets(service, max_age=self.max_age, in_doubt=self.in_doubt)
        except UnsupportedBackend as exc:
            raise UnsupportedBackend(
                f"{exc} TicketMiddleware(disconnect=False) works without it."
            ) from None

    async def _refuse(
        self, refusal: _Refusal, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "http":
            return await _respond(refusal, "http", send)
        await receive()  # websocket.connect
        if self.refusal == "visible":
            protocol = select_subprotocol(scope.get("subprotocols"))
            await send({"type": "websocket.accept", "subprotocol": protocol})
        elif "websocket.http.response" in (scope.get("extensions") or ()):
            return await _respond(refusal, "websocket.http", send)
        await send(
            {
                "type": "websocket.close",
                "code": refusal.close_code,
                "reason": refusal.message,
            }
        )


class HideTickets:
    """Keep tickets in URLs out of the log of a server that writes those of its scopes.

    TicketMiddleware does this itself when it is the outermost. Put this around whatever
    is around it: a CORS middleware, which answers preflights before they reach it, or a
    router that hands on a copy of the scope, as URLRouter of Channels does.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inner = dict(scope)
        if query := scope.get("query_string"):
            clean = strip_query(query.decode("latin-1"))
            scope["query_string"] = clean.encode("latin-1")
        await self.app(inner, receive, send)


def _is_preflight(scope: Scope, headers: _Headers) -> bool:
    """Tell whether a browser asks before it sends a request (Fetch, section 4.8)."""
    return (
        scope.get("method") == "OPTIONS"
        and headers.get(b"access-control-request-method") is not None
    )


class _Headers:
    """The headers of a scope, as text, and without the ticket."""

    def __init__(self, scope: Scope) -> None:
        self._pairs: list[tuple[bytes, bytes]] = list(scope["headers"])

    def get(self, name: bytes) -> str | None:
        values = [value for key, value in self._pairs if key == name]
        return b", ".join(values).decode("latin-1") if values else None

    def without_ticket(self) -> list[tuple[bytes, bytes]]:
        return [pair for key, value in self._pairs for pair in _cleaned(key, value)]


def _cleaned(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header without a ticket, or nothing when it held nothing else."""
    text = value.decode("latin-1")
    if name == b"authorization" and find_ticket(authorization=text):
        return []
    if name == b"sec-websocket-protocol":
        text = ", ".join(without_ticket(text))
        return [(name, text.encode("latin-1"))] if text else []
    return [(name, value)]


def _echoing(send: Send, scope: Scope) -> Send:
    """Return a send() that answers our subprotocol where the application names none."""
    protocol = select_subprotocol(scope.get("subprotocols"))
    if protocol is None:
        return send

    async def echo(message: Message) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": protocol}
        await send(message)

    return echo


async def _respond(refusal: _Refusal, protocol: str, send: Send) -> None:
    body = json.dumps({"status": "error", "message": refusal.message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if refusal.header:
        headers.append(refusal.header)
    await send(
        {
            "type": f"{protocol}.response.start",
            "status": refusal.status,
            "headers": headers,
        }
    )
    await send({"type": f"{protocol}.response.body", "body": body})


async def _user(ticket: Ticket | None) -> Any:
    if ticket is None:
        from django.contrib.auth.models import AnonymousUser

        return AnonymousUser()
    from django.contrib.auth import get_user_model
    from django.db import Error, router

    from realtime_ticket.shortcuts import aget_user

    try:
        return await aget_user(ticket)
    except Error as exc:
        alias = router.db_for_read(get_user_model())
        message, hint = explain(
            exc, storage=f"The database {alias!r}", setting=f"DATABASES[{alias!r}]"
        )
        raise StorageError(f"The user could not be loaded: {message}", hint) from exc
