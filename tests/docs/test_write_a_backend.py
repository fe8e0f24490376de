"""The backend of the page about backends keeps the contract."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import FENCES
from tests.docs.programs import environment_of

PATIENCE = """\
from realtime_ticket import batching

batching.MAX_WAIT = 60.0
"""
"""Time for a batch of 1,000 files on a busy machine, as in tests/contract.py."""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["-m", "pytest", "-q", "test_directory.py"], r"\b5\d passed"),
        (["-m", "unittest", "test_directory_unittest"], r"\nOK \(skipped=2\)"),
    ],
    ids=["pytest", "unittest"],
)
def test_the_example_backend_keeps_the_contract(
    command: list[str], expected: str, tmp_path: Path
) -> None:
    for fence in FENCES["write-a-backend.md"]:
        if fence.file:
            fence.write(tmp_path)
    (tmp_path / "conftest.py").write_text(PATIENCE)
    environment = environment_of(tmp_path, TMPDIR=str(tmp_path))
    result = subprocess.run(
        [sys.executable, *command],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert re.search(expected, output), output
