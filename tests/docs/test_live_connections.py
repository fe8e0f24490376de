"""The lines about live connections close what has to end, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from realtime_ticket import TicketService
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.live import LiveTickets
from realtime_ticket.tickets import Ticket
from tests import servers
from tests.docs.pages import run_page
from tests.helpers import WAIT


class Connection:
    """One of an asyncio server, whose client says nothing."""

    def __init__(self, ticket: Ticket, when_open: Callable[[], None]) -> None:
        self.ticket = ticket
        self.when_open = when_open
        self.closed: tuple[int, str] | None = None

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> str:
        asyncio.get_running_loop().call_soon(self.when_open)
        await asyncio.sleep(WAIT)
        raise StopAsyncIteration

    async def close(self, code: int, reason: str = "") -> None:
        self.closed = code, reason


@pytest.fixture
def page(project: Path) -> dict[str, Any]:
    """The names of the page, whose storage is read when the test says so."""
    servers.require("redis")
    names = run_page("live-connections.md", project)
    names["tickets"].close()
    names["live"] = LiveTickets(TicketService(LocMemBackend()), thread=False)
    return names


def issue(page: dict[str, Any]) -> Ticket:
    ticket: Ticket = page["live"].service.issue(
        {"id": 7, "username": "ana"}, session="k3J9"
    )
    return ticket


def end(page: dict[str, Any]) -> None:
    page["live"].service.disconnect(7, session="k3J9")
    page["live"].poll()


def serve(page: dict[str, Any], ticket: Ticket) -> tuple[int, str] | None:
    """Serve a connection whose login ends when it is open. Return how it is closed."""
    connection = Connection(ticket, when_open=partial(end, page))
    asyncio.run(asyncio.wait_for(page["serve"](connection), WAIT))
    return connection.closed


def test_a_held_connection_is_closed_whatever_ends_it(page: dict[str, Any]) -> None:
    """The storage is not read at first. Later its login ends, and has ended."""
    ticket = issue(page)
    assert serve(page, ticket) == (4013, "")
    page["live"].poll()
    assert serve(page, ticket) == (4401, "disconnected kind=session")
    assert serve(page, ticket) == (4401, "")


def test_a_watched_connection_is_closed_whatever_ends_it(page: dict[str, Any]) -> None:
    """A client that is let in gets a function for its end, and no other does."""
    ticket = issue(page)
    codes: list[int] = []
    assert page["admit"](ticket, codes.append) is None
    page["live"].poll()
    ended = page["admit"](ticket, codes.append)
    assert codes == [4013]
    end(page)
    assert codes == [4013, 4401]
    ended()
    assert page["admit"](ticket, codes.append) is None
    assert codes == [4013, 4401, 4401]
