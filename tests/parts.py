"""Which tests run where: the one place that ``make``, ``.ci/run`` and the page go by.

A test belongs to the part that names its file. Pytest marks it with the name of its
part: ``pytest -m stores``. ``REALTIME_TICKET_RUN`` says which tests run at all:

- ``all``, unless it is set: every test.
- ``measured``: those that run every line of the package. Coverage is measured while
  they run, which makes them slower.
- ``others``: the rest of ``make test``.
- ``quick``: those that need no server. A test that asks for one is skipped.
- ``row``: those that can end differently with other versions of Python, Django or a
  driver, with fewer tickets in each race.

``python -m tests.parts`` writes the table into ``CONTRIBUTING.md``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "CONTRIBUTING.md"
START, END = "<!-- the table -->\n", "<!-- end of the table -->\n"

RUNS = ("all", "measured", "others", "quick", "row")
RUN = os.environ.get("REALTIME_TICKET_RUN", "all")
if RUN not in RUNS:
    raise ValueError(f"REALTIME_TICKET_RUN is one of {', '.join(RUNS)}, not {RUN!r}.")

RACE_TICKETS = 40 if RUN == "row" else 200
"""How many tickets each race of the contract is run for."""


@dataclass(frozen=True)
class Part:
    """Some test files, by patterns below ``tests/``, and the runs that have them."""

    name: str
    about: str
    files: tuple[str, ...] = ()
    runs: Collection[str] = ("others",)

    @property
    def runs_now(self) -> bool:
        """Whether this run has it."""
        return RUN == "all" or RUN in self.runs


PARTS = [
    Part(
        "package",
        "Every file that no other part names: service, views, settings, checks.",
        runs=("measured", "quick", "row"),
    ),
    Part(
        "contract",
        "The backend contract on every storage.",
        ("test_contract.py",),
        runs=("measured", "others", "row"),
    ),
    Part(
        "stores",
        "What is particular to each storage.",
        (
            "test_backends_*.py",
            "test_histories.py",
            "test_read_many.py",
            "test_redis_*.py",
            "test_disconnects_end_to_end.py",
        ),
        runs=("measured", "row"),
    ),
    Part(
        "engines",
        "The contract on newer servers than Debian's, and what all tests run with.",
        ("engines/test_*.py", "test_tested_with.py"),
    ),
    Part(
        "scale_out",
        "Redis Sentinel, Redis Cluster, and replicas.",
        ("test_scale_out.py",),
        runs=("measured",),
    ),
    Part(
        "examples",
        "The demo, every example and ASGI server, and deployments behind a proxy.",
        (
            "test_servers.py",
            "test_live_servers.py",
            "test_recipes.py",
            "test_demo.py",
            "test_deployment.py",
        ),
    ),
    Part(
        "browser",
        "The JavaScript client, in Node.js and in browsers.",
        ("browser/test_*.py", "test_client.py", "test_centrifugo_client.py"),
    ),
    Part(
        "documentation",
        "The README and the documentation: every piece of code in them runs.",
        ("docs/test_*.py",),
    ),
    Part(
        "tools",
        "The layers of the package, the mutants, and the benchmarks.",
        (
            "test_ci.py",
            "test_imports.py",
            "test_layering.py",
            "test_mutants.py",
            "test_parts.py",
            "test_benchmarks.py",
            "test_capacity.py",
        ),
    ),
    Part(
        "faults",
        "Servers that are killed, frozen, full, slow, or lie.",
        ("faults/*.py",),
        runs=(),
    ),
]


@functools.cache
def part_of(path: Path) -> Part:
    """Return the part that a test file belongs to."""
    name = path.relative_to(TESTS)
    for part in PARTS:
        if any(name.match(pattern) for pattern in part.files):
            return part
    return PARTS[0]


def table() -> str:
    """Return the table of the contributors' page, in Markdown."""
    lines = [
        "| part | `make quick` | `make test` | `make faults` "
        "| other rows of `.ci/run` | what it tests |",
        "|---|---|---|---|---|---|",
    ]
    for part in PARTS:
        faults = part.name == "faults"
        ticks = [
            "quick" in part.runs,
            not faults,
            faults,
            "row" in part.runs,
        ]
        cells = ["✓" if tick else "" for tick in ticks]
        lines.append(" | ".join([f"| `{part.name}`", *cells, f"{part.about} |"]))
    return "".join(f"{line}\n" for line in lines)


def write(page: Path = PAGE) -> None:
    """Put the table into the page."""
    before, _, rest = page.read_text().partition(START)
    page.write_text(before + START + table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    write()
