"""A plugin for pytest: where one set of parameters fails, the others are skipped.

And who is terminated ends in order, with a report and without its servers.
"""

from __future__ import annotations

import signal

import pytest

FAILED = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FAILED] = set()
    # As Ctrl-C does, which a shell's background processes are deaf to.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    report = yield
    if report.when == "call" and report.failed:
        item.config.stash[FAILED].add(name_of(item))
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if name_of(item) in item.config.stash[FAILED]:
        pytest.skip("another set of parameters has failed")


def name_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
