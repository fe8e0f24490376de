from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.test.utils import setup_databases
from pytest_django import DjangoDbBlocker
from pytest_django.plugin import blocking_manager_key

from tests import parts, servers

if TYPE_CHECKING:
    from tests.disconnects import Heard
    from tests.matrix import World

pytest.register_assert_rewrite("realtime_ticket.testing")


def pytest_configure(config: pytest.Config) -> None:
    for part in parts.PARTS:
        config.addinivalue_line("markers", f"{part.name}: {part.about}")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Import no test file of a part that this run has not, unless it is asked for."""
    is_test = collection_path.match("test_*.py")
    return (is_test and not parts.part_of(collection_path).runs_now) or None


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark each test with its part, and leave out the parts that this run has not."""
    kept, left_out = [], []
    for item in items:
        part = parts.part_of(item.path)
        item.add_marker(part.name)
        (kept if part.runs_now else left_out).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Pass neither coverage nor a developer's options of pytest on to what tests start.

    Keep the garbage collector from examining the thousands of tests, which live until
    the end. It spent a tenth of a run's processor time on them.
    """
    for name in ("COVERAGE_PROCESS_START", "PYTEST_ADDOPTS"):
        os.environ.pop(name, None)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """End all servers, and write down what coverage has seen.

    Not at the exit of the process: pytest-xdist kills a worker that takes ten seconds
    from here to there, which it does on a busy machine.
    """
    servers.stop_all()
    if (coverage := sys.modules.get("coverage")) and (
        measuring := coverage.Coverage.current()
    ):
        measuring.save()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test on a database whose server is not here."""
    if marker := item.get_closest_marker("django_db"):
        for alias in marker.kwargs.get("databases") or ():
            if alias in servers.PROGRAMS:
                servers.require(alias)
                make_test_database(alias, item.config.stash[blocking_manager_key])


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Make the test database on SQLite; a server's is made for the first test on it."""
    make_test_database("default", django_db_blocker)
    yield
    with django_db_blocker.unblock():
        connections.close_all()


@functools.cache
def make_test_database(alias: str, blocker: DjangoDbBlocker) -> None:
    """Make the test database of this alias, which ends with its server."""
    with blocker.unblock():
        setup_databases(
            verbosity=0, interactive=False, aliases={alias}, serialized_aliases=set()
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the storage and the site of the example servers, started once."""
    from tests import matrix

    with matrix.world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def empty_storage(settings: Any) -> None:
    """Begin with a storage without tickets and disconnects."""
    settings.REALTIME_TICKET_BACKEND = "realtime_ticket.backends.locmem.LocMemBackend"


@pytest.fixture
def patient_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a batch of 1,000 calls time on a busy machine, whose disk may be slow.

    How long a caller waits at most is the subject of test_batching.
    """
    monkeypatch.setattr("realtime_ticket.batching.MAX_WAIT", 60.0)


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Whose connections end: ids of users, and a session or None."""
    from realtime_ticket.signals import user_disconnected

    heard: Heard = []

    def receiver(user_ids: tuple[Any, ...], session: str | None, **kwargs: Any) -> None:
        heard.append((user_ids, session))

    user_disconnected.connect(receiver)
    yield heard
    user_disconnected.disconnect(receiver)
