"""Histories of concurrent calls, and whether one at a time could have made them.

The model: a ticket is taken at most once, after it was added and before it expires. A
history is linearizable if each call could have happened at one moment between its
start and its end, so that the model is kept (Herlihy and Wing, 1990). Tickets do not
depend on each other, so each has a history of its own.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

Name = Literal["add", "pop"]
Outcome = Literal["done", "nothing", "unknown"]

STEP = 1e-9
"""Seconds between two moments that follow each other."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of ``add`` or ``pop``: when it began and ended, in seconds, and its end.

    ``done``: it added, or took. ``nothing``: the ticket was not there. ``unknown``: it
    failed, and may have had its effect at any later time, or never.
    """

    name: Name
    start: float
    end: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Store:
    """What is known of the storage: how long tickets live, in seconds.

    They may die ``early`` seconds before. In ``losses``, pairs of times, the storage
    may have lost all that it held.
    """

    expire: float
    early: float = 0.0
    losses: tuple[tuple[float, float], ...] = ()


def explain(calls: Iterable[Call], store: Store) -> str:
    """Return why no order of these calls on one ticket keeps the model, or nothing.

    At most one call adds a ticket.
    """
    calls = list(calls)
    pops = [call for call in calls if call.name == "pop"]
    taken = [call for call in pops if call.outcome == "done"]
    missed = [call for call in pops if call.outcome == "nothing"]
    doubtful = [call for call in pops if call.outcome == "unknown"]
    if len(taken) > 1:
        return f"taken {len(taken)} times"
    add = next((call for call in calls if call.name == "add"), None)
    if add is None or add.outcome == "nothing":
        return "taken, and never added" if taken else ""
    if not taken and add.outcome == "unknown":
        return ""  # it may never have been there
    first = max([add.start, *(call.start - store.expire + STEP for call in taken)])
    last = min(
        [add.end if add.outcome == "done" else math.inf, *(t.end for t in taken)]
    )
    # The earlier it was added, the earlier it may be gone. So only such moments count
    # from which on one more call can have come before.
    for added in sorted({first, *(call.start + STEP for call in missed)}):
        if not first <= added <= last:
            continue
        for gone in _ends(added, taken, doubtful, store):
            if all(call.start < added or call.end > gone for call in missed):
                return ""
    return "taken too early or too late, or not there when it should have been"


def _ends(
    added: float, taken: list[Call], doubtful: list[Call], store: Store
) -> Iterator[float]:
    """Yield the earliest moments at which a ticket that was added then may be gone."""
    if taken:
        moment = max(taken[0].start, added)
        if moment <= taken[0].end and moment < added + store.expire:
            yield moment
        return
    yield added + store.expire - store.early
    for call in doubtful:
        yield max(call.start, added)
    for start, end in store.losses:
        if end >= added:
            yield max(start, added)


class Recorder:
    """Makes calls, and writes down when they were made and what came of them."""

    def __init__(self, failures: tuple[type[Exception], ...]) -> None:
        self._failures = failures
        self._calls: dict[str, list[Call]] = defaultdict(list)
        self._lock = threading.Lock()

    def call(self, name: Name, key: str, work: Callable[[], object]) -> None:
        """Do the work. What it returns is true if it added, or took."""
        with self._writing(name, key) as outcomes:
            outcomes.append("done" if work() else "nothing")

    async def acall(self, name: Name, key: str, work: Awaitable[object]) -> None:
        """See call()."""
        with self._writing(name, key) as outcomes:
            outcomes.append("done" if await work else "nothing")

    @contextmanager
    def _writing(self, name: Name, key: str) -> Iterator[list[Outcome]]:
        outcomes: list[Outcome] = []
        start = time.monotonic()
        with suppress(*self._failures):
            yield outcomes
        call = Call(name, start, time.monotonic(), *(outcomes or ["unknown"]))
        with self._lock:
            self._calls[key].append(call)

    def violations(self, store: Store) -> dict[str, str]:
        """Return the tickets whose history nothing explains, and what is wrong."""
        found = {key: explain(calls, store) for key, calls in self._calls.items()}
        return {key: problem for key, problem in found.items() if problem}

    def count(self, outcome: Outcome) -> int:
        """Return how many calls have ended so."""
        with self._lock:
            calls = itertools.chain.from_iterable(self._calls.values())
            return sum(call.outcome == outcome for call in calls)
