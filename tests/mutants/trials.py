"""What becomes of some tests when a mutant breaks the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

from tests.mutants import Mutant

PATIENCE = 30
"""Seconds for a test. Each run is allowed ten tests more than it has."""

Outcomes = dict[str, set[str]]
"""How each test ended: it may do so in several ways, with several parameters."""


def trial(tests: Collection[str], root: Path, mutant: Mutant | None = None) -> Outcomes:
    """Run these tests in a copy of the tree, which the mutant has broken."""
    with tempfile.TemporaryDirectory() as folder:
        tree, report = Path(folder, "tree"), Path(folder, "report.xml")
        ignored = shutil.ignore_patterns(".*", "__pycache__", "_build", "node_modules")
        shutil.copytree(root, tree, ignore=ignored)
        if mutant:
            file = tree / "realtime_ticket" / mutant.file
            file.write_text(mutant.apply(file.read_text()))
        ended = run_pytest(tests, tree, report)
        found = read(report) if report.exists() else {}
    missing = {"not run" if ended else "hangs"}
    return {test: found.get(dotted(test), missing) for test in sorted(tests)}


def run_pytest(tests: Collection[str], tree: Path, report: Path) -> bool:
    """Run these tests. Return whether they came to an end by themselves."""
    # By the path, a process that a test starts finds the broken package too. Servers
    # are not shared with the developer who runs this.
    environment = os.environ | {"PYTHONPATH": str(tree)}
    environment["REALTIME_TICKET_REQUIRE_SERVERS"] = "1"
    environment.pop("REALTIME_TICKET_TEST_DIR", None)
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutants.impatience"]
    process = subprocess.Popen(
        [*command, f"--junit-xml={report}", *sorted(tests)],
        env=environment,
        cwd=tree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(PATIENCE * (10 + len(tests)))
        return True
    except subprocess.TimeoutExpired:
        process.terminate()  # it then ends the servers that it started
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        return False
    finally:
        process.kill()
        process.wait()


def read(report: Path) -> Outcomes:
    """Return what pytest's report says of each test."""
    found: Outcomes = defaultdict(set)
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}".partition("[")[0]
        marks = {mark.tag for mark in case} & {"failure", "error", "skipped"}
        found[name] |= marks or {"passed"}
    return found


def dotted(test: str) -> str:
    """Return the name that a test has in the report."""
    return test.replace(".py::", ".").replace("::", ".").replace("/", ".")
