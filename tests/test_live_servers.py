"""TicketMiddleware on real ASGI servers: a login ends, and its connections with it.

Every server is started once, and all talk to the same Redis. All that happens on one is
in its Report, about which the tests then ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.asgi_servers import COMMANDS
from tests.processes import free_ports, listens

ROOT = Path(__file__).parents[1]
MODULES = ("uvicorn", "wsproto", "hypercorn", "daphne", "granian", "gunicorn",
           "channels", "starlette", "fastapi", "litestar")  # fmt: skip

POLITE = ("echo", "greedy", "busy", "sender", "sleeper")
STUBBORN = ["/echo/stubborn", "/greedy/stubborn", "/busy/stubborn", "/duplex/mute"]
"""The last of them reads nothing."""
FRAMEWORKS = ("starlette", "fastapi", "litestar", "channels")
FRAMEWORK_SERVER = "uvicorn-sansio"
NOT_AT_ALL = ("not at all", "")
"""How a connection ended whose client read no close frame."""

WITHOUT_REASON = "daphne"
"""It cannot send one."""

WITHOUT_DENIAL = ("daphne", "gunicorn")
"""They refuse a WebSocket with 403, whatever the application says."""

START = 60.0
PATIENCE = 10.0
"""Seconds for everything to begin, and to end, on a machine with other work."""


@dataclass
class Report:
    """What happened on one server.

    ``events`` are those that the applications noted, by the path of the connection:
    when, what, and with which text or code. ``closed`` is with which code and reason,
    or status, the connection ended for its client, and when.
    """

    events: dict[str, list[tuple[float, str, Any]]] = field(default_factory=dict)
    closed: dict[str, tuple[float, Any, str]] = field(default_factory=dict)
    disconnected_at: float = 0.0
    is_alive: bool = False
    body: bytes = b""
    log: str = ""

    def names(self, path: str) -> list[str]:
        """Return what happened to the application of a connection, in order."""
        return [name for _, name, _ in self.events[path]]

    def end(self, path: str) -> tuple[Any, str]:
        """Return how the connection ended for its client."""
        return self.closed.get(path, (0.0, *NOT_AT_ALL))[1:]

    def disconnect(self, path: str) -> tuple[float, Any]:
        """Return after how many seconds its application was told, and with which code.

        Fail if it was not.
        """
        told = [(at, code) for at, name, code in self.events[path]
                if name == "disconnect"]  # fmt: skip
        assert told, path
        at, code = told[0]
        return at - self.disconnected_at, code


class Scenario:
    """Connects clients of all kinds, and ends the logins of all but one."""

    def __init__(self, name: str, port: int, service: TicketService, folder: Path):
        self.name = name
        # The same worker may set this up again, while Redis keeps the disconnects.
        self.user = f"{name}-{secrets.token_hex(4)}"
        self.port = port
        self.service = service
        self.record = folder / f"{name}.record"
        self.report = Report()
        self.is_over = asyncio.Event()

    async def play(self) -> Report:
        """Return what happened, if not everything has happened in time, too."""
        websockets = [f"/{kind}/polite" for kind in POLITE]
        streams = ["/stream/polite"]
        talkers = {*STUBBORN}
        if self.name == FRAMEWORK_SERVER:
            talkers.add("/channels/polite")
            websockets += [f"/{kind}/polite" for kind in FRAMEWORKS]
            streams += ["/starlette/polite/events"]
        clients = [
            *map(self.polite, websockets),
            *map(self.stream, streams),
            *map(self.stubborn, STUBBORN),
            self.refused("/hesitant/polite"),
        ]
        tasks = [asyncio.create_task(client) for client in (*clients, self.other())]
        others = 2 if self.name == FRAMEWORK_SERVER else 1
        everyone = len(clients) + others
        assert await self.until(
            lambda: len(self.paths("accepted")) >= everyone, START
        ), self.report
        assert await self.until(lambda: self.paths("heard") >= talkers, START), (
            self.report
        )
        self.report.disconnected_at = time.monotonic()
        await self.service.adisconnect(self.user, session="out")
        await self.until(lambda: len(self.paths("end")) >= len(clients), PATIENCE)
        self.is_over.set()
        await asyncio.wait(tasks, timeout=PATIENCE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.read()
        return self.report

    def paths(self, event: str) -> set[str]:
        """Return the paths of the applications that have noted this event."""
        return {p for p in self.report.events if event in self.report.names(p)}

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until this holds of what they have noted. Return whether it does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read()
            if condition():
                return True
            await asyncio.sleep(0.05)
        return False

    def read(self) -> None:
        """Read what the applications noted."""
        events = defaultdict(list)
        if self.record.exists():
            # The last line may be only half there.
            for line in self.record.read_text().split("\n")[:-1]:
                path, at, name, *rest = json.loads(line)
                events[path].append((at, name, rest[0] if rest else None))
        self.report.events = dict(events)

    async def url(self, path: str, session: str = "out") -> str:
        claims = {"id": self.user, "username": "ada"}
        ticket = await self.service.aissue(claims, session=session, expire=60)
        return f"ws://127.0.0.1:{self.port}{path}?ticket={ticket.value}"

    def ended(self, path: str, code: Any, reason: str = "") -> None:
        self.report.closed[path] = time.monotonic(), code, reason

    async def polite(self, path: str) -> None:
        """Say something now and then, and leave when told to."""
        url = await self.url(path)
        async with connect(
            url, proxy=None, ping_interval=None, open_timeout=START
        ) as client:
            try:
                await client.send("hello")
                while True:
                    await client.recv()
            except ConnectionClosed as exc:
                received = exc.rcvd
                self.ended(path, received and received.code,
                           received.reason if received else "")  # fmt: skip

    async def refused(self, path: str) -> None:
        """Be refused, in the end."""
        try:
            url = await self.url(path)
            await connect(url, proxy=None, open_timeout=START + PATIENCE)
        except InvalidStatus as exc:
            self.ended(path, exc.response.status_code)

    async def other(self) -> None:
        """Stay connected from another session, and use it in the end."""
        async with contextlib.AsyncExitStack() as stack:
            url = await self.url("/echo/other", session="another")
            client = await stack.enter_async_context(
                connect(url, proxy=None, open_timeout=START)
            )
            if self.name == FRAMEWORK_SERVER:
                url = await self.url("/channels/other", session="another")
                room = await stack.enter_async_context(
                    connect(url, proxy=None, open_timeout=START)
                )
            await self.is_over.wait()
            await client.send("still here")
            self.report.is_alive = await client.recv() == "still here"
            if self.name == FRAMEWORK_SERVER:
                await room.send("to the room")
                while await room.recv() != "to the room":
                    pass  # it was there in time for what another said before

    async def raw(self, url: str, headers: str) -> Any:
        """Open a connection, and send a request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        target = "/" + url.split("/", 3)[3]
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"{headers}\r\n".encode()
        )
        return reader, writer

    async def stubborn(self, path: str) -> None:
        """Go on sending, and answer no close frame. The mute one reads nothing."""
        reader, writer = await self.raw(
            await self.url(path),
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n",
        )
        await reader.readuntil(b"\r\n\r\n")
        # Sent past the writer: with the first error it would drop what is to be read.
        with contextlib.closing(writer), writer.get_extra_info("socket").dup() as peer:
            sending = asyncio.create_task(self.babble(peer))
            if path != STUBBORN[-1]:
                await self.until_closed(path, reader)
            await sending

    async def babble(self, peer: socket.socket) -> None:
        """Say something every few milliseconds."""
        frame = bytes([0x81, 0x81, 0, 0, 0, 0, ord("x")])
        with contextlib.suppress(OSError):
            while not self.is_over.is_set():
                await asyncio.get_running_loop().sock_sendall(peer, frame)
                await asyncio.sleep(0.01)

    async def until_closed(self, path: str, reader: asyncio.StreamReader) -> None:
        """Read frames until one closes the connection."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                opcode, length = await reader.readexactly(2)
                payload = await reader.readexactly(length & 127)
                if opcode == 0x88:
                    code = int.from_bytes(payload[:2])
                    return self.ended(path, code, payload[2:].decode())
        self.ended(path, None)

    async def stream(self, path: str) -> None:
        """Read a response until it ends."""
        reader, writer = await self.raw(await self.url(path), "")
        with contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            self.report.body = b""
            while not self.report.body.endswith(b"0\r\n\r\n"):
                part = await asyncio.wait_for(reader.read(1000), START + PATIENCE)
                if not part:
                    return self.ended(path, "cut off")
                self.report.body += part
        self.ended(path, "complete")


@contextlib.contextmanager
def serving(name: str, folder: Path) -> Iterator[int]:
    """Run a server until the block ends."""
    port, log = free_ports()[0], folder / f"{name}.log"
    words = COMMANDS[name].replace("PORT", str(port)).split()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "REDIS": str(servers.REDIS),
                "RECORD": str(folder / f"{name}.record"),
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """What happened on each server, all at the same time."""
    servers.require("redis")
    for module in MODULES:
        servers.need_module(module)
    folder = tmp_path_factory.mktemp("live")
    service = TicketService(RedisBackend(unix_socket_path=str(servers.REDIS)))

    async def play(ports: dict[str, int]) -> list[Report]:
        async with asyncio.TaskGroup() as group:
            plays = [
                group.create_task(Scenario(name, port, service, folder).play())
                for name, port in ports.items()
            ]
        return [play.result() for play in plays]

    with contextlib.closing(service), contextlib.ExitStack() as stack:
        with ThreadPoolExecutor() as pool:
            started = [
                pool.submit(stack.enter_context, serving(name, folder))
                for name in COMMANDS
            ]
        ports = {
            name: start.result() for name, start in zip(COMMANDS, started, strict=True)
        }
        found = dict(zip(COMMANDS, asyncio.run(play(ports)), strict=True))
    for name, report in found.items():
        report.log = (folder / f"{name}.log").read_text()
    return found


@pytest.fixture(params=COMMANDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def report(name: str, reports: dict[str, Report]) -> Report:
    return reports[name]


def test_a_client_is_told_why(name: str, report: Report) -> None:
    """A client that listens gets code and reason; daphne can send no reason.

    Mutants: asgi-live-closes-nothing.
    """
    reason = "" if name == WITHOUT_REASON else "disconnected kind=session"
    told = (4401, reason)
    for path in [f"/{kind}/polite" for kind in POLITE]:
        assert report.end(path) == told, path
    for path in STUBBORN[:-1]:
        # A client that sends on can be reset before it has read the close frame.
        allowed = [told, NOT_AT_ALL] if name == "granian" else [told]
        assert report.end(path) in allowed, path


def test_an_application_gets_not_one_more_message(report: Report) -> None:
    """None after it heard of the disconnect, or after its client did, who sends on.

    Mutants: asgi-live-closes-first.
    """
    for path in STUBBORN:
        names = report.names(path)
        assert "heard" in names, path
        assert "disconnect" in names, path
        after = names[names.index("disconnect") :]
        assert set(after) <= {"disconnect", "end"}, path
        if path in report.closed:
            closed_at = report.closed[path][0]
            heard = [at for at, name, _ in report.events[path] if name == "heard"]
            assert max(heard) < closed_at, path


def test_an_application_is_told(report: Report) -> None:
    """Soon, with the code, whether it waits for a message, or to send one."""
    for path in ("/echo/polite", "/greedy/polite", *STUBBORN, "/hesitant/polite"):
        seconds, code = report.disconnect(path)
        assert code == 4401, path
        assert seconds < 3, path


def test_an_application_that_only_sends_ends(report: Report) -> None:
    """It gets an OSError, which is none to the server's log."""
    assert report.names("/sender/polite") == ["accepted", "OSError", "end"]
    assert "Traceback" not in report.log


def test_an_application_that_does_not_return_is_cancelled(report: Report) -> None:
    """After its time."""
    assert report.names("/sleeper/polite") == ["accepted", "cancelled", "end"]
    for path in ("/greedy/polite", "/greedy/stubborn"):
        assert report.names(path)[-1] == "end"


def test_a_stream_ends(report: Report) -> None:
    """The response is complete, and its application is told."""
    assert report.end("/stream/polite")[0] == "complete"
    assert report.names("/stream/polite") == ["accepted", "disconnect", "end"]


def test_a_client_that_was_not_accepted_is_refused(name: str, report: Report) -> None:
    """As one with a bad ticket is."""
    expected = 403 if name in WITHOUT_DENIAL else 401
    assert report.end("/hesitant/polite")[0] == expected


def test_the_users_other_session_stays(report: Report) -> None:
    """Its connection works as before."""
    assert report.is_alive
    assert report.names("/echo/other")[:2] == ["accepted", "heard"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks_say_so_in_their_own_way(
    reports: dict[str, Report], framework: str
) -> None:
    """Starlette, FastAPI and Litestar raise, and Channels calls disconnect()."""
    report = reports[FRAMEWORK_SERVER]
    path = f"/{framework}/polite"
    seconds, code = report.disconnect(path)
    assert code == report.end(path)[0] == 4401
    assert seconds < 3


def test_a_consumer_leaves_its_groups(reports: dict[str, Report]) -> None:
    """What is said to the room later reaches the others alone."""
    events = reports[FRAMEWORK_SERVER].events
    heard = {
        path: [text for _, name, text in events[path] if name == "heard"]
        for path in ("/channels/polite", "/channels/other")
    }
    assert "to the room" in heard["/channels/other"]
    assert heard["/channels/polite"] == ["hello"]


def test_a_streaming_response_of_a_framework_ends(reports: dict[str, Report]) -> None:
    """The response is complete, and the application returns."""
    report = reports[FRAMEWORK_SERVER]
    path = "/starlette/polite/events"
    assert report.end(path)[0] == "complete"
    assert report.names(path) == ["accepted", "end"]
