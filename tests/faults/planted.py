"""What may stand where the text of a ticket should be, and storages to put it in."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches
from django.db import connections
from pymemcache.client.base import Client as MemcachedClient

from realtime_ticket import Ticket
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.helpers import CLAIMS, REMOTE, real_redis

on_databases = pytest.mark.django_db(databases=["default", *REMOTE])

WHOLE = b'{"id":7,"username":"ada","iat":1,"exp":2%s}'
GARBAGE = [
    b"", b" ", b"garbage", b"null", b"7", b'"x"', b"[]", b"{}", b"NaN", b"\0" * 5000,
    b"\xff\xfe", b"\x80\x04K\x07.", b"9" * 5000, b"[" * 100_000, b'{"id":' * 20_000,
    b'{"id":7}', b'{"username":"ada"}', b'{"id":7,"username":"ada"}', b"{}" * 9,
    *(b'{"id":%s,"username":"ada","iat":1,"exp":2}' % text for text in (
        b"null", b"true", b"7.5", b"9007199254740992", b"[7]", b"{}", b"NaN",
        b"Infinity", b"9" * 5000)),
    *(b'{"id":7,"username":%s,"iat":1,"exp":2}' % text for text in (
        b"null", b"7", b"[]", b'"\xff"', b'"\xc3\xa4"', b'"%s"' % (b"a" * 5000))),
    *(b'{"id":7,"username":"ada","iat":%s,"exp":2}' % text for text in (
        b'"1"', b"1.5", b"true", b"null", b"1e999")),
    *(WHOLE % text for text in (
        b',"aud":"chat"', b',"aud":null', b',"aud":[]', b',"x":NaN', b',"x":-Infinity',
        b',"x":' + b"9" * 5000, b',"x":"%s"' % (b"a" * 500_000))),
]  # fmt: skip
"""What stands where the text of a ticket should be."""

OBJECTS: list[Any] = [
    0, 7, True, 1.5, b"", WHOLE % b"", [], {}, (), set(), dict(CLAIMS), Ticket,
    CLAIMS | {"iat": 1, "exp": 2}, [(WHOLE % b"").decode()],
]  # fmt: skip
"""What a cache may hold besides texts."""


class OnRedis:
    def make(self) -> BaseBackend:
        servers.require("redis")
        return RedisBackend(unix_socket_path=str(servers.REDIS))

    def plant(self, key: str, data: Any) -> None:
        with real_redis() as redis:
            redis.set(key, data, px=60_000)

    def contents(self) -> list[Any]:
        return list(GARBAGE)


class OnOldRedis(OnRedis):
    def make(self) -> BaseBackend:
        backend = super().make()
        backend._has_getdel = False  # type: ignore[attr-defined]
        return backend


class OnMemcached(OnRedis):
    def make(self) -> BaseBackend:
        servers.require("memcached")
        return MemcachedBackend(servers=str(servers.MEMCACHED[0]))

    def plant(self, key: str, data: Any) -> None:
        client = MemcachedClient(f"unix:{servers.MEMCACHED[0]}", default_noreply=False)
        assert client.set(key, data, expire=60)
        client.close()


class OnDatabase(OnRedis):
    value = "%s"

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def make(self) -> BaseBackend:
        return DatabaseBackend(alias=self.alias)

    def plant(self, key: str, data: Any) -> None:
        with connections[self.alias].cursor() as cursor:
            cursor.execute("DELETE FROM realtime_ticket")
            assert self.make().add(key, "", 60)
            cursor.execute(f"UPDATE realtime_ticket SET data = {self.value}", [data])

    def contents(self) -> list[Any]:
        """Return those that are text: no other is let into such a column."""
        texts = [data for data in GARBAGE if b"\0" not in data and is_utf8(data)]
        assert len(texts) > 30
        return [data.decode() for data in texts]


class OnSQLite(OnDatabase):
    """SQLite takes bytes for a text, and binary data in a column of texts."""

    def __init__(self, value: str) -> None:
        self.alias, self.value = "default", value

    def contents(self) -> list[Any]:
        return list(GARBAGE)


class OnCache(OnRedis):
    def __init__(self, alias: str) -> None:
        self.alias = alias

    def make(self) -> BaseBackend:
        if self.alias in servers.PROGRAMS or "redis" in self.alias:
            servers.require("memcached" if self.alias == "memcached" else "redis")
        return CacheBackend(alias=self.alias)

    def plant(self, key: str, data: Any) -> None:
        caches[self.alias].set(key, data, 60)

    def contents(self) -> list[Any]:
        return [*OBJECTS, *(data.decode("latin-1") for data in GARBAGE)]


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


STORAGES = [
    pytest.param(OnRedis(), id="redis"),
    pytest.param(OnOldRedis(), id="redis-script"),
    pytest.param(OnMemcached(), id="memcached"),
    *(pytest.param(OnDatabase(name), id=name, marks=on_databases) for name in REMOTE),
    pytest.param(OnSQLite("CAST(%s AS TEXT)"), id="sqlite", marks=on_databases),
    pytest.param(OnSQLite("%s"), id="sqlite-blob", marks=on_databases),
    *(pytest.param(OnCache(alias), id=f"{alias}-cache", marks=on_databases)
      for alias in ("default", "file", "database", "redis", "django-redis",
                    "memcached")),
]  # fmt: skip
