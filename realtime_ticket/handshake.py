"""Read a handshake: find the ticket, choose the subprotocol, check the origin.

Strings in, strings out: no I/O and no Django, so that every realtime server can use it
with whatever its framework calls a header. ASGI servers need none of this: see
:mod:`realtime_ticket.integrations.asgi`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote_plus

from .exceptions import InvalidTicket

PROTOCOL: Final = "realtime-ticket.v1"
"""The subprotocol that a client offers beside its ticket, and that a server echoes.

A browser fails a connection whose server echoes none of what it offered (RFC 6455,
section 4.1), and a ticket must not be echoed: a response header may be logged.
"""

PARAMETER: Final = "ticket"
"""The query parameter that carries a ticket."""

Carrier = Literal["subprotocol", "query", "authorization"]
CARRIERS: Final[tuple[Carrier, ...]] = ("subprotocol", "query", "authorization")
"""Where a ticket may be: in ``Sec-WebSocket-Protocol``, in the URL's query, or in the
header ``Authorization``."""

_CARRIERS: Final = frozenset(CARRIERS)
_TICKET: Final = "ticket."
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_MAX_ORIGIN: Final = 300
"""A name has at most 253 characters. Longer ones would take time to be compared."""
_SCHEME: Final = r"([a-z][a-z0-9+.-]*)"
_NAME: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_IPV6: Final = r"\[[0-9a-f:.]+\]"
_ORIGIN: Final = re.compile(rf"{_SCHEME}://({_IPV6}|{_NAME})(?::([0-9]{{1,5}}))?")
_RULE: Final = re.compile(
    rf"{_SCHEME}://({_IPV6}|(?:\*\.)?{_NAME})(?::([0-9]{{1,5}}|\*))?"
)


def find_ticket(
    *,
    subprotocols: str | Iterable[str] | None = None,
    query: str | bytes = "",
    authorization: str | None = None,
    carriers: Collection[Carrier] = CARRIERS,
) -> str:
    """Return the ticket that a handshake shows, or the empty string for none.

    ``subprotocols`` is the text of ``Sec-WebSocket-Protocol``, or a list of its values;
    ``query`` is the query string without its question mark; ``authorization`` is the
    text of that header. Only ``carriers`` are looked into.

    What comes back is what the client sent, unchecked: give it to ``consume()``, which
    refuses the empty string too. Raise InvalidTicket when the handshake shows two
    different tickets: a server must not choose who the client is. Raise ValueError for
    a carrier that does not exist.
    """
    check_carriers(carriers)
    found: set[str] = set()
    if subprotocols and "subprotocol" in carriers:
        found.update(_in_subprotocols(subprotocols))
    if query and "query" in carriers:
        found.update(_in_query(query))
    if authorization and "authorization" in carriers:
        found.add(_in_authorization(authorization))
    found.discard("")
    if len(found) > 1:
        raise InvalidTicket("malformed")
    return found.pop() if found else ""


def select_subprotocol(subprotocols: str | Iterable[str] | None) -> str | None:
    """Return the subprotocol to answer with: ours when it is offered, never a ticket.

    ``subprotocols`` is what find_ticket() takes.
    """
    return PROTOCOL if PROTOCOL in split_subprotocols(subprotocols) else None


def split_subprotocols(subprotocols: str | Iterable[str] | None) -> list[str]:
    """Return the subprotocols in a header, or in a list of headers, in their order."""
    lines = [subprotocols] if isinstance(subprotocols, str) else subprotocols or ()
    names = [name.strip() for line in lines for name in line.split(",")]
    return [name for name in names if name]


def without_ticket(subprotocols: str | Iterable[str] | None) -> list[str]:
    """Return the subprotocols without tickets, to be logged and negotiated."""
    names = split_subprotocols(subprotocols)
    return [name for name in names if not name.startswith(_TICKET)]


def strip_query(query: str) -> str:
    """Return the query string without its tickets, otherwise as it was."""
    fields = query.split("&")
    return "&".join(f for f in fields if unquote_plus(f.split("=")[0]) != PARAMETER)


def check_carriers(carriers: Collection[str]) -> None:
    """Accept a collection of CARRIERS. Raise ValueError for anything else."""
    if not _CARRIERS.issuperset(carriers):
        renamed = "header" in carriers
        raise ValueError(
            f"carriers is a list of names from {CARRIERS}, not {carriers!r}."
            + ' The carrier "header" is called "authorization" now.' * renamed
        )


def check_origins(origins: object) -> None:
    """Accept several origins, or None. Raise TypeError for one string.

    ``in`` would look for a part of it: ``"https://e" in "https://example.com"``.
    """
    if isinstance(origins, str):
        raise TypeError("Allowed origins are a list of strings, not one string.")


class AllowedOrigins:
    """The origins whose pages may connect: ``origin in AllowedOrigins([...])``.

    Each is ``scheme://host`` with a ``:port`` where the scheme's own does not apply.
    The port may be ``*`` for any, and the host may begin with ``*.`` for any subdomain
    (not for the domain itself). Raise ValueError for anything else, and TypeError for
    one string instead of several.

    A page cannot forge a browser's ``Origin`` (RFC 6455, section 10.2). Ask with None
    where the client sends none: it is a program, or a page that reads events from its
    own origin. ``allow_missing`` says whether its ticket is enough. ``"null"``, which
    any page can send, is never allowed.
    """

    def __init__(self, origins: Iterable[str], *, allow_missing: bool) -> None:
        check_origins(origins)
        self._rules = {_rule(origin) for origin in origins}
        self.allow_missing = allow_missing

    def __contains__(self, origin: object) -> bool:
        if origin is None:
            return self.allow_missing
        if not isinstance(origin, str) or len(origin) > _MAX_ORIGIN:
            return False
        match = _ORIGIN.fullmatch(origin.lower()) if origin.isascii() else None
        if match is None:  # also "null", which any page can make itself
            return False
        scheme, host, port = match.groups()
        port = port or _DEFAULT_PORTS.get(scheme, "")
        for name in _names(host):
            if not self._rules.isdisjoint([(scheme, name, port), (scheme, name, "*")]):
                return True
        return False


def _rule(origin: str) -> tuple[str, str, str]:
    """Return scheme, host and port of an allowed origin, in the form of a browser's."""
    is_text = isinstance(origin, str) and origin.isascii()
    match = _RULE.fullmatch(origin.lower()) if is_text else None
    if match is None:
        raise ValueError(
            f"{origin!r} is not an origin: write 'https://example.com', "
            "'http://localhost:8000', 'http://localhost:*' or 'https://*.example.com'."
        )
    scheme, host, port = match.groups()
    return scheme, host, port or _DEFAULT_PORTS.get(scheme, "")


def _names(host: str) -> Iterator[str]:
    """Return what rules may call a host: its name, and ``*.`` with each parent."""
    yield host
    while "." in host and not host.startswith("["):
        host = host.partition(".")[2]
        yield f"*.{host}"


def _in_subprotocols(subprotocols: str | Iterable[str]) -> list[str]:
    names = split_subprotocols(subprotocols)
    return [name.removeprefix(_TICKET) for name in names if name.startswith(_TICKET)]


def _in_query(query: str | bytes) -> list[str]:
    text = query.decode("latin-1") if isinstance(query, bytes) else query
    return [value for name, value in parse_qsl(text) if name == PARAMETER]


def _in_authorization(authorization: str) -> str:
    # A scheme is case-insensitive (RFC 9110, section 11.1).
    scheme, _, value = authorization.strip().partition(" ")
    return value.strip() if scheme.lower() == "ticket" else ""
