"""Centrifugo's own JavaScript client, in Node.js: the example's page, and our answers.

Centrifugo itself is in no registry, and the Go library that Debian has is of 2021 and
speaks an older protocol than this client. So a server of a few lines is in its place.
It asks Django as Centrifugo's connect proxy does, and disconnects as Django says. The
client then comes back, or does not, by its own rules.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import path
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from realtime_ticket import InvalidTicket, TicketService, get_service
from realtime_ticket.integrations.centrifugo import CentrifugoConnectView
from realtime_ticket.tickets import Ticket
from tests import servers
from tests.helpers import CLAIMS, FailingBackend

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "centrifugo" / "client.js"
MODULE = ROOT / "realtime_ticket/static/realtime_ticket/realtime-ticket.js"
LIBRARY = ROOT / "node_modules" / "centrifuge"
WEBSOCKET = ROOT / "examples" / "node-ws" / "node_modules" / "ws"
KEY = "k" * 40
HEADERS = {"Authorization": f"Bearer {KEY}"}

# What a browser has, and Node.js 20 has not.
BROWSER = """
import { createRequire } from "node:module";
globalThis.location = { href: process.env.PAGE };
const { fetch } = globalThis;
globalThis.fetch = (url, options) => fetch(new URL(url, location.href), options);
globalThis.WebSocket = createRequire(import.meta.url)(process.env.WEBSOCKET);
"""
SOON = "{ getData, minReconnectDelay: 20, maxReconnectDelay: 50 }"


class NobodyIsThere(CentrifugoConnectView):
    def result(self, ticket: Ticket) -> dict[str, Any]:
        raise InvalidTicket("user")


broken = TicketService(FailingBackend())
urlpatterns = [
    path("connect/", CentrifugoConnectView.as_view()),
    path("broken/", CentrifugoConnectView.as_view(service=broken)),
    path("gone/", NobodyIsThere.as_view()),
]
pytestmark = pytest.mark.urls(__name__)


class Site:
    """Answers each visit to ``/ticket/`` with the next of these tickets, then 401."""

    def __init__(self, tickets: list[str]) -> None:
        self.tickets = iter(tickets)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                value = next(self.tickets, None)
                handler.send_response(200 if value else 401)
                handler.send_header("Content-Type", "application/json")
                handler.end_headers()
                answer = {"status": "ok" if value else "error", "message": value or "-"}
                handler.wfile.write(json.dumps(answer).encode())

            def log_message(self, *args: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/chat/"


class Centrifugo:
    """Speaks as much of Centrifugo's protocol (version 2, JSON) as a connection needs.

    Each connection asks the next of the views. One that is let in is disconnected with
    the next code.
    """

    def __init__(self, views: list[str], codes: list[int]) -> None:
        self.views, self.codes = iter(views), iter(codes)
        self.shown: list[str] = []
        self.server: Server = serve(self.talk, "127.0.0.1", 0)
        self.port = self.server.socket.getsockname()[1]

    def talk(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            command = json.loads(connection.recv())
            data = command["connect"]["data"]
            self.shown.append(data["ticket"])
            request = {"client": "c", "transport": "websocket", "data": data}
            answer = (
                Client(headers=HEADERS)
                .post(next(self.views), request, content_type="application/json")
                .json()
            )
            if told := answer.get("disconnect"):
                connection.close(told["code"], told["reason"])
                return
            client = f"{answer['result']['user']}-{len(self.shown)}"
            reply = {"client": client, "version": "6.0.0", "ping": 25, "pong": True}
            connection.send(json.dumps({"id": command["id"], "connect": reply}))
            connection.close(next(self.codes), "disconnected")


@contextmanager
def serving(site: Site, centrifugo: Centrifugo) -> Iterator[None]:
    """Run both in threads until the block ends."""
    started = [site.server, centrifugo.server]
    threads = [threading.Thread(target=server.serve_forever) for server in started]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server, thread in zip(started, threads, strict=True):
            server.shutdown()
            thread.join()
        site.server.server_close()


@pytest.fixture
def service(settings: Any) -> Iterator[TicketService]:
    settings.REALTIME_TICKET_SERVICE_KEYS = [KEY]
    for needed in (LIBRARY, WEBSOCKET):
        if not needed.is_dir():
            servers.do_without(f"{needed.relative_to(ROOT)} is not there")
    if not servers.find("node"):
        servers.do_without("node is not installed")
    service = get_service()
    yield service
    service.close()


def visit(site: Site, centrifugo: Centrifugo, folder: Path) -> list[str]:
    """Run the example's page until it gives up, and return what it prints."""
    script = EXAMPLE.read_text("utf-8")
    for old, new in [("{ getData }", SOON), (":8001/", f":{centrifugo.port}/")]:
        assert script.count(old) == 1
        script = script.replace(old, new)
    (folder / "client.mjs").write_text(script)
    (folder / "browser.mjs").write_text(BROWSER)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / MODULE.name).write_bytes(MODULE.read_bytes())
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    with serving(site, centrifugo):
        result = subprocess.run(
            ["node", "--import", "./browser.mjs", "client.mjs"],
            cwd=folder,
            env=os.environ | {"PAGE": site.url, "WEBSOCKET": str(WEBSOCKET)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_client_comes_back_with_new_tickets(
    service: TicketService, tmp_path: Path
) -> None:
    """After a spent ticket, an outage, an expired connection, and a logout. A user who
    is gone is final.

    Mutants, tried by hand: 4013 becomes 4513; 4501 becomes 4401.
    """
    tickets = [service.issue(CLAIMS, expire=60).value for _ in range(5)]
    service.consume(tickets[0])
    views = ["/connect/", "/broken/", "/connect/", "/connect/", "/gone/"]
    centrifugo = Centrifugo(views, codes=[3005, 4401])
    said = visit(Site(tickets), centrifugo, tmp_path)
    assert centrifugo.shown == tickets
    assert said == [
        "Connected as client 7-3.",
        "Connected as client 7-4.",
        "Not coming back: invalid ticket.",
    ]


def test_the_client_ends_when_django_gives_no_ticket(
    service: TicketService, tmp_path: Path
) -> None:
    """As after a logout: it is back at once, Django says 401, and that is final."""
    centrifugo = Centrifugo(["/connect/"], codes=[4401])
    said = visit(Site([service.issue(CLAIMS).value]), centrifugo, tmp_path)
    assert said == ["Connected as client 7-1.", "Not coming back: unauthorized."]
