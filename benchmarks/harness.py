"""Measure several ways to do the same work in turns, and say how they compare.

A row of the benchmarks is a module of this package that :mod:`benchmarks.rows` lists.
It has a ``TITLE`` and ``run(effort) -> list[Finding]``, and does three things:

1. It sets up :class:`Contender` objects. ``Contender(name, run)`` has a function that
   works for about so many seconds and returns a ``Sample``: a dict from the names of
   measures, those in ``UNITS``, to numbers. :func:`calls` makes one for a function and
   :func:`flights` for a coroutine function, in a closed loop of so many workers.
2. It calls :func:`compare` with them, ours first, and gets a :class:`Result`.
3. It returns what that says: ``result.ratio("what was done", "the other's name",
   "rate", Target(at_least=2))`` for a ratio, ours to the other's, and
   ``result.figure("what was done", "errors", Target(at_most=0))`` for a plain number.

:class:`Effort` says how long all this may take. A row scales whatever it does by it:
``effort.rounds``, ``effort.seconds`` for a contender and round, and ``min(20_000,
effort.most)`` for the size of what it sets up.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Sample = Mapping[str, float]
"""What one contender did in one round, by the names in UNITS."""

UNITS: Final = {
    "time": "s",  # for one call
    "rate": "/s",
    "p99": "s",  # 99 % of the calls took at most as long
    "longest": "s",
    "last": "s",  # until the last of many had what it came for
    "memory": "B",
    "errors": "",
}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much time to spend: rounds, seconds for each contender in each, and sizes."""

    rounds: int
    seconds: float
    most: int


EFFORTS: Final = {
    "full": Effort(rounds=9, seconds=0.15, most=1_000_000),
    "quick": Effort(rounds=2, seconds=0.05, most=100),
    "tiny": Effort(rounds=2, seconds=0.01, most=20),
}


@dataclass(frozen=True)
class Contender:
    """A way to do the work. ``run`` does it for about so many seconds."""

    name: str
    run: Callable[[float], Sample]


@dataclass(frozen=True)
class Target:
    """What a median has to be."""

    at_most: float = math.inf
    at_least: float = -math.inf

    def met_by(self, median: float) -> bool:
        return self.at_least <= median <= self.at_most


@dataclass(frozen=True)
class Spread:
    """The median of all rounds, and the quartiles below and above."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A line of the table: our measure, alone or divided by another contender's.

    ``measured`` is the ratio of each round if there is an ``other``, and else what was
    ``ours``. ``ours`` and ``theirs`` are medians in the measure's unit.
    """

    work: str
    measure: str
    measured: Spread
    ours: float
    other: str = ""
    theirs: float | None = None
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        return self.target and self.target.met_by(self.measured.median)


@dataclass(frozen=True)
class Row:
    """What one module of the benchmarks found, in ``seconds`` of measuring."""

    number: int
    title: str
    seconds: float
    findings: Sequence[Finding]


class Result:
    """What each contender did in each round. The first one is ours."""

    def __init__(self, rounds: Sequence[Mapping[str, Sample]], ours: str) -> None:
        self._rounds = rounds
        self._ours = ours

    def ratio(
        self, work: str, other: str, measure: str, target: Target | None = None
    ) -> Finding:
        """Return our measure divided by another contender's in the same round."""
        ours, theirs = self._values(self._ours, measure), self._values(other, measure)
        return Finding(
            work=work,
            measure=measure,
            measured=Spread.of([a / b for a, b in zip(ours, theirs, strict=True)]),
            ours=statistics.median(ours),
            other=other,
            theirs=statistics.median(theirs),
            target=target,
        )

    def figure(self, work: str, measure: str, target: Target | None = None) -> Finding:
        """Return our measure as it is."""
        measured = Spread.of(self._values(self._ours, measure))
        return Finding(
            work=work,
            measure=measure,
            measured=measured,
            ours=measured.median,
            target=target,
        )

    def _values(self, name: str, measure: str) -> list[float]:
        return [samples[name][measure] for samples in self._rounds]


def once(
    work: str, measure: str, measured: float, target: Target | None = None
) -> Finding:
    """Return what was measured once, so that it has no spread."""
    return Finding(
        work=work,
        measure=measure,
        measured=Spread(measured, measured, measured),
        ours=measured,
        target=target,
    )


def compare(contenders: Sequence[Contender], effort: Effort) -> Result:
    """Let all contenders work in each round, after a little work to warm up.

    They take turns within seconds, so whatever else the machine does meets all of them,
    and each round begins with another one.
    """
    for contender in contenders:
        contender.run(effort.seconds / 5)
    rounds = []
    for number in range(effort.rounds):
        first = number % len(contenders)
        samples = {}
        for contender in (*contenders[first:], *contenders[:first]):
            gc.collect()  # or one pays for what another left behind
            samples[contender.name] = contender.run(effort.seconds)
        rounds.append(samples)
    return Result(rounds, contenders[0].name)


def calls(name: str, call: Callable[[], object]) -> Contender:
    """Return a contender that makes one call after the other."""

    def run(seconds: float) -> Sample:
        latencies = []
        started = now = time.perf_counter()
        while now < started + seconds:
            before = now
            call()
            now = time.perf_counter()
            latencies.append(now - before)
        return sample(latencies, now - started)

    return Contender(name, run)


def flights(
    name: str,
    call: Callable[[], Awaitable[object]],
    workers: int,
    runner: asyncio.Runner,
) -> Contender:
    """Return a contender that always has so many calls in flight."""
    return Contender(name, lambda seconds: runner.run(fly(call, workers, seconds)))


async def fly(
    call: Callable[[], Awaitable[object]], workers: int, seconds: float
) -> Sample:
    """Let so many workers make one call after the other."""
    # Not tasks that wait for a semaphore: asyncio's looks at every waiter each time.
    latencies: list[float] = []
    started = time.perf_counter()

    async def work() -> None:
        before = time.perf_counter()
        while True:
            await call()
            now = time.perf_counter()
            latencies.append(now - before)
            if now > started + seconds:
                return
            before = now

    await asyncio.gather(*[work() for _ in range(workers)])
    return sample(latencies, time.perf_counter() - started)


def sample(latencies: Sequence[float], seconds: float) -> Sample:
    """Return the measures of calls that took so long each, and so long together."""
    latencies = sorted(latencies)
    return {
        "time": seconds / len(latencies),
        "rate": len(latencies) / seconds,
        "p99": latencies[math.ceil(0.99 * len(latencies)) - 1],
        "longest": latencies[-1],
    }
