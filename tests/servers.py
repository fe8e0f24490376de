"""Private servers for the tests, on Unix sockets, started when first needed.

Only Sentinel and Cluster need ports, on the loopback interface. A server that is not
installed makes its tests skip and say so. With ``REALTIME_TICKET_REQUIRE_SERVERS=1``
they fail instead.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests import parts

REQUIRED = (
    os.environ.get("REALTIME_TICKET_REQUIRE_SERVERS") == "1" and parts.RUN != "quick"
)
USER = pwd.getpwuid(os.getuid()).pw_name
VARIABLE = "REALTIME_TICKET_TEST_DIR"


def own_directory() -> Path:
    """Return the directory of this process's servers, and make it if need be.

    A process that a test starts finds the servers of the test by the environment. Each
    worker of pytest-xdist has servers of its own, in a folder of the controller's. The
    names are short, because the path of a Unix socket has at most 107 characters.
    """
    directory = Path(os.environ.get(VARIABLE) or tempfile.mkdtemp(prefix="rt-"))
    if VARIABLE not in os.environ:
        atexit.register(shutil.rmtree, directory, True)
        directory.chmod(0o711)  # for PostgreSQL, which root runs as another user
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and directory.name != worker:
        directory = directory / worker
        directory.mkdir(mode=0o711)
    os.environ[VARIABLE] = str(directory)
    return directory


DIRECTORY = own_directory()
PATIENCE = 60
"""Seconds that a server may take to start, on a machine with other work."""

RUNNING: list[subprocess.Popen[bytes]] = []
GIVEN: set[int] = set()
"""The ports that free_port() has returned."""

REDIS = DIRECTORY / "redis" / "socket"
OLD_REDIS = DIRECTORY / "old-redis" / "socket"
MEMCACHED = [DIRECTORY / f"memcached-{n}" / "socket" for n in range(3)]
POSTGRESQL = DIRECTORY / "postgresql"
MARIADB = DIRECTORY / "mariadb" / "socket"

PROGRAMS = {
    "redis": ("redis-server", "redis"),
    "old-redis": ("redis-server", "redis"),
    "redis-sentinel": ("redis-server", "redis"),
    "redis-cluster": ("redis-server", "redis"),
    "memcached": ("memcached", "pymemcache"),
    "twemproxy": ("nutcracker", "redis"),
    "haproxy": ("haproxy", "redis"),
    "postgresql": ("postgres", "psycopg"),
    "pgbouncer": ("pgbouncer", "psycopg"),
    "mariadb": ("mariadbd", "MySQLdb"),
}
"""The program of each server, and the Python module that talks to it."""


def missing(name: str) -> str | None:
    """Return why this server cannot be tested, or None."""
    if parts.RUN == "quick":
        return f"{name}: a quick run has no servers"
    program, driver = PROGRAMS[name]
    if not find(program):
        return f"{name}: {program} is not installed"
    if importlib.util.find_spec(driver) is None:
        return f"{name}: the Python module {driver} is not installed"
    return None


def find(program: str, folder: Path | None = None) -> str | None:
    """Return the path of a program: in this folder, or anywhere, also where Debian
    keeps its servers."""
    if folder is not None:
        return shutil.which(program, path=str(folder))
    folders = [os.environ.get("PATH", ""), "/usr/sbin"]
    folders += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    return shutil.which(program, path=os.pathsep.join(folders))


def require(name: str) -> None:
    """Start the server, once. Skip the test, or fail it, when that is impossible."""
    need(name)
    start(name)


def need(name: str) -> None:
    """Skip the test, or fail it, when the server cannot be started."""
    if reason := missing(name):
        do_without(reason)


def need_module(name: str) -> None:
    """Skip the test, or fail it, when a Python module is not installed."""
    if importlib.util.find_spec(name) is None:
        do_without(f"the Python module {name} is not installed")


def do_without(reason: str) -> NoReturn:
    """Skip the test, or fail it where everything is required."""
    if REQUIRED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@functools.cache
def start(name: str) -> None:
    {
        "redis": lambda: start_redis(REDIS),
        "old-redis": lambda: start_redis(OLD_REDIS, "--rename-command", "GETDEL", ""),
        "redis-sentinel": sentinel,
        "redis-cluster": cluster,
        "memcached": lambda: [start_memcached(path) for path in MEMCACHED],
        "postgresql": lambda: start_postgresql(make_postgresql(POSTGRESQL)),
        "mariadb": lambda: start_mariadb(make_mariadb(MARIADB.parent)),
    }[name]()


@functools.cache
def sentinel() -> Sentinel:
    """Return the one that is there for all who leave it in one piece."""
    return Sentinel(patience=10)


@functools.cache
def cluster() -> Cluster:
    """Return the one that is there for all who leave it in one piece."""
    return Cluster(masters=3, patience=10)


def start_redis(path: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a Redis that keeps nothing on disk."""
    path.parent.mkdir()
    return run(
        [find("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", "",
         "--dir", str(path.parent), *options],
        path.parent,
        ready=lambda: ask(path, b"PING\r\n").startswith(b"+PONG"),
    )  # fmt: skip


def start_memcached(path: Path, *options: str) -> subprocess.Popen[bytes]:
    path.parent.mkdir()
    return run(
        [find("memcached"), "-s", str(path), "-m", "16", "-u", USER, *options],
        path.parent,
        ready=lambda: ask(path, b"version\r\n").startswith(b"VERSION"),
    )


def until_clocks_are_steady() -> None:
    """Return when the clock of no Memcached is about to skip a second."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(until_clock_is_steady, MEMCACHED))


def until_clock_is_steady(path: Path) -> None:
    """Return when this Memcached's clock is not about to skip a second.

    Once a second, and each time 0.1 to 2 ms later, it looks how many seconds the
    monotonic clock has. When the delays add up to a second it skips one, and what was
    added just before lives a second less. So it is stopped where it would look late in
    a second, until another one has begun: it looks early in each from then on.
    """

    def process_and_uptime() -> tuple[int, bytes]:
        words = ask(path, b"stats\r\n").split()  # STAT pid 7 STAT uptime 42
        return int(words[2]), words[5]

    def until_it_looks() -> int:
        process, before = process_and_uptime()
        while process_and_uptime()[1] == before:
            time.sleep(0.001)
        return process

    process = until_it_looks()
    late = time.monotonic() % 1
    if late > 0.5:
        os.kill(process, signal.SIGSTOP)
        time.sleep(2.02 - late)
        os.kill(process, signal.SIGCONT)
        until_it_looks()


def make_postgresql(folder: Path, programs: Path | None = None) -> Path:
    """Make an empty PostgreSQL, with the programs in a folder or with Debian's, and
    return its folder."""
    folder.mkdir()
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    subprocess.run(
        [*as_postgres(), find("initdb", programs), "-D", str(folder / "data"),
         "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
    )  # fmt: skip
    return folder


def start_postgresql(
    folder: Path, *options: str, programs: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start it, on a Unix socket, and on a port if the options say so."""
    pg_isready = find("pg_isready", programs)
    return run(
        [*as_postgres(), find("postgres", programs), "-D", str(folder / "data"), "-k",
         str(folder), "-c", "listen_addresses=", "-c", "fsync=off",
         "-c", "max_connections=200", *options],
        folder,
        ready=lambda: any(
            succeeds(pg_isready, "-q", "-h", str(folder), "-p", path.suffix[1:])
            for path in folder.glob(".s.PGSQL.*[0-9]")
        ),
    )  # fmt: skip


def as_postgres() -> list[str]:
    """Return the words before a program that refuses to run as root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def make_mariadb(folder: Path) -> Path:
    """Make an empty MariaDB, and return its folder."""
    folder.mkdir()
    subprocess.run(
        # In a tmpdir that they share, one MariaDB that starts removes another's tables.
        [find("mariadb-install-db"), "--no-defaults", f"--datadir={folder / 'data'}",
         f"--tmpdir={folder}", "--auth-root-authentication-method=normal",
         f"--user={USER}"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return folder


def start_mariadb(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start it, on a Unix socket, and on a port if the options say so."""
    path = folder / "socket"
    network = () if options else ("--skip-networking",)
    return run(
        [find("mariadbd"), "--no-defaults", f"--datadir={folder / 'data'}",
         f"--tmpdir={folder}", f"--socket={path}", f"--pid-file={folder / 'pid'}",
         f"--user={USER}", "--innodb-flush-log-at-trx-commit=0",
         "--innodb-buffer-pool-size=32M", "--max-connections=200", *network, *options],
        folder,
        ready=lambda: succeeds(
            find("mariadb-admin"), "--no-defaults", "-S", str(path), "-u", "root",
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
    RUNNING.append(process)
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{command[0]} did not start: {log.read_text()}")
        time.sleep(0.02)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@atexit.register
def stop_all() -> None:
    """Kill every server that this process has started and is still there."""
    while RUNNING:
        stop(RUNNING.pop())


def ask(path: Path, request: bytes) -> bytes:
    """Return what a server on a Unix socket answers, nothing if it does not."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(str(path))
            client.sendall(request)
            return client.recv(64)
        except OSError:
            return b""


def succeeds(*command: str | None) -> bool:
    return not subprocess.run(list(map(str, command)), capture_output=True).returncode


class Node:
    """A Redis on a port, which can be killed, frozen, and started again."""

    def __init__(self, *options: str, program: str = "redis-server") -> None:
        self.program = find(program)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="node-", dir=DIRECTORY))
        self.options = options
        self.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def start(self) -> None:
        """Start it, after a kill again: empty, and on the same port."""
        self.process = run(
            [self.program, "--port", str(self.port), "--bind", "127.0.0.1",
             "--save", "", "--repl-diskless-sync-delay", "0",
             "--repl-ping-replica-period", "1", "--dir", str(self.folder),
             *self.options],
            self.folder,
            ready=self.answers,
        )  # fmt: skip

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(self.address, 1) as client:
            client.settimeout(1)
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        return False

    def kill(self) -> None:
        stop(self.process)

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def ask(self, *words: object) -> Any:
        """Return the reply to a command."""
        with self.client() as client:
            return client.execute_command(*words)

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port, protocol=2, decode_responses=True)

    def follow(self, master: Node) -> None:
        """Become the replica of a master, and return when that is done."""
        self.ask("REPLICAOF", *master.address)
        master.until_confirmed()

    def until_confirmed(self) -> None:
        """Empty it, and wait until a replica knows of that."""
        with self.client() as client:
            client.flushall()
            until(lambda: client.wait(1, 100))

    def follows(self) -> int:
        """Return the port of its master, 0 if it is one itself."""
        return int(self.ask("INFO", "replication").get("master_port", 0))


class Sentinel(Node):
    """A Sentinel that watches a master and its replica.

    A master that is silent for so many seconds of ``patience`` is taken for dead.
    """

    name = "tickets"

    def __init__(self, *, patience: int = 1) -> None:
        self.patience = patience
        self.master, self.replica = Node(), Node()
        self.replica.follow(self.master)
        super().__init__()

    def start(self) -> None:
        file = self.folder / "sentinel.conf"  # which the Sentinel rewrites
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {self.name} 127.0.0.1 {self.master.port} 1\n"
            f"sentinel down-after-milliseconds {self.name} {self.patience * 1000}\n"
            f"sentinel failover-timeout {self.name} 2000\n"
        )
        command = [self.program, str(file), "--sentinel"]
        self.process = run(command, self.folder, ready=self.answers)
        for name, period in ("INFO", 500), ("PUBLISH", 250), ("PING", 300):
            with suppress(Exception):  # Redis before 7 keeps to its ten seconds
                self.ask("SENTINEL", "DEBUG", f"{name}-PERIOD", period)
        until(lambda: self.ask("SENTINEL", "REPLICAS", self.name))

    def named(self) -> int:
        """Return the port of the master that it names."""
        return int(self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    def promote(self) -> None:
        """Make the replica the master, and return when that is done.

        The Sentinel is asked again until then: it gives up when it does not see the
        promotion within two seconds, and refuses while it knows too little of the
        replica, or is at it.
        """

        def is_promoted() -> bool:
            if self.named() == self.replica.port:
                return True
            with suppress(Exception):
                self.ask("SENTINEL", "FAILOVER", self.name)
            return False

        until(is_promoted)

    def kill(self) -> None:
        for process in (self.process, self.master.process, self.replica.process):
            stop(process)


class Cluster:
    """A cluster of so many masters, and so many replicas of each.

    A node that is silent for so many seconds of ``patience`` is taken for dead. On a
    busy machine one that lives can be silent for a second.
    """

    def __init__(self, *, masters: int, replicas: int = 0, patience: int = 1) -> None:
        self.nodes = [
            Node("--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                 "--cluster-node-timeout", str(patience * 1000),
                 "--cluster-require-full-coverage", "no")
            for _ in range(masters * (1 + replicas))
        ]  # fmt: skip
        self.masters = self.nodes[:masters]
        for number, node in enumerate(self.masters):
            first, end = (16384 * n // masters for n in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTS", *range(first, end))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        until(self._have_met)
        for number, node in enumerate(self.nodes[masters:]):
            master = self.masters[number % masters]
            node.ask("CLUSTER", "REPLICATE", self.id_of(master))
            master.until_confirmed()
        self.until_agreed(replicas)

    @staticmethod
    def id_of(node: Node) -> str:
        return str(node.ask("CLUSTER", "MYID"))

    def until_agreed(self, replicas: int = 0) -> None:
        """Wait until every node knows who serves which slots."""
        until(lambda: self._agree(replicas))

    def _agree(self, replicas: int = 0) -> bool:
        return all(
            len({slot for first, last, *_ in slots for slot in (first, last)})
            == 2 * len(self.masters)
            and all(len(nodes) == 1 + replicas for _, _, *nodes in slots)
            for slots in (node.ask("CLUSTER", "SLOTS") for node in self.nodes)
        ) and all(
            "cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes
        )

    def _have_met(self) -> bool:
        """Introduce the nodes that the first one does not know. Tell whether all agree.

        One that does not answer in time is forgotten again.
        """
        known = self.nodes[0].ask("CLUSTER", "NODES")
        for node in self.nodes[1:]:
            if f":{node.port}@" not in known:
                self.nodes[0].ask("CLUSTER", "MEET", *node.address, node.options[3])
        return self._agree()

    @contextmanager
    def moving(self, slot: int, source: Node, target: Node) -> Iterator[None]:
        """Move a slot while the block runs. Its keys are the block's to migrate."""
        one, other = self.id_of(source), self.id_of(target)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", one)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", other)
        yield
        for node in (target, source, *self.masters):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", other)

    def owner(self, slot: int) -> Node:
        """Return the master of this slot."""
        return next(
            node
            for first, last, (_, port, *_), *_ in self.nodes[-1].ask("CLUSTER", "SLOTS")
            if first <= slot <= last
            for node in self.nodes
            if node.port == port
        )

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds, which it has to within a minute."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("It does not come about.")
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody uses, and none of those that clients are given.

    Until a server listens on it, nobody else is given it: each worker of pytest-xdist
    has ports of its own, and this returns none of them twice.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = 15_000 + workers * secrets.randbelow(15_000 // workers) + worker
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in GIVEN:
                GIVEN.add(port)
                return port
