"""The benchmarks work, and the page about them says what they found. No timing here."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import by_hand, report
from benchmarks.harness import (
    UNITS,
    Contender,
    Effort,
    Finding,
    Result,
    Row,
    Sample,
    Spread,
    Target,
    calls,
    compare,
    flights,
    once,
    sample,
)
from benchmarks.rows import MAY_HAVE, NEEDS, ROWS
from tests import servers

ROOT = Path(__file__).parent.parent
OWN = {"REALTIME_TICKET_TEST_DIR", "DJANGO_SETTINGS_MODULE"}
"""What would lead a row to the servers of the tests. It has its own, and fills them."""
IN_PROCESS = [1, 2, 3, 4, 8, 9, 10, 11]
"""The other rows are tried by what they are made of, because they take long."""
PEERS = {2: ["coredis", "glide"], 11: ["uvicorn"]}


def run_row(number: int, **environment: str) -> tuple[str, list[str]]:
    """Do all work of a row, in little. Return what is above the table, and this."""
    environment = {
        name: os.environ[name] for name in os.environ.keys() - OWN
    } | environment
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--effort=tiny", f"--only={number}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    above, head, rest = process.stdout.partition("| work |")
    return above, (head + rest).strip().splitlines()


@pytest.mark.parametrize("number", IN_PROCESS)
def test_a_row_runs(number: int) -> None:
    """A row prints what it found, and nothing else."""
    for name in (*NEEDS[number], *MAY_HAVE.get(number, ())):
        servers.need(name)
    for module in PEERS.get(number, ()):
        servers.need_module(module)

    above, (head, _, *lines) = run_row(number)

    assert above == ""
    assert lines
    assert all(line.count("|") == head.count("|") for line in lines)
    assert not [line for line in lines if "| errors |" in line and "**no**" in line]


@pytest.mark.parametrize(
    ("number", "module", "told"),
    [
        (3, "MySQLdb", "Row 3 is without mariadb: the Python module MySQLdb is not"),
        (2, "glide", "Row 2 is left out: "),
        (1, "redis", "Row 1 is left out: "),
    ],
)
def test_what_is_not_installed_is_left_out_and_named(
    number: int, module: str, told: str, tmp_path: Path
) -> None:
    """MariaDB's driver, for one, needs a C compiler."""
    code = f"import sys; sys.modules[{module!r}] = None"
    (tmp_path / "sitecustomize.py").write_text(code)

    above, lines = run_row(number, PYTHONPATH=str(tmp_path))

    assert above.startswith(told) and above.count("\n") == 1
    assert bool(lines) is ("without" in told)
    assert "mariadb" not in "".join(lines)


def test_every_row_has_a_module() -> None:
    for name in ROWS.values():
        assert importlib.util.find_spec(f"benchmarks.{name}"), name


def test_the_measures_of_a_sample() -> None:
    """Of 200 calls 99 % took at most as long as the 198th."""
    latencies = [number / 1000 for number in range(200, 0, -1)]

    assert sample(latencies, 40.0) == {
        "time": 0.2,
        "rate": 5.0,
        "p99": 0.198,
        "longest": 0.2,
    }


def test_contenders_take_turns() -> None:
    """Each round begins with another contender, after all of them have warmed up."""
    turns: list[tuple[str, float]] = []

    def contender(name: str) -> Contender:
        def run(seconds: float) -> Sample:
            turns.append((name, seconds))
            return {"time": 1.0}

        return Contender(name, run)

    effort = Effort(rounds=4, seconds=5.0, most=1)
    compare([contender("a"), contender("b"), contender("c")], effort)

    assert turns[:3] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    assert "".join(name for name, _ in turns[3:]) == "abcbcacababc"
    assert {seconds for _, seconds in turns[3:]} == {5.0}


def result(ours: Sequence[float], theirs: Sequence[float]) -> Result:
    rounds = [
        {"ours": {"time": a}, "theirs": {"time": b}}
        for a, b in zip(ours, theirs, strict=True)
    ]
    return Result(rounds, "ours")


def test_a_ratio_is_that_of_each_round() -> None:
    """A round in which the machine was busy counts as any other.

    The ratio of the medians, 2.0, would take it for a slow contender.
    """
    finding = result([10, 90, 12, 14, 11], [5, 45, 6, 70, 55]).ratio(
        "work", "theirs", "time", Target(at_most=1.9)
    )

    assert finding.measured == Spread(median=2.0, low=0.2, high=2.0)
    assert (finding.ours, finding.theirs) == (12, 45)
    assert finding.met is False


def test_a_figure_is_ours_alone() -> None:
    finding = result([4, 1, 3], [9, 9, 9]).figure("work", "time", Target(at_least=3))

    assert finding.measured == Spread(median=3, low=2, high=3.5)
    assert (finding.other, finding.theirs) == ("", None)
    assert finding.met is True


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(at_most=2), True),
        (Target(at_most=1.9), False),
        (Target(at_least=2), True),
        (Target(at_least=2.1), False),
    ],
)
def test_a_target_is_met_or_missed(target: Target, met: bool) -> None:
    assert once("work", "time", 2, target).met is met


def test_who_is_compared_with_us_looks_at_the_result() -> None:
    """A contender that is given no ticket stops the benchmark."""
    with pytest.raises(LookupError):
        by_hand.read(None)


def test_calls_are_timed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last call is made before the time is up, and counts in full."""
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    made: list[None] = []

    measured = calls("name", lambda: made.append(None)).run(2.5)

    assert len(made) == 3
    assert measured == {"time": 1.0, "rate": 1.0, "p99": 1.0, "longest": 1.0}


def test_so_many_calls_are_in_flight() -> None:
    """Each worker makes one call after the other, and at least one."""
    under_way: set[asyncio.Task[None] | None] = set()
    seen: list[int] = []

    async def call() -> None:
        under_way.add(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(len(under_way))
        under_way.remove(asyncio.current_task())

    with asyncio.Runner() as runner:
        flights("name", call, 7, runner).run(0)

    assert max(seen) == 7
    assert len(seen) >= 7


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0.0000953, "s", "95.3 µs"),
        (0.0123, "s", "12.3 ms"),
        (2, "s", "2 s"),
        (12345.6, "/s", "12,346 /s"),
        (318, "B", "318 B"),
        (21_200_000, "B", "21.2 MB"),
        (0, "", "0"),
        (0, "s", "0 µs"),
        (0.866, report.TIMES, "0.87 \N{MULTIPLICATION SIGN}"),
        (25.84, report.TIMES, "25.8 \N{MULTIPLICATION SIGN}"),
    ],
)
def test_numbers_are_short(number: float, unit: str, text: str) -> None:
    assert report.amount(number, unit) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_the_table() -> None:
    findings = [
        result([2, 2], [4, 8]).ratio("a", "theirs", "time", Target(at_most=0.3)),
        result([2, 2], [1, 1]).figure("b", "time"),
        once("c", "errors", 0, Target(at_most=0)),
    ]

    table = report.table(Row(1, "title", 1.0, findings))
    plain = table.replace(report.TIMES, "x").replace(report.NONE, "-")
    plain = plain.replace("\N{NO-BREAK SPACE}", " ")
    assert plain.splitlines()[2:] == [
        "| a | theirs | time | ≤ 0.30 x | 0.38 x (0.31 x to 0.44 x) | 2 s | 6 s "
        "| **no** |",
        "| b | - | time | - | 2 s | 2 s | - | - |",
        "| c | - | errors | ≤ 0 | 0 | 0 | - | yes |",
    ]


def test_the_summary_shows_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each highlight whose row was measured."""
    findings = [
        result([2, 2], [1, 1]).figure("issue and consume", "time", Target(at_most=3)),
        result([2, 2], [4, 8]).ratio("issue and consume", "theirs", "time"),
        once("another", "errors", 1, Target(at_most=0)),
    ]

    highlights = [("by hand", 1, "issue and consume", "theirs"), ("none", 2, "", "")]
    monkeypatch.setattr(report, "HIGHLIGHTS", highlights)

    summary = report.summary([Row(1, "title", 1.0, findings)])
    assert summary.replace("\N{NO-BREAK SPACE}", " ").splitlines()[2:] == [
        "| by hand | 2 s | theirs: 6 s |",
        "",
        "1 of 2 targets are met.",
    ]


def test_the_file_gives_back_what_was_measured() -> None:
    findings: list[Finding] = [
        result([2, 2], [4, 8]).ratio("a", "theirs", "time", Target(at_least=3)),
        once("c", "memory", 12.0),
    ]
    row = Row(1, "title", 1.0, findings)

    assert report.from_json(json.loads(json.dumps(report.as_json(row)))) == row


def test_the_page_agrees_with_the_file() -> None:
    """The tables on the page are those of the JSON file, and no target is forgotten."""
    figures = json.loads(report.FIGURES.read_text())
    text = report.PAGE.read_text()

    assert report.page(text, figures) == text
    for name, *_ in report.HIGHLIGHTS:
        assert text.count(f"| {name} |") == 1
    for row in figures["rows"]:
        for finding in row["findings"]:
            assert finding["measure"] in UNITS
            assert (finding["met"] is None) == (finding["target"] is None)
