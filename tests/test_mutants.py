"""Mutants are clear changes, tests name them, and the runner is not easily content."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.mutants import ROOT, load, named, trials
from tests.mutants.__main__ import main

MUTANTS = load()
CLAIMS = named()

OF_FAULTS = [
    "faults/",
    "test_backends_cache.py::TestConnections",
    "test_backends_cache.py::TestDatabaseCache",
    "test_backends_cache.py::TestOneText::test_goes_to_who_deletes_it",
    "test_backends_cache.py::TestOneText::test_that_the_cache_did_not_keep",
    "test_backends_cache.py::test_other_caches_mind_no_transaction",
    "test_backends_cache.py::test_whatever_a_cache_raises_is_an_outage",
    "test_backends_database.py::TestClosingInsideATestCase",
    "test_backends_database.py::TestInsideATestCase",
    "test_backends_database.py::TestMariaDB",
    "test_backends_database.py::TestMySQL::test_a_row_that_another_deleted",
    "test_backends_database.py::TestPostgreSQL",
    "test_backends_database.py::TestRecovery",
    "test_backends_database.py::TestSweeping::test_failing_fails_no_issue",
    "test_backends_database.py::TestSweeping::test_waits_for_the_end",
    "test_backends_database.py::TestTransactions",
    "test_backends_memcached.py::TestExactlyOnce",
    "test_backends_memcached.py::TestSeveralServers",
    "test_backends_memcached.py::TestTrouble",
    "test_backends_redis.py::TestClose",
    "test_backends_redis.py::TestErrorReplies",
    "test_backends_redis.py::TestOldServers",
    "test_backends_redis.py::TestTrouble",
    "test_batching.py",
    "test_histories.py::test_histories_",
    "test_page_cache.py",
    "test_read_many.py::TestCache::test_an_outage",
    "test_read_many.py::TestDatabase",
    "test_read_many.py::TestMemcached",
    "test_read_many.py::TestRedis::test_replicas",
    "test_read_many.py::TestSeveralServers::test_a_dead_one",
    "test_read_many.py::TestSeveralServers::test_when_all_are_dead",
    "test_scale_out.py::TestCluster",
    "test_scale_out.py::TestReplicas",
    "test_scale_out.py::TestSentinel",
    "test_transactions.py",
]
"""What the names of tests begin with that are about faults and races."""

OF_TOOLS = (
    "tests/faults/test_secrets.py::TestTheWatch",
    "tests/faults/test_table.py",
)
"""And of those among them that are about what such tests use: no package, no mutant."""


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_one_change_each(name: str) -> None:
    """The text to replace is there once, and what comes out is another program.

    Else a mutant would be caught for nothing, or mean something else than it says.
    """
    mutant = MUTANTS[name]
    source = (ROOT / "realtime_ticket" / mutant.file).read_text()
    broken = mutant.apply(source)
    if mutant.file.endswith(".py"):
        compile(broken, mutant.file, "exec")
    assert broken != source
    assert mutant.why.endswith(".")


def test_mutants_and_tests_know_each_other() -> None:
    """No test names a mutant that there is not, and no mutant is left alone."""
    assert {name for names in CLAIMS.values() for name in names} == MUTANTS.keys()


@pytest.mark.parametrize("start", OF_FAULTS)
def test_tests_of_faults_name_mutants(start: str) -> None:
    """A test that no break of the package makes fail proves nothing."""
    tests = [test for test in CLAIMS if test.startswith(f"tests/{start}")]
    assert tests
    silent = [test for test in tests if not CLAIMS[test]]
    assert [test for test in silent if not test.startswith(OF_TOOLS)] == []


TESTS = '''
import time

import pytest

from realtime_ticket import add


@pytest.fixture
def one():
    return add(1, 0)


@pytest.mark.parametrize("number", [0, 2])
def test_adds(number):
    """See main(). Mutants: subtracts, is-seen-by-one, only-says-something-else,
    has-another-name."""
    assert add(2, number) == 2 + number


class TestAdd:
    def test_adds_nothing(self):
        """Mutants: is-seen-by-one."""
        assert add(2, 0) == 2

    def test_adds_to_what_a_fixture_gives(self, one):
        """Mutants: breaks-the-fixture."""
        assert add(one, 1) == 2

    def test_comes_to_an_end(self):
        """Mutants: sleeps."""
        assert add(2, 2) == 4

    def test_fails_anyway(self):
        """Mutants: is-not-to-blame."""
        assert add(2, 2) == 5
'''
NEWS = {
    "subtracts": "return a - b",
    "is-seen-by-one": "return a - b",
    "only-says-something-else": "return b + a",
    "has-another-name": "return a + b\\n\\nplus = add\\ndel add",
    "breaks-the-fixture": "return a + 1 // b",
    "sleeps": "import time; time.sleep(60)",
    "is-not-to-blame": "return a - b",
}
"""What stands in each mutant instead of ``return a + b``."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a small project with mutants."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # it starts faster
    shutil.copytree(
        ROOT / "tests" / "mutants",
        tmp_path / "tests" / "mutants",
        ignore=shutil.ignore_patterns("*.toml"),
    )
    for name, text in {
        "pyproject.toml": "",
        "tests/__init__.py": "",
        "realtime_ticket/__init__.py": "def add(a, b):\n    return a + b\n",
        "tests/test_add.py": TESTS,
        "tests/mutants/some.toml": "".join(
            f'[{name}]\nwhy = "."\nfile = "__init__.py"\n'
            f'old = "return a + b"\nnew = "{new}"\n'
            for name, new in NEWS.items()
        ),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_only_failures_of_every_test_count(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of some of them, and not what happens before a test can begin."""
    names = list(NEWS)[:5]
    assert main([*names, "-j", "3"], project) == 1
    printed = capsys.readouterr().out
    assert re.findall(r"^caught .+ s  (.+)$", printed, re.MULTILINE) == ["subtracts"]
    survivors = re.findall(r"^SURVIVED .+ s  (.+)\n  (.+)$", printed, re.MULTILINE)
    test = "tests/test_add.py::"
    assert dict(survivors) == {
        "is-seen-by-one": f"{test}TestAdd::test_adds_nothing: passed",
        "only-says-something-else": f"{test}test_adds: passed",
        "has-another-name": f"{test}test_adds: not run",
        "breaks-the-fixture": (
            f"{test}TestAdd::test_adds_to_what_a_fixture_gives: error"
        ),
    }
    assert printed.endswith("\n1 of 5 mutants are caught.\n")


def test_all_caught_is_success(project: Path) -> None:
    """The exit status is 0."""
    assert main(["subtracts"], project) == 0


def test_tests_that_hang_are_interrupted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for them for ever, and they have noticed nothing."""
    monkeypatch.setattr(trials, "PATIENCE", 0.2)
    test = "tests/test_add.py::TestAdd::test_comes_to_an_end"
    outcomes = trials.trial([test], project, load(project)["sleeps"])
    assert outcomes == {test: {"hangs"}}


def test_tests_that_fail_anyway_prove_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are named, and their mutants are not tried. The others are."""
    assert main(["subtracts", "is-not-to-blame"], project) == 1
    first, test, caught, last = capsys.readouterr().out.splitlines()
    assert "do not pass" in first
    assert test == "  tests/test_add.py::TestAdd::test_fails_anyway: failure"
    assert re.fullmatch(r"caught .+ subtracts", caught)
    assert last == "1 of 2 mutants are caught."


def git(project: Path, *words: str) -> None:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x", *words]
    subprocess.run(command, cwd=project, check=True, capture_output=True)


@pytest.mark.parametrize(
    "file",
    ["realtime_ticket/__init__.py", "tests/test_add.py", "tests/mutants/some.toml"],
)
def test_since_a_revision_those_that_changes_concern_are_tried(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
) -> None:
    """A change of what is broken, of a test, or of a mutant; committed or not."""
    monkeypatch.setattr("tests.mutants.__main__.failing", lambda tests, root: {})
    monkeypatch.setattr("tests.mutants.__main__.is_caught", lambda *about: True)
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "all")
    (project / "realtime_ticket" / "other.py").write_text("")

    assert main(["--since", "HEAD"], project) == 0
    (project / file).write_text((project / file).read_text() + "\n")
    assert main(["--since", "HEAD"], project) == 0
    git(project, "commit", "-qam", "more")
    assert main(["--since", "HEAD~", "subtracts"], project) == 0

    assert capsys.readouterr().out.splitlines() == [
        "0 of 0 mutants are caught.",
        f"{len(NEWS)} of {len(NEWS)} mutants are caught.",
        "1 of 1 mutants are caught.",
    ]
    with pytest.raises(SystemExit):
        main(["--since", "no-such-revision"], project)
    assert "no-such-revision" in capsys.readouterr().err


def test_unknown_mutants_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name with a mistake is not success."""
    with pytest.raises(SystemExit):
        main(["subtract"], project)
    assert "There is no mutant 'subtract'" in capsys.readouterr().err
