"""Hostile input at every public door.

Whatever comes in, only documented exceptions and answers come out, in bounded time, and
the storage is asked about nothing that is not in the format of a ticket.
"""

from __future__ import annotations

import asyncio
import io
import json
import string
from collections.abc import Callable
from enum import Enum
from functools import partial
from html.parser import HTMLParser
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import AsyncClient, Client
from django.urls import include, path
from django.utils.safestring import SafeString
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realtime_ticket import (
    AsyncRealtimeTicketView,
    InvalidAudience,
    InvalidClaims,
    InvalidTicket,
    TicketService,
    get_service,
)
from realtime_ticket.handshake import (
    AllowedOrigins,
    find_ticket,
    select_subprotocol,
    strip_query,
    without_ticket,
)
from realtime_ticket.integrations.asgi import TicketMiddleware
from realtime_ticket.templatetags.realtime_ticket import realtime_ticket_script
from tests import servers
from tests.asgi import App, Peer, a_scope, guard
from tests.doors import Door, both_doors
from tests.faults.planted import on_databases
from tests.faults.requests import KEY, authorize, post
from tests.helpers import (
    CLAIMS,
    GOOD,
    RecordingBackend,
    commands_of,
    hostile_audiences,
    hostile_values,
    real_redis,
    reason_of,
    same_ticket,
    shown,
    using,
    within,
)
from tests.properties import texts_of

CENTRIFUGO = "/centrifugo/connect/"
BOUND = 5.0
"""Seconds that one value may take on a busy machine. Most take microseconds."""

MEGABYTE = 1_000_000
ALPHABET = set(string.ascii_letters + string.digits + "_-")

urlpatterns = [
    path("", include("realtime_ticket.urls")),
    path("async-ticket/", AsyncRealtimeTicketView.as_view()),
    path("", include("realtime_ticket.integrations.urls")),
]

pytestmark = pytest.mark.urls(__name__)
properties = settings(max_examples=60, deadline=None, database=None, derandomize=True)


class Word(str):
    """A text that also answers to whatever Django or a framework adds to one."""


class Liar(str):
    """A text that says it is another one."""

    def __str__(self) -> str:
        return "session:abc"

    def __format__(self, spec: str) -> str:
        return "session:abc"

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __len__(self) -> int:
        return 46


class Room(str, Enum):  # noqa: UP042 (a StrEnum formats as its value)
    """Names of audiences, as a project may keep them."""

    CHAT = "chat"


class Silent:
    """An object that fails when it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def corpus() -> list[Any]:
    """Return what is not in the format of a ticket, from every corner."""
    values = hostile_values()
    values += [Word("x"), Word(f"{GOOD}\n"), Liar("x"), Liar(f"{GOOD}:chat"), Silent()]
    values += [f"{prefix}{'a' * 43}" for prefix in ("st_", "rt", "rt__", "rt_rt_")]
    values += [f"rt_{digit * 43}" for digit in "\u0663\u06f3\u0969\uff13\U0001d7d1"]
    values += [f"rt_{'a' * 42}{char}" for char in map(chr, range(256)) if char not in
               ALPHABET]  # fmt: skip
    return values


TEXTS = [value for value in corpus() if isinstance(value, str)]


def is_key(key: str) -> bool:
    """Tell whether a storage may be asked about this."""
    value, colon, audience = key.partition(":")
    return (
        value.startswith("rt_")
        and len(value) == 46
        and set(value) <= ALPHABET
        and bool(audience) is bool(colon)
        and len(audience) <= 64
        and set(audience) <= ALPHABET | {"."}
    )


def keys_of(service: TicketService) -> list[str]:
    """Return what a recording storage was asked about."""
    backend = service.backend
    assert isinstance(backend, RecordingBackend)
    return [key for _, keys in backend.calls for key in keys]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.REALTIME_TICKET_SERVICE_KEYS = [KEY]
    settings.REALTIME_TICKET_BACKEND = "tests.helpers.RecordingBackend"


@pytest.fixture(params=["recording", "redis"])
def commands(request: Any, settings: Any) -> Callable[[], int]:
    """Return how to count what the storage of the settings was asked."""
    if request.param == "recording":
        return lambda: len(keys_of(get_service()))
    servers.require("redis")
    settings.REALTIME_TICKET_BACKEND = "realtime_ticket.backends.redis.RedisBackend"
    settings.REALTIME_TICKET_REDIS = {"unix_socket_path": str(servers.REDIS)}

    def count() -> int:
        with real_redis() as watcher:
            return sum(commands_of(watcher).values())

    return count


def ask(
    place: str,
    body: str | bytes,
    client: Client | AsyncClient | None = None,
    kind: str = "application/json",
) -> int:
    """Return the status, or code, with which a view for one's own servers answers."""
    client = client or Client(raise_request_exception=False)
    body = body.encode() if isinstance(body, str) else body
    response = post(client, place, body, kind, Authorization=f"Bearer {KEY}")
    if response.status_code != 200 or place != CENTRIFUGO:
        return int(response.status_code)
    return int(response.json()["disconnect"]["code"])


def connect(scope: dict[str, Any]) -> str:
    """Return how TicketMiddleware receives this connection."""
    return "let in" if Peer(scope).connect(guard(App(), None)).is_let_in else "refused"


SERVICE_DOORS: dict[str, Callable[[Any], object]] = {
    "consume": lambda value: reason_of(lambda: get_service().consume(value)),
    "aconsume": lambda value: reason_of(
        lambda: async_to_sync(get_service().aconsume)(value)
    ),
    "revoke": lambda value: get_service().revoke(value),
    "arevoke": lambda value: async_to_sync(get_service().arevoke)(value),
}
"""Doors for anything. What they say of something that is no ticket is in REFUSALS."""

WIRE_DOORS: dict[str, Callable[[str], object]] = {
    "consume view": lambda value: ask("/consume/", json.dumps({"ticket": value})),
    "centrifugo": lambda value: ask(
        CENTRIFUGO, json.dumps({"data": {"ticket": value}})
    ),
    "authorize by query": lambda value: authorize(
        X_Original_URI=f"/?ticket={quote(value, errors='replace')}"
    ),
    "authorize by subprotocol": lambda value: authorize(
        Sec_WebSocket_Protocol=f"ticket.{value}".encode(errors="replace").decode("l1")
    ),
    "ASGI by query": lambda value: connect(
        a_scope("http", query=f"ticket={quote(value, errors='replace')}")
    ),
    "ASGI by subprotocol": lambda value: connect(
        a_scope() | {"subprotocols": [f"ticket.{value}"]}
    ),
    "ASGI by header": lambda value: connect(
        a_scope() | {"headers": [(b"authorization", b"Ticket " + value.encode(
            errors="replace"))]}
    ),
}  # fmt: skip
"""Doors for texts that come over the network."""

REFUSALS: dict[str, set[object]] = {
    "consume": {"malformed"}, "aconsume": {"malformed"},
    "revoke": {False}, "arevoke": {False},
    "consume view": {403}, "centrifugo": {4401},
    "authorize by query": {401}, "authorize by subprotocol": {401},
    "ASGI by query": {"refused"}, "ASGI by subprotocol": {"refused"},
    "ASGI by header": {"refused"},
}  # fmt: skip


class TestValues:
    def test_are_many(self) -> None:
        """The corpus has what it is meant to have, and no ticket.

        Mutants: value-of-any-length.
        """
        assert len(corpus()) > 400 and max(map(len, TEXTS)) > MEGABYTE
        with using(RecordingBackend()) as service:
            assert not any(map(service._format.fullmatch, TEXTS))

    @pytest.mark.parametrize("door", REFUSALS)
    def test_never_reach_the_storage(
        self, door: str, commands: Callable[[], int]
    ) -> None:
        """Each is refused, at every door, at no cost for the storage.

        What a carrier may strip, blanks around a ticket for example, is no part of the
        value, so that those are left out there.

        Mutants: value-matched-in-part, value-of-any-form, value-of-any-length.
        """
        show = SERVICE_DOORS.get(door) or WIRE_DOORS[door]
        values = corpus() if door in SERVICE_DOORS else TEXTS
        if door.startswith(("authorize", "ASGI")):
            values = [value for value in values if GOOD not in value]
        before = commands()
        for value in values:
            with within(BOUND):
                assert show(value) in REFUSALS[door], ascii(str.__str__(value)[:60])
        assert commands() == before
        show(GOOD)
        assert commands() > before, "the counter does not count"

    @both_doors
    @properties
    @given(value=texts_of("rt_", GOOD, "a" * 43, "a", "\n", "\0", ":", "\u212a"))
    def test_are_tickets_or_malformed(self, door: type[Door], value: str) -> None:
        """Close to a ticket, a text is in its format, or refused without a storage.

        Mutants: value-matched-in-part, value-of-any-form, value-of-any-length.
        """
        with using(RecordingBackend()) as service:
            reason = reason_of(lambda: door(service).consume(value, audience="chat"))
            assert (reason == "unknown") is (is_key(value) and ":" not in value)
            expected = [f"{value}:chat"] if reason == "unknown" else []
            assert keys_of(service) == expected

    @both_doors
    @pytest.mark.parametrize("kind", [Word, SafeString, str])
    def test_may_be_subclasses(self, door: type[Door], kind: type[str]) -> None:
        """What a framework makes of a text is as good as the text.

        Mutants: value-of-one-type.
        """
        with using(RecordingBackend()) as service:
            ticket = service.issue(CLAIMS, audience=kind("chat"))
            shown = door(service).consume(kind(ticket.value), audience=kind("chat"))
            assert same_ticket(shown, ticket)
            assert all(map(is_key, keys_of(service)))

    @both_doors
    def test_count_by_their_characters(self, door: type[Door]) -> None:
        """The storage is asked about the characters, whatever a text says it is.

        Mutants: key-of-other-characters.
        """
        with using(RecordingBackend()) as service:
            ticket = door(service).issue(CLAIMS, audience=Room.CHAT)
            assert door(service).consume(ticket.value, audience="chat") == ticket
            for audience in ("", "chat", Room.CHAT, Liar("chat")):
                call = partial(door(service).consume, Liar(GOOD), audience=audience)
                assert reason_of(call) == "unknown"
            assert all(type(key) is str and is_key(key) for key in keys_of(service))


class TestAudiences:
    @both_doors
    @properties
    @given(audience=texts_of("chat", ".", "-", ":", "\n", "a" * 30, "\u212a", " "))
    def test_are_names_or_refused(self, door: type[Door], audience: str) -> None:
        """Close to a name, a text is one, or is refused, before the storage is asked.

        Mutants: audience-matched-in-part.
        """
        is_name = is_key(f"{GOOD}:{audience}") or audience == ""
        with using(RecordingBackend()) as service:
            try:
                ticket = door(service).issue(CLAIMS, audience=audience)
            except InvalidAudience:
                value = GOOD
            else:
                value = ticket.value
            assert (value != GOOD) is is_name
            call = lambda: door(service).consume(value, audience=audience)  # noqa: E731
            if is_name:
                assert same_ticket(call(), ticket)
            else:
                assert reason_of(call) == "malformed"
                assert door(service).revoke(value, audience=audience) is False
                assert keys_of(service) == []

    @pytest.mark.parametrize("audience", hostile_audiences(), ids=shown)
    def test_over_http(self, audience: Any) -> None:
        """One that is no name is refused, and one that is no text is a bad request.

        Mutants: audience-matched-in-part, audience-of-any-type.
        """
        try:
            body = json.dumps({"ticket": GOOD, "audience": audience})
        except TypeError:
            body = json.dumps({"ticket": GOOD, "audience": [7]})
        status = ask("/consume/", body)
        assert status == (403 if isinstance(audience, str) else 400)
        assert keys_of(get_service()) == []


def nested(depth: int, make: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = make(value)
    return value


def cyclic() -> dict[str, Any]:
    claims: dict[str, Any] = dict(CLAIMS)
    claims["me"] = [claims]
    return claims


class HostileDict(dict[Any, Any]):
    """A dict that says it is another one."""

    def get(self, key: Any, default: Any = None) -> Any:
        return CLAIMS.get(key, default)

    __repr__ = Silent.__repr__


HOSTILE_CLAIMS: list[Any] = [
    None, 7, "x", [], [("id", 7), ("username", "ada")], {}, {"id": 7}, Silent(),
    {"username": "ada"}, HostileDict(id=7, username=b"ada"), cyclic(),
    *({"id": value, "username": "ada"} for value in (
        None, True, 7.0, b"7", [7], {}, Silent(), 10**5000, -(10**5000), "7" * 5000)),
    *({"id": 7, "username": value} for value in (
        None, 7, b"ada", ["ada"], Silent(), "a" * MEGABYTE, "\0" * 4000)),
    *(CLAIMS | {name: 1} for name in ("iat", "exp", "aud")),
    *(CLAIMS | {"x": value} for value in (
        float("nan"), float("inf"), -float("inf"), b"x", {1}, object(), Silent(),
        10**5000, nested(5_000), nested(5_000, lambda inner: {"x": inner}), len,
        (x for x in ()), 1j, "\N{ADMISSION TICKETS}" * 1000, [0] * MEGABYTE)),
    *(CLAIMS | {key: 1} for key in (b"x", ("x",), Silent(), object(), "x" * 5000)),
    {**CLAIMS, float("nan"): float("nan")},
]  # fmt: skip


class TestClaims:
    @both_doors
    def test_that_no_ticket_can_hold(self, door: type[Door]) -> None:
        """InvalidClaims, in bounded time, and nothing is stored.

        Mutants: claims-of-any-length, claims-not-a-number.
        """
        with using(RecordingBackend()) as service:
            for claims in HOSTILE_CLAIMS:
                with within(BOUND), pytest.raises(InvalidClaims) as caught:
                    door(service).issue(claims)
                assert len(str(caught.value)) < 200
            assert keys_of(service) == []

    @both_doors
    @properties
    @given(
        extra=st.dictionaries(
            st.text(max_size=5) | st.integers() | st.floats() | st.none(),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.binary()
                | st.text(st.characters(), max_size=20),
                lambda inner: st.lists(inner, max_size=4) | st.tuples(inner)
                | st.dictionaries(st.text(max_size=5), inner, max_size=4),
                max_leaves=20,
            ),
            max_size=4,
        ),
        user_id=st.integers() | st.text(st.characters(), max_size=20),
        username=st.text(st.characters(), max_size=20),
    )  # fmt: skip
    @example({"x": "\ud800"}, "\udfff", "\0\r\n")
    @example({"x": float("nan")}, 7, "ada")
    def test_come_back_or_are_refused(
        self, door: type[Door], extra: dict[Any, Any], user_id: Any, username: str
    ) -> None:
        """What is issued is what is consumed, in ASCII that any JSON reader takes.

        Mutants: claims-not-a-number.
        """
        with using(RecordingBackend()) as service:
            try:
                ticket = door(service).issue(
                    {"id": user_id, "username": username} | extra
                )
            except InvalidClaims:
                assert keys_of(service) == []
                return
            (text,) = service.backend.texts.values()  # type: ignore[attr-defined]
            assert text.isascii() and len(text) <= 4096
            json.loads(text, parse_constant=pytest.fail)
            assert same_ticket(door(service).consume(ticket.value), ticket)
            assert ticket.username == username and str(ticket.user_id) == str(user_id)

    @pytest.mark.parametrize("depth", [10, 900, 980, 1000, 1100, 2000])
    def test_nested_as_deep_as_can_be(self, depth: int) -> None:
        """Issued and consumed, or InvalidClaims: never a ticket that is refused.

        Mutants: claims-nested-without-end.
        """
        with using(RecordingBackend()) as service:
            for level in range(depth, depth + 30):
                try:
                    ticket = service.issue(CLAIMS | {"x": nested(level)})
                except InvalidClaims:
                    continue
                assert service.consume(ticket.value) == ticket


class TestLifetimes:
    @both_doors
    @properties
    @given(
        expire=st.integers(-5, 5) | st.floats() | st.text() | st.booleans()
        | st.binary() | st.lists(st.integers(), max_size=2)
    )  # fmt: skip
    @example(-(10**5000))
    @example("\u0663")
    @example(b"1")
    def test_are_whole_seconds(self, door: type[Door], expire: Any) -> None:
        """Anything else is ValueError, and nothing is stored.

        Mutants: lifetime-of-any-type.
        """
        with using(RecordingBackend()) as service:
            try:
                ticket = door(service).issue(CLAIMS, expire=expire)
            except ValueError:
                assert keys_of(service) == []
                assert type(expire) is not int or expire < 1
            else:
                assert type(expire) is int and expire >= 1
                assert ticket.expires_at - ticket.issued_at == expire

    @both_doors
    @pytest.mark.parametrize("expire", [2**31, 2**40, 2**63, 10**30, 10**400])
    def test_are_no_ages(self, door: type[Door], expire: int) -> None:
        """What no storage can reckon with is ValueError as well.

        Mutants: lifetime-without-end.
        """
        with using(RecordingBackend()) as service:
            with pytest.raises(ValueError, match="lifetime"):
                door(service).issue(CLAIMS, expire=expire)
            assert keys_of(service) == []


LONG = [
    text * (MEGABYTE // len(text))
    for text in (
        ",", "&", "=", "%", "+", ";", ".", ":", "*", " ", "\t", "\0", "\r\n", "%74",
        "ticket=&", "ticket=a&", "ticket.,", "ticket.a,", "Ticket ", "https://", "a.",
        "[", "[:", "a:", "://", "\u212a", "\ud800", "\N{ADMISSION TICKETS}", "ticket=",
    )
]  # fmt: skip
"""A megabyte each of what a parser might stumble over."""


class TestHandshakes:
    @pytest.mark.parametrize("text", LONG, ids=lambda text: ascii(text[:9]))
    def test_of_a_megabyte_are_read_in_time(self, text: str) -> None:
        """Each function reads a megabyte of anything in the time of reading it.

        Mutants: query-parsed-strictly.
        """
        allowed = AllowedOrigins(["https://*.example.com"], allow_missing=False)
        for carried in (
            {"subprotocols": text},
            {"subprotocols": [text, text]},
            {"query": text},
            {"query": text.encode(errors="replace")},
            {"authorization": text},
            {"authorization": f"Ticket {text}"},
        ):
            with within(BOUND):
                assert is_text_or_refused(carried)
        with within(BOUND):
            assert select_subprotocol(text) is None
            assert not any("ticket." in name[:7] for name in without_ticket(text))
            assert "ticket=a" not in strip_query(text)
            assert text not in allowed and f"https://{text}" not in allowed


def is_text_or_refused(handshake: dict[str, Any]) -> bool:
    try:
        return isinstance(find_ticket(**handshake), str)
    except InvalidTicket as error:
        return error.reason == "malformed"


RAW = [GOOD.encode(), b"rt_", b"ticket=", b"Ticket ", b"ticket.", b"realtime-ticket.v1"]
raw = st.lists(st.sampled_from(RAW) | st.binary(max_size=4), max_size=6).map(b"".join)
names = st.sampled_from(
    [b"authorization", b"sec-websocket-protocol", b"origin", b"host", b"", b"\xff"]
)
scopes = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["websocket", "http"]),
        "headers": st.lists(st.tuples(names, raw), max_size=5),
    },
    optional={
        "query_string": raw,
        "subprotocols": st.lists(raw.map(lambda line: line.decode("latin-1"))),
        "extensions": st.none() | st.just({"websocket.http.response": {}}),
        "path": st.text(),
    },
)
ORIGINS = AllowedOrigins(["https://example.com"], allow_missing=True)
LARGE = b"ticket=" + b"a" * MEGABYTE


class TestASGI:
    @properties
    @given(
        scope=scopes,
        required=st.booleans(),
        origins=st.sampled_from([None, ORIGINS]),
        refusal=st.sampled_from(["strict", "visible"]),
    )
    @example(
        {"type": "http", "headers": [(b"authorization", b"Ticket " + GOOD.encode())]},
        True,
        None,
        "strict",
    )
    @example(
        {"type": "http", "headers": [(b"authorization", b"Ticket %sx" % RAW[0])]},
        True,
        None,
        "strict",
    )
    @example(
        {"type": "http", "headers": [(b"authorization", b"Ticket a")] * 2},
        True,
        None,
        "strict",
    )
    @example(
        {"type": "websocket", "headers": [], "query_string": LARGE},
        True,
        ORIGINS,
        "visible",
    )
    @example(
        {"type": "websocket", "headers": [(b"origin", b"\xff" * MEGABYTE)]},
        False,
        ORIGINS,
        "strict",
    )
    @example(
        {"type": "http", "headers": [(b"cookie", b"a")] * 10_000}, False, None, "strict"
    )
    def test_raw_scopes(
        self, scope: dict[str, Any], required: bool, origins: Any, refusal: Any
    ) -> None:
        """Everybody gets an answer, nobody without a ticket gets in, and the
        application sees no ticket.

        Mutants: value-matched-in-part, asgi-needs-no-ticket.
        """
        app = App()
        with within(BOUND), using(RecordingBackend()) as service:
            peer = Peer(scope).connect(
                TicketMiddleware(app, origins=origins, service=service,
                                 required=required, refusal=refusal, disconnect=False)
            )  # fmt: skip
            assert all(map(is_key, keys_of(service)))
        assert peer.sent
        if app.received:
            assert not required and app.scope["ticket"] is None
            query = app.scope.get("query_string", b"").decode("latin-1")
            assert find_ticket(
                subprotocols=app.scope.get("subprotocols"), query=query
            ) == ""  # fmt: skip

    @pytest.mark.parametrize("kind", ["websocket", "http"])
    def test_a_ticket_amid_garbage(self, kind: str) -> None:
        """Is found, once, and what is around it disturbs nobody.

        Mutants: query-keeps-its-ticket.
        """
        app = App()
        with using(RecordingBackend()) as service:
            ticket = service.issue(CLAIMS)
            noise = bytes(range(256)).replace(b"&", b"").replace(b"=", b"")
            scope = {
                "type": kind,
                "headers": [(b"x", noise), (b"authorization", b"Basic " + noise)] * 50,
                "query_string": b"%s&ticket=%s&%s"
                % (noise, ticket.value.encode(), b"%ff" * MEGABYTE),
            }
            middleware = guard(app, service, disconnect=False)
            assert Peer(dict(scope)).connect(middleware).is_let_in
            assert app.scope["ticket"] == ticket
            assert ticket.value.encode() not in app.scope["query_string"]
            assert not Peer(dict(scope)).connect(middleware).is_let_in


FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
JSON_BODIES = [
    b"", b" ", b"\0", b"null", b"true", b"7", b'"x"', b"[]", b"{", b"{}", b'{"ticket"',
    b'{"ticket":null}', b'{"ticket":7}', b'{"ticket":["x"]}', b'{"ticket":{}}',
    b'{"ticket":true}', b'{"data":null}', b'{"data":7}', b'{"data":{"ticket":[]}}',
    b'{"data":[]}', b'{"data":{"ticket":{"a":1}}}', b'{"data":{"ticket":1e999}}',
    b'{"ticket":"\xff"}', b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"\x00{\x00}",
    "{}".encode("utf-16"), "{}".encode("utf-32"), b'{"ticket":"\\ud800"}', b"NaN",
    b'{"ticket":NaN}', b'{"ticket":-Infinity}', b'{"ticket":1e999}', b"9" * 10_000,
    b'{"ticket":%s}' % (b"9" * 10_000), b"[" * 100_000, b'{"a":' * 100_000,
    b'{"ticket":%s1%s}' % (b"[" * 100_000, b"]" * 100_000), b'{"ticket":"x"}' * 2,
    b'{"ticket":"%s"}' % (b"a" * 2 * MEGABYTE), b"a" * 3 * MEGABYTE,
    b'{"ticket":"x","audience":null}', b'{"ticket":"x","audience":["chat"]}',
    b'{"__proto__":{"ticket":"x"}}', b"<?xml version='1.0'?><!DOCTYPE x>",
]  # fmt: skip
FORM_BODIES = [
    b"audience=chat", b"audience=%ff%fe&" * 10, b"audience=%00", b"&" * 5_000,
    b"a=b&" * 5_000, b"--b\r\n", b"--b--\r\n",
    b"--b\r\nContent-Disposition: form-data\r\n\r\nx",
    b'--b\r\nContent-Disposition: form-data; name="audience"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n!!!\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name="audience"\r\n\r\n\xff\r\n--b--\r\n',
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 2_000,
    b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nx\r\n' * 200,
    b'--b\r\nContent-Disposition: form-data; name="a"; filename="../../f"\r\n\r\n'
    + b"x" * 3 * MEGABYTE,
    b"--b\r\n" + b"X: y\r\n" * 10_000,
]  # fmt: skip
KINDS = [
    "application/json", "application/json; charset=utf-7", FORM, MULTIPART, "", "x",
    f"{FORM}; charset=utf-16", f"{FORM}; charset=nonsense", "multipart/form-data",
    "multipart/form-data; boundary=" + "b" * 300, "text/plain; charset=;",
]  # fmt: skip


CLIENTS = (Client, AsyncClient)


class TestHTTP:
    @pytest.mark.filterwarnings("ignore:Unknown charset")
    @pytest.mark.parametrize("place", ["/consume/", CENTRIFUGO])
    def test_bodies_for_servers(self, place: str, commands: Callable[[], int]) -> None:
        """Each is a bad request or no ticket, whatever it says it is.

        Mutants: body-of-any-depth.
        """
        clients = [client(raise_request_exception=False) for client in CLIENTS]
        before = commands()
        for client, body in product(clients, JSON_BODIES + FORM_BODIES):
            for kind in ("application/json", MULTIPART):
                with within(BOUND):
                    status = ask(place, body, client, kind)
                assert status in {400, 403, 4401}, (body[:50], kind)
        assert commands() == before

    @pytest.mark.django_db
    @pytest.mark.parametrize("place", ["/ticket/", "/async-ticket/"])
    @pytest.mark.parametrize("kind", CLIENTS)
    def test_bodies_of_browsers(self, place: str, kind: Any) -> None:
        """Each is answered with a ticket or as a bad request.

        Mutants: audience-any-client-asks-for.
        """
        client = kind(raise_request_exception=False)
        client.force_login(User.objects.create_user("ada"))
        for body, said in [
            *product(FORM_BODIES, KINDS),
            *product(JSON_BODIES, KINDS[:1]),
        ]:
            with within(BOUND):
                status = post(client, place, body, said).status_code
            assert status in {200, 400, 413}, (body[:50], said)
        keys = keys_of(get_service())
        assert keys and all(is_key(key) and ":" not in key for key in keys)

    @pytest.mark.parametrize(
        "place", ["/ticket/", "/consume/", "/authorize/", CENTRIFUGO]
    )
    def test_methods(self, place: str) -> None:
        """Those that a view does not know are refused, not executed.

        Mutants: consume-view-tells-its-options.
        """
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "",
                       "P\xffST", "__class__", "A" * 5_000):  # fmt: skip
            response = Client(raise_request_exception=False).generic(
                method, place, b"{}", headers={"Authorization": f"Bearer {KEY}"}
            )
            assert response.status_code in {400, 405}, method
        assert keys_of(get_service()) == []

    @on_databases
    @pytest.mark.parametrize(
        "length", ["", "-1", "abc", "0", "1", "99", "1e3", "9" * 5000, " 2 ", "\u0663"]
    )
    def test_lengths(self, length: str) -> None:
        """A length that is none, or another body's, is no way around the checks.

        Mutants: body-of-any-type.
        """
        environ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": "/consume/", "SERVER_PORT": "80",
            "SERVER_NAME": "testserver", "CONTENT_LENGTH": length,
            "HTTP_AUTHORIZATION": f"Bearer {KEY}", "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(b'{"ticket": 7}'),
        }  # fmt: skip
        statuses: list[str] = []
        start = lambda status, headers: statuses.append(status)  # noqa: E731
        body = b"".join(WSGIHandler()(environ, start))
        scope = a_scope("http", path="/consume/", method="POST", headers=(
            ("content-length", length.encode().decode("l1")),
            ("authorization", f"Bearer {KEY}")))  # fmt: skip
        assert statuses == ["400 Bad Request"]
        assert json.loads(body)["status"] == "error"
        assert asyncio.run(status_of(scope, [b'{"ticket"', b": 7", b"}"])) == 400
        assert keys_of(get_service()) == []

    @properties
    @given(
        origin=texts_of("https://", "example.com", ":", "\r\n"),
        protocols=texts_of("ticket.", ", ", "realtime-ticket.v1", GOOD, GOOD[::-1]),
        uri=texts_of("/", "?", "ticket=", "&", "%", GOOD, "#"),
        bearer=st.just(f"Bearer {KEY}") | texts_of("Bearer ", "bearer ", KEY, " ", "k"),
    )
    @example("", f"ticket.{GOOD}x", "", f"Bearer {KEY}")
    @example("", f"ticket.{GOOD}", "", "Bearer ")
    def test_headers_from_nginx(
        self, origin: str, protocols: str, uri: str, bearer: str
    ) -> None:
        """Any text in any header is refused as documented.

        Mutants: value-matched-in-part, service-key-in-part.
        """
        response = Client(raise_request_exception=False).get(
            "/authorize/",
            headers={
                "Origin": on_the_wire(origin),
                "Sec-WebSocket-Protocol": on_the_wire(protocols),
                "X-Original-URI": on_the_wire(uri),
                "Authorization": on_the_wire(bearer),
            },
        )
        scheme, _, key = bearer.partition(" ")
        opens = scheme.lower() == "bearer" and on_the_wire(key).strip() == KEY
        assert response.status_code == (401 if opens else 400)
        assert all(map(is_key, keys_of(get_service())))

    def test_an_id_that_is_no_unicode(self) -> None:
        """No header can hold it, so such a ticket is none, and no view fails.

        Mutants: half-a-character.
        """
        service = get_service()
        text = '{"id":"\\ud800","username":"ada","iat":1,"exp":2}'
        statuses = []
        for show in (
            lambda: authorize(X_Original_URI=f"/?ticket={GOOD}"),
            lambda: ask("/consume/", json.dumps({"ticket": GOOD})),
        ):
            service.backend.add(GOOD, text, 60)
            statuses.append(show())
        assert statuses == [401, 403]


def on_the_wire(text: str) -> str:
    """Return a header as a server hands it to Django."""
    return text.encode(errors="replace").decode("latin-1")


async def status_of(scope: dict[str, Any], chunks: list[bytes]) -> int:
    """Return the status with which Django answers this request, as ASGI servers ask."""
    peer = ApplicationCommunicator(ASGIHandler(), scope)
    for chunk in chunks:
        message = {"type": "http.request", "body": chunk, "more_body": True}
        await peer.send_input(message)
    await peer.send_input({"type": "http.request", "body": b"", "more_body": False})
    status: int = (await peer.receive_output(BOUND))["status"]
    await peer.receive_output(BOUND)
    await peer.wait(BOUND)
    return status


class Scripts(HTMLParser):
    """The attributes of the elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class TestTemplates:
    @properties
    @given(nonce=texts_of('"', "'", "<", ">", "</script>", "&quot;", "a", "{", "\0"))
    def test_a_nonce_stays_one(self, nonce: str) -> None:
        """No text can end its attribute, or the element.

        Mutants: nonce-without-escapes.
        """
        page = realtime_ticket_script({"csp_nonce": nonce})
        (one, importmap), (other, module) = Scripts(page).found
        assert (one, other) == ("script", "script")
        assert importmap.keys() == {"type", "nonce"}
        assert module.keys() == {"type", "src", "nonce"}
