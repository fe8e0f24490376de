"""Private servers for the tests, on Unix sockets, started when first needed.

A server that is not installed makes its tests skip and say so. With
``REALTIME_TICKET_REQUIRE_SERVERS=1`` they fail instead.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REQUIRED = os.environ.get("REALTIME_TICKET_REQUIRE_SERVERS") == "1"
USER = pwd.getpwuid(os.getuid()).pw_name

# Short, because the path of a Unix socket has at most 107 characters. A process that
# the tests start finds the servers by it.
if "REALTIME_TICKET_TEST_DIR" not in os.environ:
    os.environ["REALTIME_TICKET_TEST_DIR"] = tempfile.mkdtemp(prefix="rt-")
    atexit.register(shutil.rmtree, os.environ["REALTIME_TICKET_TEST_DIR"], True)
DIRECTORY = Path(os.environ["REALTIME_TICKET_TEST_DIR"])

REDIS = DIRECTORY / "redis" / "socket"
OLD_REDIS = DIRECTORY / "old-redis" / "socket"
MEMCACHED = [DIRECTORY / f"memcached-{n}" / "socket" for n in range(3)]
POSTGRESQL = DIRECTORY / "postgresql"
MARIADB = DIRECTORY / "mariadb" / "socket"

PROGRAMS = {
    "redis": ("redis-server", "redis"),
    "old-redis": ("redis-server", "redis"),
    "memcached": ("memcached", "pymemcache"),
    "postgresql": ("postgres", "psycopg"),
    "mariadb": ("mariadbd", "MySQLdb"),
}
"""The program of each server, and the Python module that talks to it."""


def missing(name: str) -> str | None:
    """Return why this server cannot be tested, or None."""
    program, driver = PROGRAMS[name]
    if not find(program):
        return f"{name}: {program} is not installed"
    if importlib.util.find_spec(driver) is None:
        return f"{name}: the Python module {driver} is not installed"
    return None


def find(program: str) -> str | None:
    """Return the path of a program, also where Debian keeps its servers."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin"]
    folders += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    return shutil.which(program, path=os.pathsep.join(folders))


def require(name: str) -> None:
    """Start the server, once. Skip the test, or fail it, when that is impossible."""
    if reason := missing(name):
        if REQUIRED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    start(name)


@functools.cache
def start(name: str) -> None:
    {
        "redis": lambda: start_redis(REDIS),
        "old-redis": lambda: start_redis(OLD_REDIS, "--rename-command", "GETDEL", ""),
        "memcached": lambda: [start_memcached(path) for path in MEMCACHED],
        "postgresql": start_postgresql,
        "mariadb": start_mariadb,
    }[name]()


def start_redis(path: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a Redis that keeps nothing on disk."""
    path.parent.mkdir()
    return run(
        [find("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", "",
         "--dir", str(path.parent), *options],
        path.parent,
        ready=lambda: ask(path, b"PING\r\n").startswith(b"+PONG"),
    )  # fmt: skip


def start_memcached(path: Path) -> subprocess.Popen[bytes]:
    path.parent.mkdir()
    return run(
        [find("memcached"), "-s", str(path), "-m", "16", "-u", USER],
        path.parent,
        ready=lambda: ask(path, b"version\r\n").startswith(b"VERSION"),
    )


def start_postgresql() -> subprocess.Popen[bytes]:
    POSTGRESQL.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        DIRECTORY.chmod(0o711)
        shutil.chown(POSTGRESQL, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = str(POSTGRESQL / "data")
    subprocess.run(
        [*as_user, find("initdb"), "-D", data, "-U", "postgres", "-A", "trust",
         "-E", "UTF8", "--no-locale", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
    )  # fmt: skip
    return run(
        [*as_user, find("postgres"), "-D", data, "-k", str(POSTGRESQL),
         "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"],
        POSTGRESQL,
        ready=lambda: succeeds(find("pg_isready"), "-q", "-h", str(POSTGRESQL)),
    )  # fmt: skip


def start_mariadb() -> subprocess.Popen[bytes]:
    MARIADB.parent.mkdir()
    data = str(MARIADB.parent / "data")
    subprocess.run(
        [find("mariadb-install-db"), "--no-defaults", f"--datadir={data}",
         "--auth-root-authentication-method=normal", f"--user={USER}"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return run(
        [find("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={MARIADB}",
         "--skip-networking", f"--pid-file={MARIADB.parent / 'pid'}", f"--user={USER}",
         "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M",
         "--max-connections=200"],
        MARIADB.parent,
        ready=lambda: succeeds(
            find("mariadb-admin"), "--no-defaults", "-S", str(MARIADB), "-u", "root",
            "ping",
        ),
    )  # fmt: skip


def run(
    command: list[str | None], folder: Path, ready: Callable[[], bool]
) -> subprocess.Popen[bytes]:
    """Start a server, wait until it answers, and kill it when the tests end."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
        )
    atexit.register(stop, process)
    deadline = time.monotonic() + 30
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{command[0]} did not start: {log.read_text()}")
        time.sleep(0.02)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def ask(path: Path, request: bytes) -> bytes:
    """Return what a server on a Unix socket answers, nothing if it does not."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(request)
            return client.recv(64)
        except OSError:
            return b""


def succeeds(*command: str | None) -> bool:
    return not subprocess.run(list(map(str, command)), capture_output=True).returncode
