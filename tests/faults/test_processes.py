"""Processes: forked, preloaded by gunicorn, spawned, killed, made gevent's, and ending.

Each test starts programs of its own, because what it is about is a whole process.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from realtime_ticket import InvalidTicket, StorageError, TicketService, batching
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.batching import GroupCommit
from tests.faults.load import PATIENCE
from tests.faults.programs import racers
from tests.faults.programs.common import SQLITE
from tests.faults.site import Site
from tests.faults.storages import KINDS, Storage
from tests.helpers import CLAIMS, in_child, using
from tests.processes import running
from tests.servers import free_port, until

ROOT = Path(__file__).parents[2]
BOUND = 9.0
"""Seconds that a call may take while many processes share two processors."""

every_storage = pytest.mark.parametrize("given", KINDS, indirect=True)


def on(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("given", kinds, indirect=True)


@contextmanager
def program(name: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """Run one of the programs, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.programs.{name}", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    alarm = threading.Timer(PATIENCE, end, [process])
    alarm.start()
    try:
        yield process
    finally:
        alarm.cancel()
        end(process)
        process.communicate()


def end(process: subprocess.Popen[str]) -> None:
    """End it with its children, of whom a hanging one would hold our pipes open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def told(process: subprocess.Popen[str]) -> Any:
    """Return what a program says next."""
    line = process.stdout.readline()  # type: ignore[union-attr]
    assert line, process.stderr.read()  # type: ignore[union-attr]
    return json.loads(line)


def tell(process: subprocess.Popen[str]) -> None:
    """Let a program go on, which waits for a line."""
    process.stdin.write("\n")  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]


def results(process: subprocess.Popen[str]) -> list[Any]:
    """Return the figures of a program that nothing unexpected happened to."""
    figures = [SimpleNamespace(**each) for each in told(process)]
    for each in figures:
        assert (each.surprises, each.lost) == ([], 0)
    return figures


class TestForks:
    @every_storage
    def test_a_parent_goes_on_with_its_children(
        self, given: Storage, record: Any
    ) -> None:
        """A process with connections, threads and a batch under way forks four times.

        Parent and children race for the same tickets, and get each its own besides.

        A limit of MySQL's driver: a child that lets go of the connection of a thread
        of its parent's says goodbye on it, and the call of that thread fails.

        Mutants: redis-shares-connections-with-a-child,
        memcached-shares-connections-with-a-child,
        cache-shares-a-connection-with-a-child,
        database-shares-a-connection-with-a-child,
        batch-inherits-the-thread-of-the-parent.
        """
        with program("forks", given.name, given.node.port) as process:
            for figures in results(process):
                assert figures.outages == 0 or given.name == "MariaDB"
                record("forked under load", given.name, figures, bound=BOUND)

    def test_on_sqlite_too(self, tmp_path: Path, record: Any) -> None:
        """On a file, four times from a process at rest, and then all of them go on.

        A limit of SQLite's: a child of a process whose threads use it can hang in its
        library. See "Forks" in docs/async-and-threads.md.

        Mutants: sqlite-only-reads.
        """
        with program("forks", SQLITE, tmp_path / "tickets") as process:
            for figures in results(process):
                assert figures.outages == 0
                record("forked under load", SQLITE, figures, bound=BOUND)

    @on("Redis", "Memcached")
    def test_threads_of_a_child_meet_at_its_first_call(self, given: Storage) -> None:
        """None of them speaks on a connection of the parent's.

        Mutants: memcached-opens-for-a-child-in-two-steps.
        """
        with using(given.backend()) as service:
            service.issue(CLAIMS)
            for _ in range(60):
                assert in_child(lambda: inherited_sockets_used(service)) == 0

    def test_a_child_of_the_worst_moment_can_close(self) -> None:
        """A thread was just handing over a batch. Its lock stays taken in the child.

        Mutants: batch-close-shuts-down.
        """
        with using(LocMemBackend()) as service:
            asyncio.run(service.aissue(CLAIMS))
            executor = service._batches._executor
            assert executor is not None
            with executor._shutdown_lock:
                in_child(service.close)

    def test_djangos_thread_stays_with_the_parent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A limit: asgiref makes its one thread once. Who forks after it ran has none.

        See "Forks" in docs/async-and-threads.md. Calls fail, in bounded time, and are
        not made later. Mutants: batch-sets-no-timer.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 0.5)
        made: list[str] = []

        def commit(calls: list[str]) -> list[str | Exception]:
            made.extend(calls)
            return [*calls]

        async def call(name: str) -> str:
            return await asyncio.wait_for(group.submit(name), 5)

        def child() -> tuple[str, list[str]]:
            try:
                return asyncio.run(call("child's")), made
            except StorageError as exc:
                return str(exc), made

        group: GroupCommit[str, str] = GroupCommit(commit, thread_sensitive=True)
        assert asyncio.run(call("parent's")) == "parent's"
        assert in_child(child) == (
            "The storage did not answer in time.",
            ["parent's"],
        )
        assert asyncio.run(call("again")) == "again"


def inherited_sockets_used(service: TicketService) -> int:
    """Return how many calls of eight threads went out on sockets from before."""
    sys.setswitchinterval(1e-6)
    inherited = {inode(fd) for fd in os.listdir("/proc/self/fd")}
    used: list[int | None] = []
    sendall = socket.socket.sendall

    def watched(self: socket.socket, *args: Any) -> None:
        used.append(inode(self.fileno()))
        sendall(self, *args)

    socket.socket.sendall = watched  # type: ignore[method-assign]
    gate = threading.Barrier(8)

    def call() -> None:
        gate.wait(10)
        service.issue(CLAIMS)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(used) >= 8
    return len(inherited & set(used))


def inode(descriptor: int | str) -> int | None:
    try:
        return os.stat(f"/proc/self/fd/{descriptor}").st_ino
    except FileNotFoundError:  # the one by which the folder was listed
        return None


PRELOADED = {
    "Redis": "redis.RedisBackend -",
    "Memcached": "memcached.MemcachedBackend -",
    "PostgreSQL": "database.DatabaseBackend postgresql",
}
"""The backend, and the database that it is on, of each project for gunicorn."""

WORKERS = 3


@contextmanager
def preloaded(storage: Storage, folder: Path) -> Iterator[tuple[Site, list[int]]]:
    """Run gunicorn, whose workers are forked when the connections are open already."""
    port, pid = free_port(), folder / "pid"
    words = ["-m", "gunicorn", "--preload", f"--workers={WORKERS}", "--threads=4"]
    words += [f"--bind=127.0.0.1:{port}", f"--pid={pid}"]
    words += ["tests.faults.programs.preloaded:application"]
    place = f"{PRELOADED[storage.name]} {storage.node.port}"
    environment = os.environ | {"STORAGE": place, "PYTHONPATH": str(ROOT)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    with running(*words, port=port, folder=folder, environment=environment):
        master = int(pid.read_text())
        try:
            children = Path(f"/proc/{master}/task/{master}/children")
            until(lambda: len(children.read_text().split()) == WORKERS)
            yield Site(port), [int(child) for child in children.read_text().split()]
        finally:
            os.kill(master, signal.SIGTERM)  # it then ends its workers


class TestPreloading:
    @on(*PRELOADED)
    def test_gunicorn_forks_a_project_in_use(
        self, given: Storage, tmp_path: Path, record: Any
    ) -> None:
        """What the workers inherit is open, and each of them makes its own.

        Mutants: memcached-shares-connections-with-a-child.
        """
        with preloaded(given, tmp_path) as (site, _), site.load() as load:
            assert load.goes_on(100)
        assert (load.lost, load.outages) == (0, 0)
        record("preloaded by gunicorn", given.name, load, bound=BOUND)

    @on(*PRELOADED)
    def test_a_worker_is_killed(
        self, given: Storage, tmp_path: Path, record: Any
    ) -> None:
        """Calls of its clients fail. A ticket that they showed is used once at most.

        Mutants: redis-gets-then-deletes, memcached-ignores-who-deleted.
        """
        with preloaded(given, tmp_path) as (site, workers), site.load() as load:
            for worker in workers:
                assert load.goes_on(20)
                os.kill(worker, signal.SIGKILL)
            assert load.goes_on()
        assert load.lost == 0
        record("a worker of gunicorn killed", given.name, load, bound=BOUND)


class TestNewProcesses:
    @on("Redis", "Memcached", "PostgreSQL", "MariaDB")
    def test_race_and_one_of_them_is_killed(self, given: Storage) -> None:
        """Two are spawned, two come from a fork server, and all show the same tickets.

        Each ticket lets in one. The one that was in the hands of the killed process may
        let in nobody.

        Mutants: redis-gets-then-deletes, memcached-ignores-who-deleted.
        """
        with using(given.backend()) as service:
            values = [service.issue(CLAIMS, expire=60).value for _ in range(400)]
            accepted = race(given, values)
            assert max(Counter(accepted).values()) == 1
            assert len(accepted) >= len(values) - 1
            for value in values:
                with pytest.raises(InvalidTicket):
                    service.consume(value)


def race(storage: Storage, values: Sequence[str]) -> list[str]:
    """Return the tickets that let someone in, as often as they did."""
    with ExitStack() as stack:
        pipes, processes = [], []
        for method in ["spawn", "forkserver"] * 2:
            context = multiprocessing.get_context(method)
            ours, theirs = context.Pipe()
            words = (storage.name, str(storage.node.port), values, theirs)
            process = context.Process(target=racers.race, args=words)
            process.start()
            theirs.close()
            stack.callback(process.join, 5)
            stack.callback(process.kill)
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            assert pipe.poll(PATIENCE), "a process does not start"
            pipe.recv()
        pipes[0].send("go")
        accepted = [pipes[0].recv() for _ in range(5)]
        for pipe in pipes[1:]:
            pipe.send("go")
        processes[0].kill()
        for pipe in pipes:
            accepted += heard(pipe)
            pipe.close()
    return accepted


def heard(pipe: Any) -> Iterator[str]:
    """Return what a process says until it is done, or dead."""
    try:
        while value := pipe.recv():
            yield value
    except EOFError:
        pass


class TestGevent:
    @pytest.mark.parametrize("frozen", [False, True], ids=["healthy", "frozen"])
    @on("Redis", "Memcached")
    def test_greenlets(self, given: Storage, frozen: bool, record: Any) -> None:
        """500 greenlets of a patched process: no more connections than they need.

        Redis has a pool of 50, and Memcached one connection for each call under way.
        Nobody reads what a server that was frozen says when it is too late.

        Mutants: redis-pool-without-limit, redis-pool-does-not-wait,
        redis-trusts-its-connections.
        """
        way = "" if frozen else "patient"
        with program("greenlets", given.name, given.proxy.port, way) as process:
            assert told(process) == "ready"
            time.sleep(1)
            if frozen:
                given.node.freeze()
                time.sleep(1.5)
                given.node.thaw()
                time.sleep(1)
            connections = len(given.proxy.links)
            tell(process)
            figures, _ = results(process)
        assert connections <= (50 if given.name == "Redis" else 500)
        assert frozen or figures.outages == 0
        fault = "500 greenlets, frozen" if frozen else "500 greenlets"
        record(fault, given.name, figures, bound=BOUND)

    @on("Redis", "Memcached")
    def test_greenlets_that_are_killed(self, given: Storage, record: Any) -> None:
        """800 are, within 20 ms of their calls. Others go on, on clean connections.

        None is lost either: no more are open than are in use at once.

        Mutants: redis-trusts-its-connections, memcached-trusts-its-connections.
        """
        with program("greenlets", given.name, given.proxy.port, "kills") as process:
            assert told(process) == "ready"
            connections = len(given.proxy.links)
            tell(process)
            figures, killed = results(process)
        assert connections <= (50 if given.name == "Redis" else 150)
        record("greenlets killed", given.name, figures, bound=BOUND)
        record("greenlets killed", given.name, killed, bound=BOUND)


class TestLeaving:
    @pytest.mark.parametrize(
        ("given", "way"),
        [
            *((kind, "running_batch") for kind in KINDS),
            # One whose batches have a thread of their own, and one in Django's.
            *product(["Redis", "PostgreSQL"], ["open_service", "terminated"]),
        ],
        indirect=["given"],
    )
    def test_takes_no_time_and_no_words(self, given: Storage, way: str) -> None:
        """A process ends soon, with status 0, silently, though the service is open.

        In the middle of a batch the storage is frozen, and goes on a moment later.

        Mutants: batch-calls-a-loop-that-is-closed.
        """
        with program("leaving", given.name, given.node.port, way) as process:
            leave(process, given, way)
            time.sleep(0.3)
            given.node.thaw()
            assert ended(process, within=10) == (0, "")

    @on("Redis", "Memcached", "Django's RedisCache")
    def test_does_not_wait_for_a_frozen_storage(self, given: Storage) -> None:
        """A batch in a thread is waited for as long as any call, and no longer.

        An event loop's own batch, on Redis, is not waited for. PostgreSQL's driver has
        no bound of its own: a process waits for a frozen one.

        Mutants: memcached-waits-five-seconds.
        """
        with program(
            "leaving", given.name, given.node.port, "running_batch"
        ) as process:
            leave(process, given, "running_batch")
            assert ended(process, within=4.5) == (0, "")


def leave(process: subprocess.Popen[str], storage: Storage, way: str) -> None:
    """Freeze the storage, and let the process come to its end."""
    assert told(process) == "ready"
    storage.node.freeze()
    tell(process)
    assert told(process) == "leaving"
    if way == "terminated":
        process.send_signal(signal.SIGTERM)


def ended(process: subprocess.Popen[str], *, within: float) -> tuple[int, str]:
    """Return the status of a process that ends in time, and its last words."""
    _, words = process.communicate(timeout=within)
    return process.returncode, words
