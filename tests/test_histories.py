"""Histories of concurrent calls on real servers, checked for linearizability."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connections
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_ticket import StorageError, TicketService, tickets
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.broken import GetThenDelete, NeverExpires, NeverRemoves
from tests.helpers import REMOTE, WAIT, eventually
from tests.histories import Call, Name, Recorder, Store, explain

FOREVER = Store(expire=1000)
TICKETS = 150
POPS = 4
WORKERS = 12
EXPIRED = 10
"""Further tickets, which are popped only when they have expired."""
EXPIRE = 1
TICK = 0.01
"""Seconds by which the storage's clock may differ from ours over that time, where
nobody sets it."""
SPREAD = 1.5
"""Seconds over which the calls on one ticket are spread: some of them are too late."""


def add(start: float, end: float, outcome: str = "done") -> Call:
    return Call("add", start, end, outcome)  # type: ignore[arg-type]


def pop(start: float, end: float, outcome: str = "done") -> Call:
    return Call("pop", start, end, outcome)  # type: ignore[arg-type]


class TestTheChecker:
    @pytest.mark.parametrize(
        ("calls", "store"),
        [
            ([], FOREVER),
            ([add(0, 1)], FOREVER),
            ([pop(0, 1, "nothing")], FOREVER),
            ([add(0, 1), pop(2, 3)], FOREVER),
            ([add(0, 4), pop(1, 2)], FOREVER),
            ([add(0, 4), pop(1, 2), pop(3, 5, "nothing")], FOREVER),
            ([add(0, 4), pop(1, 2, "nothing"), pop(3, 5)], FOREVER),
            ([add(0, 1), pop(2, 3, "unknown"), pop(4, 5, "nothing")], FOREVER),
            ([add(0, 1), pop(2, 3, "unknown"), pop(4, 5)], FOREVER),
            ([add(0, 1, "unknown"), pop(4, 5)], FOREVER),
            ([add(0, 1, "unknown"), pop(4, 5, "nothing")], FOREVER),
            ([add(0, 1), pop(2.5, 3, "nothing")], Store(expire=2)),
            ([add(0, 1), pop(2.5, 3)], Store(expire=2)),
            ([add(0, 1), pop(1.5, 1.6, "nothing")], Store(expire=2, early=1)),
            ([add(0, 1), pop(5, 6, "nothing")], Store(9, losses=((2, 3),))),
        ],
    )
    def test_accepts(self, calls: list[Call], store: Store) -> None:
        """What an honest storage can do, in every order in which it may be written."""
        for order in itertools.permutations(calls):
            assert explain(order, store) == ""

    @pytest.mark.parametrize(
        ("calls", "store"),
        [
            ([pop(0, 1)], FOREVER),
            ([pop(0, 1), add(2, 3)], FOREVER),
            ([add(0, 1, "nothing"), pop(2, 3)], FOREVER),
            ([add(0, 1), pop(2, 3), pop(2, 3)], FOREVER),
            ([add(0, 1), pop(2, 3), pop(9, 10)], FOREVER),
            ([add(0, 1), pop(2, 3, "nothing")], FOREVER),
            ([add(0, 1), pop(2, 3, "nothing"), pop(4, 5)], FOREVER),
            ([add(0, 1), pop(2, 3, "nothing"), pop(4, 5, "unknown")], FOREVER),
            ([add(0, 1), pop(3.1, 4)], Store(expire=2)),
            ([add(0, 1), pop(1.1, 1.9, "nothing")], Store(expire=2)),
            ([add(0, 1), pop(1.1, 1.4, "nothing")], Store(expire=2, early=0.5)),
            ([add(0, 1), pop(2, 3, "nothing")], Store(9, losses=((4, 5),))),
            ([add(6, 7), pop(8, 9, "nothing")], Store(99, losses=((4, 5),))),
            # Each call alone could be explained, by another moment of adding.
            (
                [
                    add(0, 3),
                    pop(0.7, 0.8, "nothing"),
                    pop(2.5, 2.6, "nothing"),
                    pop(4.0, 4.1, "nothing"),
                ],
                Store(expire=2),
            ),
        ],
    )
    def test_refuses(self, calls: list[Call], store: Store) -> None:
        """What only a broken storage does, in every order."""
        for order in itertools.permutations(calls):
            assert explain(order, store)

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 6),
                st.integers(1, 4),
                st.sampled_from(["done", "nothing", "unknown"]),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_agrees_with_trying_every_order(
        self, calls: list[tuple[int, int, str]]
    ) -> None:
        """The short way and the long way tell the same."""
        (start, length, outcome), *rest = calls
        # No two calls begin or end at the same moment.
        history = [add(start, start + length, outcome)]
        history += [
            pop(start + n / 10, start + length + n / 10 + 0.05, outcome)
            for n, (start, length, outcome) in enumerate(rest, 1)
        ]
        assert (explain(history, FOREVER) == "") is possible(history)


def possible(history: list[Call]) -> bool:
    """Tell whether any order of the calls, doubtful ones left out or not, is right."""
    doubtful = [call for call in history if call.outcome == "unknown"]
    for count in range(len(doubtful) + 1):
        for left_out in itertools.combinations(doubtful, count):
            kept = [call for call in history if call not in left_out]
            if any(map(is_right, itertools.permutations(kept))):
                return True
    return False


def is_right(order: tuple[Call, ...]) -> bool:
    """Tell whether these calls, one after another, keep the model and the times."""
    now, there = -math.inf, False
    for call in order:
        now = max(now, call.start)
        if call.outcome != "unknown" and now > call.end:
            return False
        if call.name == "add":
            if call.outcome != "nothing":
                there = True
        elif call.outcome == "unknown":
            there = False
        elif there is not (call.outcome == "done"):
            return False
        else:
            there = False
    return True


def on_redis() -> BaseBackend:
    servers.require("redis")
    return RedisBackend(unix_socket_path=str(servers.REDIS))


def on_memcached() -> BaseBackend:
    servers.require("memcached")
    servers.until_clocks_are_steady()
    return MemcachedBackend(servers=list(map(str, servers.MEMCACHED)))


def on_database(alias: str) -> Any:
    marks = pytest.mark.django_db(transaction=True, databases=[alias])
    name = "sqlite" if alias == "default" else alias
    return pytest.param(lambda: DatabaseBackend(alias=alias), marks=marks, id=name)


BACKENDS = [
    pytest.param(LocMemBackend, id="locmem"),
    pytest.param(on_redis, id="redis"),
    pytest.param(on_memcached, id="memcached"),
    *map(on_database, ["default", *REMOTE]),
]

Script = list[tuple[float, Name, str]]
"""When to begin a call, in seconds from now; its name; its key."""


def a_script(seed: int) -> Script:
    """Return calls on many tickets at once: each is added, and popped at any time.

    ``EXPIRED`` of them are popped once, half a second after they have expired, so that
    a storage without expiry is found out even if most of the other calls are late.
    """
    chance = random.Random(seed)
    script: Script = []
    for _ in range(TICKETS):
        key, begin = tickets.new_value(), chance.uniform(0, 1)
        script.append((begin, "add", key))
        for _ in range(POPS):
            # Most of them right after the ticket is added, when they race for it.
            delay = chance.choice(
                [chance.uniform(-0.001, 0.003), chance.uniform(0, SPREAD)]
            )
            script.append((begin + delay, "pop", key))
    for number in range(EXPIRED):
        begin, key = number / EXPIRED, tickets.new_value()
        script += [(begin, "add", key), (begin + SPREAD, "pop", key)]
    return sorted(script)


def in_threads(backend: BaseBackend, recorder: Recorder, script: Script) -> None:
    """Make the calls from several threads, each at its time."""
    begin = time.monotonic()
    calls, lock = iter(script), threading.Lock()

    def take() -> tuple[float, Name, str] | None:
        with lock:
            return next(calls, None)

    def run() -> None:
        while call := take():
            moment, name, key = call
            time.sleep(max(0, begin + moment - time.monotonic()))
            add, pop = partial(backend.add, key, "x", EXPIRE), partial(backend.pop, key)
            recorder.call(name, key, add if name == "add" else pop)
        connections.close_all()  # this thread's

    with ThreadPoolExecutor(WORKERS) as threads:
        for done in [threads.submit(run) for _ in range(WORKERS)]:
            done.result(60)


def in_batches(backend: BaseBackend, recorder: Recorder, script: Script) -> None:
    """Make the calls from coroutines, whose calls go to the storage together."""
    service = TicketService(backend)

    async def make(moment: float, name: Name, key: str) -> None:
        await asyncio.sleep(moment)
        call = Item(key, "x", EXPIRE) if name == "add" else key
        await recorder.acall(name, key, service._batches.submit(call))

    async def main() -> None:
        await asyncio.gather(*(make(*call) for call in script))
        await service.aclose()

    asyncio.run(main())


def tick_since(offset: float) -> float:
    """Return by how much the storage's clock may differ from ours by now.

    Most storages go by the clock on the wall, which can be set while a test runs, and
    histories by one that cannot.
    """
    return TICK + abs(wall_offset() - offset)


def wall_offset() -> float:
    return time.time() - time.monotonic()


both_doors = pytest.mark.parametrize("run", [in_threads, in_batches])


@both_doors
@pytest.mark.usefixtures("patient_batches")
@pytest.mark.parametrize("make_backend", BACKENDS)
def test_histories_are_linearizable(make_backend: Any, run: Any) -> None:
    """Whatever the interleaving, one call at a time could have said the same.

    Mutants: redis-gets-then-deletes, memcached-ignores-who-deleted.
    """
    backend = make_backend()
    recorder = Recorder(backend.storage_errors)
    offset = wall_offset()
    run(backend, recorder, a_script(seed=1))
    early, tick = float(isinstance(backend, MemcachedBackend)), tick_since(offset)
    store = Store(expire=EXPIRE + tick, early=early + tick)
    assert recorder.violations(store) == {}
    assert recorder.count("done") > 1.5 * TICKETS + EXPIRED  # most were taken
    assert recorder.count("nothing") > TICKETS + EXPIRED
    assert recorder.count("unknown") < TICKETS / 10  # or little would be checked
    backend.close()


@both_doors
def test_histories_of_a_storage_that_dies(run: Any) -> None:
    """Killed and restarted under load, it may lose tickets, and lets none in twice.

    Mutants: redis-gets-then-deletes.
    """
    servers.require("redis")
    node = servers.Node()
    backend = RedisBackend(port=node.port)
    recorder = Recorder((*backend.storage_errors, StorageError))
    losses: list[tuple[float, float]] = []
    offset = wall_offset()

    def wait_for_more(failures: int) -> None:
        eventually(lambda: recorder.count("unknown") > failures, 0.5)

    def disturb() -> None:
        # A restart may take as long as the calls do.
        eventually(lambda: recorder.count("done") > TICKETS / 2, WAIT)
        for _ in range(3):
            start, failures = time.monotonic(), recorder.count("unknown")
            node.kill()
            wait_for_more(failures)  # or it may be back before a call is made
            node.start()
            losses.append((start, time.monotonic()))
            time.sleep(0.3)

    with ThreadPoolExecutor(1) as disturber:
        disturbed = disturber.submit(disturb)
        run(backend, recorder, a_script(seed=2))
        disturbed.result(60)
    tick = tick_since(offset)
    store = Store(expire=EXPIRE + tick, early=tick, losses=tuple(losses))
    assert recorder.violations(store) == {}
    assert recorder.count("unknown") > 0  # it was disturbed
    assert recorder.count("done") > TICKETS / 2
    backend.close()
    node.kill()


@pytest.mark.parametrize("mutant", [GetThenDelete, NeverExpires, NeverRemoves])
def test_broken_storages_are_found_out(mutant: Any) -> None:
    """The same calls on a storage that is not atomic, or ignores a rule."""
    servers.require("redis")
    backend = mutant()
    recorder = Recorder(backend.storage_errors)
    in_threads(backend, recorder, a_script(seed=1))
    assert recorder.violations(Store(expire=EXPIRE + TICK, early=TICK))
    backend.close()
