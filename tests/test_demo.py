"""The demo does what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers

ROOT = Path(__file__).parent.parent
STEPS = [
    "1. alice logs in to Django.",
    "2. POST /ticket/ gives a ticket for 3 seconds: rt_",
    "3. The realtime server consumes it and says: Hello, alice!",
    "4. The same ticket again is refused: HTTP 401",
    "5. A ticket that waited too long is refused: HTTP 401",
]


@pytest.mark.parametrize("storage", ["sqlite", "redis"])
def test_the_walk_succeeds(storage: str) -> None:
    """Django and the realtime server, two processes, live through a ticket's life."""
    environment = {**os.environ}
    environment.pop("REDIS_URL", None)
    if storage == "redis":
        servers.require("redis")
        environment["REDIS_URL"] = f"unix://{servers.REDIS}?db=5"

    walk = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--once"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert walk.returncode == 0, walk.stdout + walk.stderr
    lines = walk.stdout.splitlines()
    for step in STEPS:
        assert any(line.startswith(step) for line in lines), (step, walk.stdout)


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
    path = os.pathsep.join([str(tmp_path), str(ROOT)])

    walk = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--once"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "REDIS_URL": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert walk.returncode != 0
    assert "Expected a refusal" in walk.stderr
