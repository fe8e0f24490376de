"""Say what was measured in tickets per second, and what that means in a storm.

``python -m benchmarks.capacity`` reads docs/benchmarks.json, and writes the tables and
the plots of docs/capacity.md.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .reconnect import LONGEST, Client, Cluster, Storm, simulate
from .report import DOCS, FIGURES
from .scenarios import CLIENTS, WORKERS, scenarios

PAGE: Final = DOCS / "capacity.md"
IMAGES: Final = DOCS / "images"

STORMS: Final = (
    (10_000, 10), (10_000, 60), (100_000, 60), (1_000_000, 60), (1_000_000, 300)
)  # fmt: skip
"""Clients, and the seconds in which they must be back."""

_BLOCK = re.compile(
    r"(<!-- (\w+): written by benchmarks.capacity -->\n).*?(<!-- end)", re.S
)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Tickets per second that each part of a cluster carries, as measured."""

    worker: float
    asgi_worker: float
    process: float
    redis: float
    redis_per_call: float
    postgresql: float

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> Rates:
        """Take them from what the benchmarks have written."""
        rows = {row["number"]: row["findings"] for row in figures["rows"]}

        def find(row: int, measure: str, work: str) -> dict[str, float]:
            """Return the first finding of this measure whose work matches a pattern."""
            return next(
                finding
                for finding in rows[row]
                if finding["measure"] == measure and re.search(work, finding["work"])
            )

        redis = find(7, "time", "processor of Redis")
        return cls(
            worker=1 / find(5, "time", "gunicorn")["ours"],
            asgi_worker=1 / find(5, "time", "uvicorn")["ours"],
            process=1 / find(6, "time", "who is there")["ours"],
            redis=1 / redis["ours"],
            redis_per_call=1 / redis["theirs"],
            postgresql=find(3, "rate", "postgresql.* in flight")["ours"],
        )

    def processes(self, workers: int) -> int:
        """Return how many realtime processes keep up with so many Django workers."""
        return math.ceil(workers * self.worker / self.process)

    def cluster(self, workers: int) -> Cluster:
        """Return the cluster of both, with a second's work before Django."""
        tickets = workers * self.worker
        return Cluster(
            tickets=tickets,
            handshakes=self.processes(workers) * self.process,
            backlog=tickets,
        )

    def workers(self, clients: int, seconds: float) -> int:
        """Return how few Django workers bring so many clients back in this time."""
        workers = math.ceil(clients / seconds / self.worker)
        while simulate(clients, Client(), self.cluster(workers)).seconds() > seconds:
            workers += 1
        return workers


def blocks(rates: Rates) -> dict[str, str]:
    """Return the parts of the page that hold figures, by their names."""
    return {
        "carries": _carries(rates),
        "needs": _needs(rates),
        "storms": _storms(rates),
    }


def page(text: str, rates: Rates) -> str:
    """Return the page with all figures replaced."""
    made = blocks(rates)
    return _BLOCK.sub(lambda found: found[1] + made[found[2]] + found[3], text)


def _carries(rates: Rates) -> str:
    issued, let_in = "tickets issued", "tickets, issued and consumed"
    lines = [
        ("Django worker, WSGI (gunicorn)", rates.worker, issued),
        ("Django worker, ASGI (uvicorn)", rates.asgi_worker, issued),
        ("realtime process (uvicorn)", rates.process, "handshakes"),
        ("Redis, asked in batches", rates.redis, let_in),
        ("Redis, asked for one ticket at a time", rates.redis_per_call, let_in),
        ("PostgreSQL, asked in batches by one process", rates.postgresql, let_in),
    ]
    return _table(
        ("part", "each second"),
        [(name, f"{_round(rate)} {what}") for name, rate, what in lines],
    )


def _needs(rates: Rates) -> str:
    def line(clients: int, seconds: int) -> tuple[str, ...]:
        workers = rates.workers(clients, seconds)
        return (
            f"{clients:,}",
            f"{seconds} s",
            f"{workers:,}",
            f"{rates.processes(workers):,}",
            f"{workers * rates.worker / rates.redis_per_call:.0%}",
        )

    head = (
        *("clients", "within", "Django workers", "realtime processes"),
        "of one Redis, at most",
    )
    return _table(head, [line(clients, seconds) for clients, seconds in STORMS])


def _storms(rates: Rates) -> str:
    lines = []
    cluster = rates.cluster(WORKERS)
    for name, (client, against) in scenarios(cluster).items():
        outcome = simulate(CLIENTS, client, against)
        lines.append(
            (
                name,
                _when(outcome, 0.5),
                _when(outcome, 0.999),
                f"{outcome.requests:.1f}",
            )
        )
    about = (
        f"{CLIENTS:,} clients, {WORKERS} Django workers, {rates.processes(WORKERS)} "
        "realtime processes; all requests of the clients, one after another, would "
        f"take {CLIENTS / cluster.tickets:.0f} s.\n"
    )
    head = ("", "half are back after", "99.9 % after", "requests to Django for each")
    return about + _table(head, lines)


def _when(outcome: Storm, share: float) -> str:
    seconds = outcome.seconds(share)
    return f"{seconds:.0f} s" if seconds < LONGEST else "never"


def _round(rate: float) -> str:
    """Return a rate with two digits that mean something."""
    digits = 1 - math.floor(math.log10(rate))
    return f"{round(rate, digits):,.0f}"


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    rows = [head, ["---"] * len(head), *lines]
    return "\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"


def measured() -> Rates:
    """Return the rates that docs/benchmarks.json says."""
    return Rates.of(json.loads(FIGURES.read_text()))


def main() -> None:
    from . import capacity_plots  # which needs matplotlib

    rates = measured()
    PAGE.write_text(page(PAGE.read_text(), rates))
    capacity_plots.draw(rates.cluster(WORKERS), IMAGES)


if __name__ == "__main__":
    main()
