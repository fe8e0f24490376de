"""Redis behind HAProxy, which passes bytes on to the server that is the master."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import redis

from realtime_ticket import StorageError, doctor
from realtime_ticket.backends.redis import RedisBackend
from tests import redis_proxies, servers
from tests.helpers import CLAIMS, eventually, using
from tests.redis_proxies import check_that_tickets_are_good_once
from tests.servers import Node


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """A master, and its replica."""
    servers.need("haproxy")
    nodes = [Node(), Node()]
    nodes[1].follow(nodes[0])
    yield nodes
    for node in nodes:
        node.kill()


@contextmanager
def behind(nodes: list[Node], folder: Path, *edits: tuple[str, str]) -> Iterator[int]:
    """Run HAProxy until it knows which of the two is the master. It looks often."""
    words = [servers.find("haproxy"), "-db", "-f"]
    edits += (("inter 500ms", "inter 100ms"),)
    with redis_proxies.proxy("haproxy.cfg", words, folder, nodes, *edits) as port:
        # Just started, it connects to the replica too, and hangs up when it knows.
        assert eventually(
            lambda: all(leads_to_a_master(port) for _ in range(4)),
            despite=[redis.ConnectionError],
        )
        yield port


def leads_to_a_master(port: int) -> bool:
    with redis.Redis(port=port) as client:
        return client.info("replication")["role"] == "master"


def is_readable(client: socket.socket) -> bool:
    """Tell whether there is something to read, or the other side has hung up."""
    return bool(select.select([client], [], [], 0)[0])


def test_all_options_work(nodes: list[Node], tmp_path: Path) -> None:
    """The server itself answers, to the doctor as well."""
    # Half of the six seconds is the replica's time to confirm.
    backend = partial(RedisBackend, db=1, wait_replicas=1, socket_timeout=6)
    with behind(nodes, tmp_path) as port, using(backend(port=port)) as service:
        check_that_tickets_are_good_once(service)
        assert "I002" in service.backend.diagnose()[0].id


def test_calls_go_on_with_a_new_master(nodes: list[Node], tmp_path: Path) -> None:
    """By themselves, and with the tickets that it had as a replica."""
    master, replica = nodes
    with behind(nodes, tmp_path) as port, using(RedisBackend(port=port)) as service:
        ticket = service.issue(CLAIMS, expire=60)
        assert eventually(lambda: replica.ask("EXISTS", ticket.value) == 1)
        master.kill()
        with pytest.raises(StorageError):
            service.issue(CLAIMS)
        replica.ask("REPLICAOF", "NO", "ONE")
        assert eventually(lambda: doctor.failure(service) is None)
        assert service.consume(ticket.value) == ticket


def test_an_idle_connection_is_replaced(nodes: list[Node], tmp_path: Path) -> None:
    """No call fails because HAProxy closed a connection that nobody used.

    Mutants: redis-trusts-its-connections.
    """
    edit = "timeout client 1h", "timeout client 1s"
    with (
        behind(nodes, tmp_path, edit) as port,
        using(RedisBackend(port=port)) as service,
    ):
        ticket = service.issue(CLAIMS, expire=60)
        pool = service.backend._pool
        connection = pool.get_connection()
        pool.release(connection)
        assert eventually(lambda: is_readable(connection._sock))
        assert service.consume(ticket.value) == ticket
