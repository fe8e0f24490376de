"""Requests to Redis from the event loop: no thread, and nothing that waits."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from realtime_ticket import InvalidTicket, StorageError, TicketService, batching
from realtime_ticket.backends import _redis_pool, _redis_request
from realtime_ticket.backends._redis_request import are_whole
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.replies import Request
from tests import servers
from tests.helpers import (
    CLAIMS,
    WAIT,
    RecordingBackend,
    in_child,
    real_redis,
    using,
)

Answer = Callable[[socket.socket, bytes], None]


@contextmanager
def scripted_server(answer: Answer) -> Iterator[int]:
    """Listen on a port, and let a function answer what a client sends, as Redis does.

    The first request of each process is answered as an old ticket: it opens the
    connection that later requests find idle.
    """

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    def talk(client: socket.socket) -> None:
        with client:
            while request := client.recv(1 << 20):
                if b"rt_" in request or b"opening" in request:
                    handle = opened if b"opening" in request else answer
                    try:
                        handle(client, request)
                    except OSError:
                        return
                else:  # redis-py 5 tells its name
                    client.sendall(b"+OK\r\n" * request.count(b"*"))

    def opened(client: socket.socket, request: bytes) -> None:
        client.sendall(b"$-1\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(WAIT)


def on_port(port: int, **options: Any) -> RedisBackend:
    backend = RedisBackend(host="127.0.0.1", port=port, **options)
    backend.pop("opening")
    return backend


def on_redis(**options: Any) -> RedisBackend:
    """Return a backend that has an idle connection."""
    servers.require("redis")
    backend = RedisBackend(unix_socket_path=str(servers.REDIS), **options)
    backend.pop("opening")
    return backend


def run(coroutine: Coroutine[Any, Any, Any], loops: str = "asyncio") -> Any:
    """Run it in a new event loop, and fail if it hangs."""

    async def limited() -> Any:
        async with asyncio.timeout(WAIT):
            return await coroutine

    make_loop = importlib.import_module(loops).new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(limited())


def has_thread(service: TicketService) -> bool:
    """Tell whether a batch was handed to a thread."""
    return service._batches._executor is not None


def text(value: str) -> bytes:
    """Return the reply that has the data of a ticket."""
    data = f'{{"id":7,"username":"{value}","iat":1,"exp":2}}'.encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def values(count: int) -> list[str]:
    return [f"rt_{number:043}" for number in range(count)]


class TestSmallBatches:
    @pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
    def test_need_no_thread(self, loops: str) -> None:
        """With an idle connection, calls of one loop and of the next do without.

        Mutants: request-is-never-sent.
        """
        servers.need_module(loops)

        async def pairs() -> None:
            issued = await asyncio.gather(*[service.aissue(CLAIMS) for _ in range(50)])
            consumed = await asyncio.gather(
                *[service.aconsume(ticket.value) for ticket in reversed(issued)]
            )
            assert consumed == issued[::-1]
            with pytest.raises(InvalidTicket):
                await service.aconsume(issued[0].value)

        with using(on_redis()) as service:
            for _ in range(2):
                run(pairs(), loops)
            assert not has_thread(service)

    def test_of_both_kinds_are_one_request(self) -> None:
        """Each caller gets the outcome of their own call.

        Mutants: request-mixes-up-its-callers.
        """

        async def mixed() -> None:
            old = [await service.aissue(CLAIMS | {"id": n}) for n in range(3)]
            calls = [
                call
                for ticket in old
                for call in (
                    service.aissue(CLAIMS | {"id": 10 + int(ticket.user_id)}),
                    service.aconsume(ticket.value),
                    service.arevoke(ticket.value),
                )
            ]
            outcomes = await asyncio.gather(*calls)
            assert [ticket.user_id for ticket in outcomes[::3]] == [10, 11, 12]
            assert outcomes[1::3] == old
            assert outcomes[2::3] == [False] * 3

        with using(on_redis()) as service:
            run(mixed())
            assert not has_thread(service)

    def test_the_first_call_opens_a_connection_in_a_thread(self) -> None:
        """Connecting can take a second, and so can asking which commands there are.

        Mutants: request-waits-for-a-connection.
        """
        servers.require("redis")
        backend = RedisBackend(unix_socket_path=str(servers.REDIS))
        with using(backend) as service:
            run(service.aissue(CLAIMS))
            assert has_thread(service)

    def test_a_connection_is_waited_for_in_a_thread(self) -> None:
        """All of them may be in use, by threads for instance."""
        backend = on_redis(max_connections=1)
        with using(backend) as service:
            in_use = backend._pool.get_connection()
            with pytest.raises(StorageError, match="connections"):
                run(service.aissue(CLAIMS))
            backend._pool.release(in_use)
            assert has_thread(service)

    def test_large_batches_go_to_a_thread(self) -> None:
        """Packing and parsing a thousand commands would hold up the event loop.

        Mutants: request-without-limit.
        """

        async def storm() -> None:
            await asyncio.gather(*[service.aissue(CLAIMS) for _ in range(1000)])

        with using(on_redis()) as service:
            run(storm())
            assert has_thread(service)

    @pytest.mark.parametrize(
        "error", [NotImplementedError(), OSError(28, "No space left")], ids=repr
    )
    def test_a_loop_that_cannot_watch(self, error: Exception) -> None:
        """The replies are read in a thread: it never can, or watches enough already.

        Mutants: request-needs-a-loop-that-watches.
        """

        class Proactor(asyncio.SelectorEventLoop):
            def add_reader(self, *args: Any) -> None:
                raise error

        with using(on_redis()) as service, asyncio.Runner(loop_factory=Proactor) as r:
            ticket = r.run(service.aissue(CLAIMS))
            assert r.run(service.aconsume(ticket.value)) == ticket
            assert has_thread(service)

    def test_a_server_before_getdel(self) -> None:
        """The first batch finds that out in a thread, and the next ones know it.

        Mutants: request-presumes-getdel.
        """
        servers.require("old-redis")
        backend = RedisBackend(unix_socket_path=str(servers.OLD_REDIS))
        with using(backend) as service:
            service.issue(CLAIMS)
            for thread in (True, False):
                service._batches.close()
                ticket = service.issue(CLAIMS)
                assert run(service.aconsume(ticket.value)) == ticket
                assert has_thread(service) is thread

    def test_a_subclass_is_asked(self) -> None:
        """What it changed about adding and popping is done.

        Mutants: request-ignores-subclasses.
        """
        popped: list[str] = []

        class Audited(RedisBackend):
            def pop(self, key: str) -> str | None:
                popped.append(key)
                return super().pop(key)

        servers.require("redis")
        backend = Audited(unix_socket_path=str(servers.REDIS))
        with using(backend) as service:
            backend.pop("opening")
            ticket = service.issue(CLAIMS)
            run(service.aconsume(ticket.value))
        assert popped == ["opening", ticket.value]

    def test_replicas_are_waited_for(self) -> None:
        """A ticket lets nobody in when no replica knows that it is spent.

        Mutants: request-waits-for-no-replica.
        """
        with using(on_redis()) as plain:
            ticket = plain.issue(CLAIMS)
        servers.require("redis")
        backend = RedisBackend(unix_socket_path=str(servers.REDIS), wait_replicas=1)
        backend.add("opening", "", 1)
        backend._has_getdel = True
        with using(backend) as service, pytest.raises(StorageError, match="replicas"):
            run(service.aconsume(ticket.value))

    @pytest.mark.parametrize(
        ("options", "is_plain"),
        [
            ({}, True),
            ({"unix_socket_path": "/s"}, True),
            ({"ssl": True}, False),
            ({"health_check_interval": 5}, False),
            ({"socket_timeout": None}, False),
        ],
        ids=str,
    )
    def test_need_a_plain_socket(self, options: dict[str, Any], is_plain: bool) -> None:
        """TLS and health checks read and write when they want to.

        Mutants: request-through-tls.
        """
        assert RedisBackend(**options)._pool.is_plain is is_plain

    def test_need_a_socket_that_is_a_descriptor(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread asks Redis under Windows, where os.write() knows no sockets.

        Mutants: request-writes-to-a-handle.
        """
        windows = SimpleNamespace(name="nt", getpid=os.getpid)
        monkeypatch.setattr(_redis_pool, "os", windows)
        assert RedisBackend()._pool.is_plain is False


class TestReplies:
    def test_torn_apart_do_not_hold_up_the_loop(self) -> None:
        """The rest is waited for in a thread.

        Mutants: request-reads-what-has-not-arrived.
        """

        torn, turning = threading.Event(), threading.Event()

        def answer(client: socket.socket, request: bytes) -> None:
            reply = text("ada")
            client.sendall(reply[:20])
            torn.set()
            turning.wait(WAIT)
            client.sendall(reply[20:])

        async def scene() -> None:
            call = asyncio.ensure_future(service.aconsume(values(1)[0]))
            while not torn.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # the loop sees the first part, and goes on
            turning.set()
            assert (await call).username == "ada"

        with (
            scripted_server(answer) as port,
            using(on_port(port, socket_timeout=4)) as service,
        ):
            run(scene())
            assert has_thread(service)

    @pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
    def test_too_late_are_read_by_nobody(self, loops: str) -> None:
        """After ``socket_timeout`` the callers get StorageError, and the connection is
        closed: its reply belongs to a call that is over.

        Mutants: request-without-timeout, request-keeps-its-connection.
        """
        servers.need_module(loops)
        first, second = values(2)
        clients: list[socket.socket] = []

        def answer(client: socket.socket, request: bytes) -> None:
            clients.append(client)
            if second.encode() in request:
                clients[0].sendall(text("first"))
                time.sleep(0.05)
                client.sendall(text("second"))

        async def scene() -> None:
            started = time.monotonic()
            with pytest.raises(StorageError, match="did not answer"):
                await service.aconsume(first)
            assert 0.2 <= time.monotonic() - started < 2
            try:
                ticket = await service.aconsume(second)
            except StorageError:
                return
            assert ticket.username == "second"

        with (
            scripted_server(answer) as port,
            using(on_port(port, socket_timeout=0.3)) as service,
        ):
            run(scene(), loops)

    @pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
    def test_in_time_are_read_by_a_busy_loop(self, loops: str) -> None:
        """A loop that was busy for longer than ``socket_timeout`` reads them.

        Mutants: request-times-out-at-once.
        """
        servers.need_module(loops)
        reader, writer = socket.socketpair()
        busy, answered = threading.Event(), threading.Event()

        def answer(client: socket.socket, request: bytes) -> None:
            writer.send(b"busy")
            assert busy.wait(WAIT)
            client.sendall(text("ada"))
            answered.set()

        async def scene() -> None:
            loop = asyncio.get_running_loop()

            def be_busy() -> None:  # when the loop has looked at its descriptors
                loop.remove_reader(reader)
                busy.set()
                assert answered.wait(WAIT)
                time.sleep(1.1)

            loop.add_reader(reader, be_busy)
            assert (await service.aconsume(values(1)[0])).username == "ada"

        with (
            reader,
            writer,
            scripted_server(answer) as port,
            using(on_port(port, socket_timeout=1)) as service,
        ):
            run(scene(), loops)
            assert not has_thread(service)

    def test_that_nobody_asked_for_are_left(self) -> None:
        """A connection with something to read is closed, not used.

        Mutants: request-on-a-connection-with-a-reply.
        """
        self.check_that_the_next_call_does_not_read(text("of nobody"))

    def test_of_which_hiredis_has_read_a_part(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection is closed, also where can_read() overlooks that part, as in
        redis-py 5.3 to 7.4.

        Mutants: request-on-a-connection-with-a-part.
        """
        pytest.importorskip("hiredis")
        monkeypatch.setattr(redis.Connection, "can_read", lambda *args: False)
        self.check_that_the_next_call_does_not_read(text("of nobody")[:20])

    def check_that_the_next_call_does_not_read(self, extra: bytes) -> None:
        """Consume two tickets from a server that sends this after the first reply."""
        first, second = values(2)

        def answer(client: socket.socket, request: bytes) -> None:
            if first.encode() in request:
                client.sendall(text("first") + extra)
            else:
                client.sendall(text("second"))

        async def scene() -> None:
            assert (await service.aconsume(first)).username == "first"
            assert (await service.aconsume(second)).username == "second"

        with scripted_server(answer) as port, using(on_port(port)) as service:
            run(scene())

    @pytest.mark.parametrize("reply", [b":1\r\n", b"%0\r\n"], ids=ascii)
    def test_to_another_command(self, reply: bytes) -> None:
        """Are an outage, and the connection, which is out of step, is closed.

        Mutants: redis-takes-any-reply.
        """
        clients: set[Any] = set()

        def answer(client: socket.socket, request: bytes) -> None:
            clients.add(client.getpeername())
            client.sendall(reply)

        def aconsume(value: str) -> Any:
            return run(service.aconsume(value))

        with (
            scripted_server(answer) as port,
            using(on_port(port, max_connections=1)) as service,
        ):
            for consume in (service.consume, aconsume):
                service.backend.pop("opening")
                with pytest.raises(StorageError) as caught:
                    consume(values(1)[0])
                assert isinstance(caught.value.__cause__, redis.InvalidResponse)
        assert len(clients) == 2

    def test_of_a_server_that_has_no_getdel(self) -> None:
        """An older server is in its place: one batch fails, and the next has a script.

        Mutants: request-presumes-getdel-for-ever.
        """

        def answer(client: socket.socket, request: bytes) -> None:
            if b"GETDEL" in request:
                client.sendall(b"-ERR unknown command 'GETDEL'\r\n")
            else:
                client.sendall(text("ada") if b"EVAL" in request else b"+OK\r\n")

        async def scene() -> None:
            with pytest.raises(StorageError):
                await service.aconsume(values(1)[0])
            await service.aissue(CLAIMS)  # opens a connection
            assert (await service.aconsume(values(1)[0])).username == "ada"

        with scripted_server(answer) as port, using(on_port(port)) as service:
            run(scene())

    def test_are_waited_for_as_long_as_by_a_thread(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``socket_timeout`` can be longer than MAX_WAIT.

        Mutants: request-has-all-the-time.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 0.2)

        async def scene() -> None:
            started = time.monotonic()
            with pytest.raises(StorageError, match="did not answer"):
                await service.aconsume(values(1)[0])
            assert time.monotonic() - started < 2

        with (
            scripted_server(lambda client, request: None) as port,
            using(on_port(port, socket_timeout=4)) as service,
        ):
            run(scene())

    def test_that_cannot_be_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread reads them, so no caller waits for ever.

        Mutants: request-waits-for-what-it-cannot-look-at.
        """

        def fail(received: bytes, count: int) -> bool:
            raise ZeroDivisionError

        async def scene() -> None:
            ticket = await asyncio.wait_for(service.aissue(CLAIMS), 5)
            assert ticket.username == "ada"

        with using(on_redis()) as service:
            monkeypatch.setattr(_redis_request, "are_whole", fail)
            run(scene())
            assert has_thread(service)

    @pytest.mark.parametrize("way", ["closed", "reset"])
    def test_that_never_come(self, way: str) -> None:
        """A connection that ends is an outage at once, not after a second, and needs no
        thread.

        Mutants: request-waits-on-a-reset.
        """

        def answer(client: socket.socket, request: bytes) -> None:
            if way == "reset":
                linger = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.close()
            raise OSError

        async def scene() -> None:
            with pytest.raises(StorageError, match=r"closed|lost|connection"):
                await asyncio.wait_for(service.aconsume(values(1)[0]), 5)

        with (
            scripted_server(answer) as port,
            using(on_port(port, socket_timeout=30)) as service,
        ):
            run(scene())
            assert not has_thread(service)

    def test_with_errors_fail_their_own_calls(self) -> None:
        """Redis is full: nothing can be added, and what is there can be popped. The
        connection is closed, because a master that became a replica answers so.

        Mutants: request-takes-an-error-for-a-reply.
        """

        async def scene() -> None:
            failed, consumed = await asyncio.gather(
                service.aissue(CLAIMS),
                service.aconsume(ticket.value),
                return_exceptions=True,
            )
            assert isinstance(failed, StorageError)
            assert isinstance(failed.__cause__, redis.ResponseError)
            assert consumed == ticket

        with real_redis() as watcher, using(on_redis()) as service:
            ticket = service.issue(CLAIMS)
            before = watcher.info("stats")["total_connections_received"]
            watcher.config_set("maxmemory", 1)
            try:
                run(scene())
            finally:
                watcher.config_set("maxmemory", 0)
            assert not has_thread(service)
            service.issue(CLAIMS)
            assert watcher.info("stats")["total_connections_received"] == before + 1

    def test_longer_than_one_read_go_to_a_thread(self) -> None:
        """So do requests that the kernel does not take at once.

        Mutants: request-forgets-its-rest.
        """

        async def scene() -> None:
            claims = CLAIMS | {"text": "x" * 4000}
            tickets = await asyncio.gather(
                *[service.aissue(claims) for _ in range(150)]
            )
            consumed = await asyncio.gather(
                *[service.aconsume(t.value) for t in tickets]
            )
            assert consumed == tickets

        with using(on_redis()) as service:
            run(scene())
            assert has_thread(service)

    def test_that_a_kernel_refuses_to_ask_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing was sent, so a thread sends it.

        Mutants: request-is-lost-with-its-connection.
        """
        refusals = [BrokenPipeError()]

        def write(descriptor: int, data: bytes) -> int:
            raise refusals.pop()

        with using(on_redis(max_connections=1)) as service:
            with monkeypatch.context() as patch:
                patch.setattr(_redis_request.os, "write", write)
                ticket = run(self.issued(service))
            assert run(service.aconsume(ticket.value)) == ticket
        assert not refusals

    def test_to_a_request_that_a_kernel_takes_in_part(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread sends the rest at once: without it there is no reply.

        Mutants: request-waits-with-its-rest.
        """
        write, parts = os.write, [20]

        def write_part(descriptor: int, data: bytes) -> int:
            return write(descriptor, data[: parts.pop()])

        with using(on_redis(socket_timeout=0.5)) as service:
            with monkeypatch.context() as patch:
                patch.setattr(_redis_request.os, "write", write_part)
                ticket = run(self.issued(service))
            assert service.consume(ticket.value) == ticket
        assert not parts

    async def issued(self, service: TicketService) -> Any:
        call = asyncio.ensure_future(service.aissue(CLAIMS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await call


class TestLeaving:
    def test_a_cancelled_call_disturbs_nobody(self) -> None:
        """The others in its batch get their outcomes, on the same connection.

        Mutants: request-ends-with-a-caller.
        """

        async def scene() -> None:
            tickets = [await service.aissue(CLAIMS) for _ in range(3)]
            calls = [asyncio.ensure_future(service.aconsume(t.value)) for t in tickets]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            calls[1].cancel()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert outcomes[::2] == tickets[::2]
            assert isinstance(outcomes[1], asyncio.CancelledError)

        with real_redis() as watcher, using(on_redis()) as service:
            before = watcher.info("stats")["total_connections_received"]
            run(scene())
            assert watcher.info("stats")["total_connections_received"] == before
            assert not has_thread(service)

    @pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
    def test_a_loop_that_ends_gives_its_connection_back(self, loops: str) -> None:
        """Closed, because a reply is on its way. The pool of one connection goes on.

        Mutants: request-takes-its-connection-along.
        """
        servers.need_module(loops)

        async def leave() -> None:
            call = asyncio.ensure_future(service.aconsume(values(1)[0]))
            for _ in range(3):
                await asyncio.sleep(0)
            call.cancel()

        def answer(client: socket.socket, request: bytes) -> None:
            if b"SET" in request:
                client.sendall(b"+OK\r\n")

        with (
            scripted_server(answer) as port,
            using(on_port(port, max_connections=1, socket_timeout=1)) as service,
        ):
            for _ in range(2):
                run(leave(), loops)
                service.issue(CLAIMS)

    @pytest.mark.parametrize("calls_before", [0, batching._LONE_BATCHES])
    @pytest.mark.parametrize(
        ("kind", "method"),
        [
            (RedisBackend, "send"),
            (redis.UnixDomainSocketConnection, "read_response"),
        ],
        ids=["sending", "reading"],
    )
    def test_an_interrupt_lets_the_loop_go_on(
        self,
        monkeypatch: pytest.MonkeyPatch,
        kind: type,
        method: str,
        calls_before: int,
    ) -> None:
        """Ctrl-C fails the batch that is sent or read, not each call after it.

        Mutants: request-is-under-way-for-ever,
        request-that-was-interrupted-is-under-way, batch-cannot-start-and-raises.
        """

        def interrupt(*args: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

        with using(on_redis(max_connections=1)) as service, asyncio.Runner() as runner:
            loop = runner.get_loop()
            for _ in range(calls_before):
                runner.run(service.aissue(CLAIMS))
            call = loop.create_task(service.aissue(CLAIMS))
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(kind, method, interrupt)
                loop.run_until_complete(call)
            loop.run_until_complete(asyncio.wait([call], timeout=5))
            assert isinstance(call.exception(), StorageError)
            runner.run(asyncio.wait_for(service.aissue(CLAIMS), 5))

    def test_closing_the_service_lets_a_request_finish(self) -> None:
        """It can be closed at any time, and the next call connects again."""

        async def scene() -> None:
            call = asyncio.ensure_future(service.aissue(CLAIMS))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            service.close()
            ticket = await call
            assert await service.aconsume(ticket.value) == ticket

        with using(on_redis()) as service:
            run(scene())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_a_child_has_connections_of_its_own(self) -> None:
        """While a request of the parent is under way, and when none is.

        Mutants: redis-shares-connections-with-a-child.
        """

        def child() -> Any:
            return run(service.aconsume(tickets[0].value)).username

        async def scene() -> None:
            call = asyncio.ensure_future(service.aissue(CLAIMS))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert in_child(lambda: in_thread(child)) == "ada"
            await call

        with real_redis() as watcher, using(on_redis()) as service:
            tickets = [service.issue(CLAIMS), service.issue(CLAIMS)]
            before = watcher.info("stats")["total_connections_received"]
            assert in_child(child) == "ada"
            del tickets[0]
            run(scene())
            assert watcher.info("stats")["total_connections_received"] == before + 2

    @pytest.mark.parametrize("handed_over", [False, True])
    def test_no_thread_can_be_started(
        self, handed_over: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Callers get the error, and the connection is not lost.

        Mutants: batch-cannot-start-and-says-nothing, request-needs-a-thread.
        """

        def answer(client: socket.socket, request: bytes) -> None:
            reply = text("ada") if b"GETDEL" in request else b"+OK\r\n"
            client.sendall(reply[:3] if handed_over else reply)

        def refuse(work: Any) -> Any:
            raise RuntimeError("can't start new thread")

        with (
            scripted_server(answer) as port,
            using(on_port(port, max_connections=1)) as service,
        ):
            if not handed_over:
                service.backend.close()
            with monkeypatch.context() as patch:
                patch.setattr(service._batches, "in_thread", refuse)
                with pytest.raises(RuntimeError, match="new thread"):
                    run(service.aconsume(values(1)[0]))
            service.backend.pop("opening")


def in_thread(function: Callable[[], Any]) -> Any:
    """Run it where no event loop is running."""
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(function()))
    thread.start()
    thread.join(WAIT)
    return outcomes[0]


class TestOtherBackends:
    def test_send_nothing(self) -> None:
        """The default is to use a thread."""
        assert RecordingBackend().send(["key"]) is None

    def test_that_raise(self) -> None:
        """A mistake in a backend's send() reaches the callers, who do not hang.

        Mutants: batch-cannot-start-and-says-nothing.
        """

        class Broken(RecordingBackend):
            def send(self, calls: Any) -> Request | None:
                raise ZeroDivisionError

        with using(Broken()) as service, pytest.raises(ZeroDivisionError):
            run(service.aissue(CLAIMS))

    def test_that_make_calls_one_by_one(self) -> None:
        """They make each call with the context of its caller, in a thread.

        Mutants: request-forgets-the-context.
        """

        class OneByOne(BaseBackend):
            thread_sensitive = False

            def add(self, key: str, data: str, expire: int) -> bool:
                return True

            def pop(self, key: str) -> str | None:
                return None

            def send(self, calls: Any) -> Request | None:
                raise AssertionError(calls)

        with using(OneByOne()) as service:
            run(service.aissue(CLAIMS))


class TestAreWhole:
    REPLIES = b"+OK\r\n$-1\r\n$4\r\na\r\nb\r\n-ERR no\r\n:7\r\n$0\r\n\r\n"

    def test_at_every_byte(self) -> None:
        """Six replies are whole when the last byte has arrived, and not before."""
        for length in range(len(self.REPLIES)):
            assert not are_whole(self.REPLIES[:length], 6)
        assert are_whole(self.REPLIES, 6)
        assert are_whole(self.REPLIES + b"+OK\r\n", 6)
        assert not are_whole(self.REPLIES, 7)

    @pytest.mark.parametrize(
        "reply",
        [
            b"*1\r\n:1\r\n",
            b"%0\r\n",
            b"_\r\n",
            b"HTTP/1.1 400\r\n",
            b"$x\r\n",
            b"\r\n",
            b"$%b\r\n" % (b"1" * 5000),
        ],
        ids=lambda reply: ascii(reply[:20]),
    )
    def test_what_they_are_not(self, reply: bytes) -> None:
        """Anything else is left to redis-py, in a thread.

        Mutants: request-takes-any-length.
        """
        assert not are_whole(reply, 1)
