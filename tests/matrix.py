"""The matrix of example servers: its rows, and the world that they are tried in."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
import redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from examples.servers import SERVERS, shell
from examples.servers import Server as Example
from realtime_ticket.handshake import PROTOCOL
from tests import http2, servers
from tests.dialling import Dial, Refused, Session, Shown
from tests.processes import free_ports, listens, running

ROOT = Path(__file__).parents[1]
PATIENCE = 10
"""Seconds that a client waits for a server, all in all."""

START = 60
"""Seconds that a server may take to start, and to let in clients that come at once."""

EXPIRE = 3
"""Seconds that the demo's tickets live."""

USERS = [f"user-{number}" for number in range(200)]


@asynccontextmanager
async def websocket(
    port: int, *shown: Shown, origin: str | None, offer: bool = False
) -> AsyncIterator[Session]:
    """Connect to ``/ws``. ``offer=True`` offers our subprotocol with every carrier."""
    by = {
        carrier: [value for c, value in shown if c == carrier] for carrier, _ in shown
    }
    protocols = [f"ticket.{value}" for value in by.get("subprotocol", [])]
    query = urlencode([("ticket", value) for value in by.get("query", [])])
    try:
        connection = await connect(
            f"ws://127.0.0.1:{port}/ws" + (query and f"?{query}"),
            subprotocols=[PROTOCOL, *protocols] if protocols or offer else None,
            additional_headers=[
                ("Authorization", f"Ticket {value}")
                for value in by.get("authorization", [])
            ],
            origin=origin,
            proxy=None,
            compression=None,
            open_timeout=START,
            close_timeout=1,
        )
    except InvalidStatus as exc:
        raise Refused(exc.response.status_code) from None

    async def say(text: str) -> str:
        await connection.send(text)
        return str(await connection.recv())

    async def closed() -> int | None:
        await connection.wait_closed()
        return connection.close_code

    async with connection:
        try:
            greeting = str(await connection.recv())
        except ConnectionClosed as exc:
            raise Refused(exc.rcvd.code if exc.rcvd else "cut off") from None
        headers = str(connection.response.headers)
        yield Session(greeting, say, closed, connection.subprotocol, headers)


@asynccontextmanager
async def socketio(
    port: int, *shown: Shown, origin: str | None
) -> AsyncIterator[Session]:
    """Connect with Socket.IO 5 on Engine.IO 4. The ticket is in the payload."""
    url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    try:
        connection = await connect(
            url, origin=origin, proxy=None, open_timeout=START, close_timeout=1
        )
    except InvalidStatus as exc:
        raise Refused(exc.response.status_code) from None

    async def hear() -> str:
        while True:
            packet = str(await connection.recv())
            if packet.startswith("42"):
                event, text = json.loads(packet[2:])
                assert event == "message"
                return str(text)
            if packet.startswith("44"):
                raise Refused(json.loads(packet[2:])["data"]["status"])

    async def say(text: str) -> str:
        await connection.send("42" + json.dumps(["message", text]))
        return await hear()

    async def closed() -> str:
        while await connection.recv() != "41":
            pass
        return "disconnect"

    async with connection:
        auth = json.dumps({"ticket": shown[0][1]}) if shown else ""
        await connection.send("40" + auth)
        yield Session(await hear(), say, closed)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is particular to one example.

    ``refused``, ``foreign`` and ``down`` are how a bad ticket, another site's page and
    an outage of the storage look: an HTTP status, or the code that a connection is
    closed with, or whatever else ``dial`` raises Refused with. ``events`` is the status
    of a stream that is refused, None where there are no streams. ``carriers`` is where
    it reads tickets. ``revoked`` is how a connection ends when its login does, None
    where it does not. ``ended`` is how a ticket is refused whose login has ended since,
    where that is not as a bad one. ``discreet`` tells that its log names requests and
    never a ticket. ``cautious`` is a text of the example, and what to put in its place
    so that a client without an origin is refused. It needs Python ``modules``,
    ``programs``, and ``paths`` of the checkout. ``command`` are words for Python that
    start the example which the name begins with, where that is not the example's own.
    """

    name: str
    refused: int | str = 401
    foreign: int | str = 403
    down: int | str = 503
    events: int | None = 401
    carriers: tuple[str, ...] = ("subprotocol", "query", "authorization")
    dial: Dial = websocket
    discreet: bool = False
    revoked: int | str | None = 4401
    ended: int | None = None
    cautious: tuple[str, str] = ("allow_missing=True", "allow_missing=False")
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    command: str = ""

    @property
    def example(self) -> Example:
        """Return the example, and how this row starts it."""
        if not self.command:
            return SERVERS[self.name]
        folder, _, _ = self.name.partition("-")
        return Example(folder, shell(self.command))

    def missing(self) -> str | None:
        """Return why this server cannot be tested, or None."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                return f"{self.name}: the Python module {module} is not installed"
        for program in self.programs:
            if not servers.find(program):
                return f"{self.name}: {program} is not installed"
        for path in self.paths:
            if not (ROOT / path).exists():
                return f"{self.name}: {path} is not there"
        return servers.missing("redis")


NODE = "examples/node-ws/node_modules"

# fmt: off
ROWS = {row.name: row for row in [
    Row(name="aiohttp", modules=("aiohttp",)),
    Row(name="autobahn", modules=("autobahn", "twisted"), events=None),
    Row(name="caddy", programs=("caddy", "setpriv"), discreet=True, events=None,
        revoked=None,
        carriers=("subprotocol", "query"), cautious=(', ""]`', ']`')),
    Row(name="channels-daphne", modules=("channels", "daphne"), refused=403, down=403),
    Row(name="channels-uvicorn", modules=("channels", "uvicorn"), discreet=True),
    Row(name="cyclone", modules=("cyclone", "twisted", "wsproto"), discreet=True),
    Row(name="fastapi", modules=("fastapi", "uvicorn"), discreet=True,
        refused=4401, foreign=4403, down=4013),
    Row(name="gevent", modules=("gevent", "simple_websocket")),
    Row(name="gevent-gunicorn", discreet=True,
        modules=("gevent", "gunicorn", "simple_websocket")),
    Row(name="haproxy", programs=("haproxy", "setpriv"), discreet=True, events=None,
        revoked=None,
        carriers=("subprotocol", "query"),
        cautious=("req.fhdr_cnt(origin) eq 0", "always_false")),
    Row(name="litestar", modules=("litestar", "uvicorn"), discreet=True),
    Row(name="nginx", programs=("nginx", "setpriv"), discreet=True, events=None,
        carriers=("subprotocol", "query"), cautious=('""           1;', '""  0;'),
        revoked=None),
    Row(name="node-ws-ioredis", programs=("node",), paths=(f"{NODE}/ioredis",),
        cautious=("ALLOW_MISSING = true", "ALLOW_MISSING = false")),
    Row(name="node-ws-redis", programs=("node",), paths=(f"{NODE}/redis",),
        cautious=("ALLOW_MISSING = true", "ALLOW_MISSING = false")),
    Row(name="sanic", modules=("sanic",), dial=partial(websocket, offer=True),
        ended=4401),
    Row(name="socketio", modules=("socketio", "uvicorn"), events=None,
        carriers=("auth",), dial=socketio, revoked="disconnect"),
    Row(name="starlette", modules=("starlette", "uvicorn"), discreet=True),
    Row(name="tornado", modules=("tornado",), discreet=True),
    Row(name="twisted", modules=("twisted", "wsproto"), discreet=True,
        carriers=("query", "authorization")),
    Row(name="websockets", modules=("websockets",), events=None, ended=4401),
]}

ON_OTHER_SERVERS = {row.name: row for row in [
    Row(name="starlette-granian", modules=("starlette", "granian"), discreet=True,
        command="-m granian --interface asgi --port $PORT --workers-kill-timeout 3"
                " --access-log server:app"),
    Row(name="starlette-gunicorn", modules=("starlette", "gunicorn"),
        refused=403, down=403,
        command="-m gunicorn -k asgi -b 127.0.0.1:$PORT --graceful-timeout 3"
                " server:app"),
    Row(name="starlette-hypercorn-http2", modules=("starlette", "hypercorn", "h2"),
        discreet=True, dial=http2.websocket,
        command="-m hypercorn -b 127.0.0.1:$PORT --graceful-timeout 3"
                " --access-logfile - server:app"),
]}
"""An example on servers that it does not come with."""
# fmt: on

EVERY_ROW = ROWS | ON_OTHER_SERVERS


class Redis:
    """The storage: a Redis on a TCP port of its own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports()[0]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        self.process = servers.run(
            [servers.find("redis-server"), "--port", str(self.port), "--save", "",
             "--bind", "127.0.0.1", "--dir", str(self.folder)],
            self.folder,
            ready=self.answers,
        )  # fmt: skip

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as client,
        ):
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False


class Site:
    """A Django site, seen by browsers: cookies, logins, and POST /ticket/."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self.cookies: dict[str, dict[str, str]] = {}

    def log_in(self, name: str, password: str) -> None:
        """Log in with the form, as a browser does."""
        self.cookies[name] = {}
        self._request(name, "GET", "/login/")
        status, body = self._request(
            name, "POST", "/login/", {"username": name, "password": password}
        )
        assert status == 302, body

    def adopt(self, sessions: dict[str, str]) -> None:
        """Give users the cookies of sessions that are there already."""
        self.cookies["nobody"] = {}
        self._request("nobody", "GET", "/login/")
        for name, session in sessions.items():
            self.cookies[name] = self.cookies["nobody"] | {"sessionid": session}

    def ticket(self, user: str = "ada", audience: str = "") -> str:
        """Ask for a ticket, as the page's script does."""
        fields = {"audience": audience} if audience else {}
        status, body = self._request(user, "POST", "/ticket/", fields)
        assert status == 200, body
        answer: dict[str, str] = json.loads(body)
        return answer["message"]

    def _request(
        self, user: str, method: str, path: str, fields: dict[str, str] | None = None
    ) -> tuple[int, str]:
        cookies = self.cookies[user]
        headers = {
            "Cookie": "; ".join(f"{key}={value}" for key, value in cookies.items()),
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": self.origin,
            "X-CSRFToken": cookies.get("csrftoken", ""),
        }
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(client):
            client.request(method, path, urlencode(fields or {}), headers)
            response = client.getresponse()
            body = response.read().decode()
            for header in response.headers.get_all("Set-Cookie", []):
                cookies |= {c.key: c.value for c in SimpleCookie(header).values()}
        return response.status, body


class World:
    """What all servers share: the storage, and two sites with the same users.

    Tickets of ``site`` live for EXPIRE seconds, and those of ``patient`` for as long as
    a busy machine may take to show one several times.
    """

    def __init__(self, redis: Redis, site: Site, patient: Site) -> None:
        self.redis = redis
        self.site = site
        self.patient = patient
        self.age()

    def age(self) -> None:
        """Lay a ticket aside. It takes a new one when the storage has been killed."""
        self._old = self.site.ticket(), time.monotonic() + EXPIRE + 0.1

    def expired(self) -> str:
        """Return a ticket that has expired, and not because the storage was killed."""
        ticket, dies = self._old
        time.sleep(max(0, dies - time.monotonic()))
        return ticket

    def spend(self, key: str) -> str | None:
        """Take what the storage keeps under this key, as another server would."""
        with redis.Redis.from_url(self.redis.url) as client:
            data = client.getdel(key)
        return data and data.decode()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Start Redis and Django, with users, until the block ends."""
    (folder / "redis").mkdir()
    storage = Redis(folder / "redis")
    ports = free_ports()
    (folder / "patient.py").write_text(
        "from examples.demo.settings import *\nREALTIME_TICKET_EXPIRE = 300\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DEMO_STATE": str(folder),
        "DEMO_DJANGO_PORT": str(ports[0]),
        "DEMO_REALTIME_PORT": "0",
        # The proxies ask for 200 clients at once, who share 50 connections.
        "REDIS_URL": f"{storage.url}?socket_timeout=10&socket_connect_timeout=10",
        "DJANGO_SETTINGS_MODULE": "examples.demo.settings",
    }
    made = subprocess.run(
        [sys.executable, "-c", MAKE_USERS, *USERS],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    site, patient = map(Site, ports)
    with contextlib.ExitStack() as stack:
        stack.callback(storage.kill)
        for port, settings in zip(
            ports, ("examples.demo.settings", "patient"), strict=True
        ):
            words = ("-c", RUN_SERVER, "runserver", "--noreload", f"127.0.0.1:{port}")
            environment = {**environment, "DJANGO_SETTINGS_MODULE": settings}
            stack.enter_context(
                running(*words, port=port, folder=folder, environment=environment)
            )
        for each in (site, patient):
            each.log_in("ada", "ada's password")
        patient.adopt(json.loads(made.stdout))
        yield World(storage, site, patient)


# nginx asks for 200 clients at once, and runserver lets ten of them wait.
RUN_SERVER = """
import sys
from django.core.management import execute_from_command_line
from django.core.servers.basehttp import WSGIServer
WSGIServer.request_queue_size = 1000
execute_from_command_line(sys.argv)
"""

MAKE_USERS = """
import json, sys, django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
users = get_user_model().objects
users.create_user("ada", password="ada's password")
sessions = {}
for name in sys.argv[1:]:
    client = Client()
    client.force_login(users.create(username=name, password="!"))
    sessions[name] = client.cookies["sessionid"].value
print(json.dumps(sessions))
"""


PREFLIGHT = {
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "last-event-id",
}
"""What a browser sends before a page's fetch() with such a header."""


@dataclass(frozen=True)
class Server:
    """An example that runs."""

    row: Row
    world: World
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def origin(self) -> str:
        """Return the origin whose pages may connect."""
        return self.world.site.origin

    def dial(
        self, *shown: Shown, origin: str | None = "ours"
    ) -> AbstractAsyncContextManager[Session]:
        """Connect: ``async with server.dial(("query", ticket)) as session``."""
        origin = self.origin if origin == "ours" else origin
        return self.row.dial(self.port, *shown, origin=origin)

    def visit(self, *shown: Shown, origin: str | None = "ours") -> Visit:
        """Connect, say something and leave. Return what became of it."""

        async def come_and_go() -> Visit:
            try:
                async with (
                    asyncio.timeout(PATIENCE),
                    self.dial(*shown, origin=origin) as session,
                ):
                    echo = await session.say("ping")
                    return Visit(None, session, echo)
            except Refused as exc:
                return Visit(exc.status)

        return asyncio.run(come_and_go())

    def ask(self, method: str, ticket: str, **headers: str) -> int:
        """Send a plain request with a ticket in its query, and return the status."""
        path = "/ws" if self.row.events is None else "/events"
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(client):
            headers = {"Origin": self.origin, **headers}
            client.request(method, f"{path}?ticket={ticket}", headers=headers)
            return client.getresponse().status

    @contextlib.contextmanager
    def listening(
        self, ticket: str, origin: str | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask for ``/events``, and hold on to the answer."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(client):
            client.request(
                "GET",
                f"/events?ticket={ticket}",
                headers={"Origin": origin} if origin else {},
            )
            with client.getresponse() as response:
                yield response

    def stream(self, ticket: str, origin: str | None = "ours") -> tuple[int, str]:
        """Ask for ``/events``. Return the status, and the first event for its page."""
        origin = self.origin if origin == "ours" else origin
        with self.listening(ticket, origin) as response:
            line = response.readline().decode().strip()
            if response.status == 200:
                assert line == ": connected"
                while not line.startswith("data:"):
                    line = response.readline().decode().strip()
        readers = response.getheader("Access-Control-Allow-Origin")
        if origin and readers not in (origin, "*"):
            line = f"hidden: Access-Control-Allow-Origin is {readers}"
        return response.status, line


class Visit(NamedTuple):
    """What became of a visit: a status that refuses it, or a session and an echo."""

    refused: int | str | None
    session: Session | None = None
    echo: str = ""

    def name(self) -> str:
        """Return whom the server took the client for. Fail when it let nobody in."""
        assert self.session is not None, f"refused with {self.refused}"
        name, _, said = self.echo.partition(": ")
        assert (self.session.greeting, said) == (f"Hello, {name}!", "ping")
        return name


@contextmanager
def serving(
    row: Row, world: World, folder: Path, *edits: tuple[str, str]
) -> Iterator[Server]:
    """Run an example until the block ends, or a copy in which texts are replaced."""
    example, port, log = row.example, free_ports()[0], folder / "log"
    directory = example.directory
    if edits:
        directory = folder / "edited"
        shutil.copytree(example.directory, directory)
        for old, new in edits:
            replace(directory, old, new)
    with log.open("wb") as output:
        process = subprocess.Popen(
            example.command,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                "REDIS_URL": world.redis.url,
                "ORIGIN": world.site.origin,
                "PORT": str(port),
                "DJANGO_URL": world.site.origin,
            },
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Server(row, world, port, log, process)
    finally:
        # The whole group: an example may be a script that starts several servers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def replace(directory: Path, old: str, new: str) -> None:
    """Replace a text in the files of a folder, which must hold it."""
    found = False
    for path in directory.rglob("*"):
        if path.is_file() and old in (text := path.read_text(errors="replace")):
            path.write_text(text.replace(old, new))
            found = True
    assert found, f"{directory} does not say {old!r}"


def require(row: Row) -> None:
    """Skip the test, or fail it, when this server cannot be tested here."""
    if reason := row.missing():
        if servers.REQUIRED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def ticket(server: Server, **fields: str) -> str:
    """Return a new ticket of ada's."""
    return server.world.patient.ticket(**fields)


def by(server: Server, value: str) -> tuple[str, str]:
    """Return the ticket with the carrier that this server prefers."""
    return server.row.carriers[0], value
