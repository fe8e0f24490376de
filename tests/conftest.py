from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.conf import settings

from tests import servers

if TYPE_CHECKING:
    from tests.matrix import World

pytest.register_assert_rewrite("realtime_ticket.testing")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test on a database whose server is not here."""
    if marker := item.get_closest_marker("django_db"):
        for alias in marker.kwargs.get("databases") or ():
            if alias in servers.PROGRAMS:
                servers.require(alias)


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Start the database servers before Django makes its test databases on them."""
    for alias in settings.DATABASES.keys() & servers.PROGRAMS.keys():
        servers.start(alias)
    yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the storage and the site of the example servers, started once."""
    from tests import matrix

    with matrix.world(tmp_path_factory.mktemp("world")) as world:
        yield world
