"""Middleware for ASGI: Channels, Starlette, FastAPI, Litestar, Quart, or none of them.

It needs no framework, and no Django unless it is to find its service or its users.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Iterable
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
from realtime_ticket.logs import logger
from realtime_ticket.outages import Report, explain
from realtime_ticket.service import TicketService
from realtime_ticket.tickets import Ticket, check_audience
from realtime_ticket.watches import InDoubt

from ._asgi_live import Connection
from ._asgi_types import Application, Message, Receive, Scope, Send


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

_READ = {b"origin", b"authorization", b"access-control-request-method"}
_GUARDED = ("websocket", "http")
_NOBODYS = ("lifespan", "channel")
"""Scopes that no client opens: the server's own, and that of a worker of Channels."""


class TicketMiddleware:
    """Let in the connections that show a good ticket, and say whose they are.

    It handles the scopes ``websocket`` and ``http`` (for server-sent events), and
    consumes one ticket for each connection, whatever its method: HEAD spends a ticket
    as GET does. The application finds the Ticket in its scope, as ``ticket``. The
    ticket's value is removed from the query string, the headers and the subprotocols.
    If this is the outermost middleware, a server that logs the URL of its scope does
    not see it either (uvicorn does so; daphne logs a URL of its own). Put HideTickets
    around a CORS middleware or a router that is around this one.

    - ``origins``: the origins whose pages may connect, mostly AllowedOrigins. None
      lets every origin in. The origin is checked first, so a foreign page spends no
      ticket.
    - ``service``: a TicketService. Without it, Django's settings describe one.
    - ``audience``: the audience that a ticket must have.
    - ``carriers``: where a ticket may be.
    - ``required``: False lets in a client without a ticket, with None as ``ticket``
      and an AnonymousUser as ``user``. A bad ticket is refused all the same.
    - ``refusal``: how a WebSocket is refused. ``"strict"``: before it is accepted, with
      HTTP 401, 403 for a foreign origin, or 503 when the storage failed; always with
      403 by a server that lacks the extension ``websocket.http.response``.
      ``"visible"``: it is accepted, then closed with 4401, 4403 or 4013, because a
      browser shows a page's script no HTTP status. HTTP requests always get the status.
    - ``load_user``: True puts the user into the scope, as ``user``, from aget_user().
    - ``pass_preflights``: a CORS preflight spends no ticket. True passes it on to the
      application, with None as ``ticket``, for a CORS middleware there. Otherwise it
      is refused with 403.
    - ``scope_types``: ``("websocket",)`` leaves HTTP alone.
    - ``disconnect``: False lets connections outlive their login. A backend without
      ``read_many()`` needs that.
    - ``max_age``, in seconds, and ``in_doubt`` are those of LiveTickets.
    - ``close_code``: the code that closes a WebSocket whose login has ended: 1000, or
      3000 to 4999.
    - ``grace``: seconds after which an application is cancelled that has not returned
      when its connection ended.

    A connection ends with the login that its ticket came from: when the user logs out,
    or is disconnected. The application is told first: ``receive()`` returns a
    disconnect, and nothing else from then on. ``send()`` has no effect for half of
    ``grace``, and raises an OSError after that. Then the WebSocket is closed, or the
    response ends.

    Raise ValueError or TypeError for a wrong argument, and UnsupportedBackend for a
    backend without ``read_many()`` unless ``disconnect=False``. A scope of an unknown
    type, such as ``webtransport``, is refused with a ValueError, as the ASGI
    specification asks for.
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
        self._live: LiveTickets | None = None
        if disconnect and service:
            self._live_tickets(service)  # raises where it cannot work

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
        headers = _read(scope["headers"])
        query = scope.get("query_string")
        # In place, where all else goes into a copy: servers log the URL of their scope.
        _hide_ticket(scope)
        if self.origins is not None and headers.origin not in self.origins:
            logger.warning(
                "Refused a connection from the origin %.200r.", headers.origin
            )
            raise _ForeignOrigin
        offered = scope.get("subprotocols", ())
        if headers.are_preflight and scope.get("method") == "OPTIONS":
            if self.required and not self.pass_preflights:
                raise _Preflight
            ticket = None
        else:
            value = find_ticket(
                subprotocols=offered,
                query=query or "",
                authorization=headers.authorization,
                carriers=self.carriers,
            )
            ticket = await self._consume(value) if value or self.required else None
        admitted = {**scope, "ticket": ticket, "headers": headers.without_ticket}
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
        await connection.watch(self._live_tickets(self._service), ticket)
        return connection

    @property
    def _service(self) -> TicketService:
        if self.service is None:
            from realtime_ticket import conf

            return conf.get_service()
        return self.service

    def _live_tickets(self, service: TicketService) -> LiveTickets:
        """Return what hears of disconnects. All of one service share one thread."""
        live = self._live
        if live is None or live.service is not service:
            try:
                live = LiveTickets(
                    service, max_age=self.max_age, in_doubt=self.in_doubt
                )
            except UnsupportedBackend as exc:
                raise UnsupportedBackend(
                    f"{exc} TicketMiddleware(disconnect=False) works without it."
                ) from None
            self._live = live
        return live

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
        _hide_ticket(scope)
        await self.app(inner, receive, send)


def _hide_ticket(scope: Scope) -> None:
    """Take the ticket out of the query string."""
    if query := scope.get("query_string"):
        scope["query_string"] = strip_query(query.decode("latin-1")).encode("latin-1")


class _Headers(NamedTuple):
    """What the headers of a scope say, and those of them that hold no ticket."""

    origin: str | None
    authorization: str | None
    are_preflight: bool
    """Whether a browser asks before it sends a request (Fetch, section 4.8)."""
    without_ticket: list[tuple[bytes, bytes]]


def _read(headers: Iterable[tuple[bytes, bytes]]) -> _Headers:
    texts: dict[bytes, str] = {}
    clean = []
    for name, value in headers:
        if name == b"sec-websocket-protocol":
            value = ", ".join(without_ticket(value.decode("latin-1"))).encode("latin-1")
            if not value:
                continue
        elif name in _READ:
            text = value.decode("latin-1")
            # Several headers of one name are a list (RFC 9110, section 5.3).
            texts[name] = f"{texts[name]}, {text}" if name in texts else text
            if name == b"authorization" and find_ticket(authorization=text):
                continue
        clean.append((name, value))
    return _Headers(
        origin=texts.get(b"origin"),
        authorization=texts.get(b"authorization"),
        are_preflight=b"access-control-request-method" in texts,
        without_ticket=clean,
    )


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
