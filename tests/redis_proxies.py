"""Proxies before Redis, with the configuration of docs/redis-proxies.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.tickets import new_value
from tests import servers
from tests.helpers import CLAIMS, using
from tests.processes import listens
from tests.servers import Node

PAGE = Path(__file__).parents[1] / "docs" / "redis-proxies.md"


@contextmanager
def proxy(
    name: str,
    words: Sequence[str | None],
    folder: Path,
    nodes: Sequence[Node],
    *edits: tuple[str, str],
) -> Iterator[int]:
    """Run a proxy with the file of the page that has this name, and give its port.

    The words are its command line, to which the path of the file is added. In the file
    texts are replaced.
    """
    port, file = servers.free_port(), folder / name
    lines = configuration(name, port, [node.port for node in nodes])
    for old, new in edits:
        assert old in lines
        lines = lines.replace(old, new)
    file.write_text(lines)
    process = servers.run([*words, str(file)], folder, ready=lambda: listens(port))
    yield port
    servers.stop(process)


def configuration(name: str, port: int, upstream: Sequence[int]) -> str:
    """Return a file of the page, with these ports in place of its own."""
    fence = re.compile(rf"^```text\n(# {name}\n.*?)^```$", re.M | re.S)
    (lines,) = fence.findall(PAGE.read_text("utf-8"))
    lines, changes = re.subn(r"\b6380\b", str(port), lines)
    assert changes == 1
    for number, other in enumerate(upstream, 1):
        place = rf"\b10\.0\.0\.{number}(:|, port_value: )6379\b"
        lines, changes = re.subn(place, rf"127.0.0.1\g<1>{other}", lines)
        assert changes == 1
    return lines


def check_that_tickets_are_good_once(service: TicketService) -> None:
    """Issue, consume and refuse, one by one and in batches."""

    async def storm() -> int:
        issued = await asyncio.gather(*(service.aissue(CLAIMS) for _ in range(100)))
        ends = await asyncio.gather(
            *(service.aconsume(ticket.value) for ticket in issued * 2),
            return_exceptions=True,
        )
        return sum(not isinstance(end, InvalidTicket) for end in ends)

    ticket = service.issue(CLAIMS)
    assert service.consume(ticket.value) == ticket
    for value in (ticket.value, new_value()):
        with pytest.raises(InvalidTicket):
            service.consume(value)
    assert asyncio.run(storm()) == 100


def check_that_replicas_cannot_be_waited_for(port: int) -> None:
    with using(RedisBackend(port=port, wait_replicas=1)) as service:
        ticket = service.issue(CLAIMS)
        with pytest.raises(StorageError):
            service.consume(ticket.value)


def journal(backend: RedisBackend, count: int = 40) -> list[str]:
    """Write as many entries of journals, and return their keys.

    Each has a prefix of its own: a proxy may send keys that differ in their last
    character to one server.
    """
    keys = [f"off:{new_value()[:20]}:1764303000:{number}" for number in range(count)]
    assert all(backend.add(key, key, 60) for key in keys)
    assert backend.read_many(keys) == keys
    return keys
