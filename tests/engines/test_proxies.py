"""Redis behind Envoy. Debian's proxies have files of their own beside this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from realtime_ticket import InvalidTicket, StorageError
from realtime_ticket.backends.redis import RedisBackend
from tests import redis_proxies, servers
from tests.engines import packages
from tests.helpers import CLAIMS, using
from tests.redis_proxies import (
    check_that_replicas_cannot_be_waited_for,
    check_that_tickets_are_good_once,
)
from tests.servers import Node


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    servers.need("redis")
    packages.need("Envoy")
    nodes = [Node(), Node()]
    yield nodes
    for node in nodes:
        node.kill()


@pytest.fixture(scope="module")
def port(nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    words = [str(packages.need("Envoy")), "--use-dynamic-base-id", "--concurrency", "1"]
    folder = tmp_path_factory.mktemp("envoy")
    with redis_proxies.proxy("envoy.yaml", [*words, "-c"], folder, nodes) as port:
        yield port


def test_tickets_are_good_once(port: int) -> None:
    """One by one and in batches, on both servers."""
    with using(RedisBackend(port=port)) as service:
        check_that_tickets_are_good_once(service)


def test_a_database_is_everybodys(port: int) -> None:
    """Who connects last chooses for all, who share Envoy's own connections."""
    with (
        using(RedisBackend(port=port, db=1)) as one,
        using(RedisBackend(port=port, db=2)) as other,
    ):
        tickets = [one.issue(CLAIMS, expire=60) for _ in range(40)]
        other.issue(CLAIMS)
        with pytest.raises(InvalidTicket):
            for ticket in tickets:
                one.consume(ticket.value)


def test_a_password_is_an_outage(port: int) -> None:
    """Envoy has none, unless it is set up to."""
    with (
        using(RedisBackend(port=port, password="secret")) as service,
        pytest.raises(StorageError),
    ):
        service.issue(CLAIMS)


def test_replicas_cannot_be_waited_for(port: int) -> None:
    check_that_replicas_cannot_be_waited_for(port)


def test_the_doctor_knows_that_a_proxy_answers(port: int) -> None:
    """Its INFO has no role, and its TIME has more microseconds than a second."""
    with using(RedisBackend(port=port)) as service:
        (message,) = service.backend.diagnose()
    assert message.id == "realtime_ticket.I001"
    assert message.msg.startswith("A proxy answers in place of Redis")


def test_a_dead_server_hides_its_own_disconnects(port: int, nodes: list[Node]) -> None:
    """Those on the other are read. With both dead nothing can be read.

    Mutants: redis-reads-errors-as-texts, redis-reads-nothing-but-errors.
    """

    def lost(found: list[Any]) -> list[Any]:
        return [each for each in found if isinstance(each, redis.ResponseError)]

    with using(RedisBackend(port=port)) as service:
        keys = redis_proxies.journal(service.backend)
        nodes[0].kill()
        found = service.backend.read_many(keys)
        assert 0 < len(lost(found)) < len(keys)
        for key, text in zip(keys, found, strict=True):
            assert text == key or lost([text])
        nodes[1].kill()
        with pytest.raises(redis.ResponseError):
            service.backend.read_many(keys)
        for node in nodes:
            node.start()
