"""What a client of an example shows when it connects, and what it gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

Shown = tuple[str, str]
"""A carrier, and the ticket that it carries."""


@dataclass(frozen=True)
class Session:
    """A client's open connection: what it was told, and how it says something."""

    greeting: str
    say: Callable[[str], Awaitable[str]]
    closed: Callable[[], Awaitable[int | str | None]]
    """Waits until the server ends it, and returns how: its code, or what it says."""
    subprotocol: str | None = None
    headers: str = ""


class Refused(Exception):
    """The server did not let the client in. It said so with this status."""

    def __init__(self, status: int | str) -> None:
        super().__init__(status)
        self.status = status


Dial = Callable[..., AbstractAsyncContextManager[Session]]
"""Called with a port, what is shown, and ``origin``. Raises Refused."""
