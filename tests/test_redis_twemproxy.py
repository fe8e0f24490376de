"""Redis behind twemproxy, which hangs up on every command that it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from realtime_ticket import StorageError
from realtime_ticket.backends.redis import RedisBackend
from tests import redis_proxies, servers
from tests.helpers import CLAIMS, using
from tests.redis_proxies import (
    check_that_replicas_cannot_be_waited_for,
    check_that_tickets_are_good_once,
)
from tests.servers import Node


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    servers.need("twemproxy")
    nodes = [Node(), Node()]
    yield nodes
    for node in nodes:
        node.kill()


@pytest.fixture(scope="module")
def port(nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    statistics = str(servers.free_port())
    words = [servers.find("nutcracker"), "-a", "127.0.0.1", "-s", statistics, "-c"]
    folder = tmp_path_factory.mktemp("twemproxy")
    patient = "timeout: 500", "timeout: 10000"  # a busy machine may need a second
    with redis_proxies.proxy("nutcracker.yml", words, folder, nodes, patient) as port:
        yield port


def test_tickets_are_good_once(port: int) -> None:
    """One by one and in batches.

    Mutants: redis-tells-its-name.
    """
    with using(RedisBackend(port=port)) as service:
        check_that_tickets_are_good_once(service)


@pytest.mark.parametrize("options", [{"db": 1}, {"password": "secret"}])
def test_some_options_are_an_outage(port: int, options: Any) -> None:
    with (
        using(RedisBackend(port=port, **options)) as service,
        pytest.raises(StorageError),
    ):
        service.issue(CLAIMS)


def test_replicas_cannot_be_waited_for(port: int) -> None:
    check_that_replicas_cannot_be_waited_for(port)


def test_a_dead_server_hides_all_disconnects(port: int, nodes: list[Node]) -> None:
    """And that is an outage, and not the news that there are none."""
    with using(RedisBackend(port=port)) as service:
        keys = redis_proxies.journal(service.backend)
        nodes[0].kill()
        with pytest.raises(redis.RedisError):
            service.backend.read_many(keys)
        nodes[0].start()
