"""Reading a handshake: the ticket, the subprotocol, and the origin."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_ticket import InvalidTicket
from realtime_ticket.handshake import (
    CARRIERS,
    PARAMETER,
    PROTOCOL,
    AllowedOrigins,
    Carrier,
    find_ticket,
    select_subprotocol,
    split_subprotocols,
    strip_query,
    without_ticket,
)
from realtime_ticket.tickets import new_value
from tests.helpers import GOOD, shown
from tests.properties import properties, texts_of

OTHER = "rt_" + "b" * 43


queries = texts_of("ticket", "=", "&", "+", "%", "%74icket", "?", "#", ";", GOOD, OTHER)
protocols = texts_of("ticket.", ",", ", ", "\t", PROTOCOL, "chat", GOOD, OTHER)
credentials = texts_of("Ticket", "ticket", " ", ",", "Bearer", GOOD, OTHER)
origins = texts_of(
    "https://", "http://", "example.com", ".example.com", "a.", ":443", ":", "/", "@",
    "*", "null", "EXAMPLE.com", "\u212a", "[::1]",
)  # fmt: skip
values = st.builds(new_value)


def is_ambiguous(**handshake: Any) -> bool:
    """Tell whether find_ticket refuses to choose."""
    with pytest.raises(InvalidTicket) as caught:
        find_ticket(**handshake)
    return caught.value.reason == "malformed"


class TestFindTicket:
    @pytest.mark.parametrize(
        "handshake",
        [
            {"subprotocols": f"ticket.{GOOD}"},
            {"subprotocols": f"{PROTOCOL}, ticket.{GOOD}"},
            {"subprotocols": f"ticket.{GOOD},{PROTOCOL}"},
            {"subprotocols": f" ,chat ,\tticket.{GOOD}\t, ,"},
            {"subprotocols": ["chat", f"ticket.{GOOD}"]},
            {"subprotocols": ("chat, " + PROTOCOL, f"news, ticket.{GOOD}")},
            {"subprotocols": iter([f"ticket.{GOOD}"])},
            {"query": f"ticket={GOOD}"},
            {"query": f"room=7&ticket={GOOD}&x"},
            {"query": f"ticket={GOOD.replace('_', '%5F')}"},
            {"query": f"%74icke%74={GOOD}"},
            {"query": f"ticket={GOOD}".encode()},
            {"query": b"name=\xff&ticket=" + GOOD.encode()},
            {"authorization": f"Ticket {GOOD}"},
            {"authorization": f"ticket {GOOD}"},
            {"authorization": f"TICKET   {GOOD}  "},
            {"authorization": f"  Ticket {GOOD}"},
        ],
        ids=shown,
    )
    def test_finds_it(self, handshake: dict[str, Any]) -> None:
        """In a subprotocol, the query, or a header, whatever is beside it."""
        assert find_ticket(**handshake) == GOOD

    @pytest.mark.parametrize(
        "handshake",
        [
            {},
            {"subprotocols": None, "query": "", "authorization": None},
            {"subprotocols": "", "query": b"", "authorization": ""},
            {"subprotocols": []},
            {"subprotocols": ["", ",", " "]},
            {"subprotocols": f"{PROTOCOL}, chat"},
            {"subprotocols": GOOD},
            {"subprotocols": f"Ticket.{GOOD}"},
            {"subprotocols": f"xticket.{GOOD}"},
            {"subprotocols": "ticket."},
            {"query": GOOD},
            {"query": f"?ticket={GOOD}"},
            {"query": f"Ticket={GOOD}"},
            {"query": f"tickets={GOOD}"},
            {"query": f"ticket[]={GOOD}"},
            {"query": f"x=1;ticket={GOOD}"},
            {"query": f"ticket%3D{GOOD}"},
            {"query": "ticket"},
            {"query": "ticket="},
            {"authorization": GOOD},
            {"authorization": f"Bearer {GOOD}"},
            {"authorization": f"Ticket{GOOD}"},
            {"authorization": f"Ticket\t{GOOD}"},
            {"authorization": f"Bearer x, Ticket {GOOD}"},
            {"authorization": "Ticket"},
            {"authorization": "Ticket  "},
        ],
        ids=shown,
    )
    def test_is_empty_for_none(self, handshake: dict[str, Any]) -> None:
        """The empty string, which consume() refuses, and nothing that is only near."""
        assert find_ticket(**handshake) == ""

    @pytest.mark.parametrize(
        ("handshake", "value"),
        [
            ({"query": "ticket=a+b%20c"}, "a b c"),
            ({"query": "ticket=%FF"}, "\ufffd"),
            ({"query": b"ticket=\xff"}, "\xff"),
            ({"query": "ticket=%"}, "%"),
            ({"query": "ticket=a=b"}, "a=b"),
            ({"query": "ticket=a%26b"}, "a&b"),
            ({"subprotocols": "ticket.a b"}, "a b"),
            ({"subprotocols": "ticket.ticket.a"}, "ticket.a"),
            ({"authorization": "Ticket a b"}, "a b"),
            ({"authorization": "Ticket \ud800"}, "\ud800"),
        ],
        ids=shown,
    )
    def test_does_not_judge_it(self, handshake: dict[str, Any], value: str) -> None:
        """What comes back is what the client sent. consume() judges it."""
        assert find_ticket(**handshake) == value

    @pytest.mark.parametrize(
        "handshake",
        [
            {"subprotocols": f"ticket.{GOOD}, ticket.{OTHER}"},
            {"subprotocols": [f"ticket.{GOOD}", f"ticket.{OTHER}"]},
            {"query": f"ticket={GOOD}&ticket={OTHER}"},
            {"query": f"ticket={GOOD}&%74icket={OTHER}"},
            {"subprotocols": f"ticket.{GOOD}", "query": f"ticket={OTHER}"},
            {"query": f"ticket={OTHER}", "authorization": f"Ticket {GOOD}"},
            {"subprotocols": f"ticket.{OTHER}", "authorization": f"Ticket {GOOD}"},
            {"query": f"ticket={GOOD}&ticket={GOOD.upper()}"},
        ],
        ids=shown,
    )
    def test_refuses_to_choose(self, handshake: dict[str, Any]) -> None:
        """Two different tickets are InvalidTicket, wherever they stand."""
        assert is_ambiguous(**handshake)

    @pytest.mark.parametrize(
        "handshake",
        [
            {"subprotocols": f"ticket.{GOOD}, ticket.{GOOD}"},
            {"query": f"ticket={GOOD}&ticket={GOOD}"},
            {"query": f"ticket=&ticket={GOOD}&ticket"},
            {"subprotocols": f"ticket., ticket.{GOOD}", "authorization": "Ticket"},
            {
                "subprotocols": f"ticket.{GOOD}",
                "query": f"ticket={GOOD}",
                "authorization": f"Ticket {GOOD}",
            },
        ],
        ids=shown,
    )
    def test_takes_one_ticket_twice(self, handshake: dict[str, Any]) -> None:
        """The same one again, or an empty one beside it, is no contradiction."""
        assert find_ticket(**handshake) == GOOD

    @pytest.mark.parametrize("carrier", CARRIERS)
    def test_looks_only_where_it_is_told(self, carrier: Carrier) -> None:
        """Other carriers are not read, so what they hold is no contradiction."""
        found = {"subprotocol": "a", "query": "b", "authorization": "c"}
        handshake: dict[str, Any] = {
            "subprotocols": "ticket.a",
            "query": "ticket=b",
            "authorization": "Ticket c",
        }
        assert find_ticket(**handshake, carriers=[carrier]) == found[carrier]
        assert find_ticket(**handshake, carriers=()) == ""
        assert is_ambiguous(**handshake, carriers=set(CARRIERS))

    @pytest.mark.parametrize("carriers", [("cookie",), ["query", "header"], "query"])
    def test_carriers_exist(self, carriers: Any) -> None:
        """A name that is misspelt, or a string in place of a list, is an error."""
        with pytest.raises(ValueError, match="a list of names from"):
            find_ticket(carriers=carriers)

    def test_the_former_name_of_a_carrier(self) -> None:
        """The error says what the carrier "header" is called now."""
        carriers: Any = ["header"]
        with pytest.raises(ValueError, match='"header" is called "authorization"'):
            find_ticket(authorization=f"Ticket {GOOD}", carriers=carriers)

    def test_takes_no_positional_arguments(self) -> None:
        """A header in the place of a query would be a silent mistake."""
        with pytest.raises(TypeError):
            find_ticket("ticket=x")  # type: ignore[misc]

    @properties
    @given(
        subprotocols=st.none() | protocols | st.lists(protocols, max_size=3),
        query=queries | st.binary(max_size=60),
        authorization=st.none() | credentials,
        carriers=st.lists(st.sampled_from(CARRIERS), unique=True),
    )
    def test_raises_nothing_else(
        self,
        subprotocols: str | list[str] | None,
        query: str | bytes,
        authorization: str | None,
        carriers: list[Carrier],
    ) -> None:
        """Whatever a client sends, there is a string or InvalidTicket."""
        try:
            value = find_ticket(
                subprotocols=subprotocols,
                query=query,
                authorization=authorization,
                carriers=carriers,
            )
        except InvalidTicket as error:
            assert error.reason == "malformed"
        else:
            assert isinstance(value, str)

    @properties
    @given(value=values, before=st.text(max_size=9), after=st.text(max_size=9))
    def test_gives_back_what_was_put_in(
        self, value: str, before: str, after: str
    ) -> None:
        """A handshake that is built with a ticket shows that ticket."""
        one, other = quote(before), quote(after)
        handshakes: list[dict[str, Any]] = [
            {"subprotocols": f"x{one}, ticket.{value}, x{other}"},
            {"subprotocols": [PROTOCOL, f"ticket.{value}"]},
            {"query": f"x{one}={other}&ticket={quote(value)}&x{other}={one}"},
            {"query": f"x{one}&ticket={value}&{one}={other}".encode()},
            {"authorization": f"Ticket {value}"},
        ]
        assert {find_ticket(**handshake) for handshake in handshakes} == {value}


class TestSubprotocols:
    @pytest.mark.parametrize(
        ("subprotocols", "names"),
        [
            (None, []),
            ("", []),
            (" , ,", []),
            ("b,a, c ", ["b", "a", "c"]),
            (["b", "a"], ["b", "a"]),
            (["b, a", "", "c\t,b"], ["b", "a", "c", "b"]),
            (("a",), ["a"]),
        ],
    )
    def test_are_split(self, subprotocols: Any, names: list[str]) -> None:
        """One header or several, in their order, without what is empty."""
        assert split_subprotocols(subprotocols) == names

    @pytest.mark.parametrize(
        "subprotocols",
        [PROTOCOL, f"ticket.{GOOD},{PROTOCOL}", ["chat", PROTOCOL, "news"]],
    )
    def test_ours_is_chosen(self, subprotocols: Any) -> None:
        """Wherever it is offered."""
        assert select_subprotocol(subprotocols) == PROTOCOL == "realtime-ticket.v1"

    @pytest.mark.parametrize(
        "subprotocols",
        [None, "", [], "chat", f"ticket.{GOOD}", PROTOCOL.upper(), f"{PROTOCOL}0"],
    )
    def test_nothing_else_is(self, subprotocols: Any) -> None:
        """A server must not answer what was not offered, nor with a ticket."""
        assert select_subprotocol(subprotocols) is None

    def test_can_be_cleaned(self) -> None:
        """without_ticket() keeps all others, in their order."""
        line = f"b, ticket.{GOOD}, {PROTOCOL}, ticket., a"
        assert without_ticket(line) == ["b", PROTOCOL, "a"]
        assert without_ticket([line, "tickets"]) == ["b", PROTOCOL, "a", "tickets"]
        assert without_ticket(None) == []

    @properties
    @given(st.none() | protocols | st.lists(protocols, max_size=3))
    def test_hold_no_ticket_when_they_are_clean(
        self, subprotocols: str | list[str] | None
    ) -> None:
        """Nothing that find_ticket would find is left, and nothing else is gone."""
        clean = without_ticket(subprotocols)
        assert find_ticket(subprotocols=clean) == ""
        assert select_subprotocol(clean) == select_subprotocol(subprotocols)
        rest = [name for name in split_subprotocols(subprotocols) if name not in clean]
        assert all(name.startswith("ticket.") for name in rest)


class TestStripQuery:
    @pytest.mark.parametrize(
        ("query", "stripped"),
        [
            ("", ""),
            ("ticket=x", ""),
            ("ticket", ""),
            ("ticket=", ""),
            ("a=1&ticket=x&b=2", "a=1&b=2"),
            ("ticket=x&ticket=y&b", "b"),
            ("%74icke%74=x&b", "b"),
            ("ticket=x=y&b", "b"),
            ("tickets=x&Ticket=x&x=ticket", "tickets=x&Ticket=x&x=ticket"),
            ("b=%7e+%2B&&=&a&ticket=x&%zz=\xff#?", "b=%7e+%2B&&=&a&%zz=\xff#?"),
            ("a=ticket=x", "a=ticket=x"),
        ],
    )
    def test_takes_out_the_ticket_alone(self, query: str, stripped: str) -> None:
        """Everything else stays as it was, character by character."""
        assert strip_query(query) == stripped

    @properties
    @given(queries)
    def test_leaves_no_ticket(self, query: str) -> None:
        """Nothing that find_ticket would find is left, and nothing else is gone."""
        stripped = strip_query(query)
        assert find_ticket(query=stripped) == ""
        left = parse_qsl(query, keep_blank_values=True)
        left = [pair for pair in left if pair[0] != PARAMETER]
        assert parse_qsl(stripped, keep_blank_values=True) == left
        assert set(stripped.split("&")) <= {*query.split("&"), ""}

    @properties
    @given(
        st.binary(max_size=60)
        | queries.map(lambda text: text.encode("utf-8", "replace"))
    )
    def test_keeps_the_bytes_of_a_query(self, query: bytes) -> None:
        """As an ASGI server needs them: Latin-1 there and back."""
        text = query.decode("latin-1")
        fields = strip_query(text).encode("latin-1").split(b"&")
        assert set(fields) <= {*query.split(b"&"), b""}


RULES = [
    "https://example.com",
    "http://localhost:8000",
    "https://*.chat.example",
    "http://dev.example:*",
    "https://*.any.example:*",
    "http://[::1]:9000",
    "http://[::2]",
    "capacitor://localhost",
    "https://Kiosk.example:443",
]


@pytest.fixture
def allowed() -> AllowedOrigins:
    return AllowedOrigins(RULES, allow_missing=False)


class TestAllowedOrigins:
    @pytest.mark.parametrize(
        "origin",
        [
            "https://example.com",
            "https://example.com:443",
            "HTTPS://Example.COM",
            "http://localhost:8000",
            "https://a.chat.example",
            "https://a.b.chat.example",
            "https://a_b-c.chat.example:443",
            "http://dev.example",
            "http://dev.example:80",
            "http://dev.example:5173",
            "https://a.any.example",
            "https://a.any.example:1",
            "http://[::1]:9000",
            "http://[::2]:80",
            "capacitor://localhost",
            "https://kiosk.example",
        ],
    )
    def test_let_in(self, allowed: AllowedOrigins, origin: str) -> None:
        """Scheme, host and port agree, with the scheme's port where none is named."""
        assert origin in allowed

    @pytest.mark.parametrize(
        "origin",
        [
            # another scheme, host or port
            "http://example.com",
            "ws://example.com",
            "https://example.com:444",
            "https://example.com:80",
            "https://example.com:0443",
            "https://www.example.com",
            "https://evil-example.com",
            "https://evilexample.com",
            "https://example.com.evil.com",
            "https://example.co",
            "https://example.com.",
            "https://localhost:8000",
            "http://localhost",
            "http://localhost:80000",
            "https://dev.example:5173",
            "http://a.dev.example:5173",
            "http://[::1]",
            "http://[::1]:9001",
            "http://[::]:9000",
            "http://[0:0:0:0:0:0:0:1]:9000",
            "http://::1:9000",
            "capacitor://localhost:1",
            # beside a wildcard
            "https://chat.example",
            "https://evilchat.example",
            "https://evil-chat.example",
            "https://a.chat.example.evil.com",
            "https://a.chat.example:8443",
            "http://a.chat.example",
            "https://.chat.example",
            "https://a..chat.example",
            "https://*.chat.example",
            "https://any.example:1",
            "http://dev.example:*",
            # no origins
            "",
            "null",
            "NULL",
            "*",
            "example.com",
            "//example.com",
            "https:example.com",
            "https:/example.com",
            "https://",
            "file://",
            "https://example.com/",
            "https://example.com/path",
            "https://example.com?x",
            "https://example.com#x",
            "https://user@example.com",
            "https://user:password@example.com",
            "https://example.com@evil.com",
            "https://evil.com@example.com",
            "https://evil.com#.chat.example",
            "https://evil.com/.chat.example",
            "https://evil.com\\.chat.example",
            "https://example.com:",
            "https://example.com:443:443",
            "https://example.com:x",
            "https://example.com:\u0664\u0664\u0663",
            "https://example.com, https://example.com",
            "https://example.com https://evil.com",
            "https://example.com\n",
            "https://example.com\r\nX: y",
            " https://example.com",
            "https://example.com ",
            "https://example.com\0",
            "https://ex\u0430mple.com",
            "https://example\u3002com",
            "https://example.com\u200b",
            "https://\u212aiosk.example",
            "https://exampl\xe9.com",
            "https://\ud800.chat.example",
        ],
        ids=ascii,
    )
    def test_keep_out(self, allowed: AllowedOrigins, origin: str) -> None:
        """Everything else, near as it may be."""
        assert origin not in allowed

    @pytest.mark.parametrize("origin", [b"https://example.com", 7, True, [], object()])
    def test_keep_out_what_is_no_text(
        self, allowed: AllowedOrigins, origin: object
    ) -> None:
        """No other type is an origin."""
        assert origin not in allowed

    @pytest.mark.parametrize("allow_missing", [True, False])
    def test_are_told_about_a_missing_one(self, allow_missing: bool) -> None:
        """allow_missing decides about None, and not about an empty one or 'null'."""
        allowed = AllowedOrigins(RULES, allow_missing=allow_missing)
        assert (None in allowed) is allow_missing
        assert "" not in allowed
        assert "null" not in allowed

    def test_must_be_told(self) -> None:
        """There is no good default for a missing origin."""
        with pytest.raises(TypeError, match="allow_missing"):
            AllowedOrigins(RULES)  # type: ignore[call-arg]

    @pytest.mark.parametrize("make", [list, tuple, set, iter])
    def test_are_any_iterable(self, make: Callable[[list[str]], Any]) -> None:
        """A list, a tuple, a set; and none at all lets nobody in."""
        assert "https://example.com" in AllowedOrigins(make(RULES), allow_missing=False)
        assert "https://example.com" not in AllowedOrigins(
            make([]), allow_missing=False
        )

    def test_are_not_one_string(self) -> None:
        """Its characters are no origins, and a substring of it is none either."""
        with pytest.raises(TypeError, match="list of strings"):
            AllowedOrigins("https://example.com", allow_missing=False)

    @pytest.mark.parametrize(
        "rule",
        [
            "",
            "*",
            "null",
            "example.com",
            "//example.com",
            "https://",
            "https://*",
            "https://*:*",
            "https://*example.com",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "https://*.[::1]",
            "https://example.*",
            "*://example.com",
            "https://example.com/",
            "https://example.com/path",
            "https://user@example.com",
            "https://example.com:",
            "https://example.com:https",
            "https://example.com:*0",
            "https://example.com:123456",
            "https://example.com.",
            "https://exampl\xe9.com",
            "https://\u212aiosk.example",
            " https://example.com",
            "https://example.com\n",
            "https://example.com,https://example.org",
            None,
            7,
        ],
        ids=ascii,
    )
    def test_are_checked_at_once(self, rule: Any) -> None:
        """A rule that can let nobody in, or anybody, is ValueError, and is named."""
        with pytest.raises(ValueError, match="is not an origin") as caught:
            AllowedOrigins(["https://example.com", rule], allow_missing=False)
        assert repr(rule) in str(caught.value)

    def test_are_judged_fast(self, allowed: AllowedOrigins) -> None:
        """A header of many labels does not hold up an event loop."""
        started = time.perf_counter()
        assert f"https://{'a.' * 30_000}example" not in allowed
        assert time.perf_counter() - started < 0.2

    @properties
    @given(origins)
    def test_are_no_prefixes_or_suffixes(self, origin: str) -> None:
        """Arbitrary text is allowed only where it spells a rule out."""
        exact = AllowedOrigins(["https://example.com"], allow_missing=False)
        plain = origin.lower().removesuffix(":443") if origin.isascii() else ""
        assert (origin in exact) is (plain == "https://example.com")
        any_subdomain = AllowedOrigins(["https://*.example.com"], allow_missing=False)
        if origin in any_subdomain:
            name = plain.removeprefix("https://").removesuffix(".example.com")
            assert plain == f"https://{name}.example.com"
            assert set(name.lower()) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
            assert all(name.split("."))
