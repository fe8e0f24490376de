"""The demo does what it shows."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from examples.demo import processes
from examples.demo.__main__ import EXAMPLES
from examples.demo.walk import REFUSALS, present
from realtime_ticket import get_service
from realtime_ticket.handshake import PROTOCOL
from tests import servers
from tests.helpers import CLAIMS
from tests.processes import free_ports

ROOT = Path(__file__).parent.parent
EXPIRE = 10
"""Seconds that tickets live: a server that has just started may need some of them."""

STEPS = [
    "1. alice logs in to Django.",
    f"2. POST /ticket/ gives a ticket for {EXPIRE} seconds: rt_",
    "3. The realtime server consumes it and says: Hello, alice!",
    "4. The same ticket again is refused: HTTP 401",
    "5. A ticket that waited too long is refused: HTTP 401",
]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    names = "DEMO_DJANGO_PORT", "DEMO_REALTIME_PORT", "DEMO_REDIS_PORT"
    numbers = {name: str(servers.free_port()) for name in names}
    numbers["DEMO_EXPIRE"] = str(EXPIRE)
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", "--once", *arguments],
        cwd=ROOT,
        env={**os.environ, **numbers, "REDIS_URL": "", **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )


def check_steps(walk: subprocess.CompletedProcess[str]) -> None:
    assert walk.returncode == 0, walk.stdout + walk.stderr
    lines = walk.stdout.splitlines()
    for step in STEPS:
        assert any(line.startswith(step) for line in lines), (step, walk.stdout)


@pytest.mark.parametrize("storage", ["sqlite", "redis"])
def test_the_walk_succeeds(storage: str) -> None:
    """Django and the realtime server, two processes, live through a ticket's life."""
    environment = {}
    if storage == "redis":
        servers.require("redis")
        environment["REDIS_URL"] = f"unix://{servers.REDIS}?db=5"

    check_steps(run(**environment))


def test_an_example_server_takes_the_place_of_the_demos() -> None:
    """Without REDIS_URL, with a private Redis. Which servers fit: test_servers.py."""
    servers.require("redis")

    walk = run("--server", "websockets")

    check_steps(walk)
    assert "Started Redis," in walk.stdout
    assert "Started the realtime server (websockets)," in walk.stdout


def test_an_unknown_server_is_answered_with_the_known_ones() -> None:
    walk = run("--server", "nonsense")

    assert walk.returncode == 2
    assert "invalid choice: 'nonsense'" in walk.stderr
    for name in EXAMPLES:
        assert name in walk.stderr


def test_a_missing_redis_is_told(tmp_path: Path) -> None:
    """With what to install, and where else to look."""
    walk = run("--server", "websockets", PATH=str(tmp_path))

    assert walk.returncode == 1
    assert "apt install redis-server" in walk.stderr
    assert "REDIS_URL=" in walk.stderr


def test_the_walk_fails_when_a_replay_gets_in(tmp_path: Path) -> None:
    """The walk is a test: it exits with an error when a server lets a replay in."""
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "from realtime_ticket.service import TicketService\n"
        "consume, seen = TicketService.aconsume, {}\n"
        "async def replay(self, value, **options):\n"
        "    if value not in seen:\n"
        "        seen[value] = await consume(self, value, **options)\n"
        "    return seen[value]\n"
        "TicketService.aconsume = replay\n"
    )

    walk = run(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))

    assert walk.returncode == 1
    assert "Expected a refusal, got: Hello, alice!" in walk.stderr


@pytest.mark.parametrize(
    ("answer", "patience", "told"),
    [
        ("print('no luck'); raise SystemExit(3)", 60, "did not start:\nno luck"),
        ("import time; time.sleep(60)", 1, "did not start:"),
    ],
    ids=["ends", "hangs"],
)
def test_a_server_that_does_not_start_is_told(
    answer: str,
    patience: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", patience)
    port, _ = free_ports()
    server = processes.Process(
        "It", [sys.executable, "-uc", answer], port=port, log=tmp_path / "log"
    )

    with pytest.raises(SystemExit, match=told), server:
        pass


def test_a_server_that_closes_instead_of_refusing_is_understood() -> None:
    """So refuse servers that want the browser to see why: accepted, closed by 4401."""

    async def refuse(connection: ServerConnection) -> None:
        await connection.close(4401)

    async def answer() -> str:
        async with serve(refuse, "127.0.0.1", 0, subprotocols=[PROTOCOL]) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"ws://127.0.0.1:{port}/ws"
            return await asyncio.to_thread(present, url, "rt_x", "null", "subprotocol")

    assert asyncio.run(answer()) == "closed with 4401"
    assert "closed with 4401" in REFUSALS


def test_a_preflight_spends_nothing(settings: Any) -> None:
    """A browser sends it with the URL of the request, and so with its ticket."""
    settings.DJANGO_PORT = 1
    realtime = importlib.import_module("examples.demo.realtime")
    ticket = get_service().issue(CLAIMS)

    async def ask() -> bytes:
        async with serve(
            realtime.chat, "127.0.0.1", 0, process_request=realtime.let_in
        ) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"OPTIONS /?ticket={ticket.value} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            status = await reader.readline()
            writer.close()
            return status

    # Older versions of websockets refuse it themselves.
    assert asyncio.run(ask()).split()[1] in (b"405", b"400")
    assert get_service().consume(ticket.value) == ticket
