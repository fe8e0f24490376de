"""Redis behind twemproxy, which hangs up on every command that it does not know."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from realtime_ticket import InvalidTicket, StorageError
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.helpers import CLAIMS, using
from tests.servers import Node


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start two servers, and twemproxy before them. Return its port."""
    servers.need("twemproxy")
    folder, port = tmp_path_factory.mktemp("twemproxy"), servers.free_port()
    nodes = [Node(), Node()]
    file = folder / "nutcracker.yml"
    file.write_text(
        f"tickets:\n  listen: 127.0.0.1:{port}\n  redis: true\n"
        "  hash: fnv1a_64\n  distribution: ketama\n  servers:\n"
        + "".join(f"   - 127.0.0.1:{node.port}:1\n" for node in nodes)
    )
    statistics = str(servers.free_port())

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    process = servers.run(
        [servers.find("nutcracker"), "-c", str(file), "-a", "127.0.0.1",
         "-s", statistics],
        folder,
        ready=answers,
    )  # fmt: skip
    yield port
    servers.stop(process)
    for node in nodes:
        node.kill()


def test_tickets_are_good_once(port: int) -> None:
    """One by one and in batches, without any option.

    Mutants: redis-tells-its-name.
    """

    async def storm() -> int:
        issued = await asyncio.gather(*(service.aissue(CLAIMS) for _ in range(100)))
        ends = await asyncio.gather(
            *(service.aconsume(ticket.value) for ticket in issued * 2),
            return_exceptions=True,
        )
        return sum(not isinstance(end, InvalidTicket) for end in ends)

    with using(RedisBackend(port=port)) as service:
        ticket = service.issue(CLAIMS)
        assert service.consume(ticket.value) == ticket
        with pytest.raises(InvalidTicket):
            service.consume(ticket.value)
        assert asyncio.run(storm()) == 100


def test_a_database_is_an_outage(port: int) -> None:
    """twemproxy has no SELECT, as the documentation says."""
    with using(RedisBackend(port=port, db=1)) as service, pytest.raises(StorageError):
        service.issue(CLAIMS)
