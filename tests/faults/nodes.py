"""Servers on ports that can be killed, frozen and started again, as Redis's Node."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tests import servers
from tests.processes import listens
from tests.servers import free_port

STOPPED = {"T"}
DEAD = {"Z"}
"""It only waits to be buried."""


class ServerNode:
    """A server of one process or several, on a port that it keeps."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="node-", dir=servers.DIRECTORY))
        self.start()

    def start(self) -> None:
        """Start it, after a kill again, on the same port."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it as a loss of power would, but for what the kernel still writes."""
        self.freeze()  # or else there might be new children by now
        processes = list(self._processes())
        send(signal.SIGKILL, processes)
        self.process.wait()
        servers.until(lambda: states_of(processes) <= DEAD)

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""
        send(signal.SIGSTOP, self._processes())
        # On a busy machine a thread may answer once more before it stops.
        servers.until(lambda: states_of(self._processes()) <= STOPPED | DEAD)

    def thaw(self) -> None:
        send(signal.SIGCONT, self._processes())

    def _processes(self) -> Iterator[int]:
        """Yield the server's process, and then those that it has by then."""
        yield self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        yield from map(int, children.read_text().split())


def send(number: signal.Signals, processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it has come to its end meanwhile
            os.kill(process, number)


def states_of(processes: Iterable[int]) -> set[str]:
    """Return the states of all threads of these processes, as in proc(5)."""
    states = set()
    for process in processes:
        for thread in threads_of(process):
            with suppress(OSError):  # it has ended meanwhile
                stat = (thread / "stat").read_text()
                states.add(stat.rpartition(") ")[2][0])
    return states


def threads_of(process: int) -> list[Path]:
    """Return the folder of each thread of a process, none if it is gone."""
    with suppress(OSError):
        return list(Path(f"/proc/{process}/task").iterdir())
    return []


class MemcachedNode(ServerNode):
    """A Memcached with these options."""

    def __init__(self, *options: str) -> None:
        self.options = options
        super().__init__()

    def start(self) -> None:
        self.process = servers.run(
            [servers.find("memcached"), "-l", "127.0.0.1", "-p", str(self.port),
             "-m", "16", "-u", servers.USER, *self.options],
            self.folder,
            ready=self.answers,
        )  # fmt: skip

    def answers(self) -> bool:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 1) as client,
        ):
            client.settimeout(1)
            client.sendall(b"version\r\n")
            return client.recv(64).startswith(b"VERSION")
        return False


class PostgreSQLNode(ServerNode):
    """A PostgreSQL with the programs in a folder, or with Debian's."""

    def __init__(self, programs: Path | None = None) -> None:
        self.programs = programs
        self.data = servers.make_postgresql(
            servers.DIRECTORY / f"pg-{free_port()}", programs
        )
        super().__init__()

    def start(self) -> None:
        self.process = servers.start_postgresql(
            self.data,
            "-c",
            "listen_addresses=127.0.0.1",
            "-p",
            str(self.port),
            programs=self.programs,
        )


class PgBouncerNode(ServerNode):
    """A PgBouncer that shares four connections among all who have a transaction.

    While the server behind this port is down, each call waits for as many seconds as
    ``query_wait_timeout`` says: two minutes unless it is set.
    """

    def __init__(self, upstream: int, patience: int = 1) -> None:
        self.upstream = upstream
        self.patience = patience
        super().__init__()

    def start(self) -> None:
        self.folder.chmod(0o755)
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={self.upstream} user=postgres\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            "unix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 4\n"
            f"query_wait_timeout = {self.patience}\nserver_login_retry = 0.1\n"
        )
        command = [*servers.as_postgres(), servers.find("pgbouncer"), str(config)]
        self.process = servers.run(
            command, self.folder, ready=lambda: listens(self.port)
        )


class MariaDBNode(ServerNode):
    def __init__(self) -> None:
        self.data = servers.make_mariadb(servers.DIRECTORY / f"my-{free_port()}")
        super().__init__()

    def start(self) -> None:
        self.process = servers.start_mariadb(
            self.data, "--bind-address=127.0.0.1", f"--port={self.port}"
        )
