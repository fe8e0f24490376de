"""The simulation of reconnect storms is true, and so are the figures on its page."""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import capacity, reconnect, scenarios
from benchmarks.capacity import Rates
from benchmarks.reconnect import STEP, Client, Cluster, Storm, simulate

CLIENTS = 20_000
RATE = 1000.0
"""Tickets per second: the storm takes 20 s at least."""

BOUNDED = Cluster(tickets=RATE, handshakes=2 * RATE, backlog=RATE)
SLOW_DOOR = Cluster(
    tickets=RATE, handshakes=RATE / 2, backlog=RATE, handshake_backlog=2 * RATE
)
CLUSTERS = {
    "bounded": BOUNDED,
    "unbounded": replace(BOUNDED, backlog=math.inf),
    "slow door": SLOW_DOOR,
    "old tickets": replace(SLOW_DOOR, expire=3),
}
CLIENT = (
    Path(__file__).parent.parent
    / "realtime_ticket/static/realtime_ticket/realtime-ticket.js"
)


class Server:
    """A queue that serves one client after the other, at a fixed rate."""

    def __init__(self, rate: float, backlog: float) -> None:
        self.pause = 1 / rate
        self.backlog = backlog
        self.free_at = 0.0
        self.ends: deque[float] = deque()

    def serve(self, now: float) -> float | None:
        """Return when a client that comes now has been served, None for no room."""
        while self.ends and self.ends[0] <= now:
            self.ends.popleft()
        if len(self.ends) >= self.backlog:
            return None
        self.free_at = max(now, self.free_at) + self.pause
        self.ends.append(self.free_at)
        return self.free_at


def one_by_one(client: Client, cluster: Cluster, until: float) -> list[float]:
    """Return when each client was back, of those who were in time.

    The same storm as simulate() has, without its crowds and its steps: each client
    throws dice, and events come in the order of time.
    """
    dice = random.Random(1)
    order = itertools.count()
    events: list[tuple[float, int, int, str]] = []
    back: list[float] = []
    django = Server(cluster.tickets, cluster.backlog)
    realtime = Server(cluster.handshakes, cluster.handshake_backlog)

    def push(time: float, failures: int, event: str) -> None:
        heapq.heappush(events, (time, next(order), failures, event))

    def fail(now: float, failures: int) -> None:
        spread = min(client.max_delay, client.min_delay * 2**failures)
        delay = min(client.max_delay, client.min_delay + dice.random() * spread)
        push(now + delay, failures + 1, "ask")

    for _ in range(CLIENTS):
        fail(0, 0)
    while events:
        now, _, failures, event = heapq.heappop(events)
        if now > until:
            break
        server, patience, then = {
            "ask": (django, client.timeout, "connect"),
            "connect": (realtime, client.connect_timeout, ""),
        }[event]
        served = server.serve(now)
        if served is None:
            fail(now, failures)
        elif served - now > patience:
            fail(now + patience, failures)
        elif then:
            push(served, failures, then)
        elif served - now > cluster.expire:
            fail(served, failures)
        else:
            back.append(served)
    return back


@pytest.mark.parametrize("name", CLUSTERS)
def test_crowds_do_what_clients_do(name: str) -> None:
    """At every moment, as many are back as of clients that throw dice, within 3 %."""
    cluster = CLUSTERS[name]
    storm = simulate(CLIENTS, Client(), cluster)
    until = min(120.0, len(storm.connected) * STEP)
    times = one_by_one(Client(), cluster, until)
    for percent in range(5, 105, 5):
        moment = percent / 100 * until
        expected = sum(time <= moment for time in times)
        crowd = storm.connected[min(int(moment / STEP), len(storm.connected)) - 1]
        assert crowd == pytest.approx(expected, abs=0.03 * CLIENTS), moment


@pytest.mark.parametrize("name", CLUSTERS)
def test_nobody_is_lost_and_nobody_comes_twice(name: str) -> None:
    """The count only grows, never beyond the clients or what the servers can do."""
    cluster = CLUSTERS[name]
    storm = simulate(CLIENTS, Client(), cluster)
    counts = [0.0, *storm.connected]
    growth = [after - before for before, after in itertools.pairwise(counts)]
    assert min(growth) >= 0
    most = min(cluster.tickets, cluster.handshakes)
    assert max(growth) <= max(cluster.tickets, cluster.handshakes) * STEP + 1e-6
    assert counts[-1] <= CLIENTS + 1e-6
    assert storm.seconds() >= 0.999 * CLIENTS / most
    assert storm.issued >= counts[-1] - 1e-6


def test_a_storm_does_not_depend_on_its_size() -> None:
    """Ten times the clients and the servers take as long."""
    ten = replace(BOUNDED, tickets=10 * RATE, handshakes=20 * RATE, backlog=10 * RATE)
    one = simulate(CLIENTS, Client(), BOUNDED).seconds()
    assert simulate(10 * CLIENTS, Client(), ten).seconds() == pytest.approx(
        one, rel=0.01
    )


def test_expiry_is_a_cliff() -> None:
    """Below the wait nobody gets through, and above it nothing changes."""

    def seconds(expire: float) -> float:
        return simulate(CLIENTS, Client(), replace(SLOW_DOOR, expire=expire)).seconds()

    assert seconds(3) == math.inf
    assert seconds(6) == seconds(10) == seconds(60) < 100


def test_the_delays_are_those_of_the_browser_client() -> None:
    """Defaults and formula are read from realtime-ticket.js.

    Mutants: client-hurries, client-without-jitter.
    """
    script = CLIENT.read_text()

    def default(name: str) -> float:
        """Return the value to which the script sets a missing option, in seconds."""
        found = re.search(rf"\b{name} (?:=|\?\?) (\d+)", script)
        assert found, name
        return int(found[1]) / 1000

    assert Client() == Client(
        min_delay=default("minDelay"),
        max_delay=default("maxDelay"),
        timeout=default("timeout"),
        connect_timeout=default("connectTimeout"),
    )
    assert "Math.min(maxDelay, minDelay * 2 ** this.#failures++)" in script
    assert "Math.min(maxDelay, minDelay + random() * spread)" in script
    assert Client().delays(0) == (0.5, 1.0, 0.5)
    assert Client().delays(3) == (0.5, 4.5, 4.0)
    assert Client().delays(50) == (0.5, 20.0, 20.0)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """Give what was measured."""
    measured: dict[str, Any] = json.loads(capacity.FIGURES.read_text())
    return measured


@pytest.fixture(scope="module")
def rates(figures: dict[str, Any]) -> Rates:
    return Rates.of(figures)


def test_the_page_says_what_was_measured(rates: Rates) -> None:
    """Its tables are those that ``python -m benchmarks.capacity`` writes."""
    text = capacity.PAGE.read_text()
    assert re.findall(r"<!-- (\w+): written", text) == ["needs", "carries", "storms"]
    assert capacity.page(text, rates) == text


@pytest.mark.parametrize(("clients", "seconds"), capacity.STORMS)
def test_the_page_says_how_many_servers_suffice(
    rates: Rates, clients: int, seconds: int
) -> None:
    """In the simulation of this very page. One worker less takes longer."""
    workers = rates.workers(clients, seconds)

    def taken(workers: int) -> float:
        return simulate(clients, Client(), rates.cluster(workers)).seconds()

    assert taken(workers) <= seconds
    assert workers == 1 or taken(workers - 1) > seconds


def test_the_page_is_right_about_its_storms(rates: Rates) -> None:
    """What the prose says of each storm is what comes out."""

    def outcomes() -> Iterator[Storm]:
        cluster = rates.cluster(scenarios.WORKERS)
        for client, servers in scenarios.scenarios(cluster).values():
            yield simulate(scenarios.CLIENTS, client, servers)

    bounded, unbounded, half, limited, longer, shorter, spread = outcomes()
    seconds: Callable[[Storm], float] = Storm.seconds
    assert seconds(unbounded) == seconds(half) == math.inf
    assert seconds(bounded) < seconds(limited) < math.inf
    assert seconds(shorter) < seconds(bounded) < seconds(longer)
    assert shorter.requests > bounded.requests > longer.requests
    assert seconds(bounded) < seconds(spread) < math.inf


def test_a_measured_storm_agrees(figures: dict[str, Any], rates: Rates) -> None:
    """Row 7, simulated with the rate of row 6, takes as long within a factor of 3."""
    (row,) = (row for row in figures["rows"] if row["number"] == 7)
    measured = next(f for f in row["findings"] if f["measure"] == "last")
    clients = int(measured["work"].split()[0].replace(",", ""))
    at_once = Client(min_delay=STEP, max_delay=STEP, connect_timeout=60)
    cluster = Cluster(tickets=math.inf, handshakes=rates.process, expire=60)
    predicted = simulate(clients, at_once, cluster).seconds()
    if predicted < 10 * STEP:
        pytest.skip(f"{clients} clients are too few to simulate: make bench")
    assert predicted / 3 < measured["ours"] < predicted * 3


def test_it_gives_up_on_a_storm_that_never_ends() -> None:
    storm = simulate(100 * CLIENTS, Client(), CLUSTERS["unbounded"])
    assert len(storm.connected) == pytest.approx(reconnect.LONGEST / STEP, abs=1)
    assert storm.seconds() == math.inf
