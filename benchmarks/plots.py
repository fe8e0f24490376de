"""Draw what the benchmarks found."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from .harness import Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .report import Row

# The same figures make the same file.
pyplot.rcParams |= {"svg.hashsalt": "realtime-ticket", "font.size": 9}
_PLAIN = {"Date": None}
_NUMBERS = "{x:,g}"

IN_FLIGHT = " in flight"
"""Where a row's work ends so, it is drawn over the number before it."""


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Draw each row that compares something, as ``bench-NUMBER.svg``."""
    for row in rows:
        findings = [finding for finding in row.findings if finding.other]
        if not findings:
            continue
        lines = all(finding.work.endswith(IN_FLIGHT) for finding in findings)
        figure, axes = pyplot.subplots(
            figsize=(7.5, 4 if lines else 1 + 0.3 * len(findings)), layout="constrained"
        )
        (_lines if lines else _dots)(axes, findings)
        figure.savefig(folder / f"bench-{row.number}.svg", metadata=_PLAIN)
        pyplot.close(figure)


def _lines(axes: Axes, findings: Sequence[Finding]) -> None:
    """Draw the rate of each contender over the number of calls in flight."""
    rates: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for finding in findings:
        if finding.measure == "rate" and finding.theirs is not None:
            in_flight = int(finding.work.removesuffix(IN_FLIGHT).replace(",", ""))
            rates["realtime_ticket"][in_flight] = finding.ours
            rates[finding.other][in_flight] = finding.theirs
    for name, points in rates.items():
        width = 2.5 if name == "realtime_ticket" else 1.2
        axes.plot(list(points), list(points.values()), "o-", label=name, lw=width)
    axes.set(xscale="log", yscale="log", ylabel="pairs per second")
    axes.set_xlabel("pairs in flight")
    axes.xaxis.set_major_formatter(_NUMBERS)
    axes.yaxis.set_major_formatter(_NUMBERS)
    axes.grid(which="both", alpha=0.3)
    axes.legend()


def _dots(axes: Axes, findings: Sequence[Finding]) -> None:
    """Draw each ratio with its quartiles, and its target as a triangle."""
    for height, finding in enumerate(reversed(findings)):
        spread, target = finding.measured, finding.target
        axes.hlines(height, spread.low, spread.high, color="silver", lw=4)
        color = "tab:red" if finding.met is False else "tab:blue"
        axes.plot(spread.median, height, "o", color=color)
        if target and math.isfinite(target.at_most):
            axes.plot(target.at_most, height, "k<")
        elif target:
            axes.plot(target.at_least, height, "k>")
    labels = [f"{f.work} / {f.other}: {f.measure}" for f in reversed(findings)]
    axes.set_yticks(range(len(findings)), labels)
    axes.set(xscale="log", xlabel="ours divided by theirs; a triangle is a target")
    axes.xaxis.set_major_formatter(_NUMBERS)
    axes.axvline(1, color="black", lw=0.5)
    axes.grid(axis="x", which="both", alpha=0.3)
