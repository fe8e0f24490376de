"""Servers of a project under test: Python processes on loopback ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers import free_port

ROOT = Path(__file__).parent.parent
PATIENCE = 60
"""Seconds that a server may take to start."""


def free_ports() -> tuple[int, int]:
    """Return two ports that nobody uses, and none of those that clients are given."""
    one = free_port()
    while (other := free_port()) == one:
        pass
    return one, other


@contextmanager
def running(
    *words: str, port: int, folder: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run Python with these words, from when it listens until the block ends."""
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Tell whether a server accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh Python without any settings, and wait for its end."""
    env = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
    )
