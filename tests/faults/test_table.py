"""The table of figures in the documentation, drawn up again from this run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import servers
from tests.faults.figures import (
    VARIABLE,
    Figure,
    document,
    documented,
    keep,
    kept,
    rows_in,
    rows_of,
    table_of,
)
from tests.faults.storages import KINDS


def test_the_page_quotes_what_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The faults and the storages are those of the page, which is not made up.

    REALTIME_TICKET_WRITE_FIGURES=1 puts the new figures into the page.
    """
    if VARIABLE not in os.environ:
        pytest.skip("the table is of all faults and storages: make faults")
    for server, *_ in KINDS.values():
        servers.need(server)
    table = table_of(rows_of(kept()))
    with capsys.disabled():
        sys.stdout.write(f"\n\n{table}")
    if os.environ.get("REALTIME_TICKET_WRITE_FIGURES") == "1":
        document(table)
    counted = {row.fault: row for row in rows_in(table)}
    quoted = {row.fault: row for row in rows_in(documented())}
    assert {fault: row.storages for fault, row in quoted.items()} == {
        fault: row.storages for fault, row in counted.items()
    }
    for fault, row in quoted.items():
        assert (row.doubles, row.crossed) == (0, 0)
        # How many calls there are, and what a fault costs, depends on the machine.
        assert 0.1 < row.calls / counted[fault].calls < 10, fault
        assert row.longest < 10


def test_workers_gather_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one file, if ``make faults`` names one."""
    figures = [Figure("killed", "Redis", n, 0, 0, n / 8) for n in range(3)]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "figures"))
    for figure in figures:
        keep(figure)
    assert kept() == figures
    monkeypatch.delenv(VARIABLE)
    keep(figures[0])


def test_a_table_is_read_as_it_is_written() -> None:
    """Sums, thousands and names survive."""
    figures = [
        Figure("killed", "Redis", 1234, 0, 0, 1.25),
        Figure("killed", "MariaDB", 1, 2, 3, 0.5),
        Figure("frozen", "Redis", 7, 0, 0, 2.0),
        Figure("killed", "Redis", 10, 0, 0, 0.1),
    ]
    table = table_of(rows_of(figures))
    assert table_of(rows_in(table)) == table
    assert "| killed | MariaDB, Redis | 1,245 | 2 | 3 | 1.2 s |" in table
    assert "| **2 faults** | 2 storages | 1,252 | 2 | 3 | 2.0 s |" in table
