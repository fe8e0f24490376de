"""The Redis backend: its connection, its commands, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from fakeredis import TcpFakeServer
from redis._parsers import _RESP2Parser
from redis.connection import DefaultParser

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.base import Item
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.helpers import (
    CLAIMS,
    GOOD,
    NOWHERE,
    WAIT,
    clients_of,
    eventually,
    in_child,
    real_redis,
    silent_listener,
    using,
)


@pytest.fixture
def watcher() -> Iterator[redis.Redis]:
    """A client that looks at the server from outside."""
    with real_redis() as client:
        client.flushdb()
        yield client


def a_backend(**options: Any) -> RedisBackend:
    servers.require("redis")
    return RedisBackend(unix_socket_path=str(servers.REDIS), **options)


def calls_of(client: Any, command: str) -> int:
    stats = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


class TestOptions:
    def test_defaults(self) -> None:
        """A local Redis, short waits, no second attempt."""
        pool = RedisBackend()._pool
        kwargs = pool.connection_kwargs
        assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("localhost", 6379, 0)
        assert kwargs["socket_timeout"] == kwargs["socket_connect_timeout"] == 1
        assert kwargs["retry"]._retries == 0
        assert (pool.max_connections, pool.timeout) == (50, 1)

    @pytest.mark.parametrize(
        "options",
        [
            {"host": "h", "port": 7, "db": 3, "socket_timeout": 4},
            {"url": "redis://h:7/3?socket_timeout=4"},
            {"url": "redis://h:7", "db": 3, "socket_timeout": 4},
        ],
        ids=ascii,
    )
    def test_are_those_of_the_client(self, options: dict[str, Any]) -> None:
        """As keywords, in a URL, or both; the user's patience is honoured."""
        pool = RedisBackend(**options)._pool
        kwargs = pool.connection_kwargs
        assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("h", 7, 3)
        assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (4, 1)
        assert pool.timeout == 4

    @pytest.mark.parametrize(
        "options",
        [{"max_connections": 3}, {"url": "redis://h?max_connections=3"}],
        ids=ascii,
    )
    def test_limit_connections(self, options: dict[str, Any]) -> None:
        """max_connections is the pool's."""
        assert RedisBackend(**options)._pool.max_connections == 3

    def test_may_ask_for_tls(self) -> None:
        """ssl and rediss:// mean the same."""
        for backend in (RedisBackend(ssl=True), RedisBackend(url="rediss://h")):
            assert backend._pool.connection_class is redis.SSLConnection

    @pytest.mark.parametrize(
        "options", [{"url": "redis://h?nothing=1"}, {"nothing": 1}], ids=ascii
    )
    def test_that_do_not_exist(self, options: dict[str, Any]) -> None:
        """A TypeError names the option, also one that hides in the URL."""
        with pytest.raises(TypeError, match="nothing"):
            RedisBackend(**options)

    def test_touch_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Making a backend opens no socket."""

        def refused(*args: object, **kwargs: object) -> None:
            raise AssertionError("opened a socket")

        monkeypatch.setattr(socket, "socket", refused)
        RedisBackend(host="h")
        RedisBackend(url="rediss://h")

    def test_do_not_change_what_comes_back(self, watcher: redis.Redis) -> None:
        """decode_responses, which projects like to set, does no harm."""
        backend = a_backend(decode_responses=True)
        assert backend.add(GOOD, "ascii", 9) is True
        assert backend.pop(GOOD) == "ascii"
        watcher.set(GOOD, b"\xff")
        assert backend.pop(GOOD) == "\udcff"
        backend.close()

    def test_choose_the_database(self, watcher: redis.Redis) -> None:
        """db is where the tickets are."""
        backend = a_backend(db=5)
        backend.add(GOOD, "{}", 9)
        assert watcher.exists(GOOD) == 0
        assert backend.pop(GOOD) == "{}"
        backend.close()


class TestCommands:
    def test_adding_is_one_command(self, watcher: redis.Redis) -> None:
        """SET NX PX stores text and lifetime together."""
        backend = a_backend()
        before = {
            name: calls_of(watcher, name) for name in ("set", "expire", "pexpire")
        }
        assert backend.add(GOOD, "text", 60) is True
        after = {name: calls_of(watcher, name) for name in before}
        assert after == before | {"set": before["set"] + 1}
        assert backend.add(GOOD, "other", 9) is False
        assert watcher.get(GOOD) == b"text"
        assert 50_000 < int(watcher.pttl(GOOD)) <= 60_000  # type: ignore[arg-type]
        backend.close()

    def test_popping_is_one_command(self, watcher: redis.Redis) -> None:
        """GETDEL, which no other client can come between."""
        backend = a_backend()
        backend.add(GOOD, "text", 3)
        before = {name: calls_of(watcher, name) for name in ("getdel", "get", "del")}
        assert backend.pop(GOOD) == "text"
        after = {name: calls_of(watcher, name) for name in before}
        assert after == before | {"getdel": before["getdel"] + 1}
        backend.close()

    def test_batches_travel_together(self, watcher: redis.Redis) -> None:
        """A hundred commands are not a hundred round trips."""
        backend = a_backend()
        backend.pop(GOOD)
        items = [Item(f"k{n}", str(n), 9) for n in range(100)]
        before = watcher.info("stats")["total_reads_processed"]
        assert backend.add_many(items) == [True] * 100
        assert backend.pop_many([i.key for i in items]) == [i.data for i in items]
        assert watcher.info("stats")["total_reads_processed"] - before < 15
        backend.close()

    def test_nothing_is_nothing(self) -> None:
        """An empty batch is fine."""
        backend = a_backend()
        assert backend.add_many([]) == backend.pop_many([]) == []
        backend.close()


class TestOldServers:
    @pytest.fixture
    def backend(self) -> Iterator[RedisBackend]:
        servers.require("old-redis")
        backend = RedisBackend(unix_socket_path=str(servers.OLD_REDIS))
        yield backend
        backend.close()

    def test_get_a_script(self, backend: RedisBackend) -> None:
        """Where GETDEL is missing a script does the same, in one step.

        Mutants: redis-script-only-reads.
        """
        backend.add_many([Item("a", "A", 9), Item("b", "B", 9)])
        assert backend.pop_many(["b", "x", "a", "a"]) == ["B", None, "A", None]

    def test_are_asked_for_getdel_once(self, backend: RedisBackend) -> None:
        """What the server does not know is not tried again.

        Mutants: redis-forgets-that-the-server-is-old.
        """
        with redis.Redis(unix_socket_path=str(servers.OLD_REDIS)) as watcher:
            backend.pop("x")
            before = errors_of(watcher)
            for _ in range(3):
                backend.pop("x")
            assert errors_of(watcher) == before


def errors_of(client: Any) -> int:
    return int(client.info("stats")["total_error_replies"])


@pytest.fixture
def full(watcher: redis.Redis) -> Iterator[None]:
    """Let Redis refuse what takes memory, which is answered by an error."""
    watcher.config_set("maxmemory", 1)
    yield
    watcher.config_set("maxmemory", 0)


class TestErrorReplies:
    @pytest.mark.usefixtures("full")
    def test_are_raised(self, watcher: redis.Redis) -> None:
        """One fails the call, and the next call is as good as ever.

        Mutants: redis-error-reply-is-a-reply.
        """
        backend = a_backend(max_connections=1)
        for _ in range(2):
            with pytest.raises(redis.ResponseError, match="maxmemory"):
                backend.add(GOOD, "x", 9)
        assert backend.pop(GOOD) is None
        backend.close()

    def test_are_no_reason_to_change_the_command(self) -> None:
        """Only an unknown command is; other errors are raised.

        Mutants: redis-takes-any-error-for-an-old-server.
        """
        backend = a_backend(username="nobody", password="wrong")
        with pytest.raises(redis.RedisError):
            backend.pop(GOOD)
        assert backend._has_getdel is not False
        backend.close()

    @pytest.mark.usefixtures("full")
    def test_close_the_connection(self, watcher: redis.Redis) -> None:
        """A server that answers with errors may be a demoted master: connect again.

        Mutants: redis-keeps-who-answers-with-errors.
        """
        backend = a_backend(max_connections=1)
        backend.pop("a")
        before = watcher.info("stats")["total_connections_received"]
        with pytest.raises(redis.ResponseError):
            backend.add("a", "A", 9)
        backend.pop("a")
        assert watcher.info("stats")["total_connections_received"] == before + 1
        backend.close()

    def test_of_another_type_concern_one_key(self, watcher: redis.Redis) -> None:
        """What is no text is no ticket: the others in the batch get theirs.

        Mutants: redis-wrong-type-fails-the-batch.
        """
        backend = a_backend(max_connections=1)
        watcher.rpush("list", "x")
        backend.add_many([Item("a", "A", 9), Item("b", "B", 9), Item("c", "C", 9)])
        assert backend.pop_many(["a", "list", "b"]) == ["A", "", "B"]
        assert backend.pop("c") == "C"
        backend.close()

    def test_of_a_user_who_may_only_half(self, watcher: redis.Redis) -> None:
        """As the documentation sets it up: one side issues and disconnects, the other
        consumes and hears of it.

        Mutants: redis-never-tries-getdel, redis-reads-one-by-one.
        """
        page = (Path(__file__).parent.parent / "docs" / "security.md").read_text()
        lines = re.findall(r"^ACL SETUSER .+$", page, re.MULTILINE)
        users = {line.split()[2]: line.split()[5].removeprefix(">") for line in lines}
        assert users.keys() == {"issuer", "consumer"}
        for line in lines:
            watcher.execute_command(*line.split())
        issuer, consumer = (
            TicketService(a_backend(username=name, password=users[name]))
            for name in ("issuer", "consumer")
        )
        ticket = issuer.issue(CLAIMS)
        for forbidden in (
            lambda: consumer.issue(CLAIMS),
            lambda: issuer.consume(ticket.value),
        ):
            with pytest.raises(StorageError) as caught:
                forbidden()
            assert isinstance(
                caught.value.__cause__, redis.exceptions.NoPermissionError
            )
        entry, unspent = "off:rt_:1764303000:0", issuer.issue(CLAIMS).value
        assert issuer.backend.add(entry, "text", 9) is True
        assert consumer.backend.read_many([entry]) == ["text"]
        for backend, command in (
            (consumer.backend, ("MGET", unspent)),
            (consumer.backend, ("MGET", entry, unspent)),
            (consumer.backend, ("GET", unspent)),
            (consumer.backend, ("GETDEL", entry)),
            (consumer.backend, ("DEL", entry)),
            (consumer.backend, ("SET", "off:rt_:1764303000:1", "forged")),
            (issuer.backend, ("MGET", entry)),
            (issuer.backend, ("SET", unspent, "", "GET")),
            (issuer.backend, ("SET", "other", "")),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                backend._exchange([command])
        assert consumer.consume(ticket.value) == ticket
        assert consumer.consume(unspent).value == unspent
        for service in (issuer, consumer):
            service.close()
        for name in users:
            watcher.execute_command("ACL", "DELUSER", name)

    def test_of_a_wrong_password(self) -> None:
        """Is an outage, and its text holds no password.

        Mutants: redis-knows-outages-only-by-time.
        """
        with (
            using(a_backend(username="u", password="s3cret")) as service,
            pytest.raises(StorageError) as caught,
        ):
            service.issue(CLAIMS)
        assert isinstance(caught.value.__cause__, redis.RedisError)
        assert "s3cret" not in str(caught.value)


@contextmanager
def forgetful_server(path: Path, reply: bytes) -> Iterator[list[bytes]]:
    """Greet clients as Redis does, answer GETDEL or MGET with these bytes, hang up."""
    requests: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                while request := client.recv(65536):
                    requests.append(request)
                    if b"GET" in request:
                        client.sendall(reply)
                        break
                    client.sendall(b"+OK\r\n" * request.count(b"SETINFO"))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield requests
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def getdels(requests: list[bytes]) -> int:
    return sum(request.count(b"GETDEL") for request in requests)


class TestTrouble:
    def test_a_server_that_is_frozen(self, tmp_path: Path) -> None:
        """The wait is a second, not redis-py's minute.

        Mutants: redis-connects-twice, redis-waits-five-seconds.
        """
        with silent_listener(tmp_path / "s") as listener:
            path = listener.getsockname()
            backend = RedisBackend(
                unix_socket_path=path, db=1
            )  # which it selects first
            started = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                backend.pop(GOOD)
            assert 0.9 < time.monotonic() - started < 4.5
            assert clients_of(listener) == 1
            backend.close()

    @pytest.mark.parametrize("reply", [b"", b"$5\r\nab", b"?garbage\r\n"], ids=ascii)
    def test_a_lost_reply_is_not_asked_for_again(
        self, tmp_path: Path, reply: bytes
    ) -> None:
        """GETDEL is sent once: a second one would refuse a good ticket.

        Mutants: redis-asks-twice.
        """
        with forgetful_server(tmp_path / "s", reply) as requests:
            backend = RedisBackend(unix_socket_path=str(tmp_path / "s"))
            with pytest.raises((redis.RedisError, OSError)):
                backend.pop(GOOD)
            backend.close()
            assert getdels(requests) == 1

    @pytest.mark.parametrize(
        "reply", [b"$-$-1\r\n", b"*x\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
    )
    @pytest.mark.parametrize("parser", [DefaultParser, _RESP2Parser])
    def test_what_is_not_the_protocol_of_redis(
        self, tmp_path: Path, reply: bytes, parser: type
    ) -> None:
        """Is an outage: some other server listens there, or a proxy mixed up replies.

        Both with hiredis, which is the default where it is installed, and without.

        Mutants: redis-not-its-protocol.
        """
        with forgetful_server(tmp_path / "s", reply):
            backend = RedisBackend(unix_socket_path=str(tmp_path / "s"))
            backend._pool.connection_kwargs["parser_class"] = parser
            with using(backend) as service, pytest.raises(StorageError):
                service.consume(GOOD)

    def test_errors_in_the_place_of_texts(self, tmp_path: Path) -> None:
        """Envoy puts them there for a server that is down. Without any text it is an
        outage.

        Mutants: redis-reads-errors-as-texts, redis-reads-nothing-but-errors.
        """
        down = b"-no healthy upstream\r\n"
        with forgetful_server(tmp_path / "some", b"*2\r\n$1\r\na\r\n" + down):
            backend = RedisBackend(unix_socket_path=str(tmp_path / "some"))
            found, error = backend.read_many(["a", "b"])
            backend.close()
        assert found == "a"
        assert isinstance(error, redis.ResponseError)
        with forgetful_server(tmp_path / "all", b"*2\r\n" + down + down):
            backend = RedisBackend(unix_socket_path=str(tmp_path / "all"))
            with pytest.raises(redis.ResponseError, match="upstream"):
                backend.read_many(["a", "b"])
            backend.close()

    def test_a_late_reply_is_not_read_by_the_next(self, watcher: redis.Redis) -> None:
        """After a timeout the connection is closed, with the reply that comes late.

        Mutants: redis-trusts-its-connections.
        """
        backend = a_backend(max_connections=1, socket_timeout=1.5)
        backend.add_many([Item("a", "A", 9), Item("b", "B", 9)])
        watcher.client_pause(60_000, all=False)  # UNPAUSE, which writes nothing, runs
        with pytest.raises(redis.TimeoutError):
            backend.pop("a")
        watcher.client_unpause()
        time.sleep(0.2)
        assert backend.pop("b") == "B"
        assert backend.pop("b") is None
        backend.close()

    def test_an_interrupt_leaves_no_reply_behind(
        self, watcher: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C while a reply is on its way does not hand it to the next caller.

        Mutants: redis-trusts-its-connections.
        """
        backend = a_backend(max_connections=1)
        backend.add_many([Item("a", "A", 9), Item("c", "C", 9)])

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            raise KeyboardInterrupt

        watcher.client_pause(300)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(
                redis.UnixDomainSocketConnection, "read_response", interrupted
            )
            backend.pop("a")
        assert backend.pop("c") == "C"
        backend.close()

    def test_no_connection_is_free(self, watcher: redis.Redis) -> None:
        """A call waits for one as long as for a reply, then it is an outage.

        Mutants: redis-pool-does-not-wait.
        """
        backend = a_backend(max_connections=1, socket_timeout=0.5)
        taken = backend._pool.get_connection()
        with using(backend) as service:
            started = time.monotonic()
            with pytest.raises(StorageError):
                service.consume(GOOD)
            assert 0.4 < time.monotonic() - started < 2
            backend._pool.release(taken)
            assert service.consume(service.issue(CLAIMS).value).username == "ada"

    def test_a_failure_gives_its_connection_back(self) -> None:
        """A hundred failures use up no pool of two.

        Mutants: redis-loses-permits.
        """
        backend = RedisBackend(unix_socket_path=NOWHERE, max_connections=2)
        for _ in range(100):
            with pytest.raises(redis.ConnectionError, match=NOWHERE):
                backend.pop(GOOD)

    def test_a_handshake_that_fails_half_way(self, watcher: redis.Redis) -> None:
        """Leaves no connection that has sent no SELECT yet, and writes elsewhere.

        Mutants: redis-keeps-half-a-handshake.
        """
        failures = [RuntimeError("no credentials now")]

        def connect(connection: Any) -> None:
            if failures:
                raise failures.pop()
            connection.on_connect()

        backend = a_backend(db=3, max_connections=1, redis_connect_func=connect)
        with pytest.raises(RuntimeError):
            backend.add(GOOD, "x", 9)
        assert backend.add(GOOD, "x", 9) is True
        assert not watcher.exists(GOOD)
        assert backend.pop(GOOD) == "x"
        backend.close()

    def test_a_key_that_is_no_text(self) -> None:
        """Costs no connection.

        Mutants: redis-packs-with-a-connection, request-packs-with-a-connection.
        """
        backend = a_backend(max_connections=1)
        backend.pop("x")
        for call in (backend.pop, lambda key: backend.send([key])):
            with pytest.raises(UnicodeEncodeError):
                call("\ud800")
            assert backend.pop("x") is None
        backend.close()

    def test_a_look_at_a_connection_that_fails(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """redis-py 8.0.0 calls select(), which takes no descriptor above 1023.

        Mutants: redis-looks-with-select.
        """

        def can_read(*args: Any) -> bool:
            raise ValueError("filedescriptor out of range in select()")

        with using(a_backend(max_connections=1)) as service:
            service.backend.pop("x")
            monkeypatch.setattr(redis.UnixDomainSocketConnection, "can_read", can_read)
            ticket = asyncio.run(service.aissue(CLAIMS))
            assert service.consume(ticket.value) == ticket

    def test_a_look_at_a_connection_that_is_interrupted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection goes back to the pool, closed.

        Mutants: redis-look-costs-a-permit.
        """

        def can_read(*args: Any) -> bool:
            raise KeyboardInterrupt

        backend = a_backend(max_connections=1)
        backend.pop("x")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(redis.UnixDomainSocketConnection, "can_read", can_read)
            backend._pool.idle_connection()
        assert backend.pop("x") is None
        backend.close()

    def test_a_connection_that_looked_unclean_is_closed(
        self, watcher: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It might look clean to the next caller.

        Mutants: redis-looks-twice.
        """
        backend = a_backend(max_connections=1)
        backend.pop("x")
        before = watcher.info("stats")["total_connections_received"]
        with monkeypatch.context() as patch:
            patch.setattr(
                redis.UnixDomainSocketConnection, "can_read", lambda *args: True
            )
            assert backend._pool.idle_connection() is None
        backend.pop("x")
        assert watcher.info("stats")["total_connections_received"] == before + 1
        backend.close()

    def test_a_server_that_restarts(self, watcher: redis.Redis) -> None:
        """Connections that the server closed cost at most one call.

        Mutants: redis-trusts-its-connections.
        """
        backend = a_backend()
        backend.add("a", "A", 9)
        for client in watcher.client_list():
            if int(client["id"]) != int(watcher.client_id()):
                watcher.client_kill_filter(_id=client["id"])
        assert eventually(lambda: len(watcher.client_list()) == 1)
        failures = 0
        for _ in range(3):
            try:
                backend.pop("x")
            except redis.ConnectionError:
                failures += 1
        assert failures <= 1
        assert backend.pop("a") == "A"
        backend.close()

    def test_threads_share_the_pool(self, watcher: redis.Redis) -> None:
        """Of 64 threads none fails for want of a connection, and 50 are the most.

        Mutants: redis-pool-does-not-wait, redis-pool-without-limit.
        """
        backend = a_backend(max_connections=4)
        barrier = threading.Barrier(64)
        wrong: list[object] = []

        def work(number: int) -> None:
            barrier.wait(10)
            for turn in range(5):
                key = f"k{number}-{turn}"
                if not backend.add(key, key, 9) or backend.pop(key) != key:
                    wrong.append(key)

        before = watcher.info("stats")["total_connections_received"]
        threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert watcher.info("stats")["total_connections_received"] - before <= 4
        backend.close()


class TestClose:
    def test_ends_the_connections(self, watcher: redis.Redis) -> None:
        """The server sees them go, and the next call come.

        Mutants: redis-close-closes-nothing.
        """
        backend = a_backend()
        before = len(watcher.client_list())
        backend.pop("a")
        assert len(watcher.client_list()) == before + 1
        backend.close()
        assert eventually(lambda: len(watcher.client_list()) == before)
        assert backend.pop("a") is None
        backend.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_of_a_child_leaves_its_parent_alone(self, watcher: redis.Redis) -> None:
        """A child closes its own connections, and has its own, also where all of the
        parent's are in use.

        Mutants: redis-shares-connections-with-a-child.
        """
        backend = a_backend(max_connections=1)
        backend.add("a", "A", 9)
        before = {client["id"] for client in watcher.client_list()}
        in_use = backend._pool.get_connection()
        assert in_child(lambda: (backend.pop("x"), backend.close())) == (None, None)
        backend._pool.release(in_use)
        assert eventually(
            lambda: {client["id"] for client in watcher.client_list()} == before
        )
        assert backend.pop("a") == "A"
        backend.close()

    def test_ends_with_the_service(self, watcher: redis.Redis) -> None:
        """Closing a service leaves nothing behind, by the asynchronous door either.

        Mutants: redis-close-closes-nothing.
        """
        before = len(watcher.client_list())
        with using(a_backend()) as service:
            asyncio.run(service.aissue(CLAIMS))
        assert eventually(lambda: len(watcher.client_list()) == before)


def test_fakeredis_stands_in_for_users_tests() -> None:
    """fakeredis's server will do where no race is at stake. It cannot show one."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    service = TicketService(RedisBackend(port=server.server_address[1]))

    ticket = service.issue(CLAIMS)

    assert service.consume(ticket.value) == ticket
    with pytest.raises(InvalidTicket):
        service.consume(ticket.value)
    service.close()
    server.shutdown()
    server.server_close()
    thread.join(WAIT)
