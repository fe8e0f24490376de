"""Simulate a reconnect storm: many clients lose their connection at once and come back.

A client is realtime-ticket.js: it waits, asks Django for a ticket, shows it to the
realtime server, and waits longer after each failure. Django and the realtime server
are two queues, first come, first served, each of a fixed rate. Both go on to serve
those who have left, because neither hears of it in time.

Time goes in steps, and clients in crowds: all that do the same thing in the same step.
A million clients are so many that the share of them which draws a delay is the share
that is expected, so there is nothing random here. A test compares this with clients
that throw dice one by one.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

STEP = 0.1
"""Seconds. Short beside every time that a client waits."""

_NOBODY = 1e-6
"""What rounding leaves of a crowd that is empty."""

LONGEST = 1800.0
"""Seconds after which a storm that has not ended is given up."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """The options of realtime-ticket.js, in seconds, with its defaults."""

    min_delay: float = 0.5
    max_delay: float = 20.0
    timeout: float = 5.0
    connect_timeout: float = 10.0

    def delays(self, failures: int) -> tuple[float, float, float]:
        """Return the least and the most that it waits, and the width of the draw.

        The draw may exceed the most, which it then waits.
        """
        spread = min(self.max_delay, self.min_delay * 2**failures)
        return self.min_delay, min(self.max_delay, self.min_delay + spread), spread


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The servers that the clients come back to."""

    tickets: float
    """Tickets per second that all Django workers issue."""

    handshakes: float
    """Handshakes per second that all realtime processes complete."""

    expire: float = 10.0
    """``REALTIME_TICKET_EXPIRE``."""

    backlog: float = math.inf
    """Requests that may wait for Django. Beyond, a request is refused at once."""

    handshake_backlog: float = math.inf
    """The same for the realtime server."""


@dataclass(kw_only=True)
class Storm:
    """How it went."""

    clients: float
    connected: list[float] = field(default_factory=list)
    """How many are connected at the end of each step."""

    issued: float = 0.0
    """Tickets that Django made, also for those who had left."""

    turned_away: float = 0.0
    """Requests for a ticket that were refused at once, for want of room."""

    refused: float = 0.0
    """Handshakes with a ticket that was too old."""

    def seconds(self, share: float = 0.999) -> float:
        """Return when this share of the clients was back, infinity for never."""
        for step, count in enumerate(self.connected, 1):
            if count >= share * self.clients:
                return step * STEP
        return math.inf

    @property
    def requests(self) -> float:
        """Return how many requests to Django it took for each client."""
        return (self.issued + self.turned_away) / self.clients


@dataclass(slots=True)
class _Crowd:
    """Clients that began to wait for a server in the same step."""

    size: float
    failures: int
    since: float
    left: bool = False
    """They have given up, and the server does not know."""


class _Queue:
    """A server: first come, first served, so many per second."""

    def __init__(self, rate: float, patience: float, backlog: float = math.inf) -> None:
        self._per_step = rate * STEP
        self._patience = patience
        self._backlog = backlog
        self._crowds: deque[_Crowd] = deque()
        self._waiting: deque[_Crowd] = deque()
        self._length = 0.0

    def arrive(self, size: float, failures: int, now: float) -> float:
        """Let them queue, and return how many there was no room for."""
        room = min(size, max(0.0, self._backlog - self._length))
        if room:
            crowd = _Crowd(room, failures, now)
            self._crowds.append(crowd)
            self._waiting.append(crowd)
            self._length += room
        return size - room

    def serve(self) -> Iterator[tuple[_Crowd, float]]:
        """Return who is served in this step, and how many of each crowd."""
        budget = self._per_step
        while self._crowds and budget > 0:
            crowd = self._crowds[0]
            served = min(crowd.size, budget)
            budget -= served
            crowd.size -= served
            self._length -= served
            if not crowd.size:
                self._crowds.popleft()
            yield crowd, served

    def leave(self, now: float) -> Iterator[_Crowd]:
        """Return the crowds that have timed out. Their requests stay in the queue."""
        while self._waiting and now - self._waiting[0].since >= self._patience:
            crowd = self._waiting.popleft()
            if crowd.size:
                crowd.left = True
                yield crowd


class _Pauses:
    """Those who wait before their next attempt."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # From so many failures on, another one makes no difference.
        self._most = math.ceil(math.log2(max(1, client.max_delay / client.min_delay)))
        # For each number of failures, who begins in every step, and how that changes.
        self._beginning = [0.0] * (self._most + 1)
        self._changes: defaultdict[int, list[float]] = defaultdict(
            lambda: [0.0] * (self._most + 1)
        )

    def pause(self, size: float, failures: int, step: int) -> None:
        """Spread a crowd evenly over the steps in which its delays may end."""
        least, most, spread = self._client.delays(failures)
        failures = min(failures + 1, self._most)
        first = step + max(1, math.ceil(least / STEP))
        count = max(1, round((most - least) / STEP))
        evenly = size * (most - least) / spread / count
        self._changes[first][failures] += evenly
        self._changes[first + count][failures] -= evenly
        rest = size - evenly * count  # all who drew more than the longest delay
        self._changes[first + count][failures] += rest
        self._changes[first + count + 1][failures] -= rest

    def over(self, step: int) -> Iterator[tuple[int, float]]:
        """Return the number of failures, and how many with it begin in this step."""
        for failures, change in enumerate(self._changes.pop(step, ())):
            self._beginning[failures] += change
        for failures, size in enumerate(self._beginning):
            if size > _NOBODY:
                yield failures, size


def simulate(clients: float, client: Client, cluster: Cluster) -> Storm:
    """Return how so many clients come back after all were lost at once."""
    storm = Storm(clients=clients)
    pauses = _Pauses(client)
    django = _Queue(cluster.tickets, client.timeout, cluster.backlog)
    realtime = _Queue(
        cluster.handshakes, client.connect_timeout, cluster.handshake_backlog
    )
    pauses.pause(clients, 0, 0)
    step, back = 0, 0.0
    while back < clients - 1 and step * STEP < LONGEST:
        now = step * STEP
        for queue in (django, realtime):
            for crowd in queue.leave(now):
                pauses.pause(crowd.size, crowd.failures, step)
        for failures, size in pauses.over(step):
            if turned_away := django.arrive(size, failures, now):
                storm.turned_away += turned_away
                pauses.pause(turned_away, failures, step)
        for crowd, served in django.serve():
            storm.issued += served
            if crowd.left:
                continue
            if turned_away := realtime.arrive(served, crowd.failures, now):
                pauses.pause(turned_away, crowd.failures, step)
        for crowd, served in realtime.serve():
            if crowd.left:
                continue
            if now - crowd.since < cluster.expire:
                back += served
            else:
                storm.refused += served
                pauses.pause(served, crowd.failures, step)
        storm.connected.append(back)
        step += 1
    return storm
