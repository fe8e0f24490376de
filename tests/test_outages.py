"""An outage says where it is, what it is, and what to do: in the error and in the log.

All of them are made on real servers. None of the texts holds a ticket or a password.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.db import connections

from realtime_ticket import StorageError, outages, tickets
from realtime_ticket.backends import _cache_outages
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.backends.redis_cluster import RedisClusterBackend
from realtime_ticket.backends.redis_sentinel import RedisSentinelBackend
from tests import servers
from tests.doors import Door, both_doors
from tests.helpers import (
    CLAIMS,
    NOWHERE,
    REMOTE,
    RecordingBackend,
    real_redis,
    silent_server,
    using,
)
from tests.servers import Node

PASSWORD = "pass-word-of-the-storage"
NOBODY = "no-such-host.invalid"
Outage = Callable[[Path], AbstractContextManager[BaseBackend]]


class Case(NamedTuple):
    outage: Outage
    says: tuple[str, ...]


def at_redis(**options: Any) -> Outage:
    return lambda folder: nullcontext(RedisBackend(password=PASSWORD, **options))


@contextmanager
def a_user(rights: str, folder: Path) -> Iterator[BaseBackend]:
    """Give a backend whose user has these rights, or whose password is another."""
    with real_redis() as client:
        client.execute_command(
            "ACL", "SETUSER", "poor", "reset", "on", f">{PASSWORD}", *rights.split()
        )
        password = PASSWORD if rights else PASSWORD[::-1]
        yield RedisBackend(
            unix_socket_path=str(servers.REDIS), username="poor", password=password
        )
        client.execute_command("ACL", "DELUSER", "poor")


@contextmanager
def plain_port(folder: Path) -> Iterator[BaseBackend]:
    servers.need("redis")
    node = Node()
    yield RedisBackend(port=node.port, ssl=True)
    node.kill()


@contextmanager
def replica(folder: Path) -> Iterator[BaseBackend]:
    servers.need("redis")
    master, node = Node(), Node()
    node.follow(master)
    yield RedisBackend(port=node.port)
    master.kill()
    node.kill()


@contextmanager
def full(folder: Path) -> Iterator[BaseBackend]:
    servers.need("redis")
    node = Node("--maxmemory", "1")
    yield RedisBackend(port=node.port)
    node.kill()


@contextmanager
def frozen(make: Callable[[str], BaseBackend], folder: Path) -> Iterator[BaseBackend]:
    with silent_server(folder / "s") as path:
        yield make(path)


@contextmanager
def busy(folder: Path) -> Iterator[BaseBackend]:
    servers.require("redis")
    backend = RedisBackend(
        unix_socket_path=str(servers.REDIS), max_connections=1, socket_timeout=0.1
    )
    taken = backend._pool.get_connection()
    yield backend
    backend._pool.release(taken)


@contextmanager
def unknown_master(folder: Path) -> Iterator[BaseBackend]:
    servers.require("redis-sentinel")
    address = servers.sentinel().address
    yield RedisSentinelBackend(sentinels=[address], service_name="other")


ON_REDIS = {
    "refused port": Case(at_redis(port=1), ("Redis at localhost:1 refuses",
                         "REALTIME_TICKET_REDIS")),
    "refused by URL": Case(lambda folder: nullcontext(
        RedisBackend(url=f"redis://u:{PASSWORD}@127.0.0.1:1/0")), ("127.0.0.1:1 ",)),
    "no socket": Case(at_redis(unix_socket_path=NOWHERE), (NOWHERE, "is not there")),
    "unknown host": Case(at_redis(host=NOBODY), (NOBODY, "Correct the host")),
    "wrong password": Case(partial(a_user, ""), (str(servers.REDIS), "password")),
    "no permission": Case(partial(a_user, "~* +get"),
                          ("does not allow this user", "+set", "+getdel")),
    "no TLS": Case(plain_port, ("one side speak TLS and the other not",)),
    "replica": Case(replica, ("read-only replica", "Name the primary")),
    "full": Case(full, ("is full",)),
    "frozen": Case(partial(frozen, lambda path: RedisBackend(
        unix_socket_path=path, socket_timeout=0.1)), ("did not answer in time",)),
    "busy": Case(busy, ("has no free connection", "max_connections")),
    "Sentinel refused": Case(lambda folder: nullcontext(RedisSentinelBackend(
        sentinels=[("127.0.0.1", 1)], service_name="x")), ("127.0.0.1:1 refuses",)),
    "unknown master": Case(unknown_master, ("names no master", "service_name")),
    "Cluster refused": Case(lambda folder: nullcontext(RedisClusterBackend(
        startup_nodes=[("127.0.0.1", 1)])), ("Redis Cluster at 127.0.0.1:1 refuses",)),
}  # fmt: skip
ON_MEMCACHED = {
    "Memcached refused": Case(lambda folder: nullcontext(
        MemcachedBackend(servers="127.0.0.1:1")),
        ("Memcached at 127.0.0.1:1 refuses", "REALTIME_TICKET_MEMCACHED")),
    "Memcached unknown": Case(lambda folder: nullcontext(
        MemcachedBackend(servers=f"{NOBODY}:1")), (NOBODY, "Correct the host")),
    "Memcached frozen": Case(partial(frozen, lambda path: MemcachedBackend(
        servers=path, timeout=0.1)), ("did not answer in time",)),
}  # fmt: skip
ON_CACHES = {
    f"{alias} cache": Case(lambda folder, alias=alias: nullcontext(
        CacheBackend(alias=f"{alias}-down")),
        (f"The cache '{alias}-down' at {NOWHERE}", f"CACHES['{alias}-down']"))
    for alias in ("redis", "django-redis", "memcached")
}  # fmt: skip


def database(alias: str, **changes: Any) -> Outage:
    """Return how to connect to this database in another way."""

    @contextmanager
    def connect(folder: Path) -> Iterator[BaseBackend]:
        connection = connections[alias]
        there = connection.settings_dict
        connection.close()
        options = there["OPTIONS"] | changes.get("OPTIONS", {})
        new = {"PASSWORD": PASSWORD} | changes | {"OPTIONS": options}
        connection.settings_dict = there | new
        try:
            yield DatabaseBackend(alias=alias)
        finally:
            connection.close()
            connection.settings_dict = there

    return connect


@contextmanager
def users(alias: str) -> Iterator[None]:
    """Make a user ``locked`` with another password, and a user who may do nothing."""
    make, drop = {
        "postgresql": (
            ["CREATE ROLE locked LOGIN PASSWORD 'another'", "CREATE ROLE poor LOGIN"],
            ["DROP ROLE locked", "DROP ROLE poor"],
        ),
        "mariadb": (
            ["CREATE USER locked@localhost IDENTIFIED BY 'another'",
             f"CREATE USER poor@localhost IDENTIFIED BY '{PASSWORD}'"],
            ["DROP USER locked@localhost", "DROP USER poor@localhost"],
        ),
    }[alias]  # fmt: skip
    access = servers.POSTGRESQL / "data" / "pg_hba.conf"
    rules = access.read_text() if alias == "postgresql" else ""
    if rules:
        access.write_text(f"local all locked scram-sha-256\n{rules}")
        make.append("SELECT pg_reload_conf()")
    execute(alias, make)
    try:
        yield
    finally:
        if rules:
            access.write_text(rules)
            drop.append("SELECT pg_reload_conf()")
        execute(alias, drop)


def execute(alias: str, statements: list[str]) -> None:
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def as_user(
    alias: str, name: str, folder: Path, **changes: Any
) -> Iterator[BaseBackend]:
    with users(alias), database(alias, USER=name, **changes)(folder) as backend:
        yield backend


@contextmanager
def without_table(alias: str, folder: Path) -> Iterator[BaseBackend]:
    execute(alias, ["ALTER TABLE realtime_ticket RENAME TO elsewhere"])
    try:
        yield DatabaseBackend(alias=alias)
    finally:
        execute(alias, ["ALTER TABLE elsewhere RENAME TO realtime_ticket"])


@contextmanager
def read_only_file(folder: Path) -> Iterator[BaseBackend]:
    file = connections["default"].settings_dict["NAME"]
    name = f"file:{file}?mode=ro"
    with database("default", NAME=name, OPTIONS={"init_command": ""})(
        folder
    ) as backend:
        yield backend


ON_DATABASES = {
    "postgresql": {
        "refused": Case(database("postgresql", HOST="127.0.0.1", PORT="1"),
                        ("The database 'postgresql' (PostgreSQL) at 127.0.0.1:1 ref",
                         "DATABASES['postgresql']")),
        "socket": Case(database("postgresql", HOST=NOWHERE), (NOWHERE, "not there")),
        "host": Case(database("postgresql", HOST=NOBODY), (NOBODY, "unknown host")),
        "password": Case(partial(as_user, "postgresql", "locked"), ("password",)),
        "grant": Case(partial(as_user, "postgresql", "poor"),
                      ("Grant", "SELECT, INSERT, UPDATE and DELETE")),
        "database": Case(database("postgresql", NAME="nowhere"), ("Correct NAME",)),
        "table": Case(partial(without_table, "postgresql"),
                      ("manage.py migrate realtime_ticket --database postgresql",)),
        "replica": Case(database("postgresql", OPTIONS={
            "options": "-c default_transaction_read_only=on"}), ("Name the primary",)),
        "TLS": Case(database("postgresql", HOST="127.0.0.1", OPTIONS={
            "sslmode": "require"}), ("127.0.0.1",)),
    },
    "mariadb": {
        "refused": Case(database("mariadb", HOST="127.0.0.1", PORT="1", OPTIONS={
            "unix_socket": ""}), ("(MariaDB or MySQL)", "127.0.0.1:1 refuses")),
        "socket": Case(database("mariadb", OPTIONS={"unix_socket": NOWHERE}),
                       (NOWHERE, "is not there")),
        "host": Case(database("mariadb", HOST=NOBODY, OPTIONS={"unix_socket": ""}),
                     (NOBODY, "unknown host")),
        "password": Case(partial(as_user, "mariadb", "locked"), ("password",)),
        "grant": Case(partial(as_user, "mariadb", "poor", NAME="mysql"), ("Grant",)),
        "table": Case(partial(without_table, "mariadb"), ("manage.py migrate",)),
        "replica": Case(database("mariadb", PASSWORD="", OPTIONS={
            "init_command": "SET SESSION TRANSACTION READ ONLY"}),
            ("Name the primary",)),
    },
    "default": {
        "file": Case(database("default", NAME=f"{NOWHERE}/db.sqlite3"),
                     ("SQLite", NOWHERE, "is not there")),
        "read-only": Case(read_only_file, ("read-only file",)),
        "table": Case(partial(without_table, "default"), ("manage.py migrate",)),
    },
}  # fmt: skip


def parameters() -> list[Any]:
    plain = ON_REDIS | ON_MEMCACHED | ON_CACHES
    return [
        *(pytest.param(case, id=name) for name, case in plain.items()),
        *(pytest.param(case, id=f"{alias} {name}",
                       marks=pytest.mark.django_db(transaction=True, databases=[alias]))
          for alias in ("default", *REMOTE)
          for name, case in ON_DATABASES[alias].items()),
    ]  # fmt: skip


class TestTheLog:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Return how to set the clock of the log."""

        def set_to(seconds: float) -> None:
            monkeypatch.setattr(outages.time, "monotonic", lambda: seconds)

        set_to(1000.0)
        return set_to

    @both_doors
    def test_is_told_once_in_a_minute(
        self, door: type[Door], clock: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With the number of those that were not told.

        Mutants: outage-told-each-time, outage-without-a-number.
        """
        with using(RedisBackend(port=1)) as service:

            def fail(times: int) -> None:
                for _ in range(times):
                    with pytest.raises(StorageError):
                        door(service).consume(tickets.new_value())

            fail(50)
            (record,) = caplog.records
            assert record.levelname == "ERROR" and "more" not in record.getMessage()
            clock(1061.0)
            fail(1)
        assert caplog.records[1].getMessage().endswith(" 49 more calls have failed.")
        assert len(caplog.records) == 2

    def test_is_told_once_by_many_threads(
        self, clock: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """They fail at the same moment, and each failure is counted."""
        report, barrier = outages.Report(), threading.Barrier(32)

        def fail() -> None:
            barrier.wait(10)
            for _ in range(20):
                report(StorageError("It is down."))

        threads = [threading.Thread(target=fail) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(caplog.records) == 1
        clock(2000.0)
        report(StorageError("It is down."))
        told = "".join(record.getMessage() for record in caplog.records)
        assert sum(map(int, re.findall(r"(\d+) more", told))) + 2 == 32 * 20 + 1

    def test_is_told_when_the_storage_keeps_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Though it raised nothing."""

        class Forgets(RecordingBackend):
            def add(self, key: str, data: str, expire: int) -> bool:
                return False

        with using(Forgets()) as service, pytest.raises(StorageError):
            service.issue(CLAIMS)
        (record,) = caplog.records
        assert record.getMessage() == "The storage did not keep the ticket."


class TestReasons:
    @both_doors
    @pytest.mark.parametrize("case", parameters())
    def test_are_in_the_error_and_in_the_log(
        self,
        case: Case,
        door: type[Door],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Where, what, and what to do; no password, and nothing that is a ticket.

        Mutants: outage-without-a-reason, outage-without-a-place, outage-unsaid.
        """
        caplog.set_level(logging.ERROR, logger="realtime_ticket")
        with case.outage(tmp_path) as backend, using(backend) as service:
            with pytest.raises(StorageError) as caught:
                door(service).issue(CLAIMS)
            text = str(caught.value)
        assert "failed (" not in text, "the kind is unknown"
        for words in case.says:
            assert words in text
        assert caught.value.hint
        (record,) = caplog.records
        assert record.getMessage() == text
        assert PASSWORD not in text and PASSWORD[::-1] not in text
        assert not tickets.value_format().search(text)


@pytest.mark.parametrize(
    "location, place",
    [
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("redis://:pass[word@localhost", ""),
        ("redis://:secret@a:6380", "a:6380"),
    ],
)
def test_the_address_of_a_cache_has_no_password(location: str, place: str) -> None:
    """And a URL that cannot be read is left out, since it may hold one."""
    assert _cache_outages._place_of(location) == place
