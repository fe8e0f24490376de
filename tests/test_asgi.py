"""TicketMiddleware: who gets in, what the application sees, and how others are told."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError

from realtime_ticket import (
    InvalidAudience,
    InvalidTicket,
    OpenTransaction,
    StorageError,
    Ticket,
    TicketService,
    get_service,
    shortcuts,
)
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.handshake import PROTOCOL, AllowedOrigins
from realtime_ticket.integrations.asgi import HideTickets, TicketMiddleware
from tests.asgi import App, Peer, a_scope, guard, showing
from tests.helpers import CLAIMS, GOOD, WAIT, FailingBackend, same_ticket, using
from tests.processes import python

ORIGINS = AllowedOrigins(["https://example.com"], allow_missing=False)

REFUSALS: dict[str, tuple[int, int, str, dict[bytes, bytes]]] = {
    "ticket": (401, 4401, "No valid ticket.", {b"www-authenticate": b"Ticket"}),
    "origin": (403, 4403, "This origin may not connect.", {}),
    "storage": (503, 4013, "Try again with a new ticket.", {b"retry-after": b"1"}),
}
"""Status, close code, message and header for each reason."""


@pytest.fixture
def service() -> Iterator[TicketService]:
    with using(LocMemBackend()) as service:
        yield service


@pytest.fixture
def value(service: TicketService) -> str:
    """A good ticket."""
    return service.issue(CLAIMS).value


kinds = pytest.mark.parametrize("kind", ["websocket", "http"])


class TestLettingIn:
    @pytest.mark.parametrize(
        ("kind", "carrier"),
        [
            ("websocket", "subprotocol"),
            ("websocket", "query"),
            ("websocket", "authorization"),
            ("http", "query"),
            ("http", "authorization"),
        ],
    )
    def test_says_who_it_is(
        self, service: TicketService, kind: str, carrier: str
    ) -> None:
        """A good ticket is consumed, and the application finds it in its scope."""
        ticket, app = service.issue(CLAIMS), App()
        peer = Peer(showing(ticket.value, kind, carrier)).connect(guard(app, service))
        assert peer.is_let_in
        assert same_ticket(app.scope["ticket"], ticket)
        assert "user" not in app.scope
        with pytest.raises(InvalidTicket):
            service.consume(ticket.value)

    @kinds
    def test_works_once(self, service: TicketService, value: str, kind: str) -> None:
        """The second connection with one ticket is refused."""
        app = guard(App(), service)
        assert Peer(showing(value, kind)).connect(app).is_let_in
        assert not Peer(showing(value, kind)).connect(app).is_let_in

    def test_is_for_an_audience(self, service: TicketService) -> None:
        """Only tickets for it, and they are not spent elsewhere."""
        value = service.issue(CLAIMS, audience="chat").value
        app = App()
        for audience in ("", "news"):
            middleware = guard(app, service, audience=audience)
            assert not Peer(showing(value)).connect(middleware).is_let_in
        middleware = guard(app, service, audience="chat")
        assert Peer(showing(value)).connect(middleware).is_let_in
        assert app.scope["ticket"].audience == "chat"

    def test_uses_the_service_of_the_settings(self) -> None:
        """Without a service, get_service() is asked for it, with each connection."""
        app = App()
        middleware = guard(app, None, audience="chat")
        ticket = get_service().issue(CLAIMS, audience="chat")
        assert Peer(showing(ticket.value)).connect(middleware).is_let_in
        assert app.scope["ticket"] == ticket

    def test_reads_no_settings_before(self, settings: Any) -> None:
        """The application can be made before Django's settings are right."""
        settings.REALTIME_TICKET_EXPIRE = "wrong"
        guard(App(), None)

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("lifespan", {}),
            ("channel", {}),  # of a worker of Channels
            ("http", {"scope_types": ("websocket",)}),
            ("websocket", {"scope_types": ["http"]}),
        ],
    )
    def test_leaves_other_scopes_alone(
        self, service: TicketService, value: str, kind: str, options: dict[str, Any]
    ) -> None:
        """The application gets the very scope, receive and send of the server."""
        scope = showing(value, kind, "query")
        if kind in ("lifespan", "channel"):
            scope = {"type": kind}
        before = copy.copy(scope)
        app, peer = App(), Peer(scope)
        peer.connect(guard(app, service, origins=ORIGINS, **options))
        assert app.received[0] is scope
        assert scope == before
        assert app.received[1:] == (peer.receive, peer.send)
        assert service.consume(value)

    @pytest.mark.parametrize("kind", ["webtransport", "", "HTTP"])
    @pytest.mark.parametrize("guarded", [["websocket"], ["http"]])
    def test_refuses_scopes_that_nobody_knows(
        self, service: TicketService, kind: str, guarded: list[str]
    ) -> None:
        """A new kind of connection is let in by no ticket, and so by nothing."""
        app, scope = App(), a_scope(kind, query=f"ticket={GOOD}")
        with pytest.raises(ValueError, match=f"'{kind}' cannot be guarded"):
            Peer(scope).connect(guard(app, service, scope_types=guarded))
        assert not app.received

    @pytest.mark.parametrize("kinds", ["websocket", ["webtransport"], ["lifespan"]])
    def test_guards_known_scopes_alone(self, kinds: Any) -> None:
        """A misspelt type, or one string, fails when the application is made."""
        with pytest.raises(ValueError, match="can be guarded"):
            guard(App(), None, scope_types=kinds)

    def test_hands_receive_on(self, service: TicketService, value: str) -> None:
        """It reads no message that is the application's."""
        app, peer = App(), Peer(showing(value))
        peer.connect(guard(app, service, disconnect=False))
        assert app.received[1] == peer.receive

    @pytest.mark.parametrize(
        "error",
        [RuntimeError("bug"), InvalidTicket("unknown"), StorageError("down")],
        ids=repr,
    )
    @kinds
    def test_leaves_the_errors_of_the_application_alone(
        self, service: TicketService, value: str, kind: str, error: Exception
    ) -> None:
        """Even one of our own is no refusal once the connection was let in."""
        peer = Peer(showing(value, kind))
        with pytest.raises(type(error)) as caught:
            peer.connect(guard(App(error), service))
        assert caught.value is error
        assert peer.sent == []

    def test_serves_channels_test_client(
        self, service: TicketService, value: str
    ) -> None:
        """asgiref's communicator, and so those of Channels, can test it."""

        async def talk() -> list[Any]:
            application = guard(App(), service)
            peer = ApplicationCommunicator(application, showing(value))
            await peer.send_input({"type": "websocket.connect"})
            messages = [await peer.receive_output(WAIT) for _ in range(2)]
            await peer.wait(WAIT)
            return messages

        accept, hello = asyncio.run(talk())
        assert accept == {"type": "websocket.accept", "subprotocol": PROTOCOL}
        assert hello["text"] == "hello"

    def test_works_where_django_is_not_installed(self) -> None:
        """With a service of its own."""
        result = python(
            "import asyncio, sys; sys.modules['django'] = None\n"
            "from realtime_ticket import TicketService\n"
            "from realtime_ticket.backends.locmem import LocMemBackend\n"
            "from realtime_ticket.integrations.asgi import TicketMiddleware\n"
            "service, said = TicketService(LocMemBackend()), []\n"
            "async def app(scope, receive, send):\n"
            "    said.append(scope['ticket'].username)\n"
            "async def send(message): said.append(message.get('status'))\n"
            "guarded = TicketMiddleware(app, origins=None, service=service)\n"
            "value = service.issue({'id': 7, 'username': 'ada'}).value\n"
            "query = f'ticket={value}'.encode()\n"
            "for _ in range(2):\n"
            "    scope = {'type': 'http', 'headers': [], 'query_string': query}\n"
            "    asyncio.run(guarded(scope, None, send))\n"
            "assert said == ['ada', 401, None], said\n"
            "service.close()\n"
        )
        assert result.returncode == 0, result.stderr


class TestTheScope:
    def test_is_a_copy(self, service: TicketService, value: str) -> None:
        """What the middleware adds or takes out, the server's scope does not see."""
        scope = showing(value)
        before = copy.copy(scope) | {"headers": list(scope["headers"])}
        before["subprotocols"] = list(scope["subprotocols"])
        app = App()
        Peer(scope).connect(guard(app, service))
        assert scope == before
        assert app.scope["state"] is scope["state"]
        changed = {"ticket", "headers", "subprotocols"}
        assert {k: v for k, v in app.scope.items() if k not in changed} == {
            k: v for k, v in scope.items() if k not in changed
        }

    @kinds
    @pytest.mark.parametrize("is_good", [True, False])
    def test_loses_the_ticket_in_the_query(
        self, service: TicketService, value: str, kind: str, is_good: bool
    ) -> None:
        """In the server's own scope too, which it logs; the rest stays as it was."""
        shown = value if is_good else GOOD
        query = f"b=%7e+%2B&ticket={shown}&%74icket={shown}&&x=\xff"
        app, scope = App(), a_scope(kind, query=query)
        peer = Peer(scope).connect(guard(app, service))
        assert peer.is_let_in is is_good
        assert scope["query_string"] == b"b=%7e+%2B&&x=\xff"
        if is_good:
            assert app.scope["query_string"] == scope["query_string"]

    @pytest.mark.parametrize(
        "options",
        [{"origins": ORIGINS}, {"carriers": ["subprotocol"]}],
        ids=["origins", "carriers"],
    )
    def test_loses_it_also_when_nobody_asked(
        self, service: TicketService, value: str, options: dict[str, Any]
    ) -> None:
        """A foreign page's ticket, or one where none is looked for, is not logged."""
        scope = showing(value, carrier="query")
        assert not Peer(scope).connect(guard(App(), service, **options)).is_let_in
        assert scope["query_string"] == b"room=7"
        assert service.consume(value)

    def test_may_lack_what_is_optional(
        self, service: TicketService, value: str
    ) -> None:
        """A WebSocket's scope needs neither a query string nor subprotocols."""
        scope = showing(value, carrier="authorization")
        for name in ("query_string", "subprotocols", "extensions"):
            del scope[name]
        app = App()
        assert Peer(scope).connect(guard(app, service)).is_let_in
        assert "subprotocols" not in app.scope

    @pytest.mark.parametrize(
        ("headers", "left"),
        [
            ([("authorization", "Ticket {}")], []),
            ([("authorization", "ticket   {} ")], []),
            ([("authorization", "Bearer x")], [("authorization", "Bearer x")]),
            ([("sec-websocket-protocol", "ticket.{}")], []),
            (
                [("sec-websocket-protocol", "b, ticket.{},a")],
                [("sec-websocket-protocol", "b, a")],
            ),
            (
                [
                    ("sec-websocket-protocol", "b"),
                    ("cookie", "ticket.{}"),
                    ("sec-websocket-protocol", "ticket.{}"),
                ],
                [("sec-websocket-protocol", "b"), ("cookie", "ticket.{}")],
            ),
            ([("x", "\xff")], [("x", "\xff")]),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("as_lists", [True, False])
    def test_loses_the_ticket_in_the_headers(
        self,
        service: TicketService,
        value: str,
        headers: list[tuple[str, str]],
        left: list[tuple[str, str]],
        as_lists: bool,
    ) -> None:
        """The application sees no ticket there; all other headers are as they were."""

        def encoded(pairs: list[tuple[str, str]]) -> list[Any]:
            return [
                (name.encode(), text.format(value).encode("latin-1"))
                for name, text in pairs
            ]

        scope = showing(value, carrier="query")
        scope["headers"] = encoded(headers)
        if as_lists:
            scope["headers"] = [list(pair) for pair in scope["headers"]]
        app = App()
        assert Peer(scope).connect(guard(app, service)).is_let_in
        assert [tuple(pair) for pair in app.scope["headers"]] == encoded(left)

    def test_loses_the_ticket_in_the_subprotocols(
        self, service: TicketService, value: str
    ) -> None:
        """So that an application that answers the first one answers no ticket."""
        app = App()
        offered = (f"ticket.{value}", "chat", PROTOCOL)
        Peer(a_scope(subprotocols=offered)).connect(guard(app, service))
        assert app.scope["subprotocols"] == ["chat", PROTOCOL]
        assert value not in repr(app.scope)


class TestMethods:
    """OPTIONS, as a browser sends it before a page's request, and HEAD."""

    def preflight(self, value: str, **more: Any) -> dict[str, Any]:
        headers = (
            ("origin", "https://example.com"),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "last-event-id"),
        )
        query = f"room=7&ticket={value}"
        return a_scope("http", method="OPTIONS", query=query, headers=headers, **more)

    def test_a_preflight_spends_nothing(
        self, service: TicketService, value: str
    ) -> None:
        """Nor does it reach the application, or leave its ticket in the log."""
        app, scope = App(), self.preflight(value)
        start, body = Peer(scope).connect(guard(app, service)).sent
        assert start["status"] == 403
        assert json.loads(body["body"])["message"] == (
            "No CORS middleware answered this preflight."
        )
        assert not app.received
        assert scope["query_string"] == b"room=7"
        assert service.consume(value)

    @pytest.mark.parametrize(
        "options", [{"pass_preflights": True}, {"required": False}]
    )
    def test_a_preflight_may_be_the_applications(
        self, service: TicketService, value: str, options: dict[str, bool]
    ) -> None:
        """As nobody: its CORS middleware needs no user."""
        app, scope = App(), self.preflight(value)
        middleware = guard(app, service, load_user=True, origins=ORIGINS, **options)
        assert Peer(scope).connect(middleware).is_let_in
        assert app.scope["ticket"] is None
        assert isinstance(app.scope["user"], AnonymousUser)
        assert app.scope["query_string"] == scope["query_string"] == b"room=7"
        assert value not in repr(app.scope)
        assert service.consume(value)

    def test_a_preflight_of_a_foreign_page_is_refused(
        self, service: TicketService, value: str
    ) -> None:
        app, origins = App(), AllowedOrigins(["https://a.example"], allow_missing=True)
        middleware = guard(app, service, origins=origins, pass_preflights=True)
        assert Peer(self.preflight(value)).connect(middleware).sent[0]["status"] == 403
        assert not app.received
        assert service.consume(value)

    def test_a_request_is_no_preflight_by_its_headers(
        self, service: TicketService
    ) -> None:
        """Nobody gets in without a ticket by looking like a preflight."""
        app, scope = App(), self.preflight("")
        scope["method"] = "GET"
        middleware = guard(app, service, pass_preflights=True)
        assert Peer(scope).connect(middleware).sent[0]["status"] == 401
        plain = a_scope("http", method="OPTIONS")
        assert Peer(plain).connect(middleware).sent[0]["status"] == 401
        assert not app.received

    @pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "PROPFIND"])
    def test_each_request_spends_a_ticket(
        self, service: TicketService, value: str, method: str
    ) -> None:
        """Whatever its method: the application runs in the user's name."""
        app, scope = App(), showing(value, "http", method=method)
        assert Peer(scope).connect(guard(app, service)).is_let_in
        assert app.scope["ticket"].username == "ada"
        with pytest.raises(InvalidTicket):
            service.consume(value)


class TestHideTickets:
    @kinds
    def test_shows_the_server_no_ticket(self, value: str, kind: str) -> None:
        """The scope that the server logs loses it, and the application's keeps it."""
        app, scope = App(), a_scope(kind, query=f"room=7&ticket={value}")
        peer = Peer(scope).connect(HideTickets(app))
        assert peer.is_let_in
        assert scope["query_string"] == b"room=7"
        assert app.scope == scope | {
            "query_string": f"room=7&ticket={value}".encode(),
        }

    def test_serves_the_middleware(self, service: TicketService, value: str) -> None:
        """Around it, and around what copies scopes."""
        app, scope = App(), showing(value, carrier="query")

        async def router(scope: Any, receive: Any, send: Any) -> None:
            await guard(app, service)({**scope, "path": "/"}, receive, send)

        assert Peer(scope).connect(HideTickets(router)).is_let_in
        assert app.scope["query_string"] == scope["query_string"] == b"room=7"

    @pytest.mark.parametrize("scope", [{"type": "lifespan"}, {"type": "webtransport"}])
    def test_leaves_other_scopes_alone(self, scope: dict[str, Any]) -> None:
        app, before = App(), copy.copy(scope)
        Peer(scope).connect(HideTickets(app))
        assert app.scope == scope == before


class TestCarriers:
    def test_are_chosen(self, service: TicketService, value: str) -> None:
        """A ticket elsewhere is none, and is not spent."""
        middleware = guard(App(), service, carriers=["subprotocol"])
        for carrier in ("query", "authorization"):
            assert (
                not Peer(showing(value, carrier=carrier)).connect(middleware).is_let_in
            )
        assert Peer(showing(value)).connect(middleware).is_let_in

    @pytest.mark.parametrize("required", [True, False])
    def test_must_agree(
        self, service: TicketService, value: str, required: bool
    ) -> None:
        """Two different tickets are refused, and neither is spent."""
        other = service.issue(CLAIMS).value
        scope = showing(value, headers=(("authorization", f"Ticket {other}"),))
        middleware = guard(App(), service, required=required)
        assert not Peer(scope).connect(middleware).is_let_in
        assert service.consume(value) and service.consume(other)

    def test_two_credentials_are_no_ticket(
        self, service: TicketService, value: str
    ) -> None:
        """Servers hand over two headers; which one counts is not for us to say."""
        headers = (("authorization", "Bearer x"), ("authorization", f"Ticket {value}"))
        assert (
            not Peer(a_scope(headers=headers)).connect(guard(App(), service)).is_let_in
        )
        assert service.consume(value)


class TestTheSubprotocol:
    def test_is_answered(self, service: TicketService, value: str) -> None:
        """Ours, where the application chose none: or the browser hangs up."""
        headers = [(b"x", b"y")]
        app = App(subprotocol=None, headers=headers)
        accept, hello = Peer(showing(value)).connect(guard(app, service)).sent
        assert accept == {
            "type": "websocket.accept",
            "subprotocol": PROTOCOL,
            "headers": headers,
        }
        assert hello == {"type": "websocket.send", "text": "hello"}
        assert app.accept["subprotocol"] is None

    def test_may_be_the_applications(self, service: TicketService, value: str) -> None:
        """What the application chose is left alone."""
        scope = a_scope(subprotocols=(PROTOCOL, f"ticket.{value}", "chat"))
        peer = Peer(scope).connect(guard(App(subprotocol="chat"), service))
        assert peer.sent[0]["subprotocol"] == "chat"

    @pytest.mark.parametrize(
        "offered", [None, ("chat",), ("chat", "ticket.{}")], ids=str
    )
    def test_is_not_answered_unasked(
        self, service: TicketService, value: str, offered: tuple[str, ...] | None
    ) -> None:
        """A browser fails a connection with a subprotocol that it did not offer."""
        names = tuple(name.format(value) for name in offered or ())
        scope = a_scope(query=f"ticket={value}", subprotocols=names)
        peer = Peer(scope).connect(guard(App(), service))
        assert peer.sent[0] == {"type": "websocket.accept"}

    def test_leaves_http_alone(self, service: TicketService, value: str) -> None:
        """A response has none."""
        app = App()
        middleware = guard(app, service, disconnect=False)
        peer = Peer(showing(value, "http", "query")).connect(middleware)
        assert [message["type"] for message in peer.sent] == [
            "http.response.start",
            "http.response.body",
        ]
        assert app.received[2] == peer.send


def refused(reason: str, service: TicketService, app: App, **options: Any) -> Any:
    """Return a middleware and a function that makes scopes it refuses for a reason."""
    more: dict[str, Any] = {}
    if reason == "origin":
        options["origins"] = ORIGINS
        more["headers"] = (("origin", "https://evil.example"),)
    if reason == "storage":
        service = TicketService(FailingBackend())
    middleware = guard(app, service, **options)
    return middleware, lambda **scope: a_scope(**scope, **more, query=f"ticket={GOOD}")


reasons = pytest.mark.parametrize("reason", REFUSALS)


def is_answered(sent: list[dict[str, Any]], kind: str, reason: str) -> bool:
    """Tell whether that is the response for this reason, which no cache may keep."""
    status, _, text, more = REFUSALS[reason]
    start, body = sent
    assert (start["type"], body["type"]) == (
        f"{kind}.response.start",
        f"{kind}.response.body",
    )
    assert json.loads(body["body"]) == {"status": "error", "message": text}
    assert dict(start["headers"]) == more | {
        b"content-type": b"application/json",
        b"content-length": str(len(body["body"])).encode(),
        b"cache-control": b"no-store",
    }
    return bool(start["status"] == status)


def is_closed(message: dict[str, Any], reason: str) -> bool:
    _, code, text, _ = REFUSALS[reason]
    return message == {"type": "websocket.close", "code": code, "reason": text}


class TestRefusing:
    @reasons
    @pytest.mark.parametrize("refusal", ["strict", "visible"])
    def test_a_request(self, service: TicketService, reason: str, refusal: str) -> None:
        """HTTP has a status, and the application is not asked."""
        app = App()
        middleware, scope = refused(reason, service, app, refusal=refusal)
        peer = Peer(scope(kind="http")).connect(middleware)
        assert is_answered(peer.sent, "http", reason)
        assert not app.received

    @reasons
    def test_a_websocket(self, service: TicketService, reason: str) -> None:
        """With a status as well, where the server can send one."""
        app = App()
        middleware, scope = refused(reason, service, app)
        peer = Peer(scope()).connect(middleware)
        assert is_answered(peer.sent, "websocket.http", reason)
        assert not app.received

    @reasons
    @pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}, "absent"], ids=str)
    def test_a_websocket_of_another_server(
        self, service: TicketService, reason: str, extensions: Any
    ) -> None:
        """Closed before it is accepted, which servers make a 403."""
        app = App()
        middleware, make = refused(reason, service, app)
        scope = make(extensions=extensions)
        if extensions == "absent":
            del scope["extensions"]
        (close,) = Peer(scope).connect(middleware).sent
        assert is_closed(close, reason)
        assert not app.received

    @reasons
    @pytest.mark.parametrize("offers", [True, False])
    def test_visibly(self, service: TicketService, reason: str, offers: bool) -> None:
        """Accepted, as the browser needs it, and closed with a code that it shows."""
        app = App()
        middleware, scope = refused(reason, service, app, refusal="visible")
        offered = ("chat", PROTOCOL) if offers else ("chat",)
        accept, close = Peer(scope(subprotocols=offered)).connect(middleware).sent
        protocol = PROTOCOL if offers else None
        assert accept == {"type": "websocket.accept", "subprotocol": protocol}
        assert is_closed(close, reason)
        assert not app.received

    def test_visibly_without_subprotocols(self, service: TicketService) -> None:
        """A scope may lack them."""
        middleware, make = refused("ticket", service, App(), refusal="visible")
        scope = make()
        del scope["subprotocols"]
        accept, _ = Peer(scope).connect(middleware).sent
        assert accept["subprotocol"] is None

    @pytest.mark.parametrize("refusal", ["", "Strict", "STRICT", "loud", None, True])
    def test_in_no_other_way(self, refusal: Any) -> None:
        """A misspelt refusal fails when the application is made."""
        with pytest.raises(ValueError, match="'strict' or 'visible'"):
            guard(App(), None, refusal=refusal)

    @pytest.mark.parametrize("carriers", ["query", ("qeury",), ("query", "cookie")])
    def test_carriers_are_known(self, carriers: Any) -> None:
        """A misspelt carrier, or one string, fails when the application is made."""
        with pytest.raises(ValueError, match="is a list of names from"):
            guard(App(), None, carriers=carriers)

    @pytest.mark.parametrize("audience", ["a b", None, 7])
    def test_audiences_are_well_formed(self, audience: Any) -> None:
        """A wrong one fails at once. It would refuse everybody."""
        with pytest.raises(InvalidAudience):
            guard(App(), None, audience=audience)

    @kinds
    @pytest.mark.parametrize("shown", ["", "nonsense", GOOD, GOOD + "\n", "é"])
    def test_bad_tickets(self, service: TicketService, kind: str, shown: str) -> None:
        """None, one that is malformed, one that nobody issued: one answer."""
        peer = Peer(a_scope(kind, query=f"ticket={shown}"))
        peer.connect(guard(App(), service))
        scheme = "http" if kind == "http" else "websocket.http"
        assert is_answered(peer.sent, scheme, "ticket")

    @kinds
    def test_an_outage_of_a_kind_of_its_own(self, kind: str) -> None:
        """A backend may raise a subclass of StorageError itself."""
        error = type("ClusterDown", (StorageError,), {})()
        middleware = guard(App(), TicketService(FailingBackend(error)))
        peer = Peer(showing(GOOD, kind, "query")).connect(middleware)
        scheme = "http" if kind == "http" else "websocket.http"
        assert is_answered(peer.sent, scheme, "storage")

    @pytest.mark.parametrize("error", [OpenTransaction("x"), RuntimeError("x")])
    def test_is_not_for_bugs(self, error: Exception) -> None:
        """What is no refusal is the server's to report, and lets nobody in."""
        app = App()
        peer = Peer(showing(GOOD))
        with pytest.raises(type(error)):
            peer.connect(guard(app, TicketService(FailingBackend(error))))
        assert not app.received and not peer.sent


class TestOrigins:
    @kinds
    @pytest.mark.parametrize(
        ("sent", "is_let_in"),
        [
            (["https://example.com"], True),
            (["HTTPS://EXAMPLE.COM:443"], True),
            (["https://evil.example"], False),
            (["null"], False),
            ([""], False),
            ([], False),
            (["https://example.com", "https://example.com"], False),
            (["https://evil.example", "https://example.com"], False),
        ],
        ids=str,
    )
    def test_are_judged_before_the_ticket(
        self,
        service: TicketService,
        value: str,
        kind: str,
        sent: list[str],
        is_let_in: bool,
    ) -> None:
        """A page of another site gets nowhere, and spends no ticket."""
        headers = tuple(("origin", origin) for origin in sent)
        scope = a_scope(kind, query=f"ticket={value}", headers=headers)
        peer = Peer(scope).connect(guard(App(), service, origins=ORIGINS))
        assert peer.is_let_in is is_let_in
        assert service.revoke(value) is not is_let_in

    @kinds
    def test_may_be_missing_where_that_is_allowed(
        self, service: TicketService, value: str, kind: str
    ) -> None:
        """A program, or a page's own events."""
        origins = AllowedOrigins(["https://example.com"], allow_missing=True)
        middleware = guard(App(), service, origins=origins)
        assert Peer(showing(value, kind)).connect(middleware).is_let_in

    @pytest.mark.parametrize("sent", ["https://evil.example", "null"])
    def test_of_every_kind_are_let_in_by_none(
        self, service: TicketService, value: str, sent: str
    ) -> None:
        """origins=None judges nothing."""
        scope = showing(value, headers=(("origin", sent),))
        assert Peer(scope).connect(guard(App(), service)).is_let_in

    def test_may_be_any_container(self, service: TicketService, value: str) -> None:
        """A list is taken literally."""
        middleware = guard(App(), service, origins=["https://a.example"])
        for origin, is_let_in in [("https://b.example", 0), ("https://a.example", 1)]:
            scope = showing(value, headers=(("origin", origin),))
            assert Peer(scope).connect(middleware).is_let_in is bool(is_let_in)

    def test_are_not_one_string(self) -> None:
        """In a string, every part of it would be allowed, 'https://e' for one."""
        with pytest.raises(TypeError):
            guard(App(), None, origins="https://example.com")

    def test_must_be_said(self) -> None:
        """There is no default: who lets every page in, says so."""
        with pytest.raises(TypeError, match="origins"):
            TicketMiddleware(App())  # type: ignore[call-arg]

    def test_that_are_refused_are_logged(
        self, service: TicketService, caplog: pytest.LogCaptureFixture
    ) -> None:
        """On one line, and not at any length."""
        origin = "https://evil.example\r\n" + "x" * 10_000
        scope = a_scope(headers=(("origin", origin),), query=f"ticket={GOOD}")
        with caplog.at_level(logging.DEBUG):
            Peer(scope).connect(guard(App(), service, origins=ORIGINS))
        (record,) = [r for r in caplog.records if r.name == "realtime_ticket"]
        assert record.levelname == "WARNING"
        message = record.getMessage()
        assert "'https://evil.example\\r\\nxxx" in message
        assert len(message) < 300 and message.isprintable()
        assert GOOD not in message


class TestWithoutATicket:
    @kinds
    @pytest.mark.parametrize("query", ["", "ticket=", "room=7"])
    def test_may_be_let_in(self, service: TicketService, kind: str, query: str) -> None:
        """required=False lets in who shows none, with None as the ticket."""
        app = App()
        middleware = guard(app, service, required=False)
        assert Peer(a_scope(kind, query=query)).connect(middleware).is_let_in
        assert app.scope["ticket"] is None
        assert "user" not in app.scope

    @kinds
    @pytest.mark.parametrize("shown", ["x", GOOD])
    def test_is_not_with_a_bad_one(
        self, service: TicketService, kind: str, shown: str
    ) -> None:
        """Who shows a bad ticket is refused all the same."""
        app = App()
        middleware = guard(app, service, required=False)
        assert not Peer(showing(shown, kind)).connect(middleware).is_let_in
        assert not app.received

    def test_is_judged_by_its_origin(self, service: TicketService) -> None:
        """The origin counts for everyone."""
        middleware = guard(App(), service, required=False, origins=ORIGINS)
        assert not Peer(a_scope()).connect(middleware).is_let_in

    def test_can_still_be_told_who_it_is(
        self, service: TicketService, value: str
    ) -> None:
        """A good ticket is consumed as ever."""
        app = App()
        middleware = guard(app, service, required=False)
        Peer(showing(value)).connect(middleware)
        assert isinstance(app.scope["ticket"], Ticket)

    def test_asks_no_storage(self) -> None:
        """An outage is no matter to who shows no ticket."""
        middleware = guard(App(), TicketService(FailingBackend()), required=False)
        assert Peer(a_scope()).connect(middleware).is_let_in


@pytest.mark.django_db
class TestTheUser:
    @pytest.fixture
    def user(self) -> User:
        return User.objects.create_user("ada")

    @pytest.fixture
    def shown(self, service: TicketService, user: User) -> str:
        return service.issue({"id": user.pk, "username": "ada"}).value

    @kinds
    def test_is_loaded(
        self, service: TicketService, user: User, shown: str, kind: str
    ) -> None:
        """With load_user, fresh from the database."""
        User.objects.update(email="ada@example.com")
        app = App()
        middleware = guard(app, service, load_user=True)
        assert Peer(showing(shown, kind)).connect(middleware).is_let_in
        assert app.scope["user"] == user
        assert app.scope["user"].email == "ada@example.com"
        assert app.scope["ticket"].user_id == user.pk

    @kinds
    @pytest.mark.parametrize("fate", ["inactive", "renamed", "deleted"])
    def test_who_is_gone_is_refused(
        self, service: TicketService, user: User, shown: str, kind: str, fate: str
    ) -> None:
        """As with a bad ticket; the ticket is spent.

        Mutants: user-of-another-project.
        """
        if fate == "inactive":
            User.objects.update(is_active=False)
        elif fate == "renamed":
            User.objects.update(username="the admin of another project")
        else:
            user.delete()
        app = App()
        middleware = guard(app, service, load_user=True)
        peer = Peer(showing(shown, kind)).connect(middleware)
        scheme = "http" if kind == "http" else "websocket.http"
        assert is_answered(peer.sent, scheme, "ticket")
        assert not app.received
        assert service.revoke(shown) is False

    @kinds
    def test_an_outage_of_the_database(
        self, service: TicketService, shown: str, kind: str, monkeypatch: Any
    ) -> None:
        """It refuses as an outage of the tickets' storage does: nobody is a guest."""

        async def fail(ticket: Ticket) -> None:
            raise OperationalError("the database is down")

        monkeypatch.setattr(shortcuts, "aget_user", fail)
        app = App()
        middleware = guard(app, service, load_user=True)
        peer = Peer(showing(shown, kind)).connect(middleware)
        scheme = "http" if kind == "http" else "websocket.http"
        assert is_answered(peer.sent, scheme, "storage")
        assert not app.received

    def test_who_is_gone_is_let_in_when_nobody_looks(
        self, service: TicketService, user: User, shown: str
    ) -> None:
        """Without load_user the database is not asked."""
        user.delete()
        assert Peer(showing(shown)).connect(guard(App(), service)).is_let_in

    def test_may_be_nobody(self, service: TicketService) -> None:
        """An AnonymousUser where no ticket is required."""
        app = App()
        middleware = guard(app, service, load_user=True, required=False)
        assert Peer(a_scope()).connect(middleware).is_let_in
        assert isinstance(app.scope["user"], AnonymousUser)
        assert app.scope["ticket"] is None

    def test_replaces_another(
        self, service: TicketService, user: User, shown: str
    ) -> None:
        """Whom an outer middleware found, by a cookie for instance, does not count."""
        app = App()
        scope = showing(shown, user=AnonymousUser())
        Peer(scope).connect(guard(app, service, load_user=True))
        assert app.scope["user"] == user
        assert scope["user"] == AnonymousUser()


@kinds
@pytest.mark.parametrize("carrier", ["subprotocol", "query", "authorization"])
@pytest.mark.parametrize("problem", ["none", *REFUSALS])
def test_logs_hold_no_ticket(
    caplog: pytest.LogCaptureFixture, kind: str, carrier: str, problem: str
) -> None:
    """Whatever happens to it, no log record and no answer has the ticket."""
    backend = FailingBackend() if problem == "storage" else LocMemBackend()
    with caplog.at_level(logging.DEBUG), using(backend) as service:
        value = service.issue(CLAIMS).value if problem == "none" else GOOD
        scope = showing(value, kind, carrier)
        middleware = guard(App(), service, origins=None)
        if problem == "origin":
            middleware = guard(App(), service, origins=ORIGINS)
        peer = Peer(scope).connect(middleware)
    ours = [record for record in caplog.records if record.name == "realtime_ticket"]
    assert ours or problem == "storage"
    assert all(value not in record.getMessage() for record in caplog.records)
    assert value not in repr(peer.sent)
    assert value not in repr(scope["query_string"])
