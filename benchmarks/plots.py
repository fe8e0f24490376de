"""Draw what the benchmarks found."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot, ticker

from .harness import Finding, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

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
            figsize=(7.5, 4 if lines else 1 + 0.4 * len(findings)), layout="constrained"
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
    axes.set(xscale="log", xlabel="pairs in flight")
    axes.set(yscale="log", ylabel="pairs per second")
    for axis in axes.xaxis, axes.yaxis:
        _number(axis)
    axes.figure.legend(loc="outside upper center", ncols=3)


def _dots(axes: Axes, findings: Sequence[Finding]) -> None:
    """Draw each ratio with its quartiles, and its target as a triangle.

    Its label is above it, over the whole width, because some labels are long.
    """
    for height, finding in enumerate(reversed(findings)):
        spread, target = finding.measured, finding.target
        axes.hlines(height, spread.low, spread.high, color="silver", lw=4)
        color = "tab:red" if finding.met is False else "tab:blue"
        axes.plot(spread.median, height, "o", color=color)
        if target and math.isfinite(target.at_most):
            axes.plot(target.at_most, height, "k<")
        elif target:
            axes.plot(target.at_least, height, "k>")
        axes.text(
            0.01,
            height + 0.3,
            f"{finding.work} / {finding.other}: {finding.measure}",
            transform=axes.get_yaxis_transform(),
        )
    axes.set(yticks=[], ylim=(-0.5, len(findings)))
    axes.set(xscale="log", xlabel="ours divided by theirs; a triangle is a target")
    low, high = axes.get_xlim()
    axes.set_xlim(min(0.4, low), max(2.5, high))  # or there would be no tick but 1
    axes.axvline(1, color="black", lw=0.5)
    _number(axes.xaxis)


def _number(axis: Axis) -> None:
    """Write plain numbers along a logarithmic axis."""
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(_NUMBERS)
    axis.set_minor_formatter(ticker.NullFormatter())
    axis.grid(which="both", alpha=0.3)
