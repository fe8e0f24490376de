"""What a ticket is: its value, its storage key and its stored text. No I/O, no Django.

This module is the wire format, version 1. A consumer in another language does what
:func:`storage_key` and :func:`decode` do, and nothing more.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite
from typing import Any, Final, NoReturn

from .exceptions import InvalidAudience, InvalidClaims, InvalidTicket

PREFIX: Final = "rt_"
PREFIX_FORMAT: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
AUDIENCE_FORMAT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_SESSION: Final = 128
"""The longest name of a session, in characters."""
MAX_DATA: Final = 4096
"""The longest stored text, in characters; it is ASCII, so in bytes too."""

_SECRET_BYTES: Final = 32
_SECRET_FORMAT: Final = "[A-Za-z0-9_-]{43}"
_RESERVED: Final = frozenset({"iat", "exp", "aud", "sid", "max_age"})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_MAX_SAFE_INTEGER: Final = 2**53 - 1
"""The largest integer that JavaScript's numbers hold exactly (RFC 8259, section 6)."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    """Return the float. Refuse a number that would become Infinity."""
    value = float(number)
    return value if isfinite(value) else _refuse(number)


# json.dumps() and json.loads() with options create these for each call.
_JSON_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_JSON_DECODER: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ticket:
    """A ticket: the secret that is shown once, and what it says about the user.

    - ``value``: the secret, a str, for the client alone. ``repr()`` does not show it.
    - ``claims``: a dict with at least ``id`` (int or str) and ``username`` (str), and
      what ``REALTIME_TICKET_CLAIMS`` added.
    - ``audience``: a str, empty for none.
    - ``issued_at``, ``expires_at``: Unix times in seconds, by the clock of the issuing
      machine. ``issued_at`` is when the user was recognised; a disconnect after it
      refuses the ticket. ``expires_at`` is information only: the storage judges it.
    - ``session``: a str that names the login that the ticket came from, empty for none.
    - ``max_age``: how many seconds that login lasts at most, None if that is not known.
    """

    value: str
    claims: dict[str, Any] = field(hash=False)
    audience: str
    issued_at: int
    expires_at: int
    session: str = ""
    max_age: int | None = None

    @property
    def user_id(self) -> int | str:
        """Return the user's primary key; a string when JavaScript could not hold it."""
        user_id: int | str = self.claims["id"]
        return user_id

    @property
    def username(self) -> str:
        """Return what Django's ``get_username()`` gave, as text; empty for None."""
        username: str = self.claims["username"]
        return username

    @property
    def fingerprint(self) -> str:
        """Return 8 hex digits that name this ticket in a log without giving it away."""
        return fingerprint(self.value)

    # The secret must not reach a log or a traceback, so no generated repr.
    def __repr__(self) -> str:
        return (
            f"<Ticket {self.fingerprint} user_id={self.user_id!r} "
            f"audience={self.audience!r}>"
        )


def new_value(prefix: str = PREFIX) -> str:
    """Return a new ticket string: the prefix and 256 bits from the system's CSPRNG.

    OWASP ASVS 5.0, 7.2.3, asks for at least 128 bits.
    """
    return prefix + secrets.token_urlsafe(_SECRET_BYTES)


def value_format(prefix: str = PREFIX) -> re.Pattern[str]:
    """Return the pattern that a ticket string must ``fullmatch``.

    ``fullmatch``, because ``$`` also matches before a trailing newline.
    """
    return re.compile(re.escape(prefix) + _SECRET_FORMAT)


def storage_key(
    value: str, audience: str = "", *, prefix: str = PREFIX, hashed: bool = False
) -> str:
    """Return the key under which the storage holds the ticket.

    The audience is part of the key, so a server with another audience does not find the
    ticket, does not spend it and learns nothing.
    """
    # Joined and not formatted: a subclass of str may format as something else, as an
    # Enum does, but only its characters were checked.
    key = ":".join([value, audience] if audience else [value])
    return prefix + sha256(key.encode()).hexdigest() if hashed else key


def fingerprint(value: str) -> str:
    """Return the first 8 hex digits of the value's SHA-256, safe to log."""
    return sha256(value.encode()).hexdigest()[:8]


def check_audience(audience: object) -> None:
    """Accept a well-formed audience or the empty string. Raise InvalidAudience."""
    if audience == "":
        return
    if not isinstance(audience, str) or not AUDIENCE_FORMAT.fullmatch(audience):
        raise InvalidAudience(
            "An audience is 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'."
        )


def seconds_left(ticket: Ticket, now: float) -> float | None:
    """Return how many seconds the ticket's login still lasts at most.

    ``now`` is a Unix time. None if it is not known.
    """
    if ticket.max_age is None:
        return None
    return ticket.max_age - max(0.0, now - ticket.issued_at)


def check_time(time: float) -> None:
    """Accept a Unix time. Raise ValueError for anything else."""
    if type(time) not in (int, float) or not 0 <= time <= _MAX_SAFE_INTEGER:
        raise ValueError(f"{time!r} is not a Unix time in seconds.")


def check_session(session: object, max_age: object) -> None:
    """Accept the session and max_age of a ticket. Raise ValueError for other values."""
    if not isinstance(session, str) or len(session) > MAX_SESSION:
        raise ValueError(f"A session is a str of at most {MAX_SESSION} characters.")
    is_time = type(max_age) is int and 0 <= max_age <= _MAX_SAFE_INTEGER
    if max_age is not None and not is_time:
        raise ValueError(f"max_age is an int of 0 to {_MAX_SAFE_INTEGER} seconds.")


def create(
    claims: dict[str, Any],
    *,
    value: str,
    audience: str,
    issued_at: int,
    expires_at: int,
    session: str = "",
    max_age: int | None = None,
) -> tuple[Ticket, str]:
    """Return a new ticket, and the text to store: one compact ASCII JSON object.

    The ticket is what decode() makes of that text. Raise InvalidClaims when the claims
    lack ``id`` or ``username``, use a reserved name (``iat``, ``exp``, ``aud``,
    ``sid``, ``max_age``), are not JSON, or are longer than 4 KiB.
    """
    claims = dict(claims) if isinstance(claims, dict) else {}
    if not _identifies(claims):
        raise InvalidClaims("Claims need an 'id' (int or str) and a 'username' (str).")
    if not _RESERVED.isdisjoint(claims):
        taken = sorted(_RESERVED.intersection(claims))
        raise InvalidClaims(f"Claims may not use the names {taken}.")
    try:
        claims["id"] = _portable(claims["id"])
        fields = {
            "id": claims["id"],
            "username": claims["username"],
            "iat": issued_at,
            "exp": expires_at,
        }
        if audience:
            fields["aud"] = audience
        if session:
            fields["sid"] = session
        if max_age is not None:
            fields["max_age"] = max_age
        fields |= claims
        data = _JSON_ENCODER.encode(fields)
        _check_characters(data, fields)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidClaims(f"Claims must be JSON: {exc}") from exc
    if len(data) > MAX_DATA:
        raise InvalidClaims(f"Claims take {len(data)} bytes of JSON, over {MAX_DATA}.")
    if type(session) is not str or not _kept_by_json(claims):
        return decode(data, value=value, audience=audience), data
    ticket = Ticket(
        value=value,
        claims=claims,
        audience=audience,
        issued_at=issued_at,
        expires_at=expires_at,
        session=session,
        max_age=max_age,
    )
    return ticket, data


def decode(data: str, *, value: str, audience: str) -> Ticket:
    """Return the ticket that the stored text describes.

    Raise InvalidTicket with the reason ``mismatch`` when the text is not a ticket's, or
    belongs to another audience: something else wrote it.
    """
    # If the storage was tampered with, it may return bytes as well. SQLite does.
    is_text = isinstance(data, str) and data.isascii() and len(data) <= MAX_DATA
    try:
        claims = _JSON_DECODER.decode(data) if is_text else None
        _check_characters(data, claims)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise InvalidTicket("mismatch")
    if not isinstance(claims.get("id"), str):
        claims["id"] = _integer(claims.get("id"))
    issued_at = _integer(claims.pop("iat", None))
    expires_at = _integer(claims.pop("exp", None))
    session, max_age = claims.pop("sid", ""), claims.pop("max_age", None)
    if (whole := _integer(max_age)) is not None:
        max_age = whole
    if (
        not _identifies(claims)
        or issued_at is None
        or expires_at is None
        or claims.pop("aud", "") != audience
    ):
        raise InvalidTicket("mismatch")
    try:
        check_session(session, max_age)
    except ValueError:
        raise InvalidTicket("mismatch") from None
    return Ticket(
        value=value,
        claims=claims,
        audience=audience,
        issued_at=issued_at,
        expires_at=expires_at,
        session=session,
        max_age=max_age,
    )


def _kept_by_json(claims: dict[str, Any]) -> bool:
    """Tell whether JSON returns these claims just as they are.

    It does not where a tuple becomes a list, a number that is a name becomes text, or
    an object of a subclass becomes one of its base class. False for all nested claims.
    """
    are_text = {*map(type, claims)} == {str}
    return are_text and _SCALARS.issuperset(map(type, claims.values()))


def _identifies(claims: dict[str, Any]) -> bool:
    """Tell whether the claims name a user."""
    user_id, username = claims.get("id"), claims.get("username")
    is_id = isinstance(user_id, (int, str)) and not isinstance(user_id, bool)
    return is_id and isinstance(username, str)


def _integer(number: object) -> int | None:
    """Return a number of JSON as an integer, or None if it is not one.

    7, 7.0 and 7e0 are the same number, which JavaScript cannot tell apart. Nor can it
    tell integers beyond 2^53 - 1 apart, so None is returned for them.
    """
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if type(number) is int and abs(number) <= _MAX_SAFE_INTEGER:
        return number
    return None


def _check_characters(data: object, value: object) -> None:
    """Raise ValueError for half of a surrogate pair, which is not a character.

    JSON can contain one (RFC 8259, section 8.2), but it cannot be encoded in UTF-8, and
    strings of some languages cannot contain it.
    """
    if isinstance(data, str) and ("\\ud" in data or "\\uD" in data):
        json.dumps(value, ensure_ascii=False).encode()


def _portable(user_id: int | str) -> int | str:
    """Return an id that every reader of JSON keeps: a big integer becomes a string."""
    if isinstance(user_id, int) and abs(user_id) > _MAX_SAFE_INTEGER:
        return str(user_id)
    return user_id
