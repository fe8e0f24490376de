"""What a disconnect is: its text, its key, and whom it concerns."""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Iterable

import pytest

from realtime_ticket import revocations
from realtime_ticket.revocations import Disconnect


def made(kind: revocations.Kind, session: str = "") -> Disconnect:
    return Disconnect(
        id="x", at=100, expire=120, kind=kind, users=("7",), session=session
    )


def texts_of(users: Iterable[str]) -> list[str]:
    return list(revocations.encode("user", users, at=100, expire=120))


@pytest.mark.parametrize(
    "kind, named, session, concerned",
    [
        ("user", "", "", True),
        ("user", "", "mine", True),
        ("session", "mine", "mine", True),
        ("session", "mine", "other", False),
        ("session", "mine", "", False),
        ("sessionless", "", "", True),
        ("sessionless", "", "mine", False),
    ],
)
def test_it_concerns_the_connections_that_its_kind_names(
    kind: revocations.Kind, named: str, session: str, concerned: bool
) -> None:
    disconnect = made(kind, named)
    assert disconnect.concerns(session) is concerned
    assert disconnect.refuses(session, 100, tolerance=2) is concerned


@pytest.mark.parametrize("kind", ["user", "sessionless"])
def test_a_user_who_logs_in_again_is_let_in(kind: revocations.Kind) -> None:
    assert made(kind).refuses("", 102, tolerance=2)
    assert not made(kind).refuses("", 103, tolerance=2)


def test_a_session_that_ended_stays_ended() -> None:
    assert made("session", "mine").refuses("mine", 10**9, tolerance=2)


class Status(enum.StrEnum):
    ACTIVE = "7"


class Member(str, enum.Enum):  # noqa: UP042 (it is printed in another way)
    SEVEN = "7"


class Seven(enum.IntEnum):
    SEVEN = 7


def test_ids_are_compared_as_strings() -> None:
    number = uuid.uuid4()
    same = [7, "7", Status.ACTIVE, Member.SEVEN, Seven.SEVEN]
    assert {revocations.user_key(user_id) for user_id in same} == {"7"}
    assert revocations.user_key(number) == str(number)
    assert revocations.user_key(2**64) == str(2**64)


@pytest.mark.parametrize("user_id", [True, None, 7.0, b"7", ["7"]])
def test_what_is_no_id_is_refused(user_id: object) -> None:
    with pytest.raises(TypeError, match="A user's id is an int, a str or a UUID"):
        revocations.user_key(user_id)


def test_a_text_says_what_it_was_made_from() -> None:
    (text,) = revocations.encode("session", ["7"], at=100, expire=120, session="mine")
    found = revocations.decode(text)
    assert found is not None
    assert found == Disconnect(
        id=found.id, at=100, expire=120, kind="session", users=("7",), session="mine"
    )
    assert text.isascii()


def test_every_text_has_an_id_of_its_own() -> None:
    texts = [
        text
        for _ in range(50)
        for text in revocations.encode("user", "7", at=1, expire=120)
    ]
    assert len({json.loads(text)["id"] for text in texts}) == 50


@pytest.mark.parametrize("name", ["{}", "u\u00e9{}", "\udce9{}", str(2**60) + "{}"])
def test_many_users_share_as_few_texts_as_hold_them(name: str) -> None:
    users = [name.format(number) for number in range(3000)]
    texts = texts_of(users)
    found = [revocations.decode(text) for text in texts]
    assert [user for entry in found if entry for user in entry.users] == users
    assert all(len(text) <= 4096 for text in texts)
    shortest = min(len(json.dumps(user)) for user in users)
    assert all(len(text) > 4096 - 2 * shortest - 20 for text in texts[:-1])


def test_an_id_that_fits_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="too long to be disconnected"):
        texts_of(["x" * 4096])


def test_nobody_needs_no_text() -> None:
    assert texts_of([]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": 5},
        {"at": 1.5},
        {"at": True},
        {"at": None},
        {"expire": "120"},
        {"kind": "everyone"},
        {"kind": ["user"]},
        {"users": "7"},
        {"users": [7]},
        {"session": 5},
        {"session": "mine"},
        {"kind": "session"},
        {"kind": "sessionless", "session": "mine"},
    ],
)
def test_a_text_that_is_no_disconnect_is_none(change: dict[str, object]) -> None:
    fields = {"id": "x", "at": 100, "expire": 120, "kind": "user", "users": ["7"]}
    assert revocations.decode(json.dumps(fields)) is not None
    assert revocations.decode(json.dumps(fields | change)) is None


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "[" * 4000, '"x"', json.dumps({"id": "x" * 5000})]
)
def test_garbage_is_none(text: str) -> None:
    assert revocations.decode(text) is None


def test_what_a_later_version_adds_is_ignored() -> None:
    fields = json.loads(texts_of("7")[0])
    fields["why"] = "admin"
    assert revocations.decode(json.dumps(fields)) is not None


def test_no_ticket_has_the_key_of_an_entry() -> None:
    assert revocations.journal_key("off", 100, 3) == "off:off:100:3"
