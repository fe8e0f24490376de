"""What several test modules need: backends that watch or fail, and hostile strings."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import logging
import multiprocessing
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import django
import pytest
import redis
from django.db import connections

from realtime_ticket import InvalidTicket, TicketService
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.tickets import Ticket
from tests import servers

CLAIMS = {"id": 7, "username": "ada"}
GOOD = "rt_" + "a" * 43
"""A string in the format of a ticket that nobody issued."""

ADMINS = ["ada@example.com"] if django.VERSION >= (6, 0) else [("", "ada@example.com")]
NOWHERE = "/nonexistent/socket"
REMOTE = [alias for alias in ("postgresql", "mariadb") if not servers.missing(alias)]
"""The databases on a server of their own that are here."""

WAIT = 10.0
"""Seconds after which a test that waits for a thread has failed."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Demand that the block takes less."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@contextmanager
def failing_filter() -> Iterator[None]:
    """Let a filter of the project's raise for each record that the package logs."""

    def fail(record: logging.LogRecord) -> bool:
        raise KeyError

    logger = logging.getLogger("realtime_ticket")
    logger.addFilter(fail)
    try:
        yield
    finally:
        logger.removeFilter(fail)


class RecordingBackend(BaseBackend):
    """Keep texts in a dict, and every call that the service makes in ``calls``."""

    thread_sensitive: ClassVar[bool] = False

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.texts: dict[str, str] = {}
        self.expires: dict[str, int] = {}
        self.threads: list[threading.Thread] = []
        self.closed = 0

    def add(self, key: str, data: str, expire: int) -> bool:
        self._record("add", [key])
        self.expires[key] = expire
        return self.texts.setdefault(key, data) is data

    def pop(self, key: str) -> str | None:
        self._record("pop", [key])
        return self.texts.pop(key, None)

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        self._record("add_many", [item.key for item in items])
        return [self.texts.setdefault(key, data) is data for key, data, _ in items]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        self._record("pop_many", keys)
        return [self.texts.pop(key, None) for key in keys]

    def close(self) -> None:
        self.closed += 1

    def _record(self, name: str, keys: Sequence[str]) -> None:
        self.calls.append((name, tuple(keys)))
        self.threads.append(threading.current_thread())


class GatedBackend(RecordingBackend):
    """Hold every call, in the thread of the batches, until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()

    def _record(self, name: str, keys: Sequence[str]) -> None:
        super()._record(name, keys)
        self.entered.set()
        assert self.gate.wait(WAIT), "the test forgot to open the gate"


class FailingBackend(BaseBackend):
    """Raise the same error from every call."""

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    thread_sensitive: ClassVar[bool] = False

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or OSError("the storage is down")

    def add(self, key: str, data: str, expire: int) -> bool:
        raise self.error

    def pop(self, key: str) -> str | None:
        raise self.error

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        raise self.error


@contextmanager
def using(backend: BaseBackend, **options: Any) -> Iterator[TicketService]:
    """Give a service on this backend, and close it."""
    service = TicketService(backend, **options)
    try:
        yield service
    finally:
        service.close()


def same_ticket(one: Ticket, other: Ticket) -> bool:
    """Tell whether the tickets agree in every field, claims included."""
    return one == other and one.claims == other.claims


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidTicket) as caught:
        call()
    return caught.value.reason


def hostile_values() -> list[object]:
    """Return what clients send instead of a ticket. None is in the format of one."""
    secret = "a" * 43
    values: list[object] = [
        # other types
        None, True, False, 0, 1, -1, 1.5, float("nan"), 2**70, b"", GOOD.encode(),
        bytearray(GOOD.encode()), [], [GOOD], (), (GOOD,), {}, {GOOD: 1}, {GOOD},
        frozenset({GOOD}), object(), object, lambda: GOOD, range(46),
        memoryview(GOOD.encode()),
        # sizes
        "", "r", "rt", "rt_", "a", secret, "rt_" + "a" * 42, "rt_" + "a" * 44,
        GOOD * 2, "rt_" + "a" * 64, "a" * 46, "a" * 1_000_000, GOOD + "a" * 1_000_000,
        "rt_" * 300_000, "\n" * 1_000_000,
        # what stands around a good one
        f"{GOOD}\n", f"{GOOD}\r\n", f"{GOOD}\r", f"{GOOD} ", f" {GOOD}", f"\n{GOOD}",
        f"{GOOD}\0", f"\0{GOOD}", f"{GOOD}\x85", f"{GOOD}\u2028", f"{GOOD}\u2029",
        f"\ufeff{GOOD}", f"{GOOD}\u200b", f"{GOOD}:", f"{GOOD}:chat", f"{GOOD}:*",
        f"{GOOD},{GOOD}", f"{GOOD} {GOOD}", f'"{GOOD}"', f"'{GOOD}'", f"[{GOOD}]",
        f"Ticket {GOOD}", f"ticket.{GOOD}", f"ticket={GOOD}", f"{GOOD}=", f"{GOOD}==",
        f"{GOOD}\t", f"{GOOD}\v", f"{GOOD}\f", f"{GOOD}\x1b", f"{GOOD}%00",
        f"{GOOD}%0a",
        # the prefix
        f"RT_{secret}", f"Rt_{secret}", f"rT_{secret}", f"rt-{secret}", f"rt.{secret}",
        f"rt{secret}a", f"_rt{secret}", f"xx_{secret}", f"\uff52\uff54_{secret}",
        f"rt\uff3f{secret}", f"r\u0442_{secret}", f"\u0433t_{secret}",
        f"rt\u203f{secret}",
        f"r\u200bt_{secret}", f"rt_\u200b{secret[1:]}",
        # names of other things in a Redis, and its patterns and commands
        "session:abc", ":1:session:abc", "celery", "user:1", "*", "rt_*",
        "rt_" + "?" * 43,
        "rt_[a-z]" + "a" * 38, "GETDEL x", "FLUSHALL", "\r\nFLUSHALL\r\n",
        "*1\r\n$8\r\nFLUSHALL\r\n", f"{GOOD}\r\nFLUSHALL\r\n", "get x\r\nflush_all\r\n",
        "__proto__", "constructor", "../../etc/passwd", "rt_" + "../" * 14 + "a",
        # other languages
        "' OR '1'='1", "rt_'; DROP TABLE realtime_ticket; --" + "a" * 10, "%s", "%(x)s",
        "{}", "{0.__class__}", "${jndi:ldap://x}", "<script>alert(1)</script>",
        '{"id":1}', "null", "undefined", "NaN", "true",
        # text that is no text
        "\ud800", f"rt_{'a' * 42}\ud800", f"\udfff{GOOD}", "\udcff" * 46, "\0" * 46,
        "rt_" + "٣" * 43, "rt_" + "é" * 43, "rt_" + "\U0001d7db" * 43, "🎟" * 46,
        "rt_" + "\uff41" * 43, GOOD[:-1] + "\u017f", GOOD[:-1] + "\u212a",
        GOOD[:-1] + "\u0301",
    ]  # fmt: skip
    bad = "!\n\0 .:/+=%*é٣\ud800"
    values += [
        f"rt_{'a' * place}{bad[place % len(bad)]}{'a' * (42 - place)}"
        for place in range(43)
    ]
    values += [f"rt_{'a' * place}\n{'a' * (42 - place)}" for place in range(43)]
    return values


def hostile_audiences() -> list[object]:
    """Return what clients send instead of the name of an audience."""
    return [
        None, True, 0, 1, 1.5, b"chat", ["chat"], ("chat",), {"chat": 1}, object(),
        " ", "chat ", " chat", "chat\n", "chat\r\n", "chat\0", "a b", "a:b", ":",
        "chat:", "a/b", "*", "?", "é", "чат", "chat\ud800", "٣", "a" * 65,
        "a" * 1_000_000, "\r\nFLUSHALL\r\n",
    ]  # fmt: skip


def shown(value: object) -> str:
    """Return a short, printable name of a test's parameter, the same in each run."""
    text = re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
    return text if len(text) <= 60 else f"{text[:50]}...{len(text)}"


def real_redis(db: int = 0) -> redis.Redis:
    """Return a client for a look at the Redis of the tests from outside."""
    servers.require("redis")
    return redis.Redis(unix_socket_path=str(servers.REDIS), db=db, protocol=2)


def commands_of(client: Any) -> dict[str, int]:
    """Return how often Redis ran each command, but for the watching itself."""
    stats = client.info("commandstats")
    return {name: row["calls"] for name, row in stats.items() if "info" not in name}


def kill_connection(alias: str) -> None:
    """End this thread's connection on the server's side, as a restart does."""
    connection = connections[alias]
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        number = connection.connection.info.backend_pid
        order = f"SELECT pg_terminate_backend({number})"
        rest = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {number}"
    else:
        number = connection.connection.thread_id()
        order = f"KILL {number}"
        rest = (
            f"SELECT count(*) FROM information_schema.processlist WHERE id = {number}"
        )

    def is_gone() -> bool:
        cursor.execute(rest)
        return cursor.fetchone() == (0,)

    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute(order)
        assert eventually(is_gone)
    other.close()
    time.sleep(0.1)  # until the socket is closed


@contextmanager
def silent_server(path: Path) -> Iterator[str]:
    """Listen on a Unix socket as a frozen server does: accept, and say nothing."""
    with silent_listener(path):
        yield str(path)


@contextmanager
def silent_listener(path: Path) -> Iterator[socket.socket]:
    """Do as silent_server(), and give the socket, whose clients can be counted."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        yield listener


def clients_of(listener: socket.socket) -> int:
    """Return how many have connected, and hang up on them."""
    listener.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


class _Hidden(importlib.abc.MetaPathFinder):
    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def hide_package(monkeypatch: pytest.MonkeyPatch, package: str, *users: str) -> None:
    """Make a package look as if it was not installed to the modules that use it."""
    for name in list(sys.modules):
        if name.split(".")[0] == package or name in users:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Hidden(package), *sys.meta_path])


def eventually(
    condition: Callable[[], bool],
    seconds: float = WAIT,
    *,
    despite: Sequence[type[Exception]] = (),
) -> bool:
    """Wait until the condition holds. Return whether it did in time.

    It does not hold yet while it raises one of the errors of ``despite``.
    """
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        with suppress(*despite):
            if condition():
                return True
        pause.wait(0.01)
    return condition()


def in_child(function: Callable[[], Any]) -> Any:
    """Return what the function returns in a forked process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send((function(), ""))
        except BaseException as exc:
            sender.send((None, repr(exc)))

    child = context.Process(target=run)
    with warnings.catch_warnings():
        # Python 3.12 and newer warn of a fork beside threads. Ours are at rest.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    try:
        assert receiver.poll(WAIT), "the child hangs"
        result, error = receiver.recv()
        assert not error, error
        return result
    finally:
        child.join(1)
        child.kill()
        child.join()
        receiver.close()
        sender.close()
