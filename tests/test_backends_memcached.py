"""The Memcached backend: several servers, its limits, and lost races."""

from __future__ import annotations

import os
import select
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client

from realtime_ticket import InvalidTicket, StorageError, tickets
from realtime_ticket.backends.base import Item
from realtime_ticket.backends.memcached import MemcachedBackend
from tests import servers
from tests.helpers import CLAIMS, GOOD, NOWHERE, in_child, silent_server, using

MONTH = 30 * 24 * 60 * 60


@pytest.fixture
def one(watcher: Client) -> Iterator[MemcachedBackend]:
    """A backend on the first server."""
    backend = MemcachedBackend(servers=str(servers.MEMCACHED[0]))
    yield backend
    backend.close()


@pytest.fixture
def watcher() -> Iterator[Client]:
    """A client that looks at the first server, which is empty, from outside."""
    servers.require("memcached")
    client = Client(str(servers.MEMCACHED[0]), default_noreply=False)
    client.flush_all()
    yield client
    client.close()


def connection(backend: MemcachedBackend) -> Any:
    """Return the connection that the next call uses."""
    return backend._call(backend._server(GOOD), lambda client: client)


class TestOptions:
    def test_defaults(self) -> None:
        """A local Memcached, and short waits."""
        backend = MemcachedBackend()
        assert connection(backend).server == ("127.0.0.1", 11211)
        assert backend._options["timeout"] == backend._options["connect_timeout"] == 1

    @pytest.mark.parametrize(
        ("value", "names"),
        [("a:1", ["a:1"]), (["a:1"], ["a:1"]), (("a:1", "/b"), ["a:1", "/b"])],
    )
    def test_servers(self, value: Any, names: list[str]) -> None:
        """One as a string, or several."""
        assert MemcachedBackend(servers=value)._servers == names

    @pytest.mark.parametrize("value", [[], (), set()])
    def test_no_servers(self, value: Any) -> None:
        """At least one is needed."""
        with pytest.raises(TypeError, match="servers is a list"):
            MemcachedBackend(servers=value)

    def test_that_do_not_exist(self) -> None:
        """A TypeError names the option."""
        with pytest.raises(TypeError, match="nothing"):
            MemcachedBackend(nothing=1)

    def test_of_the_client(self, watcher: Client) -> None:
        """Its keywords are taken, such as key_prefix."""
        backend = MemcachedBackend(
            servers=str(servers.MEMCACHED[0]), key_prefix=b"app:", timeout=3
        )
        backend.add(GOOD, "text", 9)
        assert watcher.get(f"app:{GOOD}") == b"text"
        assert backend.pop(GOOD) == "text"
        assert backend._options["timeout"] == 3
        backend.close()

    def test_cannot_make_it_careless(self, watcher: Client) -> None:
        """Without replies, or with errors ignored, nobody would know who won."""
        backend = MemcachedBackend(
            servers=str(servers.MEMCACHED[0]), default_noreply=True, ignore_exc=True
        )
        assert backend.add(GOOD, "text", 9) is True
        assert backend.add(GOOD, "text", 9) is False
        assert backend.pop(GOOD) == "text"
        backend.close()
        dead = MemcachedBackend(servers=NOWHERE, ignore_exc=True)
        with pytest.raises(OSError):
            dead.pop(GOOD)

    def test_touch_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Making a backend opens no socket."""

        def refused(*args: object, **kwargs: object) -> None:
            raise AssertionError("opened a socket")

        monkeypatch.setattr(socket, "socket", refused)
        MemcachedBackend(servers=["h:1", "/path"])


class TestLifetime:
    def test_of_a_month_is_the_longest(self, one: MemcachedBackend) -> None:
        """Memcached takes more for a date in 1970, and would forget at once."""
        assert one.add(GOOD, "text", MONTH) is True
        assert one.pop(GOOD) == "text"
        with pytest.raises(ValueError, match="2592000 seconds"):
            one.add(GOOD, "text", MONTH + 1)

    def test_beyond_it_is_the_callers_mistake(self, one: MemcachedBackend) -> None:
        """The service raises the ValueError that it promises for a wrong lifetime."""
        with using(one) as service, pytest.raises(ValueError):
            service.issue(CLAIMS, expire=MONTH + 1)


class TestExactlyOnce:
    @pytest.mark.parametrize("answer", [False, None, b"", 0])
    def test_who_deletes_nothing_gets_nothing(
        self, one: MemcachedBackend, monkeypatch: pytest.MonkeyPatch, answer: Any
    ) -> None:
        """Reading a text is not enough: another caller may have read it too.

        Mutants: memcached-ignores-who-deleted.
        """
        one.add(GOOD, "text", 9)
        monkeypatch.setattr(connection(one), "delete", lambda key: answer)
        assert one.pop(GOOD) is None

    def test_an_outage_between_reading_and_deleting(
        self, one: MemcachedBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody is let in when it is unknown who deleted.

        Mutants: memcached-takes-an-outage-for-a-victory.
        """

        def lost(key: str) -> bool:
            raise ConnectionResetError

        one.add(GOOD, "text", 9)
        monkeypatch.setattr(connection(one), "delete", lost)
        with using(one) as service, pytest.raises(StorageError):
            service.consume(GOOD)

    @pytest.mark.parametrize("garbage", [b"\xff\xfe", b"garbage", b""], ids=ascii)
    def test_what_others_stored_is_a_mismatch(
        self, one: MemcachedBackend, watcher: Client, garbage: bytes
    ) -> None:
        """Garbage under a ticket's key lets nobody in, and is gone.

        Mutants: memcached-decodes-strictly.
        """
        watcher.set(GOOD, garbage, expire=5)
        with using(one) as service, pytest.raises(InvalidTicket) as caught:
            service.consume(GOOD)
        assert caught.value.reason == "mismatch"
        assert watcher.get(GOOD) is None


class TestSeveralServers:
    def test_share_the_keys(self) -> None:
        """Each server gets its part, and every process finds it there.

        Mutants: memcached-goes-by-the-order-of-servers.
        """
        servers.require("memcached")
        names = [str(path) for path in servers.MEMCACHED]
        backend = MemcachedBackend(servers=names)
        other = MemcachedBackend(servers=names[::-1])
        keys = [tickets.new_value() for _ in range(60)]
        backend.pop_many(keys)
        assert {server for _, server in backend._idle} == set(names)
        backend.add_many([Item(key, key, 9) for key in keys])
        assert other.pop_many(keys) == keys, "the order of the servers matters"
        backend.close()
        other.close()

    def test_have_equal_parts(self) -> None:
        """A third each, and the same part in every release of this package.

        Mutants: memcached-gives-one-server-all-keys.
        """
        names = ["a:1", "b:1", "/c"]
        heaviest = MemcachedBackend(servers=names)._hash.get_node
        found = [heaviest(tickets.new_value()) for _ in range(3000)]
        assert all(800 < found.count(name) < 1200 for name in names)
        assert [heaviest(GOOD), heaviest(GOOD + ":a")] == ["a:1", "/c"]

    def test_one_that_is_down_keeps_its_share(self) -> None:
        """Its tickets are an outage, never "no such ticket"; the others work.

        Mutants: memcached-ignores-errors.
        """
        servers.require("memcached")
        alive = str(servers.MEMCACHED[0])
        backend = MemcachedBackend(servers=[alive, NOWHERE])
        outcomes: dict[str, set[str]] = {alive: set(), NOWHERE: set()}
        with using(backend) as service:
            for _ in range(40):
                key = tickets.new_value()
                server = backend._hash.get_node(key)
                try:
                    service.consume(key)
                except (InvalidTicket, StorageError) as exc:
                    outcomes[server].add(type(exc).__name__)
        assert outcomes == {alive: {"InvalidTicket"}, NOWHERE: {"StorageError"}}


class TestTrouble:
    def test_a_server_that_is_frozen(self, tmp_path: Path) -> None:
        """The wait is a second. Mutants: memcached-waits-five-seconds."""
        with silent_server(tmp_path / "s") as path:
            backend = MemcachedBackend(servers=path)
            started = time.monotonic()
            with pytest.raises(OSError):
                backend.pop(GOOD)
            assert 0.9 < time.monotonic() - started < 4.5
            backend.close()

    @pytest.mark.parametrize("way", ["poll", "select"])
    def test_a_server_that_restarts(
        self, way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No call fails for a connection that the old server has closed.

        Windows has no poll().

        Mutants: memcached-uses-closed-connections.
        """
        servers.require("memcached")
        path = servers.DIRECTORY / f"memcached-{way}" / "socket"
        backend = MemcachedBackend(servers=str(path))
        server = servers.start_memcached(path)
        # Two connections: the inner call needs another one.
        backend._call(str(path), lambda client: (client.version(), backend.pop("x")))
        server.terminate()
        server.wait(10)
        shutil.rmtree(path.parent)
        server = servers.start_memcached(path)
        with monkeypatch.context() as patch:
            if way == "select":
                patch.delattr(select, "poll")
            backend._call(
                str(path), lambda client: client.add("a", b"A", noreply=False)
            )
            assert backend.pop("a") == "A"
            backend._call(str(path), lambda client: backend.pop("x"))
        backend.close()
        server.terminate()
        server.wait(10)

    def test_a_key_that_memcached_cannot_hold(self, one: MemcachedBackend) -> None:
        """An error of the client is a storage error like any other.

        Mutants: memcached-knows-errors-of-sockets-only.
        """
        with pytest.raises(one.storage_errors):
            one.pop("k" * 300)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_a_fork_connects_anew(self, one: MemcachedBackend) -> None:
        """A child opens its own connections and leaves the parent's open.

        Mutants: memcached-shares-connections-with-a-child.
        """
        one.add("mine", "parent", 9)
        one.add("yours", "child", 9)
        mine = connection(one)

        def child() -> tuple[str | None, bool, bool]:
            text = one.pop("yours")
            return text, connection(one) is mine, mine.sock is None

        assert in_child(child) == ("child", False, False)
        assert one.pop("mine") == "parent"
        assert one.pop("yours") is None
