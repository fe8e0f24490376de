"""Reading without taking: round trips, outages of some servers, transactions.

What every backend promises is in the contract. See also test_scale_out.py.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from pymemcache.client.base import Client

from realtime_ticket import RealtimeTicketError, UnsupportedBackend
from realtime_ticket.backends._reading import read_from_each
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.helpers import NOWHERE, RecordingBackend, real_redis, using

KEYS = [f"off:rt_:1764303000:{n}" for n in range(40)]
ITEMS = [Item(key, key, 9) for key in KEYS]


class TestSupport:
    def test_is_known_without_asking(self) -> None:
        """By the class, or by an instance."""
        assert LocMemBackend.supports_read_many() is True
        assert RecordingBackend().supports_read_many() is False

    def test_a_backend_without_it_says_so(self) -> None:
        """A mistake of the project's, told with what to do; no outage."""
        with using(RecordingBackend()) as service:
            backend = service.backend
            backend.storage_errors = (Exception,)  # type: ignore[misc]
            with pytest.raises(UnsupportedBackend) as caught:
                service._call(backend.read_many, KEYS)
        assert isinstance(caught.value, RealtimeTicketError)
        assert isinstance(caught.value, NotImplementedError)
        said = str(caught.value)
        assert "tests.helpers.RecordingBackend" in said
        assert "Write read_many()" in said

    def test_a_backend_without_it_keeps_tickets(self) -> None:
        """A backend that somebody wrote before is complete for tickets."""

        class OfSomebody(BaseBackend):
            def __init__(self) -> None:
                self.texts: dict[str, str] = {}

            def add(self, key: str, data: str, expire: int) -> bool:
                return self.texts.setdefault(key, data) is data

            def pop(self, key: str) -> str | None:
                return self.texts.pop(key, None)

        with using(OfSomebody()) as service:
            ticket = service.issue({"id": 1, "username": "alice"})
            assert service.consume(ticket.value) == ticket


class TestSeveralServers:
    """What read_from_each() makes of the servers' answers."""

    SHARES = {"a": [0, 3], "b": [1], "c": [2]}

    @pytest.mark.parametrize("dead", [[], ["a"], ["b"], ["a", "c"]])
    def test_a_dead_one_costs_its_own_keys(self, dead: list[str]) -> None:
        """Its error stands in their place, the others' texts in theirs.

        Mutants: reading-answers-server-by-server.
        """

        def read(server: str, positions: Any) -> list[str | None]:
            if server in dead:
                raise OSError(server)
            return [f"{server}{position}" for position in positions]

        texts = read_from_each(self.SHARES, read, (OSError,))
        for server, positions in self.SHARES.items():
            for position in positions:
                text = texts[position]
                if server in dead:
                    assert isinstance(text, OSError) and text.args == (server,)
                else:
                    assert text == f"{server}{position}"

    def test_when_all_are_dead_it_raises(self) -> None:
        """The first one's error. Mutants: reading-returns-an-outage-of-all."""

        def read(server: str, positions: Any) -> list[str | None]:
            raise OSError(server)

        with pytest.raises(OSError, match=r"^a$"):
            read_from_each(self.SHARES, read, (OSError,))

    def test_a_bug_is_no_outage(self) -> None:
        """Nothing else than the driver's errors is kept."""

        def read(server: str, positions: Any) -> list[str | None]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            read_from_each(self.SHARES, read, (OSError,))


class TestMemcached:
    @pytest.fixture
    def names(self) -> list[str]:
        servers.require("memcached")
        return [str(path) for path in servers.MEMCACHED[:2]]

    def test_one_that_is_down_costs_its_own_keys(self, names: list[str]) -> None:
        """Of three. The others' disconnects are heard.

        Mutants: reading-fails-with-one-server, reading-takes-an-outage-for-emptiness.
        """
        backend = MemcachedBackend(servers=[*names, NOWHERE])
        places = [backend._hash.get_node(key) for key in KEYS]
        assert set(places) == {*names, NOWHERE}
        kept = [key for key, place in zip(KEYS, places, strict=True) if place in names]
        for key in kept[::2]:
            backend.add(key, key, 9)
        for _ in range(2):
            for key, place, text in zip(
                KEYS, places, backend.read_many(KEYS), strict=True
            ):
                if place == NOWHERE:
                    assert isinstance(text, backend.storage_errors)
                else:
                    assert text == (key if key in kept[::2] else None)
        assert backend.pop_many(kept[::2]) == kept[::2]
        backend.close()

    def test_each_is_asked_once(
        self, names: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One command for all keys of a server. Mutants: memcached-reads-one-by-one."""
        asked = []
        send = Client._fetch_cmd

        def spy(self: Any, name: bytes, *args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return send(self, name, *args, **kwargs)

        monkeypatch.setattr(Client, "_fetch_cmd", spy)
        backend = MemcachedBackend(servers=names)
        backend.read_many(KEYS)
        assert asked == [b"get", b"get"]
        backend.close()


class TestRedis:
    @pytest.fixture
    def backend(self) -> Iterator[RedisBackend]:
        servers.require("redis")
        backend = RedisBackend(
            unix_socket_path=str(servers.REDIS), db=5, wait_replicas=1
        )
        yield backend
        backend.close()

    def test_one_command_reads_all(self, backend: RedisBackend) -> None:
        """MGET, and no GET. Mutants: redis-reads-one-by-one."""
        with real_redis(db=5) as watcher:
            watcher.config_resetstat()
            assert backend.read_many(KEYS) == [None] * len(KEYS)
            stats = watcher.info("commandstats")
        assert stats["cmdstat_mget"]["calls"] == 1
        assert "cmdstat_get" not in stats

    def test_replicas_are_not_waited_for(self, backend: RedisBackend) -> None:
        """There is none, so nobody can take; reading goes on.

        Mutants: redis-waits-for-replicas-to-read.
        """
        backend.add(KEYS[0], "text", 9)
        assert backend.read_many(KEYS[:2]) == ["text", None]
        with pytest.raises(backend.storage_errors):
            backend.pop(KEYS[0])

    def test_what_is_no_text_is_not_there(self, backend: RedisBackend) -> None:
        """Nor does it fail the others."""
        with real_redis(db=5) as watcher:
            watcher.delete(KEYS[0])
            watcher.rpush(KEYS[0], "x")
            backend.add(KEYS[1], "text", 9)
            assert backend.read_many(KEYS[:2]) == [None, "text"]
            watcher.delete(*KEYS[:2])


HIDING: dict[str, dict[str, Any]] = {
    "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
    "django-redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"unix://{NOWHERE}",
        "OPTIONS": {"IGNORE_EXCEPTIONS": True},
    },
    "pymemcache": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": f"unix:{NOWHERE}",
        "OPTIONS": {"ignore_exc": True},
    },
    "retrying": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": f"unix:{NOWHERE}",
    },
}
"""Caches that say "nothing there" when they are down."""


class TestCache:
    @pytest.mark.parametrize("kind", HIDING)
    def test_an_outage_that_is_hidden_raises(self, kind: str, settings: Any) -> None:
        """A cache that returns nothing has to prove that it answered.

        Mutants: cache-believes-a-cache-that-found-nothing.
        """
        settings.CACHES = settings.CACHES | {"hiding": HIDING[kind]}
        backend = CacheBackend(alias="hiding")
        for _ in range(4):
            with pytest.raises((LookupError, OSError)):
                backend.read_many(KEYS)

    def test_all_keys_are_one_request(self) -> None:
        """Once the cache has the key that proves it.

        Mutants: cache-reads-one-by-one.
        """
        servers.require("redis")
        backend = CacheBackend(alias="redis")
        backend.read_many(KEYS)
        with real_redis(db=1) as watcher:
            watcher.config_resetstat()
            assert backend.read_many(KEYS) == [None] * len(KEYS)
            stats = watcher.info("commandstats")
        assert stats["cmdstat_mget"]["calls"] == 1
        assert not stats.keys() & {"cmdstat_get", "cmdstat_set"}
        backend.close()

    def test_a_cache_that_was_cleared_is_read_again(self) -> None:
        """The key that proves it is written again."""
        backend = CacheBackend(alias="default")
        assert backend.read_many(KEYS) == [None] * len(KEYS)
        caches["default"].clear()
        backend.add(KEYS[0], "text", 9)
        assert backend.read_many(KEYS[:2]) == ["text", None]
        assert backend.pop(KEYS[0]) == "text"

    @pytest.mark.parametrize("value", [b"bytes", 7, {"id": 1}, None, True])
    def test_what_is_no_text_is_not_there(self, value: Any) -> None:
        """Somebody else keeps it under such a key."""
        backend = CacheBackend(alias="default")
        backend._connection.cache.set(KEYS[0], value)
        assert backend.read_many(KEYS[:1]) == [None]
        backend._connection.cache.delete(KEYS[0])


ALIASES = [alias for alias in ("default", "postgresql", "mariadb")
           if alias in connections.settings]  # fmt: skip


@pytest.mark.django_db(transaction=True, databases=ALIASES)
class TestDatabase:
    @pytest.fixture(params=ALIASES)
    def backend(self, request: pytest.FixtureRequest) -> DatabaseBackend:
        if request.param != "default":
            servers.require(request.param)
        return DatabaseBackend(alias=request.param)

    def test_one_query_reads_all(self, backend: DatabaseBackend) -> None:
        """Mutants: database-reads-one-by-one."""
        backend.add_many(ITEMS[::2])
        with CaptureQueriesContext(connections[backend.alias]) as queries:
            texts = backend.read_many(KEYS)
        assert texts[::2] == KEYS[::2] and set(texts[1::2]) == {None}
        assert len(queries) == 1

    def test_expired_rows_are_left_out(self) -> None:
        """Though they are there, until somebody clears the table.

        Mutants: database-reads-what-expired.
        """
        backend = DatabaseBackend(alias="default")
        backend.add_many([Item(KEYS[0], "dead", 9), Item(KEYS[1], "alive", 9)])
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "UPDATE realtime_ticket SET expires_at = '2020-01-01 00:00:00'"
                " WHERE data = 'dead'"
            )
        assert backend.read_many(KEYS[:2]) == [None, "alive"]

    def test_a_transaction_is_no_obstacle(self, backend: DatabaseBackend) -> None:
        """Reading in one is allowed, and sees what others commit meanwhile, with the
        isolation level that Django asks for. SQLite does not let them.

        Mutants: database-reads-outside-transactions-only.
        """
        alias = backend.alias

        def elsewhere() -> None:
            backend.add(KEYS[0], "new", 9)
            connections[alias].close()

        with transaction.atomic(using=alias):
            assert backend.read_many(KEYS[:2]) == [None, None]
            if alias != "default":
                thread = threading.Thread(target=elsewhere)
                thread.start()
                thread.join()
                assert backend.read_many(KEYS[:2]) == ["new", None]


def test_a_frozen_memcached_is_not_waited_for_by_each_call_of_a_reading(
    tmp_path: Path,
) -> None:
    """One of three would make a reading of many calls take longer than five seconds.

    Mutants: memcached-waits-for-a-frozen-server-in-each-call.
    """
    path = tmp_path / "frozen"
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(path))
        frozen.listen()
        backend = MemcachedBackend(servers=[str(path)], timeout=0.5)
        started = time.monotonic()
        for _ in range(10):
            with pytest.raises(TimeoutError):
                backend.read_many(["off:rt_:1764303000:0"])
        assert time.monotonic() - started < 2
