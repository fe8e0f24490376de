from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from tests import servers
from tests.faults.figures import Figure, keep
from tests.faults.storages import KINDS, Storage, storage

Record = Callable[..., None]


@pytest.fixture
def record() -> Record:
    """Give a function that enters what a test has counted into the table.

    It demands what the table is to show: nobody got in twice, nor as someone else, and
    no call took longer than ``bound`` seconds.
    """

    def write(fault: str, storage: str, load: Any, *, bound: float) -> None:
        figure = Figure(
            fault, storage, load.operations, load.doubles, load.crossed, load.longest
        )
        assert (figure.doubles, figure.crossed) == (0, 0)
        assert figure.calls > 0
        assert figure.longest < bound
        keep(figure)

    return write


@pytest.fixture
def given(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: Any
) -> Iterator[Storage]:
    """Give the storage that the test is parametrized with, in order, to be broken."""
    servers.need(KINDS[request.param][0])
    with django_db_blocker.unblock():
        given = storage(request.param)
        given.mend()
        yield given
        given.mend()
        # Connections in the thread that coroutines share, which the test has spoiled.
        asyncio.run(sync_to_async(connections.close_all)())


@pytest.fixture(autouse=True)
def collected(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Close here, not during a later test, what nobody has closed.

    A connection among that fails this test, because Python warns of it. Django's
    RedisCache has no close(), so its connections may be among it after an error.
    """
    yield
    caplog.get_records("call").clear()  # whose errors refer to connections
    with warnings.catch_warnings():
        if "Django's RedisCache" in request.node.name:
            warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
