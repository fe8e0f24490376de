"""Break the package in small ways, one at a time, and see that the tests notice.

Every test that names a mutant must fail on it; of a parametrized one, at least one set
of parameters. A test that hangs, or cannot be run, has noticed nothing. Without names,
all mutants are tried; with --since those of which the broken file, a test that names
them, or the description differs from that revision of git.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby, repeat
from pathlib import Path

from tests.mutants import ROOT, Mutant, changed, load, named
from tests.mutants.trials import Outcomes, trial


def main(words: Sequence[str], root: Path = ROOT) -> int:
    """Try mutants, say of each whether it is caught, and return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--since", metavar="REV")
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N")
    options = parser.parse_args(words)
    mutants, claims = load(root), named(root)
    names = options.names or list(mutants)
    tests = {name: [test for test in claims if name in claims[test]] for name in names}
    for name in names:
        if name not in mutants or not tests[name]:
            parser.error(f"There is no mutant {name!r}, or no test names it.")
    if options.since:
        try:
            files = changed(options.since, root)
        except ValueError as exc:
            parser.error(str(exc))
        names = [n for n in names if files & files_of(mutants[n], tests[n])]

    with ThreadPoolExecutor(options.jobs) as pool:
        # The failure of a test that fails anyway would prove nothing.
        concerned = {test for name in names for test in tests[name]}
        found = pool.map(failing, by_file(concerned), repeat(root))
        wrong: Outcomes = dict(chain.from_iterable(ends.items() for ends in found))
        if wrong:
            say("Where nothing is broken, these do not pass:", *listed(wrong, bool))
        tried = [
            pool.submit(is_caught, name, mutants[name], tests[name], root)
            for name in names
            if wrong.keys().isdisjoint(tests[name])
        ]
    count = sum(future.result() for future in tried)
    say(f"{count} of {len(names)} mutants are caught.")
    return int(count < len(names))


def files_of(mutant: Mutant, tests: Iterable[str]) -> set[str]:
    """Return the file that it breaks, those of its tests, and the one it stands in."""
    files = {test.partition("::")[0] for test in tests}
    return files | {f"realtime_ticket/{mutant.file}", mutant.table}


def by_file(tests: Iterable[str]) -> list[list[str]]:
    """Return the tests of each file."""
    groups = groupby(sorted(tests), lambda test: test.partition("::")[0])
    return [list(group) for _, group in groups]


def failing(tests: Collection[str], root: Path) -> Outcomes:
    """Return those of the tests that do not pass where nothing is broken."""
    outcomes = trial(tests, root).items()
    return {test: ends for test, ends in outcomes if ends - {"skipped"} != {"passed"}}


def is_caught(name: str, mutant: Mutant, tests: Collection[str], root: Path) -> bool:
    """Tell, in print too, whether each of these tests fails on the mutant."""
    started = time.monotonic()
    blind = listed(trial(tests, root, mutant), lambda ends: "failure" not in ends)
    verdict = "SURVIVED" if blind else "caught"
    say(f"{verdict:8} {time.monotonic() - started:6.1f} s  {name}", *blind)
    return not blind


def listed(outcomes: Outcomes, which: Callable[[set[str]], bool]) -> list[str]:
    """Return a line for each of the tests that ended in such ways."""
    return [
        f"  {test}: {', '.join(sorted(ends))}"
        for test, ends in outcomes.items()
        if which(ends)
    ]


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
