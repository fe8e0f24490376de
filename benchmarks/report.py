"""Write what the benchmarks found: tables, a JSON file, a page of the docs."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .harness import UNITS, Finding, Row, Spread, Target

DOCS: Final = Path(__file__).parent.parent / "docs"
FIGURES: Final = DOCS / "benchmarks.json"
PAGE: Final = DOCS / "benchmarks.md"
MARK: Final = "<!-- Below this line, `make bench` writes. -->\n"
SUMMARY: Final = re.compile(
    r"(?<=<!-- `make bench` writes this table. -->\n).*?(?=<!-- end -->)", re.DOTALL
)

HIGHLIGHTS: Final = (
    ("Redis: issue and consume a ticket", 1, "issue and consume", "redis-py"),
    ("Redis: 1,000 at once in an event loop", 2, "1,000 in flight", "redis.asyncio"),
    ("PostgreSQL: issue and consume a ticket", 3, "postgresql", "Django's ORM"),
    ("`POST /ticket/` under gunicorn", 5, "under gunicorn", "a constant (floor)"),
    ("WebSocket handshakes under uvicorn", 6, "who is there", "AuthMiddlewareStack"),
)
"""Lines of the summary: what it says, and a finding's row, work and other."""

TIMES: Final = "\N{MULTIPLICATION SIGN}"
NONE: Final = "\N{EN DASH}"
_SPACE: Final = "\N{NO-BREAK SPACE}"
_HEAD: Final = (
    "| work | compared with | measure | target | measured (quartiles) | ours | theirs "
    "| met |\n|---|---|---|---|---|---|---|---|\n"
)
_SCALES: Final = {
    "s": (("s", 1), ("ms", 1e-3), ("µs", 1e-6)),
    "B": (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1)),
    "/s": (("/s", 1),),
    "": (("", 1),),
}


def write(rows: Sequence[Row], about: Mapping[str, str]) -> None:
    """Write the rows, their plots, and what they were measured on into the docs."""
    from . import plots  # which needs matplotlib

    minutes = sum(row.seconds for row in rows) / 60
    about = {**about, "time taken": f"{minutes:.0f} minutes"}
    figures = {"machine": about, "rows": [as_json(row) for row in rows]}
    FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    plots.draw(rows, DOCS / "images")
    PAGE.write_text(page(PAGE.read_text(), figures))


def page(text: str, figures: dict[str, Any]) -> str:
    """Return the page with the part below the mark made from the figures."""
    head, _, _ = text.partition(MARK)
    about = "".join(f"- {name}: {what}\n" for name, what in figures["machine"].items())
    rows = [from_json(row) for row in figures["rows"]]
    head = SUMMARY.sub(lambda _: summary(rows), head)
    parts = [f"## The machine\n\n{about}", *map(section, rows)]
    return head + MARK + "\n" + "\n".join(parts)


def summary(rows: Sequence[Row]) -> str:
    """Return the table at the top of the page, and how many targets are met."""
    lines = "| | this package | compared with |\n|---|---|---|\n"
    for name, number, work, other in HIGHLIGHTS:
        findings = [
            finding
            for row in rows
            for finding in row.findings
            if (row.number, finding.work, finding.other) == (number, work, other)
        ]
        for finding in findings[:1]:  # of several measures
            unit = UNITS[finding.measure]
            ours, theirs = amount(finding.ours, unit), amount(finding.theirs or 0, unit)
            lines += f"| {name} | {ours} | {other}: {theirs} |\n"
    targets = [
        finding.met for row in rows for finding in row.findings if finding.target
    ]
    return f"{lines}\n{sum(map(bool, targets))} of {len(targets)} targets are met.\n"


def section(row: Row) -> str:
    """Return a row as a part of the page, with its plot if there is one."""
    name = f"images/bench-{row.number}.svg"
    plot = f"\n![{row.title}]({name})\n" if (DOCS / name).exists() else ""
    return f"## {row.number}. {row.title}\n\n{table(row)}{plot}"


def table(row: Row) -> str:
    """Return the findings of a row as a table in Markdown."""
    return _HEAD + "".join(_line(finding) for finding in row.findings)


def _line(finding: Finding) -> str:
    unit = UNITS[finding.measure]
    of_measured = TIMES if finding.other else unit
    cells = (
        finding.work,
        finding.other or NONE,
        finding.measure,
        _bound(finding.target, of_measured),
        _spread(finding.measured, of_measured),
        amount(finding.ours, unit),
        NONE if finding.theirs is None else amount(finding.theirs, unit),
        {None: NONE, True: "yes", False: "**no**"}[finding.met],
    )
    return f"| {' | '.join(cells)} |\n"


def _bound(target: Target | None, unit: str) -> str:
    if target is None:
        return NONE
    if target.at_most < math.inf:
        return f"≤ {amount(target.at_most, unit)}"
    return f"≥ {amount(target.at_least, unit)}"


def _spread(spread: Spread, unit: str) -> str:
    if spread.low == spread.high:
        return amount(spread.median, unit)
    low, high = amount(spread.low, unit), amount(spread.high, unit)
    return f"{amount(spread.median, unit)} ({low} to {high})"


def amount(number: float, unit: str) -> str:
    """Return a number of three digits with its unit: ``95.3 µs``, ``0.87`` times.

    No line is broken between the two.
    """
    if unit == TIMES:
        digits = f"{number:.2f}" if number < 10 else f"{number:.1f}"
        return f"{digits}{_SPACE}{TIMES}"
    scales = _SCALES[unit]
    name, scale = next((s for s in scales if abs(number) >= s[1]), scales[-1])
    number /= scale
    digits = f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
    return f"{digits}{_SPACE}{name}".strip()


def as_json(row: Row) -> dict[str, Any]:
    return dataclasses.asdict(row) | {
        "findings": [_finding_as_json(finding) for finding in row.findings]
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    fields = dataclasses.asdict(finding) | {"met": finding.met}
    if finding.target:  # JSON has no infinity
        bounds = dataclasses.asdict(finding.target)
        fields["target"] = {k: v for k, v in bounds.items() if math.isfinite(v)}
    return fields


def from_json(row: dict[str, Any]) -> Row:
    """Return a row of the JSON file as it was measured."""
    return Row(**row | {"findings": [_finding(fields) for fields in row["findings"]]})


def _finding(fields: dict[str, Any]) -> Finding:
    fields = {name: what for name, what in fields.items() if name != "met"}
    fields["measured"] = Spread(**fields["measured"])
    if fields["target"] is not None:
        fields["target"] = Target(**fields["target"])
    return Finding(**fields)
