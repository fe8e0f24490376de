"""Run the benchmarks: ``python -m benchmarks [--effort quick] [--only 1 2]``.

``--write`` puts what they found into the documentation.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Iterable, Iterator

import django

from . import machine, report
from .harness import EFFORTS, Effort, Row
from .rows import ROWS, left_out, why_not


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
    if missing := [*what_is_missing(arguments.only)]:
        print(*missing, sep="\n", flush=True)
        about["left out"] = "; ".join(missing)
    effort = EFFORTS[arguments.effort]
    numbers = [number for number in arguments.only if not why_not(number)]
    rows = [measure(number, effort) for number in numbers]
    if arguments.write:
        report.write(rows, about)


def what_is_missing(numbers: Iterable[int]) -> Iterator[str]:
    """Yield what is not measured because of what is not installed."""
    for number in numbers:
        if reason := why_not(number):
            yield f"Row {number} is left out: {reason}"
        else:
            for part in left_out(number):
                yield f"Row {number} is without {part}"


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
