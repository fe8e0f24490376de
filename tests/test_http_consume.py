"""Consuming over HTTP: the views for servers of one's own, and for nginx."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import AsyncClient, Client, RequestFactory
from django.urls import include, path, reverse
from hypothesis import given
from hypothesis import strategies as st

from realtime_ticket import (
    InvalidAudience,
    InvalidTicket,
    OpenTransaction,
    Ticket,
    TicketService,
    get_service,
    revocations,
)
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.handshake import PROTOCOL, AllowedOrigins
from realtime_ticket.integrations import http
from realtime_ticket.integrations.centrifugo import CentrifugoConnectView
from realtime_ticket.integrations.http import (
    AuthorizeView,
    BadRequest,
    ConsumeView,
    DisconnectsView,
    ServiceView,
)
from tests import servers
from tests.helpers import (
    CLAIMS,
    GOOD,
    FailingBackend,
    RecordingBackend,
    hostile_values,
    using,
)
from tests.properties import properties

KEY = "1" * 32
NEW_KEY = "Ab9._~+/=-" * 4
OWN_KEY = "own" * 11
DATABASE = "realtime_ticket.backends.database.DatabaseBackend"

CONSUME = "/internal/consume/"
AUTHORIZE = "/internal/authorize/"
DISCONNECTS = "/internal/disconnects/"


class Picky(ServiceView):
    """A view of a user's own."""

    http_method_names = ["post", "put"]

    def post(self, request: HttpRequest) -> HttpResponse:
        fields = self.read_json()
        if "x" not in fields:
            raise BadRequest("Send an x.")
        return HttpResponse(str(fields["x"]))


def plain(request: HttpRequest) -> HttpResponse:
    """Consume as a view does that nobody decorated."""
    get_service().consume(request.GET["ticket"])
    return HttpResponse()


def down() -> TicketService:
    return TicketService(FailingBackend())


class ThirdPartyBackend(RecordingBackend):
    """A backend of somebody's own, without read_many()."""


class UnreadableBackend(LocMemBackend):
    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        raise OSError("the storage is down")


class HalfDeadBackend(LocMemBackend):
    """Of two servers, the one with the even slots does not answer."""

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        found = super().read_many(keys)
        return [
            text if int(key[-1]) % 2 else OSError()
            for key, text in zip(keys, found, strict=True)
        ]


urlpatterns = [
    path("internal/", include("realtime_ticket.integrations.urls")),
    path("own-key/", ConsumeView.as_view(keys=[OWN_KEY])),
    path("closed/", ConsumeView.as_view(keys=())),
    path("own-service/", ConsumeView.as_view(service=TicketService(LocMemBackend()))),
    path("down/", ConsumeView.as_view(service=down())),
    path(
        "tickets-only/",
        DisconnectsView.as_view(service=TicketService(ThirdPartyBackend())),
    ),
    path(
        "tickets-only/consume/",
        ConsumeView.as_view(
            service=(tickets_only := TicketService(ThirdPartyBackend()))
        ),
    ),
    path(
        "unreadable/",
        DisconnectsView.as_view(service=(blind := TicketService(UnreadableBackend()))),
    ),
    path("unreadable/consume/", ConsumeView.as_view(service=blind)),
    path(
        "half-dead/",
        DisconnectsView.as_view(service=(half := TicketService(HalfDeadBackend()))),
    ),
    path("picky/", Picky.as_view()),
    path("rooms/<int:room>/", ConsumeView.as_view()),
    path("rooms/<int:room>/authorize/", AuthorizeView.as_view()),
    path("rooms/<int:room>/centrifugo/", CentrifugoConnectView.as_view()),
    path("plain/", plain),
    path("authorize/chat/", AuthorizeView.as_view(audience="chat")),
    path(
        "authorize/from/",
        AuthorizeView.as_view(
            origins=AllowedOrigins(["https://example.com"], allow_missing=False)
        ),
    ),
    path("authorize/caddy/", AuthorizeView.as_view(uri_header="X-Forwarded-Uri")),
    path("authorize/down/", AuthorizeView.as_view(service=down())),
]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.REALTIME_TICKET_SERVICE_KEYS = [KEY, NEW_KEY]


def consume(
    body: Any, place: str = CONSUME, key: str = KEY, client: Client | None = None
) -> Any:
    """POST what a server of one's own sends, and return the answer."""
    if not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    return (client or Client()).post(
        place, body, content_type="application/json", headers=bearer(key)
    )


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def authorize(place: str = AUTHORIZE, **headers: str) -> Any:
    """Ask as nginx does, and return the answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Client().get(place, headers=bearer(KEY) | names)


def is_refused(response: Any, status: int, message: str, **headers: str) -> bool:
    """Tell whether the answer is our JSON for an error, which no cache may keep."""
    assert response.headers["Content-Type"] == "application/json"
    assert "no-store" in response.headers["Cache-Control"]
    for name in ("WWW-Authenticate", "Retry-After", "Allow"):
        assert response.headers.get(name) == headers.get(name.replace("-", "_"))
    expected = {"status": "error", "message": message}
    return response.status_code == status and response.json() == expected


def is_spent(ticket: Ticket, audience: str = "") -> bool:
    return not get_service().revoke(ticket.value, audience=audience)


class TestKeys:
    @pytest.mark.parametrize("key", [KEY, NEW_KEY])
    @pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
    def test_any_of_them_opens(self, key: str, scheme: str) -> None:
        """So a new key can be added before the old one goes."""
        ticket = get_service().issue(CLAIMS)
        response = Client().post(
            CONSUME,
            {"ticket": ticket.value},
            content_type="application/json",
            headers={"Authorization": f"{scheme}{key} "},
        )
        assert response.status_code == 200

    @pytest.mark.parametrize(
        "credentials",
        [
            None, "", KEY, "Bearer", "Bearer ", f"Bearer{KEY}", f"Bearer\t{KEY}",
            f"Basic {KEY}", f"Ticket {KEY}", f"Bearer {KEY[:-1]}", f"Bearer {KEY}1",
            f"Bearer {NEW_KEY.lower()}", f"Bearer {KEY} {NEW_KEY}",
            f"Bearer {KEY},{NEW_KEY}", f"Bearer {KEY}, Bearer {KEY}", "Bearer None",
            f"Bearer {OWN_KEY}", "Bearer é", "Bearer \xff", f"Bearer [{KEY!r}]",
        ],
        ids=ascii,
    )  # fmt: skip
    @pytest.mark.parametrize(("place", "status"), [(CONSUME, 401), (AUTHORIZE, 400)])
    def test_nothing_else_does(
        self, credentials: str | None, place: str, status: int
    ) -> None:
        """The ticket is not spent. nginx would take a 401 for the client's fault."""
        ticket = get_service().issue(CLAIMS)
        headers = {"X-Original-URI": f"/?ticket={ticket.value}"}
        if credentials is not None:
            headers["Authorization"] = credentials
        body, json_type = json.dumps({"ticket": ticket.value}), "application/json"
        for method in ("GET", "POST", "PUT"):
            response = Client().generic(method, place, body, json_type, headers=headers)
            assert is_refused(
                response, status, "Wrong service key.", WWW_Authenticate="Bearer"
            )
        assert not is_spent(ticket)

    @pytest.mark.parametrize("value", ["absent", (), []], ids=str)
    @pytest.mark.parametrize("key", [KEY, "", "None"])
    def test_none_is_as_if_there_were_no_view(
        self, settings: Any, value: Any, key: str
    ) -> None:
        """404 while no key is configured, whatever the request."""
        settings.REALTIME_TICKET_SERVICE_KEYS = value
        if value == "absent":
            del settings.REALTIME_TICKET_SERVICE_KEYS
        ticket = get_service().issue(CLAIMS)
        assert consume({"ticket": ticket.value}, key=key).status_code == 404
        assert Client().get(AUTHORIZE, headers=bearer(key)).status_code == 404
        assert Client().get(CONSUME).status_code == 404
        assert not is_spent(ticket)

    def test_are_those_of_the_moment(self, settings: Any) -> None:
        """The setting is read with each request."""
        settings.REALTIME_TICKET_SERVICE_KEYS = [OWN_KEY]
        assert consume({}, key=KEY).status_code == 401
        assert consume({}, key=OWN_KEY).status_code == 400

    def test_can_be_a_views_own(self) -> None:
        """as_view(keys=...) wins over the setting; none of them closes the view."""
        assert consume({}, "/own-key/", OWN_KEY).status_code == 400
        assert consume({}, "/own-key/", KEY).status_code == 401
        assert consume({}, "/closed/", KEY).status_code == 404

    @pytest.mark.parametrize("key", [KEY, NEW_KEY, "wrong"])
    def test_are_all_compared(self, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        """No short cut: the time does not tell which key was right, or near."""
        compared: list[tuple[str, str]] = []

        def compare(one: str, other: str) -> bool:
            compared.append((one, other))
            return one == other

        monkeypatch.setattr(http, "constant_time_compare", compare)
        consume({}, key=key)
        assert compared == [(key, KEY), (key, NEW_KEY)]

    @pytest.mark.parametrize("value", [KEY, ["short"], [None], None, {KEY: 1}])
    def test_that_are_wrong_open_nothing(self, settings: Any, value: Any) -> None:
        """A wrong setting is an error on use, as any."""
        settings.REALTIME_TICKET_SERVICE_KEYS = value
        for key in (KEY, KEY[0], "short", "None", ""):
            with pytest.raises(ImproperlyConfigured):
                consume({}, key=key)

    @pytest.mark.parametrize(
        ("keys", "key"),
        [(OWN_KEY, OWN_KEY[0]), ([""], ""), (["short"], "short")],
        ids=str,
    )
    def test_of_a_view_are_checked_too(self, keys: Any, key: str) -> None:
        """One string is no list, and its characters and '' are no keys."""
        request = RequestFactory().post("/", headers=bearer(key))
        with pytest.raises((TypeError, ValueError, ImproperlyConfigured)):
            ConsumeView.as_view(keys=keys)(request)


class TestConsume:
    @pytest.mark.parametrize("client", [Client, AsyncClient], ids=["wsgi", "asgi"])
    def test_says_who_it_is(self, client: Any) -> None:
        """200 and everything that the ticket says. It works once."""
        claims = CLAIMS | {"room": ["a", None], "name": "Ада"}
        ticket = get_service().issue(claims)

        def post() -> Any:
            send = client().post
            if client is AsyncClient:
                send = async_to_sync(send)
            body = {"ticket": ticket.value}
            return send(CONSUME, body, "application/json", headers=bearer(KEY))

        response = post()
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert "no-store" in response.headers["Cache-Control"]
        assert response.json() == {
            "status": "ok",
            "claims": claims,
            "audience": "",
            "issued_at": ticket.issued_at,
            "expires_at": ticket.expires_at,
            "session": "",
            "max_age": None,
        }
        assert is_refused(post(), 403, "No valid ticket.")

    def test_says_which_login_it_is(self) -> None:
        """So that the connection can end with it."""
        ticket = get_service().issue(CLAIMS, session="s1", max_age=300)
        answer = consume({"ticket": ticket.value}).json()
        assert (answer["session"], answer["max_age"]) == ("s1", 300)

    def test_is_for_an_audience(self) -> None:
        """The ticket of another one is unknown, and stays good."""
        ticket = get_service().issue(CLAIMS, audience="chat")
        for wrong in ({}, {"audience": ""}, {"audience": "news"}):
            response = consume({"ticket": ticket.value, **wrong})
            assert is_refused(response, 403, "No valid ticket.")
        response = consume({"ticket": ticket.value, "audience": "chat"})
        assert response.json()["audience"] == "chat"
        assert consume({"ticket": ticket.value, "audience": "chat"}).status_code == 403

    @pytest.mark.parametrize("audience", ["a b", "chat\n", "x" * 65, "\ud800", "*"])
    def test_refuses_an_audience_that_is_none(self, audience: str) -> None:
        """Malformed as the ticket would be: 403."""
        response = consume({"ticket": GOOD, "audience": audience})
        assert is_refused(response, 403, "No valid ticket.")

    @pytest.mark.parametrize(
        "value",
        [GOOD, *(value for value in hostile_values()[:60] if isinstance(value, str))],
        ids=lambda value: ascii(value)[:30],
    )
    def test_refuses_what_is_no_ticket(self, value: str) -> None:
        """403 for any text: this is the client's mistake, not the server's."""
        response = consume({"ticket": value[:1000]})
        assert is_refused(response, 403, "No valid ticket.")

    @pytest.mark.parametrize(
        "body",
        [
            "", " ", "nonsense", "{", '{"ticket": }', "[]", "null", "7", '"x"', "NaN",
            f'["{GOOD}"]', "[" * 100_000, '{"a":' * 100_000, "1" * 5000,
            b"\xff\xfe\xfd", b'{"ticket": "\xff"}', "ticket=x", b"\0",
            json.dumps({"ticket": GOOD}).encode("utf-16")[:-1],
        ],
        ids=lambda body: ascii(body)[:30],
    )  # fmt: skip
    def test_wants_a_json_object(self, body: str | bytes) -> None:
        """400 for anything else, however deep or broken."""
        assert is_refused(consume(body), 400, "Send a JSON object.")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"Ticket": GOOD},
            {"ticket": None},
            {"ticket": 7},
            {"ticket": [GOOD]},
            {"ticket": {"value": GOOD}},
            {"ticket": True},
            {"ticket": GOOD, "audience": None},
            {"ticket": GOOD, "audience": 7},
            {"ticket": GOOD, "audience": ["chat"]},
        ],
        ids=str,
    )
    def test_wants_texts(self, body: dict[str, Any]) -> None:
        """400 where the ticket or the audience is no text."""
        expected = "Send a 'ticket', and an 'audience' if it has one."
        assert is_refused(consume(body), 400, expected)

    def test_reads_no_endless_body(self, settings: Any) -> None:
        """400 past Django's limit."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        assert consume({"ticket": GOOD, "x": "y" * 100}).status_code == 400
        assert consume({"ticket": GOOD}).status_code == 403

    def test_reads_no_form_and_no_query(self) -> None:
        """A ticket in the URL would be in the logs."""
        ticket = get_service().issue(CLAIMS)
        place = f"{CONSUME}?ticket={ticket.value}"
        assert Client().post(place, headers=bearer(KEY)).status_code == 400
        form = Client().post(CONSUME, {"ticket": ticket.value}, headers=bearer(KEY))
        assert form.status_code == 400
        assert not is_spent(ticket)

    @pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options"])
    def test_takes_no_other_method(self, method: str) -> None:
        """405, JSON and Allow."""
        response = getattr(Client(), method)(CONSUME, headers=bearer(KEY))
        assert is_refused(response, 405, "Use POST.", Allow="POST")

    def test_is_down_with_the_storage(self) -> None:
        """503 and Retry-After."""
        response = consume({"ticket": GOOD}, "/down/")
        assert is_refused(
            response, 503, "Try again with a new ticket.", Retry_After="1"
        )

    def test_can_have_a_service_of_its_own(self) -> None:
        """as_view(service=...) wins over the settings."""
        ticket = get_service().issue(CLAIMS)
        assert consume({"ticket": ticket.value}, "/own-service/").status_code == 403
        assert not is_spent(ticket)

    def test_logs_no_ticket(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nor does a refusal have it in its answer."""
        ticket = get_service().issue(CLAIMS)
        uri = f"/?ticket={ticket.value}"
        with caplog.at_level(logging.DEBUG):
            for _ in range(2):
                answers = [
                    consume({"ticket": ticket.value}),
                    authorize(X_Original_URI=uri),
                ]
        assert caplog.records
        assert all(ticket.value not in r.getMessage() for r in caplog.records)
        assert all(ticket.value.encode() not in a.content for a in answers)


class TestInAProject:
    def test_needs_no_csrf_token(self) -> None:
        """A server has no cookies, and nothing but its key counts."""
        ticket = get_service().issue(CLAIMS)
        strict = Client(enforce_csrf_checks=True)
        assert consume({"ticket": ticket.value}, client=strict).status_code == 200

    @pytest.mark.django_db
    def test_needs_no_login(self, settings: Any) -> None:
        """LoginRequiredMiddleware redirects no server to a page."""
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]
        assert REDIRECT_FIELD_NAME in Client().get("/plain/").headers["Location"]
        assert consume({}).status_code == 400
        assert consume({}, key="wrong").status_code == 401
        assert authorize().status_code == 401

    def test_origins_are_not_one_string(self) -> None:
        """In which every part of it would be found."""
        with pytest.raises(TypeError, match="not one string"):
            AuthorizeView.as_view(origins="https://example.com")
        with pytest.raises(TypeError, match="not one string"):
            type("Mine", (AuthorizeView,), {"origins": "https://e.example"}).as_view()

    @pytest.mark.parametrize("view", [AuthorizeView, CentrifugoConnectView])
    @pytest.mark.parametrize("audience", ["a b", None, 7])
    def test_audiences_are_well_formed(self, view: Any, audience: Any) -> None:
        """A wrong one fails when the view is made. It would refuse everybody."""
        with pytest.raises(InvalidAudience):
            view.as_view(audience=audience)
        with pytest.raises(InvalidAudience):
            type("Mine", (view,), {"audience": audience}).as_view()

    def test_may_have_more_in_their_urls(self) -> None:
        """Which a subclass, or a signal, may want to know."""
        ticket = get_service().issue(CLAIMS)
        assert consume({"ticket": ticket.value}, "/rooms/7/").status_code == 200
        assert authorize("/rooms/7/authorize/").status_code == 401
        assert consume({}, "/rooms/7/centrifugo/").status_code == 200

    def test_has_names(self) -> None:
        """For reverse(), under wherever the URLs are included."""
        assert reverse("realtime_ticket_consume") == CONSUME
        assert reverse("realtime_ticket_authorize") == AUTHORIZE

    def test_can_be_built_on(self) -> None:
        """A view of one's own has the keys, the methods and the errors of these."""
        assert consume({"x": 7}, "/picky/").content == b"7"
        assert is_refused(consume({}, "/picky/"), 400, "Send an x.")
        assert consume({"x": 7}, "/picky/", key="wrong").status_code == 401
        response = Client().get("/picky/", headers=bearer(KEY))
        assert is_refused(response, 405, "Use POST, PUT.", Allow="POST, PUT")

    @pytest.fixture(params=["default", "postgresql"])
    def alias(
        self, request: pytest.FixtureRequest, settings: Any, monkeypatch: Any
    ) -> Iterator[str]:
        """A database with tickets where each view runs in a transaction."""
        if request.param in servers.PROGRAMS:
            servers.require(request.param)
        settings.REALTIME_TICKET_BACKEND = DATABASE
        settings.REALTIME_TICKET_DATABASE = request.param
        monkeypatch.setitem(
            connections.settings[request.param], "ATOMIC_REQUESTS", True
        )
        assert connections[request.param].settings_dict["ATOMIC_REQUESTS"]
        yield request.param

    @pytest.mark.django_db(
        transaction=True,
        databases=["default"]
        + ["postgresql"] * (servers.missing("postgresql") is None),
    )
    def test_runs_in_no_transaction(self, alias: str) -> None:
        """With ATOMIC_REQUESTS a rollback would revive the ticket. Not here."""
        ticket = get_service().issue(CLAIMS)
        with pytest.raises(OpenTransaction):
            Client().get(f"/plain/?ticket={ticket.value}")
        assert consume({"ticket": ticket.value}).status_code == 200
        assert consume({"ticket": ticket.value}).status_code == 403
        ticket = get_service().issue(CLAIMS)
        uri = f"/?ticket={ticket.value}"
        assert authorize(X_Original_URI=uri).status_code == 204


class TestAuthorize:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X_Original_URI", "/chat/?ticket={}"),
            ("X_Original_URI", "/chat/?room=7&ticket={}&x=?"),
            ("X_Original_URI", "/?%74icket={}"),
            ("X_Original_URI", "?ticket={}"),
            ("Sec_WebSocket_Protocol", "ticket.{}"),
            ("Sec_WebSocket_Protocol", f"{PROTOCOL}, ticket.{{}}"),
        ],
    )
    def test_says_who_it_is(self, name: str, value: str) -> None:
        """204 and two headers, for a ticket in a subprotocol or in the query. Once."""
        ticket = get_service().issue(CLAIMS)
        headers = {name: value.format(ticket.value)}
        response = authorize(**headers)
        assert (response.status_code, response.content) == (204, b"")
        assert "no-store" in response.headers["Cache-Control"]
        assert response.headers["X-Realtime-User"] == "7"
        assert response.headers["X-Realtime-Username"] == "ada"
        response = authorize(**headers)
        assert is_refused(response, 401, "No valid ticket.", WWW_Authenticate="Ticket")
        assert "X-Realtime-User" not in response.headers

    @pytest.mark.parametrize(
        ("place", "headers"),
        [
            (AUTHORIZE, {}),
            (AUTHORIZE, {"X_Original_URI": "/chat/"}),
            (AUTHORIZE, {"X_Original_URI": ""}),
            (AUTHORIZE, {"X_Original_URI": "/chat/&ticket={}"}),
            (AUTHORIZE, {"X_Original_URI": "/chat/?ticket=x"}),
            (AUTHORIZE, {"X_Original_URI": "/chat/?x=1?ticket={}"}),
            (AUTHORIZE, {"Sec_WebSocket_Protocol": PROTOCOL}),
            (AUTHORIZE, {"X_Ticket": "{}", "Ticket": "Ticket {}"}),
            (AUTHORIZE + "?ticket={}", {}),
        ],
        ids=str,
    )
    def test_refuses_all_else(self, place: str, headers: dict[str, str]) -> None:
        """401; and no ticket elsewhere in nginx's request is spent."""
        ticket = get_service().issue(CLAIMS)
        filled = {name: text.format(ticket.value) for name, text in headers.items()}
        response = authorize(place.format(ticket.value), **filled)
        assert is_refused(response, 401, "No valid ticket.", WWW_Authenticate="Ticket")
        assert not is_spent(ticket)

    def test_refuses_to_choose(self) -> None:
        """Two tickets are none, and both stay good."""
        one, other = get_service().issue(CLAIMS), get_service().issue(CLAIMS)
        response = authorize(
            X_Original_URI=f"/?ticket={one.value}",
            Sec_WebSocket_Protocol=f"ticket.{other.value}",
        )
        assert response.status_code == 401
        assert not is_spent(one) and not is_spent(other)

    def test_is_for_an_audience(self) -> None:
        """as_view(audience=...), and no header of the client's."""
        ticket = get_service().issue(CLAIMS, audience="chat")
        uri = f"/?ticket={ticket.value}&audience=chat"
        assert authorize(X_Original_URI=uri).status_code == 401
        response = authorize("/authorize/chat/", X_Original_URI=uri)
        assert response.status_code == 204

    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            ("https://example.com", 204),
            ("https://evil.example", 403),
            ("null", 403),
            ("", 403),
            (None, 403),
        ],
    )
    def test_judges_the_origin_first(self, origin: str | None, status: int) -> None:
        """A page of another site spends no ticket."""
        ticket = get_service().issue(CLAIMS)
        headers = {} if origin is None else {"Origin": origin}
        uri = f"/?ticket={ticket.value}"
        response = authorize("/authorize/from/", X_Original_URI=uri, **headers)
        assert response.status_code == status
        assert is_spent(ticket) is (status == 204)
        if status == 403:
            assert is_refused(response, 403, "This origin may not connect.")

    @pytest.mark.parametrize(
        ("place", "name"),
        [(AUTHORIZE, "X_Original_URI"), ("/authorize/caddy/", "X_Forwarded_Uri")],
    )
    def test_trusts_one_header(self, place: str, name: str) -> None:
        """The one that the proxy sets. A client may have sent the others."""
        ticket = get_service().issue(CLAIMS)
        others = {"X_Original_URI", "X_Forwarded_Uri", "X_Rewrite_URL"} - {name}
        uri = f"/chat/?ticket={ticket.value}"
        response = authorize(place, **dict.fromkeys(others, uri))
        assert response.status_code == 401
        assert authorize(place, **{name: uri}).status_code == 204

    def test_a_preflight_spends_nothing(self) -> None:
        """The proxy asks with GET then too, and hands on what only a preflight has."""
        ticket = get_service().issue(CLAIMS)
        response = authorize(
            X_Original_URI=f"/?ticket={ticket.value}",
            Access_Control_Request_Method="GET",
        )
        assert is_refused(response, 403, "A preflight needs no ticket.")
        assert not is_spent(ticket)

    def test_lets_every_origin_in_unless_told(self) -> None:
        """origins=None judges nothing."""
        ticket = get_service().issue(CLAIMS)
        response = authorize(
            X_Original_URI=f"/?ticket={ticket.value}", Origin="https://evil.example"
        )
        assert response.status_code == 204

    def test_is_down_with_the_storage(self) -> None:
        """503, which nginx makes a 500."""
        response = authorize("/authorize/down/", X_Original_URI=f"/?ticket={GOOD}")
        assert is_refused(
            response, 503, "Try again with a new ticket.", Retry_After="1"
        )

    @pytest.mark.parametrize("method", ["post", "put", "head", "options"])
    def test_takes_no_other_method(self, method: str) -> None:
        """405, and nothing is spent."""
        ticket = get_service().issue(CLAIMS)
        headers = bearer(KEY) | {"X-Original-URI": f"/?ticket={ticket.value}"}
        response = getattr(Client(), method)(AUTHORIZE, headers=headers)
        assert response.status_code == 405
        assert response.headers["Allow"] == "GET"
        assert not is_spent(ticket)

    @pytest.mark.parametrize(
        ("user_id", "username"),
        [
            (2**60, "ada"),
            ("00000000-0000-0000-0000-000000000005", "ada"),
            ("a\r\nX-Realtime-User: 1", "b\r\nSet-Cookie: c=d"),
            ("Ада", "Ада"),
            ("a b,c;d/e", "ada/lovelace, a=b; %41 +"),
            ("\0", "\x7f\x85\u2028"),
            ("", ""),
        ],
        ids=ascii,
    )
    def test_headers_hold_any_user(self, user_id: int | str, username: str) -> None:
        """Percent-encoded: no user can write a header, or pass for another."""
        self.check_headers(user_id, username)

    @properties
    @given(st.integers() | st.text(max_size=50), st.text(max_size=50))
    def test_headers_come_back_whole(self, user_id: int | str, username: str) -> None:
        """Decoded, they are the user's id and name."""
        self.check_headers(user_id, username)

    def check_headers(self, user_id: int | str, username: str) -> None:
        with using(LocMemBackend()) as service:
            ticket = service.issue({"id": user_id, "username": username})
            headers = bearer(KEY) | {"X-Original-URI": f"/?ticket={ticket.value}"}
            request = RequestFactory().get("/", headers=headers)
            view = AuthorizeView.as_view(service=service, keys=[KEY])
            response: HttpResponseBase = view(request)
        shown = [
            response.headers[name]
            for name in ("X-Realtime-User", "X-Realtime-Username")
        ]
        assert [unquote(text) for text in shown] == [str(user_id), username]
        assert all(text.isascii() and not set(text) & set(" ,;/\r\n") for text in shown)
        assert "".join(shown).isprintable()
        with pytest.raises(InvalidTicket):
            service.consume(ticket.value)


@pytest.fixture
def service(settings: Any) -> TicketService:
    """A service whose storage is empty."""
    settings.REALTIME_TICKET_BACKEND = f"{LocMemBackend.__module__}.LocMemBackend"
    return get_service()


def disconnects(
    place: str = DISCONNECTS, body: Any = "", key: str = KEY
) -> dict[str, Any]:
    """Ask whose connections must end."""
    response = consume(body, place, key)
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    answer: dict[str, Any] = response.json()
    return answer


class TestDisconnects:
    @pytest.mark.parametrize("body", ["", {}, {"since": 0}, {"since": -1}])
    def test_are_told_of_all_users(self, service: TicketService, body: Any) -> None:
        """As they stand in the journal, each once."""
        service.disconnect(7, "ada")
        service.disconnect(8, session="s1")
        service.disconnect(2**60, session="")
        answer = disconnects(body=body)
        entries = answer.pop("disconnects")
        assert [(each["kind"], each["users"], each["session"]) for each in entries] == [
            ("user", ["7", "ada"], ""),
            ("session", ["8"], "s1"),
            ("sessionless", [str(2**60)], ""),
        ]
        assert entries[0].keys() == {"id", "at", "expire", "kind", "users", "session"}
        assert len({each["id"] for each in entries}) == 3
        now = answer.pop("now")
        assert all(0 <= now - each["at"] <= 2 for each in entries)
        assert answer == {"status": "ok", "expire": 120, "complete": True}

    def test_are_told_since_a_second(self, service: TicketService) -> None:
        """Mutants: disconnects-since-ignored."""
        now = int(time.time())
        for second, user in (now - 60, 1), (now - 5, 2), (now, 3):
            (text,) = revocations.encode("user", [str(user)], at=second, expire=120)
            key = revocations.journal_key("rt_", second, 0)
            service.backend.add(key, text, 120)

        def users(since: int) -> list[str]:
            entries = disconnects(body={"since": since})["disconnects"]
            return [user for each in entries for user in each["users"]]

        assert users(now - 10**6) == ["1", "2", "3"]
        assert users(now - 59) == users(now - 5) == ["2", "3"]
        assert users(now - 4) == ["3"]
        assert users(now + 10**6) == []

    def test_that_are_many_are_told(self, service: TicketService) -> None:
        """Mutants: disconnects-beyond-the-first-slots."""
        for user in range(100):
            service.disconnect(user)
        entries = disconnects()["disconnects"]
        assert {user for each in entries for user in each["users"]} == {
            str(user) for user in range(100)
        }

    def test_that_nobody_understands_are_left_out(self, service: TicketService) -> None:
        """And one that stands under two keys is told once."""
        (text,) = revocations.encode("user", ["7"], at=1, expire=120)
        for slot, entry in enumerate(["nonsense", text, text]):
            key = revocations.journal_key("rt_", int(time.time()), slot)
            service.backend.add(key, entry, 120)
        assert len(disconnects()["disconnects"]) == 1

    @pytest.mark.parametrize("since", [None, "0", 1.5, True, [], {}])
    def test_want_a_whole_second(self, since: object) -> None:
        response = consume({"since": since}, DISCONNECTS)
        assert is_refused(
            response, 400, "Send 'since' as a whole number of Unix seconds."
        )

    def test_are_for_servers_of_ones_own(self) -> None:
        assert consume({}, DISCONNECTS, key="wrong").status_code == 401

    def test_say_that_the_storage_failed(self) -> None:
        """Mutants: disconnects-of-a-blind-storage."""
        response = consume({}, "/unreadable/")
        assert is_refused(response, 503, "Try again.", Retry_After="1")

    def test_say_that_a_part_of_it_failed(self) -> None:
        """What the others hold is told. Mutants: disconnects-always-complete."""
        second = int(time.time())
        for slot, user in enumerate(["7", "8"]):
            (text,) = revocations.encode("user", [user], at=second, expire=120)
            half.backend.add(revocations.journal_key("rt_", second, slot), text, 120)
        answer = disconnects("/half-dead/")
        assert answer["complete"] is False
        assert [each["users"] for each in answer["disconnects"]] == [["8"]]

    def test_need_a_backend_that_can(self) -> None:
        response = consume({}, "/tickets-only/")
        assert is_refused(
            response, 501, "This storage backend does not tell of disconnects."
        )


class TestALoginThatHasEnded:
    @pytest.mark.parametrize("before", [False, True])
    def test_lets_nobody_in(self, service: TicketService, before: bool) -> None:
        """Whether the ticket was issued before the logout, or while it was answered.

        Mutants: consume-after-the-logout.
        """
        if before:
            ticket = service.issue(CLAIMS, session="s1")
        service.disconnect(CLAIMS["id"], session="s1")
        if not before:
            ticket = service.issue(CLAIMS, session="s1")
        assert is_refused(consume({"ticket": ticket.value}), 403, "No valid ticket.")
        assert is_spent(ticket)

    def test_is_seen_by_every_view(self, service: TicketService) -> None:
        tickets = [service.issue(CLAIMS, session="s1") for _ in range(2)]
        service.disconnect(CLAIMS["id"])
        uri = f"/?ticket={tickets[0].value}"
        assert authorize(X_Original_URI=uri).status_code == 401
        answer = consume(
            {"data": {"ticket": tickets[1].value}}, "/internal/centrifugo/connect/"
        ).json()
        assert answer["disconnect"]["code"] == 4401

    def test_is_told_like_any_refusal(
        self, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After the ticket was told as consumed, as by LiveTickets."""
        ticket = service.issue(CLAIMS, audience="chat", session="s1")
        service.disconnect(CLAIMS["id"], session="s1")
        told: list[tuple[str, Any]] = []
        monkeypatch.setattr(
            service, "notify", lambda *event, **kw: told.append((*event, kw))
        )
        consume({"ticket": ticket.value, "audience": "chat"})
        (_, consumed), rejected = told
        assert consumed == {"ticket": ticket}
        assert rejected == (
            "rejected",
            {
                "reason": "revoked",
                "fingerprint": ticket.fingerprint,
                "audience": "chat",
            },
        )

    def test_may_be_forgotten_where_a_ticket_is_older_than_the_journal(
        self, service: TicketService
    ) -> None:
        """Mutants: consume-knows-all-disconnects."""
        age = service.journal.expire + 10
        ticket = service.issue(CLAIMS, authenticated_at=time.time() - age)
        assert is_refused(consume({"ticket": ticket.value}), 403, "No valid ticket.")

    def test_concerns_no_other(self, service: TicketService) -> None:
        """Another session, and another user."""
        one = service.issue(CLAIMS, session="s2")
        other = service.issue({"id": 8, "username": "bob"}, session="s1")
        service.disconnect(CLAIMS["id"], session="s1")
        service.disconnect(CLAIMS["id"], session="")
        for ticket in (one, other):
            assert consume({"ticket": ticket.value}).status_code == 200

    def test_cannot_be_seen_by_a_backend_for_tickets_only(self) -> None:
        ticket = tickets_only.issue(CLAIMS)
        response = consume({"ticket": ticket.value}, "/tickets-only/consume/")
        assert response.status_code == 200

    def test_may_have_when_the_storage_failed(self) -> None:
        """503: nobody knows. The ticket is spent."""
        ticket = blind.issue(CLAIMS)
        response = consume({"ticket": ticket.value}, "/unreadable/consume/")
        assert is_refused(
            response, 503, "Try again with a new ticket.", Retry_After="1"
        )
