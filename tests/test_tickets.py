"""The wire format: a ticket's value, its storage key and its stored text."""

from __future__ import annotations

import copy
import dataclasses
import enum
import hashlib
import json
import pickle
import re
import string
from typing import Any

import pytest

from realtime_ticket import (
    InvalidAudience,
    InvalidClaims,
    InvalidTicket,
    Ticket,
    tickets,
)
from tests.helpers import CLAIMS, GOOD, hostile_audiences, shown

ALPHABET = set(string.ascii_letters + string.digits + "-_")


def a_ticket(**changes: Any) -> Ticket:
    fields: dict[str, Any] = {
        "value": GOOD,
        "claims": dict(CLAIMS),
        "audience": "",
        "issued_at": 1000,
        "expires_at": 1010,
    }
    return Ticket(**fields | changes)


class Login(enum.StrEnum):
    HERE = "here"


def created(
    claims: Any = CLAIMS, audience: str = "", session: str = ""
) -> tuple[Ticket, str]:
    return tickets.create(
        claims,
        value=GOOD,
        audience=audience,
        issued_at=1000,
        expires_at=1010,
        session=session,
    )


def encoded(claims: Any = CLAIMS, audience: str = "") -> str:
    return created(claims, audience)[1]


def decoded(data: str, audience: str = "") -> Ticket:
    return tickets.decode(data, value=GOOD, audience=audience)


class TestValue:
    def test_is_the_prefix_and_43_characters(self) -> None:
        """A value is 46 characters of the URL-safe alphabet that begin with rt_."""
        for _ in range(200):
            value = tickets.new_value()
            assert len(value) == 46
            assert value.startswith("rt_")
            assert set(value) <= ALPHABET

    def test_is_never_the_same_twice(self) -> None:
        """Values do not repeat, and every place of them varies."""
        values = {tickets.new_value() for _ in range(2000)}
        assert len(values) == 2000
        places = [set(place) for place in zip(*values, strict=True)]
        assert all(len(place) > 10 for place in places[3:])

    def test_takes_its_256_bits_from_secrets(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The secret part is 32 bytes of the system's own randomness."""
        monkeypatch.setattr(
            tickets.secrets, "token_urlsafe", lambda size: f"<{size} bytes>"
        )
        assert tickets.new_value("p.") == "p.<32 bytes>"

    @pytest.mark.parametrize("prefix", ["rt_", "a", "shop.", "A-b_c.9", "x" * 32])
    def test_fits_its_own_format(self, prefix: str) -> None:
        """The format of a prefix takes that prefix's values, and no other's."""
        pattern = tickets.value_format(prefix)
        assert pattern.fullmatch(tickets.new_value(prefix))
        assert not pattern.fullmatch(tickets.new_value(prefix + "z"))

    def test_a_dot_in_the_prefix_is_a_dot(self) -> None:
        """A prefix is taken literally, not as a regular expression."""
        assert not tickets.value_format("a.").fullmatch("ab" + "x" * 43)

    @pytest.mark.parametrize("prefix", ["a", "rt_", "a.b-c_9", "x" * 32])
    def test_prefixes_that_are_allowed(self, prefix: str) -> None:
        """A prefix is 1 to 32 characters of the alphabet and the dot."""
        assert tickets.PREFIX_FORMAT.fullmatch(prefix)

    @pytest.mark.parametrize("prefix", ["", "x" * 33, "a b", "a:", "é", "a\n", "*"])
    def test_prefixes_that_are_not(self, prefix: str) -> None:
        """No other prefix fits."""
        assert not tickets.PREFIX_FORMAT.fullmatch(prefix)


class TestStorageKey:
    def test_is_the_value(self) -> None:
        """Without an audience the ticket is the key, as it was in 2012."""
        assert tickets.storage_key(GOOD) == GOOD

    def test_ends_with_the_audience(self) -> None:
        """The audience follows the value and a colon."""
        assert tickets.storage_key(GOOD, "chat") == f"{GOOD}:chat"

    @pytest.mark.parametrize("audience", ["", "chat"])
    def test_can_be_a_hash(self, audience: str) -> None:
        """A hashed key is the prefix and the SHA-256 of the plain key, in hex."""
        plain = tickets.storage_key(GOOD, audience)
        digest = hashlib.sha256(plain.encode()).hexdigest()
        key = tickets.storage_key(GOOD, audience, prefix="p_", hashed=True)
        assert key == f"p_{digest}"

    def test_hash_is_the_documented_one(self) -> None:
        """A vector for consumers in other languages."""
        assert tickets.storage_key(GOOD, "chat", hashed=True) == (
            "rt_" + hashlib.sha256(b"rt_" + b"a" * 43 + b":chat").hexdigest()
        )

    def test_fits_every_store(self) -> None:
        """The longest key stays far below Memcached's 250 and the table's 200."""
        value = tickets.new_value("x" * 32)
        assert len(tickets.storage_key(value, "y" * 64)) == 140


class TestAudience:
    @pytest.mark.parametrize("audience", ["", "chat", "A.b-c_9", "a" * 64])
    def test_is_accepted(self, audience: str) -> None:
        """An audience is empty, or 1 to 64 characters of the alphabet and the dot."""
        tickets.check_audience(audience)

    @pytest.mark.parametrize("audience", hostile_audiences(), ids=shown)
    def test_is_refused(self, audience: object) -> None:
        """Everything else raises InvalidAudience, which says nothing of the value."""
        with pytest.raises(InvalidAudience, match=r"1 to 64 characters") as caught:
            tickets.check_audience(audience)
        assert len(str(caught.value)) < 100


class Text(str):
    """A text of a class of its own."""


class Number(enum.IntEnum):
    SEVEN = 7


class Several(dict[str, Any]):
    """As a QueryDict: a dict that gives one of several values."""

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name)[-1]


class TestCreate:
    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"x": "text", "y": 1, "z": 1.5, "yes": True, "none": None, "": -0.0},
            {"big": 2**60, "id": 2**60},
            {"id": -(2**53)},
            {"id": Text("7"), "username": Text("ada")},
            {"id": Number.SEVEN},
            {"x": Text("text")},
            {Text("x"): "text"},
            {"x": Number.SEVEN},
            {"x": (1, 2)},
            {"x": [(1,), {2: (3,)}]},
            {7: "a number", None: "nothing", True: "yes"},
            {"1": "first", 1: "last"},
        ],
        ids=shown,
    )
    def test_returns_what_a_consumer_gets(self, claims: dict[Any, Any]) -> None:
        """Values and types, also of what JSON cannot hold as it is.

        Mutants: create-keeps-tuples, create-keeps-numbers-as-names.
        """
        ticket, data = created(CLAIMS | claims, "chat")
        consumed = decoded(data, "chat")
        assert ticket == consumed
        assert with_types(ticket.claims) == with_types(consumed.claims)

    def test_shares_nothing_with_its_caller(self) -> None:
        """What the caller does with the claims afterwards is not in the ticket.

        Mutants: create-keeps-the-callers-claims.
        """
        for claims in (dict(CLAIMS), CLAIMS | {"rooms": ["a"]}):
            ticket, data = created(claims)
            claims.get("rooms", []).append("b")
            claims["username"] = "eve"
            assert ticket == decoded(data)

    def test_refuses_a_dict_that_says_something_else(self) -> None:
        """Only what is in the claims counts, not what their class makes of it."""
        with pytest.raises(InvalidClaims, match="need an 'id'"):
            created(Several(id=[7], username=["ada"]))


def with_types(value: Any) -> Any:
    """Return a JSON value with the type of everything in it."""
    if isinstance(value, dict):
        return {(type(name), name): with_types(value[name]) for name in value}
    if isinstance(value, list):
        return [with_types(each) for each in value]
    return type(value), repr(value)


class TestEncode:
    def test_writes_fields_in_order(self) -> None:
        """The text is compact JSON: id, username, iat, exp, aud, then the extras."""
        claims = {"room": "a b", "username": "ada", "id": 7, "tags": [1, 2]}
        assert encoded(claims, "chat") == (
            '{"id":7,"username":"ada","iat":1000,"exp":1010,"aud":"chat",'
            '"room":"a b","tags":[1,2]}'
        )

    def test_leaves_out_an_empty_audience(self) -> None:
        """Without an audience there is no aud."""
        assert encoded() == '{"id":7,"username":"ada","iat":1000,"exp":1010}'

    def test_is_ascii(self) -> None:
        """Other characters are escaped."""
        data = encoded({"id": "ü", "username": "Ада\n\0 😀 \\ud800"})
        assert data.isascii() and data.isprintable()
        assert json.loads(data)["username"] == "Ада\n\0 😀 \\ud800"

    @pytest.mark.parametrize(
        ("user_id", "written"),
        [
            (0, 0),
            (-1, -1),
            (2**53 - 1, 2**53 - 1),
            (-(2**53) + 1, -(2**53) + 1),
            (2**53, str(2**53)),
            (-(2**53), str(-(2**53))),
            (2**63, str(2**63)),
            ("", ""),
            ("6f1c", "6f1c"),
        ],
    )
    def test_ids_survive_javascript(
        self, user_id: int | str, written: int | str
    ) -> None:
        """An integer that JavaScript would round becomes a string."""
        loaded = json.loads(encoded({"id": user_id, "username": ""}))["id"]
        assert loaded == written and type(loaded) is type(written)

    def test_leaves_the_claims_alone(self) -> None:
        """The caller's dict is not changed."""
        claims = {"id": 2**60, "username": "ada", "x": 1}
        before = copy.deepcopy(claims)
        encoded(claims, "chat")
        assert claims == before

    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"id": 7},
            {"username": "ada"},
            {"id": None, "username": "ada"},
            {"id": True, "username": "ada"},
            {"id": 1.5, "username": "ada"},
            {"id": b"7", "username": "ada"},
            {"id": [7], "username": "ada"},
            {"id": 7, "username": None},
            {"id": 7, "username": 7},
            {"id": 7, "username": b"ada"},
            None,
            [],
            [("id", 7), ("username", "ada")],
            '{"id":7,"username":"ada"}',
        ],
        ids=shown,
    )
    def test_refuses_claims_that_name_nobody(self, claims: object) -> None:
        """Claims are a dict with an id, int or str, and a username, str."""
        with pytest.raises(InvalidClaims, match="need an 'id'"):
            encoded(claims)

    @pytest.mark.parametrize("name", ["iat", "exp", "aud"])
    def test_refuses_reserved_names(self, name: str) -> None:
        """The names of the format itself are not for claims."""
        with pytest.raises(InvalidClaims, match=name):
            encoded(CLAIMS | {name: 1})

    @pytest.mark.parametrize(
        "claim",
        [
            object(), b"bytes", {1, 2}, 1 + 2j, float("nan"), float("inf"),
            -float("inf"), [float("nan")], "\ud800", {"a\udc00b": [1]},
            {"deep": {"deeper": object()}}, {(1, 2): 3},
        ],
        ids=shown,
    )  # fmt: skip
    def test_refuses_what_is_not_json(self, claim: object) -> None:
        """A claim that JSON cannot say, NaN included, raises InvalidClaims."""
        with pytest.raises(InvalidClaims, match="must be JSON"):
            encoded(CLAIMS | {"x": claim})

    def test_refuses_nesting_without_end(self) -> None:
        """Neither a cycle nor a tower of lists is more than InvalidClaims."""
        cycle: list[Any] = []
        cycle.append(cycle)
        tower: list[Any] = []
        for _ in range(100_000):
            tower = [tower]
        for claim in (cycle, tower):
            with pytest.raises(InvalidClaims):
                encoded(CLAIMS | {"x": claim})
        while tower:  # or its deallocation recurses
            tower = tower.pop()

    def test_refuses_an_id_too_long_to_write(self) -> None:
        """An integer beyond Python's own limit of digits is InvalidClaims too."""
        with pytest.raises(InvalidClaims):
            encoded({"id": 10**5000, "username": "ada"})

    def test_takes_4_kib_and_no_more(self) -> None:
        """The whole text has at most 4,096 characters."""
        room = 4096 - len(encoded(CLAIMS | {"x": ""}))
        assert len(encoded(CLAIMS | {"x": "y" * room})) == 4096
        with pytest.raises(InvalidClaims, match="4097 bytes"):
            encoded(CLAIMS | {"x": "y" * (room + 1)})

    def test_measures_what_is_stored(self) -> None:
        """Characters count as they are escaped, six bytes for one umlaut."""
        with pytest.raises(InvalidClaims, match="over 4096"):
            encoded(CLAIMS | {"x": "ü" * 1000})


class TestDecode:
    def test_returns_the_ticket(self) -> None:
        """The claims come back without the names of the format."""
        ticket = decoded(encoded(CLAIMS | {"room": [1, None]}, "chat"), "chat")
        assert ticket.value == GOOD
        assert ticket.claims == {"id": 7, "username": "ada", "room": [1, None]}
        assert ticket.audience == "chat"
        assert (ticket.issued_at, ticket.expires_at) == (1000, 1010)

    def test_reads_what_another_language_wrote(self) -> None:
        """Order, blanks and escapes do not matter."""
        ticket = decoded(
            '{ "exp":2, "iat":1,\n "username":"\\u0061da", "id":"7" , "aud":"" }'
        )
        assert ticket.user_id == "7"
        assert ticket.username == "ada"

    @pytest.mark.parametrize(
        "data",
        [
            "", " ", "garbage", "null", "7", '"text"', "[]", "true", "{", "{}", "{}{}",
            '{"id":7}', '{"id":7,"username":"ada"}',
            '{"id":7,"username":"ada","iat":1}', '{"id":7,"username":"ada","exp":2}',
            '{"id":7,"iat":1,"exp":2}', '{"username":"ada","iat":1,"exp":2}',
            '{"id":true,"username":"ada","iat":1,"exp":2}',
            '{"id":null,"username":"ada","iat":1,"exp":2}',
            '{"id":7.5,"username":"ada","iat":1,"exp":2}',
            '{"id":9007199254740992,"username":"ada","iat":1,"exp":2}',
            '{"id":1e400,"username":"ada","iat":1,"exp":2}',
            '{"id":"\\ud800","username":"ada","iat":1,"exp":2}',
            '{"id":7,"username":"\\uDC00","iat":1,"exp":2}',
            '{"id":[7],"username":"ada","iat":1,"exp":2}',
            '{"id":7,"username":7,"iat":1,"exp":2}',
            '{"id":7,"username":null,"iat":1,"exp":2}',
            '{"id":7,"username":"ada","iat":"1","exp":2}',
            '{"id":7,"username":"ada","iat":1.5,"exp":2}',
            '{"id":7,"username":"ada","iat":1,"exp":true}',
            '{"id":7,"username":"ada","iat":1,"exp":null}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"aud":"chat"}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"aud":null}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"aud":false}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"sid":7}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"sid":"' + "x" * 129 + '"}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"max_age":"60"}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"max_age":-1}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"max_age":1.5}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"x":NaN}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"x":Infinity}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"x":-Infinity}',
            '{"id":7,"username":"ada","iat":1,"exp":2,}',
            "{'id':7,'username':'ada','iat':1,'exp':2}",
            '{"id":7,"username":"ädä","iat":1,"exp":2}',
            '{"id":7,"username":"\ud800","iat":1,"exp":2}',
            '{"id":7,"username":"\udcff","iat":1,"exp":2}',
            '\ufeff{"id":7,"username":"ada","iat":1,"exp":2}',
            '{"id":' + "7" * 4000 + "7" * 1000 + ',"username":"ada","iat":1,"exp":2}',
            '{"id":7,"username":"ada","iat":1,"exp":2}' + " " * 4096,
            '{"id":7,"username":"ada","iat":1,"exp":2,"x":"' + "y" * 4096 + '"}',
            '{"id":7,"username":"ada","iat":1,"exp":2,"x":' + "[" * 100_000,
            "[" * 2000 + "]" * 2000,
            "\x80\x04K\x07.", "gASVBwAAAAAAAAB9lC4=", "i:7;", "\0",
        ],
        ids=shown,
    )  # fmt: skip
    def test_refuses_what_no_issuer_wrote(self, data: str) -> None:
        """Any text that is not a ticket's raises InvalidTicket("mismatch")."""
        with pytest.raises(InvalidTicket) as caught:
            decoded(data)
        assert caught.value.reason == "mismatch"

    @pytest.mark.parametrize("claims", [CLAIMS, CLAIMS | {"x": [1]}])
    def test_makes_a_text_of_the_login(self, claims: dict[str, Any]) -> None:
        """An Enum's member is not one after it was stored. Mutants: session-is-kept."""
        ticket, text = created(claims, session=Login.HERE)
        assert type(ticket.session) is str
        assert ticket == tickets.decode(text, value=GOOD, audience="")

    def test_reads_the_login(self) -> None:
        """Its name, and its seconds: 60.0 is 60 to JavaScript."""
        text = '{"id":7,"username":"ada","iat":1,"exp":2,"sid":"a","max_age":60.0}'
        ticket = tickets.decode(text, value=GOOD, audience="")
        assert (ticket.session, ticket.max_age) == ("a", 60)
        assert ticket.claims == {"id": 7, "username": "ada"}

    @pytest.mark.parametrize(("issued", "shown_at"), [("chat", "news"), ("", "chat")])
    def test_refuses_another_audience(self, issued: str, shown_at: str) -> None:
        """A text for another door is a mismatch, should a key ever collide."""
        with pytest.raises(InvalidTicket) as caught:
            decoded(encoded(audience=issued), shown_at)
        assert caught.value.reason == "mismatch"

    def test_takes_4_kib_and_no_more(self) -> None:
        """The longest text that encode writes can be read, one character more not."""
        room = 4096 - len(encoded(CLAIMS | {"x": ""}))
        longest = encoded(CLAIMS | {"x": "y" * room})
        assert decoded(longest).claims["x"] == "y" * room
        with pytest.raises(InvalidTicket):
            decoded(f"{longest} ")

    def test_hides_the_text(self) -> None:
        """The error holds nothing of the text, not even as its context."""
        with pytest.raises(InvalidTicket) as caught:
            decoded('{"id":7,"username":"s3cret')
        error = caught.value
        assert "s3cret" not in f"{error!s}{error!r}{error.__context__!r}"


class TestTicket:
    def test_answers_for_its_claims(self) -> None:
        """user_id and username are the claims' id and username."""
        ticket = a_ticket(claims={"id": "u-1", "username": "grace", "x": 1})
        assert ticket.user_id == "u-1"
        assert ticket.username == "grace"

    def test_cannot_be_changed(self) -> None:
        """Fields are frozen, and there is no room for others."""
        ticket = a_ticket()
        with pytest.raises(dataclasses.FrozenInstanceError):
            ticket.value = "other"  # type: ignore[misc]
        # Python 3.11 raises TypeError here: its frozen slotted classes call super()
        # with the class from before the slots.
        with pytest.raises((AttributeError, TypeError)):
            ticket.other = 1  # type: ignore[attr-defined]
        assert not hasattr(ticket, "__dict__")

    def test_takes_its_fields_by_name_only(self) -> None:
        """Two neighbouring integers cannot be swapped by mistake."""
        with pytest.raises(TypeError):
            Ticket(GOOD, CLAIMS, "", 1, 2)  # type: ignore[misc]

    def test_keeps_its_secret(self) -> None:
        """repr and str name the ticket by its fingerprint, never by its value."""
        ticket = a_ticket(audience="chat")
        digest = hashlib.sha256(GOOD.encode()).hexdigest()
        assert ticket.fingerprint == tickets.fingerprint(GOOD) == digest[:8]
        for text in (repr(ticket), str(ticket), f"{ticket}", f"{[ticket]}"):
            assert GOOD[3:] not in text
            assert ticket.fingerprint in text
        assert repr(ticket) == f"<Ticket {digest[:8]} user_id=7 audience='chat'>"

    @pytest.mark.parametrize(
        "change",
        [
            {"value": "rt_" + "b" * 43},
            {"claims": {"id": 8, "username": "ada"}},
            {"audience": "chat"},
            {"issued_at": 1001},
            {"expires_at": 1011},
        ],
        ids=shown,
    )
    def test_equals_by_every_field(self, change: dict[str, Any]) -> None:
        """Tickets are equal when all their fields are, and hash alike."""
        assert a_ticket() == a_ticket()
        assert hash(a_ticket()) == hash(a_ticket())
        assert a_ticket() != a_ticket(**change)
        assert len({a_ticket(), a_ticket(), a_ticket(**change)}) == 2

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_can_be_pickled(self, protocol: int) -> None:
        """A ticket travels to another process."""
        ticket = a_ticket(audience="chat")
        assert pickle.loads(pickle.dumps(ticket, protocol)) == ticket

    def test_can_be_copied(self) -> None:
        """copy, deepcopy and replace work."""
        ticket = a_ticket()
        assert copy.copy(ticket) == copy.deepcopy(ticket) == ticket
        assert dataclasses.replace(ticket, audience="chat").audience == "chat"


class TestErrors:
    @pytest.mark.parametrize("reason", ["malformed", "unknown", "mismatch", "user"])
    def test_invalid_ticket_knows_its_reason(self, reason: Any) -> None:
        """The reason is an attribute and part of the text, also after pickling."""
        error = InvalidTicket(reason)
        assert error.reason == reason
        assert str(error) == f"The ticket is not valid ({reason})."
        again = pickle.loads(pickle.dumps(error))
        assert (again.reason, str(again)) == (reason, str(error))

    def test_values_never_match_by_accident(self) -> None:
        """The format has no case-insensitive or multi-line flag."""
        assert tickets.value_format().flags == re.UNICODE
