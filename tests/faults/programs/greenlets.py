"""Be gevent's: greenlets issue tickets and show them, until a line comes in.

When they are ``patient``, they wait long for the storage. With ``kills`` they are few,
and others are killed in the middle of their calls.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import random  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from tests.faults.load import Load  # noqa: E402
from tests.faults.programs.common import figures_of, say, service_on  # noqa: E402
from tests.faults.storages import PATIENT  # noqa: E402

MANY, FEW = 250, 25
"""Pairs of greenlets: both of a pair show the same tickets."""

KILLED = 100
ROUNDS = 8


def main(kind: str, place: str, way: str = "") -> None:
    service = service_on(kind, place, PATIENT if way == "patient" else None)
    kills = way == "kills"
    load, victims = Load(service, "sync"), Load(service, "sync")
    over = Event()
    pairs = [gevent.spawn(go_on, load, over) for _ in range(FEW if kills else MANY)]
    if kills:
        assert sum(kill_some(victims) for _ in range(ROUNDS)) > KILLED
    say("ready")
    gevent.get_hub().threadpool.apply(sys.stdin.readline)
    over.set()
    gevent.joinall(pairs, timeout=20, raise_error=True)
    for ticket in list(victims.issued.values()):
        victims.show(ticket)
    # Who was killed can have spent a ticket and not said so.
    say([figures_of([load]), figures_of([victims]) | {"lost": 0}])


def go_on(load: Load, over: Event) -> None:
    """Issue tickets and show each twice at the same moment."""
    while not over.is_set():
        if ticket := load.issue():
            other = gevent.spawn(load.show, ticket)
            load.show(ticket)
            other.join()


def kill_some(load: Load) -> int:
    """Kill greenlets within 20 ms, and return how many were not done."""
    calls = [gevent.spawn(pair, load) for _ in range(KILLED)]
    for call in calls:
        gevent.spawn_later(random.uniform(0, 0.02), call.kill, block=False)
    gevent.joinall(calls, timeout=20)
    return sum(isinstance(call.value, gevent.GreenletExit) for call in calls)


def pair(load: Load) -> None:
    if ticket := load.issue():
        load.show(ticket)


if __name__ == "__main__":
    main(*sys.argv[1:])
