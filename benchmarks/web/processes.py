"""Start what rows 5 to 7 send requests to, each on a core of its own."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers
from tests.processes import listens
from tests.servers import free_port, until

_CORES = sorted(os.sched_getaffinity(0))

_environment = os.environ | {"DJANGO_SETTINGS_MODULE": "benchmarks.web.settings"}


@functools.cache
def sessions() -> list[str]:
    """Return the session keys of users who are logged in, in a new database."""
    servers.start("redis")
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.web.people"],
        env=_environment,
        check=True,
        capture_output=True,
        text=True,
    )
    keys: list[str] = json.loads(said.stdout)
    return keys


@contextmanager
def gunicorn() -> Iterator[tuple[int, int]]:
    """Give the port and the process id of Django under gunicorn, with one worker."""
    port = free_port()
    with _running(
        port, "gunicorn", "django.core.wsgi:get_wsgi_application()",
        "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4",
        "--log-level", "error",
    ) as process:  # fmt: skip
        yield port, process.pid


@contextmanager
def uvicorn(
    application: str, *options: str, core: int = 0
) -> Iterator[tuple[int, int]]:
    """Give the port and the process id of an application under uvicorn."""
    port = free_port()
    with _running(
        port, "uvicorn", application, "--port", str(port), "--log-level", "critical",
        "--no-access-log", *options, core=core,
    ) as process:  # fmt: skip
        yield port, process.pid


@contextmanager
def beside() -> Iterator[None]:
    """Keep this process off the core of the servers, and let it open many files."""
    before = os.sched_getaffinity(0)
    limits = _raise_limit()
    os.sched_setaffinity(0, {_CORES[-1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def processor(pid: int) -> float:
    """Return how many seconds of a processor a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # What clock_getcpuclockid() gives for a process, which Python does not have.
    clocks = [(~process << 3) | 2 for process in (pid, *map(int, children))]
    return sum(map(time.clock_gettime, clocks))


def memory(pid: int) -> int:
    """Return how many bytes of memory a process holds."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@contextmanager
def _running(
    port: int, *words: str, core: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    def pin() -> None:
        os.sched_setaffinity(0, {_CORES[core % len(_CORES)]})
        _raise_limit()

    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=_environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=pin,
        start_new_session=True,
    )
    try:
        until(lambda: process.poll() is not None or listens(port))
        if process.poll() is not None:
            raise RuntimeError(f"{words[0]} does not start.")
        yield process
    finally:
        # With its workers, and not politely: a server would talk to 20,000 clients.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _raise_limit() -> tuple[int, int]:
    """Raise the number of open files as far as is allowed. Return what it was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard
