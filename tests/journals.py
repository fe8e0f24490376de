"""A store and clocks that a test moves by hand, for the journal of disconnects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from realtime_ticket import TicketService
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.journal_reader import JournalReader
from realtime_ticket.live import LiveTickets, Revoked
from realtime_ticket.revocations import Disconnect
from realtime_ticket.tickets import Ticket

START = 1_764_300_000.0


class Clocks:
    """Both clocks of a machine, in place of the module ``time``."""

    def __init__(self) -> None:
        self.wall = START
        self.uptime = 5_000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.uptime

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.uptime += seconds


class Store(BaseBackend):
    """Keep texts until the store's clock says that they have expired.

    ``is_down`` is asked for each key: several servers may hold different ones.
    """

    thread_sensitive: ClassVar[bool] = False

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.texts: dict[str, tuple[str, float]] = {}
        self.is_down: Callable[[str], bool] = lambda key: False
        self.reads: list[int] = []
        self.closed = 0

    def add(self, key: str, data: str, expire: int) -> bool:
        if self.is_down(key):
            raise ConnectionError
        if self._text(key) is not None:
            return False
        self.texts[key] = (data, self.clocks.uptime + expire)
        return True

    def pop(self, key: str) -> str | None:
        if self.is_down(key):
            raise ConnectionError
        text = self._text(key)
        self.texts.pop(key, None)
        return text

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        self.reads.append(len(keys))
        texts = [ConnectionError() if self.is_down(k) else self._text(k) for k in keys]
        if all(isinstance(text, Exception) for text in texts):
            raise ConnectionError
        return texts

    def close(self) -> None:
        self.closed += 1

    def put(self, second: float, number: int, **fields: Any) -> None:
        """Write an entry where a writer would have, had it been there."""
        self.add(f"off:rt_:{int(second)}:{number}", entry(**fields), 120)

    def _text(self, key: str) -> str | None:
        text, deadline = self.texts.get(key, ("", 0.0))
        return text if self.clocks.uptime < deadline else None


def entry(
    user: str = "7", *, id: str = "", at: float = START, session: str = ""
) -> str:
    """Return the text of an entry: it names one user, or one of their sessions."""
    fields: dict[str, Any] = {
        "id": id or f"{user}-{session}-{at}",
        "at": int(at),
        "expire": 120,
        "kind": "session" if session else "user",
        "users": [user],
    }
    return json.dumps(fields | ({"session": session} if session else {}))


def ticket(
    user_id: int | str = 7,
    *,
    session: str = "",
    issued_at: float = START,
    max_age: int | None = None,
) -> Ticket:
    """Return a ticket that was consumed."""
    return Ticket(
        value="rt_" + "a" * 43,
        claims={"id": user_id, "username": "ada"},
        audience="",
        issued_at=int(issued_at),
        expires_at=int(issued_at) + 10,
        session=session,
        max_age=max_age,
    )


def heard(reader: JournalReader) -> list[Disconnect]:
    """Let the reader read, and return what is new."""
    reading = reader.read()
    reader.remember(reading)
    return reading.disconnects


def doubt(reader: JournalReader) -> str:
    """Let the reader read, and return why it doubts."""
    reading = reader.read()
    reader.remember(reading)
    return reading.doubt


class World:
    """A service and its live tickets on a store and clocks that are moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.clocks = Clocks()
        for module in ("journal", "journal_reader", "listener", "live", "service"):
            monkeypatch.setattr(f"realtime_ticket.{module}.time", self.clocks)
        self.store = Store(self.clocks)
        self.service = TicketService(self.store)
        self.live = LiveTickets(self.service, thread=False, **options)
        self.ended: dict[str, Revoked] = {}
        self.live.poll()

    def connect(self, name: str, user_id: int | str = 7, session: str = "") -> None:
        """Open a connection with a ticket of now, and note under its name how it ends.

        It is named after its session where it has one.
        """
        shown = ticket(user_id, session=session, issued_at=self.clocks.wall)
        self.watch(name, shown)

    def watch(self, name: str, shown: Ticket) -> None:
        self.live.watch(shown, lambda revoked: self.ended.setdefault(name, revoked))

    def after(self, seconds: float) -> dict[str, str]:
        """Return why which connections have ended, that many seconds later."""
        self.clocks.advance(seconds)
        self.live.poll()
        return {name: revoked.cause for name, revoked in self.ended.items()}
