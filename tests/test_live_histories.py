"""Random histories of logins, connections and logouts, against a plain model."""

from __future__ import annotations

import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from realtime_ticket import InvalidTicket
from tests.journals import World


def test_nobody_else_is_closed_or_locked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 10,000 random histories: those of 100 users in each of 100 worlds."""
    closed = 0
    for seed in range(100):
        closed += History(monkeypatch, random.Random(seed)).run()
    assert closed > 5_000


class History:
    """What happens to 100 users, and what a plain model says of each connection.

    In each round a user does one thing at most, and the journal is read after it.
    """

    IDS = (str, "0{}".format, "u\u00e9-{}".format, int, lambda n: 2**60 + n, uuid.UUID)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
        self.world = World(monkeypatch)
        self.chance = chance
        self.ids: list[Any] = [
            uuid.UUID(int=number) if kind is uuid.UUID else kind(number)
            for number in range(100)
            for kind in [chance.choice(self.IDS)]
        ]
        self.open: dict[str, tuple[str, str]] = {}
        self.closed: set[str] = set()
        self.logins: Counter[str] = Counter()
        self.refused_until: defaultdict[tuple[str, str], float] = defaultdict(float)

    def run(self) -> int:
        """Return how many connections were closed."""
        for _ in range(8):
            for user_id in self.chance.sample(self.ids, 50):
                step = self.chance.choice([self.connect] * 3 + [self.log_out, self.end])
                step(user_id, self.chance.choice(["", "phone", "laptop"]))
            self.world.clocks.advance(self.chance.choice([0.5, 0.5, 1, 4]))
            self.world.live.poll()
            assert {*self.world.ended} == self.closed
        return len(self.closed)

    def session(self, user: str, device: str) -> str:
        """Return the name of the login on this device, which a logout changes."""
        return f"{device}-{self.logins[user + device]}" if device else ""

    def connect(self, user_id: Any, device: str) -> None:
        user = str(user_id)
        session = self.session(user, device)
        name = f"connection {len(self.open)}"
        shown = user if isinstance(user_id, uuid.UUID) else user_id
        try:
            self.world.connect(name, shown, session)
        except InvalidTicket:
            # For a moment, after an end of all, or of those without a session.
            until = self.refused_until[user, ""]
            if session:
                until = self.refused_until[user, "all"]
            assert self.world.clocks.wall < until
        else:
            self.open[name] = (user, session)

    def log_out(self, user_id: Any, device: str) -> None:
        user = str(user_id)
        session = self.session(user, device)
        self.world.service.disconnect(user_id, session=session)
        self.close(lambda owner: owner == (user, session))
        if device:
            self.logins[user + device] += 1
        else:
            self.refused_until[user, ""] = self.world.clocks.wall + 4

    def end(self, user_id: Any, device: str) -> None:
        user = str(user_id)
        self.world.service.disconnect(user_id)
        self.close(lambda owner: owner[0] == user)
        for kind in ("", "all"):
            self.refused_until[user, kind] = self.world.clocks.wall + 4

    def close(self, concerned: Callable[[tuple[str, str]], bool]) -> None:
        self.closed |= {name for name, owner in self.open.items() if concerned(owner)}
