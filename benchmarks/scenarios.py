"""The storms that docs/capacity.md describes and draws."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from .reconnect import Client, Cluster

CLIENTS: Final = 1_000_000
WORKERS: Final = 16
"""Django workers in the storms of the page; there are as many realtime processes as
their tickets need."""


def scenarios(cluster: Cluster) -> dict[str, tuple[Client, Cluster]]:
    """Return the storms of the page, by what is special about each."""
    slower = cluster.tickets / 2
    half = replace(cluster, handshakes=slower)
    unbounded = replace(cluster, backlog=math.inf)
    shortest = CLIENTS / cluster.tickets
    return {
        "a queue of one second before Django": (Client(), cluster),
        "a queue without a bound": (Client(), unbounded),
        "the realtime processes half as fast as Django": (Client(), half),
        "the same, and tickets limited to their rate": (
            Client(),
            replace(half, tickets=slower, backlog=slower),
        ),
        "`maxDelay` of 2 minutes": (Client(max_delay=120), cluster),
        "`maxDelay` of 5 seconds": (Client(max_delay=5), cluster),
        "`minDelay` as long as a storm takes, and no bound": (
            Client(min_delay=shortest, max_delay=2 * shortest),
            unbounded,
        ),
    }
