"""The page about reconnecting: its program, while Django is away and comes back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from realtime_ticket import InvalidTicket, TicketService
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.handshake import find_ticket
from tests.docs.pages import run_page

PAGE = "reconnect.md"
CLAIMS = {"id": 7, "username": "ana"}


@contextmanager
def endpoint(service: TicketService, statuses: list[int]) -> Iterator[str]:
    """Answer with these statuses, one after another; 200 comes with a ticket."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status := statuses.pop(0))
            self.send_header("Retry-After", "0")
            self.end_headers()
            if status == 200:
                answer = {"message": service.issue(CLAIMS).value}
                self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def realtime(service: TicketService, codes: list[int]) -> Any:
    """Return a server that greets, and ends each connection with the next code."""

    async def let_in(connection: ServerConnection, request: Request) -> Response | None:
        try:
            value = find_ticket(authorization=request.headers.get("Authorization"))
            await service.aconsume(value)
        except InvalidTicket:
            return connection.respond(401, "No valid ticket.\n")
        return None

    async def greet(connection: ServerConnection) -> None:
        await connection.send(f"Hello, number {len(codes)}!")
        await connection.close(codes.pop(0))

    return serve(greet, "127.0.0.1", 0, process_request=let_in)


@pytest.fixture
def page(project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    page = run_page(PAGE, project)
    monkeypatch.setattr(page["random"], "uniform", lambda least, most: least / 50)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return page


async def heard(page: dict[str, Any], codes: list[int], statuses: list[int]) -> Any:
    """Run the page's program, and return what it heard and what it raised."""
    service, texts = TicketService(LocMemBackend()), []
    async with realtime(service, codes) as server:
        with endpoint(service, statuses) as page["TICKET_URL"]:
            page["URL"] = "ws://127.0.0.1:{1}/".format(*server.sockets[0].getsockname())
            try:
                await asyncio.wait_for(page["listen"](texts.append), 20)
                status = None
            except HTTPError as error:
                with error:
                    status = error.code
    return texts, status


def test_each_connection_has_a_ticket_of_its_own(page: dict[str, Any]) -> None:
    """After an outage of Django, a restart, and a login that ended and began again."""
    texts, status = asyncio.run(heard(page, [1012, 4401, 1000], [503, 200, 200, 200]))
    assert texts == ["Hello, number 3!", "Hello, number 2!", "Hello, number 1!"]
    assert status is None


def test_it_ends_when_the_token_is_revoked(page: dict[str, Any]) -> None:
    assert asyncio.run(heard(page, [4401], [200, 401])) == (["Hello, number 1!"], 401)


def test_the_loop_of_websockets_shows_a_spent_ticket() -> None:
    """Why the page has a loop of its own."""

    async def main() -> list[str]:
        service, texts = TicketService(LocMemBackend()), []
        headers = {"Authorization": f"Ticket {service.issue(CLAIMS).value}"}
        async with realtime(service, [1012, 1012]) as server:
            url = "ws://127.0.0.1:{1}/".format(*server.sockets[0].getsockname())
            with pytest.raises(InvalidStatus, match="401"):
                async for connection in connect(url, additional_headers=headers):
                    texts.append(await connection.recv())
                    await connection.wait_closed()
        return texts

    assert asyncio.run(main()) == ["Hello, number 2!"]
