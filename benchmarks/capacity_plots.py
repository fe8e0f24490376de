"""Draw the storms of docs/capacity.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from .reconnect import STEP, Client, Cluster, simulate
from .scenarios import CLIENTS, scenarios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The same figures make the same file.
pyplot.rcParams |= {"svg.hashsalt": "realtime-ticket", "font.size": 9}

PERIOD = 200
"""Seconds that the first plot shows."""

WAITS = (2, 5, 8)
"""Seconds that handshakes wait for the realtime server in the second plot."""


def draw(cluster: Cluster, folder: Path) -> None:
    """Draw all plots, as ``capacity-NAME.svg``."""
    for name, plot in ("storm", _storm), ("expire", _expire), ("jitter", _jitter):
        figure = pyplot.figure(figsize=(7.5, 3.6), layout="constrained")
        plot(figure, cluster)
        for axes in figure.axes:
            axes.grid(alpha=0.3)
        figure.savefig(folder / f"capacity-{name}.svg", metadata={"Date": None})
        pyplot.close(figure)


def _storm(figure: Figure, cluster: Cluster) -> None:
    """Draw how the clients come back over time, in the first four storms."""
    axes = figure.subplots()
    steps = int(PERIOD / STEP)
    for name, (client, servers) in list(scenarios(cluster).items())[:4]:
        back = simulate(CLIENTS, client, servers).connected
        back = (back + back[-1:] * steps)[:steps]
        times = [step * STEP for step in range(steps)]
        axes.plot(times, [100 * count / CLIENTS for count in back], label=name)
    axes.set(xlabel="seconds after all connections were lost")
    axes.set(ylabel="clients that are back, %", ylim=(0, 103))
    figure.legend(loc="outside upper center", ncols=2)


def _expire(figure: Figure, cluster: Cluster) -> None:
    """Draw how many ever come back over how long a ticket lives."""
    axes = figure.subplots()
    handshakes = 0.8 * cluster.tickets
    lifetimes = range(1, 13)
    for wait in WAITS:
        slow = replace(
            cluster, handshakes=handshakes, handshake_backlog=wait * handshakes
        )
        back = [
            simulate(CLIENTS, Client(), replace(slow, expire=expire)).connected[-1]
            for expire in lifetimes
        ]
        shares = [100 * count / CLIENTS for count in back]
        axes.plot(lifetimes, shares, "o-", label=f"handshakes wait up to {wait} s")
    axes.set(xlabel="REALTIME_TICKET_EXPIRE, seconds", xticks=lifetimes)
    axes.set(ylabel="back within half an hour, %", ylim=(0, 103))
    figure.legend(loc="outside upper center", ncols=2)


def _jitter(figure: Figure, cluster: Cluster) -> None:
    """Draw how long a storm takes, and what it costs, over the longest pause."""
    delays = (2, 5, 10, 20, 40, 80, 160)
    outcomes = [simulate(CLIENTS, Client(max_delay=delay), cluster) for delay in delays]
    minutes = [outcome.seconds() / 60 for outcome in outcomes]
    requests = [outcome.requests for outcome in outcomes]
    time, cost = figure.subplots(1, 2)
    time.plot(delays, minutes, "o-")
    time.set(ylabel="minutes until 99.9 % are back")
    cost.plot(delays, requests, "o-")
    cost.set(ylabel="requests to Django for each client")
    for axes in (time, cost):
        axes.set(xscale="log", xlabel="maxDelay, seconds", ylim=(0, None))
        axes.set_xticks(delays, map(str, delays))
        axes.minorticks_off()
