"""A disconnect: its text, its key in the journal, and what it concerns. No I/O.

A disconnect says that open connections must end, because the login that they came from
has. Django writes it into a journal in the ticket storage, and each realtime server
reads the journal. This module is the journal's wire format, version 1.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from .tickets import MAX_DATA

Kind = Literal["session", "sessionless", "user"]
KINDS: Final[tuple[Kind, ...]] = ("session", "sessionless", "user")

_ID_BYTES: Final = 12
_JSON_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """An entry of the journal: whose connections must end.

    ``users`` are user ids as strings. ``kind`` says which of their connections:

    - ``session``: those that came from the login named ``session``.
    - ``sessionless``: those whose tickets name no session.
    - ``user``: all.

    ``at`` is when it was written, in Unix seconds by the writer's clock, and ``expire``
    how many seconds it stays in the journal. ``id`` is random: a reader knows an entry
    by it, even under a second key.
    """

    id: str
    at: int
    expire: int
    kind: Kind
    users: tuple[str, ...]
    session: str = ""

    def concerns(self, session: str) -> bool:
        """Tell whether it ends a connection of its users that came from ``session``."""
        return self.kind == "user" or self.session == session

    def refuses(self, session: str, issued_at: int, *, tolerance: int) -> bool:
        """Tell whether it also refuses a ticket of its users, issued at that time.

        A session has ended for good, whenever the ticket was issued: a page may fetch
        one while its logout is being answered. A user may log in again, so a ticket of
        theirs is refused only if it was issued before the disconnect, or up to
        ``tolerance`` seconds after it, since clocks differ.
        """
        if not self.concerns(session):
            return False
        return self.kind == "session" or issued_at <= self.at + tolerance


def journal_key(prefix: str, second: int, slot: int) -> str:
    """Return the key of a place in the journal. It is not secret, so never hashed.

    No ticket has such a key, whatever the prefix: no colon follows it in theirs.
    """
    return f"off:{prefix}:{second}:{slot}"


def user_key(user_id: object) -> str:
    """Return the string by which ids of users are compared: 7 and "7" are the same.

    Raise TypeError for what cannot be the id of a user.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, (int, str, UUID)):
        raise TypeError(f"A user's id is an int, a str or a UUID, not {user_id!r}.")
    if isinstance(user_id, int):
        return int.__repr__(user_id)
    # Joined, because a subclass of str may be printed as something else, as an Enum is.
    return "".join([user_id]) if isinstance(user_id, str) else str(user_id)


def encode(
    kind: Kind, users: Iterable[str], *, at: int, expire: int, session: str = ""
) -> Iterator[str]:
    """Return the texts that say so: as few as hold all users in 4 KiB each.

    Raise ValueError for a user's id that is too long for any.
    """
    fields: dict[str, Any] = {"at": at, "expire": expire, "kind": kind}
    if session:
        fields["session"] = session
    room = MAX_DATA - len(_text(fields, []))
    names: list[str] = []
    taken = 0
    for name in users:
        length = len(_JSON_ENCODER.encode(name)) + 1
        if length > room:
            raise ValueError("A user's id is too long to be disconnected.")
        if taken + length > room:
            yield _text(fields, names)
            names, taken = [], 0
        names.append(name)
        taken += length
    if names:
        yield _text(fields, names)


def decode(text: str) -> Disconnect | None:
    """Return the disconnect that the text describes, or None if it describes none.

    Unknown fields are ignored; an unknown ``kind`` makes it no disconnect.
    """
    try:
        fields = json.loads(text) if len(text) <= MAX_DATA else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not _is_entry(fields):
        return None
    return Disconnect(
        id=fields["id"],
        at=fields["at"],
        expire=fields["expire"],
        kind=fields["kind"],
        users=tuple(fields["users"]),
        session=fields.get("session", ""),
    )


def _text(fields: dict[str, Any], users: list[str]) -> str:
    named = {"id": secrets.token_urlsafe(_ID_BYTES), **fields, "users": users}
    return _JSON_ENCODER.encode(named)


def _is_entry(fields: dict[str, Any]) -> bool:
    users, session = fields.get("users"), fields.get("session", "")
    return (
        isinstance(fields.get("id"), str)
        and type(fields.get("at")) is int
        and type(fields.get("expire")) is int
        and fields.get("kind") in KINDS
        and isinstance(users, list)
        and all(isinstance(user, str) for user in users)
        and isinstance(session, str)
        and bool(session) == (fields["kind"] == "session")
    )
