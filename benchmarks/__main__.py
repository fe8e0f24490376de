"""Run the benchmarks: ``python -m benchmarks [--effort quick] [--only 1 2]``.

``--write`` puts what they found into the documentation.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time

import django

from . import machine, report
from .harness import EFFORTS, Effort, Row
from .rows import ROWS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effort", choices=EFFORTS, default="full")
    parser.add_argument("--only", type=int, nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    django.setup()
    about = {"effort": arguments.effort}
    if arguments.write:
        about = machine.describe() | about  # before it is busy with us
    effort = EFFORTS[arguments.effort]
    rows = [measure(number, effort) for number in arguments.only]
    if arguments.write:
        report.write(rows, about)


def measure(number: int, effort: Effort) -> Row:
    """Measure a row and print it."""
    module = importlib.import_module(f"benchmarks.{ROWS[number]}")
    started = time.monotonic()
    findings = module.run(effort)
    row = Row(number, module.TITLE, time.monotonic() - started, findings)
    print(report.table(row), flush=True)
    return row


if __name__ == "__main__":
    main()
