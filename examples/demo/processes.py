"""Server processes: start them, wait until they answer, restart and end them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

PATIENCE = 30
"""Seconds that a server may take to start."""

GRACE = 3
"""Seconds that a server may take to end."""


class Process:
    """A server, from when it answers until the block ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.port = port
        self.log = log
        self.cwd = cwd

    def __enter__(self) -> Process:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C is for us, and stop() reaches its children.
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"{self.name} did not start:\n{self.log.read_text()}")
            time.sleep(0.05)
        print(f"Started {self.name}, process {self._process.pid}, port {self.port}.")

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        """Kill it as in a crash, so that its clients get no close frame."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # all of the group have ended
            os.killpg(self._process.pid, number)


def python(*words: str) -> list[str]:
    """Return the command that runs a Python module."""
    return [sys.executable, "-m", *words]


@contextmanager
def redis_url(log: Path) -> Iterator[str]:
    """Yield the Redis of ``REDIS_URL``, or one that runs until the block ends."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit(
            "This server reads tickets from Redis. Install redis-server (Debian, "
            "Ubuntu: apt install redis-server; macOS: brew install redis), or say "
            "where yours is: REDIS_URL=redis://localhost:6379/0"
        )
    port = free_port(int(os.environ.get("DEMO_REDIS_PORT", 0)))
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with Process("Redis", command, port=port, log=log):
        yield f"redis://127.0.0.1:{port}/0"


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port(wanted: int) -> int:
    """Return this port, or any other that is free."""
    try:
        probe = socket.create_server(("127.0.0.1", wanted))
    except OSError:
        probe = socket.create_server(("127.0.0.1", 0))
    with probe:
        port: int = probe.getsockname()[1]
    return port
