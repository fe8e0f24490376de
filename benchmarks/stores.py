"""Stores that can be filled with tickets which nobody consumes.

Each fills itself as fast as it can, with keys as long as ours and as random, and says
how much room it takes.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import redis
from pymemcache.client.base import Client

from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers

from . import by_hand, tables
from .caches import by_pymemcache
from .databases import DRIVERS, by_driver
from .redis_sync import by_redis_py

LIFETIME: Final = 3600
"""Seconds. Long enough for all that is measured meanwhile."""

_CHUNK: Final = 10_000


class Store(ABC):
    """A store of its own, empty at first."""

    name: str
    driver: str

    @abstractmethod
    def backend(self) -> BaseBackend:
        """Return our backend on it."""

    @abstractmethod
    def bare(self) -> Callable[[], None]:
        """Return what issues and consumes a ticket with the driver alone."""

    @abstractmethod
    def fill(self, count: int) -> None:
        """Add so many tickets that live long."""

    @abstractmethod
    def size(self) -> int:
        """Return how many bytes it takes."""


class RedisStore(Store):
    name = "Redis"
    driver = "redis-py"

    _FILL = """
    for i = ARGV[1], ARGV[2] do
        redis.call('SET', 'rt_43_' .. redis.sha1hex(i), ARGV[3], 'EX', ARGV[4])
    end"""

    def __init__(self, folder: str) -> None:
        self._path = servers.DIRECTORY / folder / "socket"
        servers.start_redis(self._path)
        self._client = redis.Redis(unix_socket_path=str(self._path))

    def backend(self) -> BaseBackend:
        return RedisBackend(unix_socket_path=str(self._path))

    def bare(self) -> Callable[[], None]:
        return lambda: by_redis_py(self._client)

    def fill(self, count: int) -> None:
        _, data = by_hand.make()
        for first in range(1, count + 1, _CHUNK):
            last = min(first + _CHUNK - 1, count)
            self._client.eval(self._FILL, 0, first, last, data, LIFETIME)

    def size(self) -> int:
        return int(self._client.info("memory")["used_memory"])


class MemcachedStore(Store):
    name = "Memcached"
    driver = "pymemcache"

    def __init__(self, folder: str) -> None:
        self._path = servers.DIRECTORY / folder / "socket"
        servers.start_memcached(self._path, "-m", "1024")
        self._client = Client(f"unix:{self._path}", default_noreply=False)

    def backend(self) -> BaseBackend:
        return MemcachedBackend(servers=[f"unix:{self._path}"])

    def bare(self) -> Callable[[], None]:
        return lambda: by_pymemcache(self._client)

    def fill(self, count: int) -> None:
        _, data = by_hand.make()
        rest = f" 0 {LIFETIME} {len(data)} noreply\r\n{data}\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._path))
            for first in range(0, count, _CHUNK):
                numbers = range(first, min(first + _CHUNK, count))
                client.sendall(
                    "".join(f"set {_key(n)}{rest}" for n in numbers).encode()
                )
            client.sendall(b"version\r\n")
            client.recv(64)  # so all before it are there

    def size(self) -> int:
        return int(self._client.stats()[b"bytes"])


class TableStore(Store):
    _FILL: Final = {
        "sqlite": "WITH RECURSIVE numbers(n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {0})"
        " INSERT INTO realtime_ticket"
        " SELECT 'rt_' || lower(hex(randomblob(32))), %s,"
        " strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %s || ' seconds') FROM numbers",
        "postgresql": "INSERT INTO realtime_ticket"
        " SELECT 'rt_' || encode(sha256(n::text::bytea), 'hex'), %s,"
        " now() + %s * interval '1 second' FROM generate_series(1, {0}) n",
        "mariadb": "INSERT INTO realtime_ticket"
        " SELECT concat('rt_', sha2(seq, 256)), %s,"
        " utc_timestamp(6) + interval %s second FROM seq_1_to_{0}",
    }
    _SIZE: Final = {
        "sqlite": "SELECT page_count * page_size"
        " FROM pragma_page_count(), pragma_page_size()",
        "postgresql": "SELECT pg_total_relation_size('realtime_ticket')",
        "mariadb": "SELECT data_length + index_length FROM information_schema.tables"
        " WHERE table_schema = database() AND table_name = 'realtime_ticket'",
    }
    _SETTLE: Final = {
        "sqlite": "PRAGMA wal_checkpoint(TRUNCATE)",
        "postgresql": "VACUUM ANALYZE realtime_ticket",
        "mariadb": "ANALYZE TABLE realtime_ticket",
    }

    def __init__(self, vendor: str, database: str) -> None:
        tables.create(vendor)
        self.name, self.driver = vendor, DRIVERS[vendor]
        self.alias = vendor if database == "few" else f"{vendor}-many"
        self._database = database
        self._execute = tables.connect(vendor, database)

    def backend(self) -> BaseBackend:
        return DatabaseBackend(alias=self.alias)

    def bare(self) -> Callable[[], None]:
        return by_driver(self.name, self._database)

    def fill(self, count: int, lifetime: int = LIFETIME) -> None:
        """See Store.fill(). A negative lifetime makes tickets that have expired."""
        _, data = by_hand.make()
        self._execute(self._FILL[self.name].format(count), (data, lifetime))
        self._execute(self._SETTLE[self.name], ())

    def empty(self) -> None:
        verb = "DELETE FROM" if self.name == "sqlite" else "TRUNCATE TABLE"
        self._execute(f"{verb} realtime_ticket", ())

    def size(self) -> int:
        ((size,),) = self._execute(self._SIZE[self.name], ())
        return int(size)


def _key(number: int) -> str:
    return "rt_" + sha256(str(number).encode()).hexdigest()[:43]
