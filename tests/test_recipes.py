"""What stands around an example server: a reverse proxy, a CORS middleware, a router.

Real servers, as in test_servers.py, from copies of the examples with other lines.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from websockets.sync.client import connect

from examples.servers import EXAMPLES
from realtime_ticket.handshake import PROTOCOL
from tests import matrix
from tests.helpers import eventually
from tests.matrix import PREFLIGHT, ROWS, World, by, ticket

PROXIES = [name for name, row in ROWS.items() if "setpriv" in row.programs]

CHAT = (EXAMPLES / "proxies/upstream.py").read_text("utf-8")
ECHO = '''
"""A server that speaks HTTP/2 too, and says what it was asked for."""
import asyncio, contextlib, json, os
from hypercorn.asyncio import serve as run
from hypercorn.config import Config

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    headers = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    query = scope["query_string"].decode()
    text = json.dumps({"path": scope["path"], "query": query, "headers": headers})
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": text})
    await receive()

@contextlib.asynccontextmanager
async def serve(path):
    config = Config()
    config.bind = [f"unix:{path}"]
    stop = asyncio.Event()
    task = asyncio.create_task(run(app, config, shutdown_trigger=stop.wait))
    while not os.path.exists(path):
        await asyncio.sleep(0.01)
    yield
    stop.set()
    await task
'''


@contextmanager
def serving(
    name: str, world: World, folder: Path, *edits: tuple[str, str]
) -> Iterator[matrix.Server]:
    """Run a copy of an example in which texts are replaced."""
    matrix.require(ROWS[name])
    with matrix.serving(ROWS[name], world, folder, *edits) as server:
        yield server


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    world: World,
) -> Iterator[matrix.Server]:
    """Give a proxy with ECHO behind it."""
    folder = tmp_path_factory.mktemp(request.param)
    with serving(request.param, world, folder, (CHAT, ECHO)) as server:
        yield server


def through_http2(server: matrix.Server, value: str) -> bytes:
    """Upgrade to HTTP/2 with a ticket, and ask for another path as somebody else.

    Return what the server behind the proxy says, or how the proxy refuses.
    """
    client = H2Connection()
    settings = client.initiate_upgrade_connection() or b""
    head = (
        f"GET /ws?ticket={value} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        f"HTTP2-Settings: {settings.decode()}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        peer.sendall(head.encode())
        answer, _, data = peer.recv(4096).partition(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101"):
            return answer.partition(b"\r\n")[0]
        request = {":method": "GET", ":path": "/admin", ":scheme": "http"}
        request |= {":authority": "127.0.0.1", "x-realtime-username": "root"}
        client.send_headers(3, [*request.items()], end_stream=True)
        peer.sendall(client.data_to_send())
        body = b""
        while True:
            for event in client.receive_data(data):
                if isinstance(event, DataReceived) and event.stream_id == 3:
                    body += event.data
                if isinstance(event, StreamEnded) and event.stream_id == 3:
                    return body
            peer.sendall(client.data_to_send())
            data = peer.recv(4096)


def shake_hands(server: matrix.Server, value: str, *lines: str) -> bytes:
    """Send a handshake with these lines, and return what comes back."""
    head = (
        f"GET /ws?ticket={value} HTTP/1.1",
        "Host: 127.0.0.1",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *lines,
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        peer.sendall("\r\n".join([*head, "", ""]).encode())
        answer = b""
        while not answer.endswith(b"}") and (data := peer.recv(4096)):
            answer += data
            if not answer.startswith(b"HTTP/1.1 101"):
                break
        return answer


class TestProxies:
    def test_open_no_tunnel_for_http2(self, proxy: matrix.Server) -> None:
        """And a ticket that was shown with such an upgrade is not spent."""
        value = ticket(proxy)
        answer = through_http2(proxy, value)
        assert answer.split()[1] == b"426"
        assert self.seen(proxy, value)["path"] == "/ws"

    def test_would_open_one_if_they_passed_any_upgrade(
        self, world: World, tmp_path: Path
    ) -> None:
        """nginx with the lines that most recipes have. What the test above forbids."""
        edits = [
            (CHAT, ECHO),
            ('if ($upgrade = "")', "if ($host = nobody)"),
            ("Upgrade $upgrade;", "Upgrade $http_upgrade;"),
        ]
        with serving("nginx", world, tmp_path, *edits) as server:
            seen = json.loads(through_http2(server, ticket(server)))
        assert seen["path"] == "/admin"
        assert ["x-realtime-username", "root"] in seen["headers"]

    def test_say_who_it_is_and_nobody_else_can(self, proxy: matrix.Server) -> None:
        """The headers of the page are the proxy's, and the ticket goes no further."""
        value = ticket(proxy)
        names = (
            "X-Realtime-User x-realtime-username X_Realtime_User X-Realtime_Username"
        )
        forged = dict.fromkeys(names.split(), "root")
        seen = self.seen(proxy, value, **forged, Authorization="Ticket x")
        ours = {
            name.replace("_", "-"): text
            for name, text in seen["headers"]
            if name.replace("_", "-").startswith("x-realtime")
        }
        assert ours.keys() == {"x-realtime-user", "x-realtime-username"}
        assert ours["x-realtime-username"] == "ada"
        assert ours["x-realtime-user"].isdecimal()
        assert seen["query"] == ""
        assert value not in json.dumps(seen)
        assert "authorization" not in dict(seen["headers"])

    def test_hand_on_no_subprotocol_with_a_ticket(self, proxy: matrix.Server) -> None:
        value = ticket(proxy)
        offered = f"chat, ticket.{value},{PROTOCOL}"
        seen = self.seen(proxy, "", **{"Sec-WebSocket-Protocol": offered})
        assert dict(seen["headers"])["sec-websocket-protocol"] == PROTOCOL
        value = ticket(proxy)
        seen = self.seen(proxy, "", **{"Sec-WebSocket-Protocol": f"ticket.{value}"})
        assert "sec-websocket-protocol" not in dict(seen["headers"])

    @pytest.mark.parametrize("name", ["X-Original-URI", "X-Forwarded-Uri"])
    def test_say_themselves_what_was_asked_for(
        self, proxy: matrix.Server, name: str
    ) -> None:
        """A client cannot: a ticket in such a header is not looked for, nor spent."""
        value = ticket(proxy)
        with pytest.raises(Exception, match="401"):
            self.seen(proxy, "", **{name: f"/ws?ticket={value}"})
        assert self.seen(proxy, value)["path"] == "/ws"

    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
    def test_pass_websockets_alone(self, proxy: matrix.Server, method: str) -> None:
        """Nothing else gets through, and it spends nothing."""
        value = ticket(proxy)
        assert proxy.ask(method, value) in (405, 426)
        assert self.seen(proxy, value)["path"] == "/ws"

    @pytest.mark.parametrize("upgrades", ["h2c websocket", "websocket h2c"])
    def test_pass_one_upgrade(self, proxy: matrix.Server, upgrades: str) -> None:
        """A client that asks for two does not choose what the proxy looks at."""
        lines = [f"Upgrade: {name}" for name in upgrades.split()]
        answer = shake_hands(proxy, ticket(proxy), "Connection: Upgrade", *lines)
        assert b"\r\nupgrade: h2c" not in answer.lower()
        assert b"h2c" not in answer.partition(b"\r\n\r\n")[2]

    def test_lose_no_header_of_theirs(self, proxy: matrix.Server) -> None:
        """Connection names headers that a proxy takes out (RFC 9110, section 7.6.1)."""
        lines = "Connection: Upgrade, X-Realtime-Username", "Upgrade: websocket"
        answer = shake_hands(proxy, ticket(proxy), *lines)
        assert b'["x-realtime-username", "ada"]' in answer, answer

    def seen(self, server: matrix.Server, value: str, **headers: str) -> Any:
        """Connect, and return what the server behind the proxy saw."""
        query = f"?ticket={value}" if value else ""
        url = f"ws://127.0.0.1:{server.port}/ws{query}"
        with connect(url, additional_headers=headers, proxy=None) as connection:
            return json.loads(connection.recv())


WITH_CORS = (
    "middleware=[with_ticket]",
    "middleware=[*hidden, cors, with_ticket]",
)
CORS = (
    "app = Starlette(",
    """
from starlette.middleware.cors import CORSMiddleware
from realtime_ticket.integrations.asgi import HideTickets

cors = Middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_headers=["*"])
hidden = [Middleware(HideTickets)]
app = Starlette(""",
)
UNHIDDEN = ("hidden = [Middleware(HideTickets)]", "hidden = []")


def preflight(server: matrix.Server, value: str) -> int:
    """Ask as a browser does, and return the status when the page may go on."""
    path, headers = f"/events?ticket={value}", {"Origin": server.origin, **PREFLIGHT}
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as client:
        client.request("OPTIONS", path, headers=headers)
        answer = client.getresponse()
        assert answer.getheader("Access-Control-Allow-Origin") == server.origin
        assert "last-event-id" in answer.headers["Access-Control-Allow-Headers"]
        return answer.status


class TestCORS:
    def test_of_starlette_is_around_the_middleware(
        self, world: World, tmp_path: Path
    ) -> None:
        """It answers preflights, which spend nothing and show no ticket in the log."""
        edits = WITH_CORS, CORS
        with serving("starlette", world, tmp_path, *edits) as server:
            value = ticket(server)
            assert preflight(server, value) == 200
            assert server.stream(value) == (200, "data: Hello, ada!")
            assert server.stream(value)[0] == 401
            assert "OPTIONS /events" in (log := server.log.read_text())
            assert value not in log

    def test_of_starlette_shows_a_live_ticket_in_the_log_otherwise(
        self, world: World, tmp_path: Path
    ) -> None:
        """Without HideTickets: what the test above looks for is there to be found."""
        edits = WITH_CORS, CORS, UNHIDDEN
        with serving("starlette", world, tmp_path, *edits) as server:
            value = ticket(server)
            assert preflight(server, value) == 200
            assert value in server.log.read_text()

    def test_of_django_is_in_the_application(
        self, world: World, tmp_path: Path
    ) -> None:
        """django-cors-headers answers what pass_preflights lets through."""
        edits = [
            (
                'INSTALLED_APPS=["channels", "realtime_ticket"],',
                'INSTALLED_APPS=["channels", "corsheaders", "realtime_ticket"],\n'
                '    MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"],\n'
                "    CORS_ALLOWED_ORIGINS=[ORIGIN],\n"
                '    CORS_ALLOW_HEADERS=["last-event-id"],\n',
            ),
            ("allow_missing=True),\n)", "allow_missing=True), pass_preflights=True)"),
        ]
        with serving("channels-uvicorn", world, tmp_path, *edits) as server:
            value = ticket(server)
            assert preflight(server, value) == 200
            assert server.stream(value) == (200, "data: Hello, ada!")
            assert "OPTIONS /events" in (log := server.log.read_text())
            assert value not in log


FORMAT = "%(m)s %(U)s %(s)s"
"""What gunicorn may log: the path of a request, without its query."""

ROUTED = """
from realtime_ticket.integrations.asgi import HideTickets

guarded = TicketMiddleware(Chat.as_asgi(), origins=None)
application = HideTickets(URLRouter([path("ws", guarded)]))
"""
LAST = "    origins=AllowedOrigins([ORIGIN], allow_missing=True),\n)\n"


@pytest.mark.parametrize("hides", [True, False])
def test_a_router_around_the_middleware_needs_hidden_tickets(
    world: World, tmp_path: Path, hides: bool
) -> None:
    """Channels' URLRouter hands on a copy of the scope, and uvicorn logs its own."""
    routed = ROUTED if hides else ROUTED.replace("= HideTickets(", "= (")
    edit = LAST, LAST + routed
    with serving("channels-uvicorn", world, tmp_path, edit) as server:
        value = ticket(server)
        assert server.visit(("query", value)).name() == "ada"
        log = server.log.read_text()
    assert "/ws" in log
    assert (value not in log) is hides


def test_daphne_sends_the_code_of_an_outage(world: World, tmp_path: Path) -> None:
    """4013 and no traceback. It cannot send 1013."""
    edits = [
        ("REALTIME_TICKET_REDIS=REDIS", 'REALTIME_TICKET_REDIS="redis://127.0.0.1:1"'),
        ("allow_missing=True),\n)", 'allow_missing=True), refusal="visible")'),
    ]
    with serving("channels-daphne", world, tmp_path, *edits) as server:
        assert server.visit(by(server, ticket(server))).refused == 4013
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("hides", [True, False])
def test_gunicorns_asgi_worker_logs_the_query(
    world: World, tmp_path: Path, hides: bool
) -> None:
    """Of requests that are no WebSockets, unless it is told what to log.

    So the ticket of a page of another site, which nobody has spent, is in the log.
    """
    page = (EXAMPLES.parent / "docs/servers/starlette.md").read_text("utf-8")
    option = f"--access-logformat '{FORMAT}'"
    assert f"`{option}`" in page
    option = f" --access-logfile - {option}" if hides else " --access-logfile -"
    row = matrix.ON_OTHER_SERVERS["starlette-gunicorn"]
    matrix.require(row)
    row = replace(
        row, command=row.command.replace(" server:app", f"{option} server:app")
    )
    with matrix.serving(row, world, tmp_path) as server:
        value = ticket(server)
        assert server.stream(value, origin="https://evil.example")[0] == 403
        assert eventually(lambda: "/events" in server.log.read_text())
        assert (value not in server.log.read_text()) is hides
