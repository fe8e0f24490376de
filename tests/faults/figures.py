"""The table of what was done to the storages, and what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "REALTIME_TICKET_FIGURES"
"""The file that ``make faults`` has the workers of pytest-xdist gather figures in."""

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = """\
| fault | storages | calls | accepted twice | identities crossed | longest call |
|---|---|---|---|---|---|
"""
START, END = "<!-- the table -->\n", "<!-- end of the table -->\n"


@dataclass(frozen=True)
class Figure:
    """What a test counted: calls made, tickets that let in twice, users mixed up.

    ``longest`` is the call that took most, in seconds.
    """

    fault: str
    storage: str
    calls: int
    doubles: int
    crossed: int
    longest: float


def keep(figure: Figure) -> None:
    """Add a figure to the file, if there is one. The line is written in one piece."""
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a") as file:
            file.write(f"{json.dumps(asdict(figure))}\n")


def kept() -> list[Figure]:
    """Return the figures of the file, which is empty if nothing was counted."""
    lines = Path(os.environ[VARIABLE]).read_text().splitlines()
    return [Figure(**json.loads(line)) for line in lines]


@dataclass
class Row:
    """All figures of one fault."""

    fault: str
    storages: list[str]
    calls: int
    doubles: int
    crossed: int
    longest: float

    def __str__(self) -> str:
        storages = ", ".join(self.storages)
        return (
            f"| {self.fault} | {storages} | {self.calls:,} | {self.doubles} "
            f"| {self.crossed} | {self.longest:.1f} s |\n"
        )


def rows_of(figures: Iterable[Figure]) -> list[Row]:
    """Return a row for each fault, in the order of the alphabet."""
    by_fault: dict[str, list[Figure]] = {}
    for figure in figures:
        by_fault.setdefault(figure.fault, []).append(figure)
    return [
        Row(
            fault,
            sorted({figure.storage for figure in same}, key=str.casefold),
            sum(figure.calls for figure in same),
            sum(figure.doubles for figure in same),
            sum(figure.crossed for figure in same),
            max(figure.longest for figure in same),
        )
        for fault, same in sorted(by_fault.items())
    ]


def table_of(rows: list[Row]) -> str:
    """Return the table as Markdown, with a row of sums."""
    total = Row(
        f"**{len(rows)} faults**",
        [f"{len({storage for row in rows for storage in row.storages})} storages"],
        sum(row.calls for row in rows),
        sum(row.doubles for row in rows),
        sum(row.crossed for row in rows),
        max(row.longest for row in rows),
    )
    return HEAD + "".join(map(str, [*rows, total]))


def rows_in(table: str) -> list[Row]:
    """Return the rows of a table in Markdown, but for the sums."""
    rows = []
    for line in table.splitlines()[2:-1]:
        fault, storages, calls, doubles, crossed, longest = line[2:-2].split(" | ")
        rows.append(
            Row(
                fault,
                storages.split(", "),
                int(calls.replace(",", "")),
                int(doubles),
                int(crossed),
                float(longest.removesuffix(" s")),
            )
        )
    return rows


def documented() -> str:
    """Return the table of the page."""
    return PAGE.read_text().partition(START)[2].partition(END)[0]


def document(table: str) -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text().partition(START)
    PAGE.write_text(before + START + table + END + rest.partition(END)[2])
