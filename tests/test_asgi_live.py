"""TicketMiddleware when a login ends: what the application and its client are told.

The server is simulated here. :mod:`tests.test_live_servers` has real ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from realtime_ticket import TicketService, UnsupportedBackend
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.exceptions import Revoked
from realtime_ticket.integrations import _asgi_live
from realtime_ticket.integrations.asgi import TicketMiddleware
from tests.helpers import CLAIMS, RecordingBackend, failing_filter, using, within

REASON = "disconnected kind=session"
DISCONNECT = {"type": "websocket.disconnect", "code": 4401, "reason": REASON}
CLOSE = {"type": "websocket.close", "code": 4401, "reason": REASON}
CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"", "more_body": False}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Server:
    """A server with one connection, whose ticket is for user 7 and the session s."""

    def __init__(
        self, service: TicketService, kind: str = "websocket", *, denial: bool = False
    ) -> None:
        self.service = service
        value = service.issue(CLAIMS, session="s").value
        self.scope: dict[str, Any] = {
            "type": kind,
            "query_string": f"ticket={value}".encode(),
            "headers": [],
            "extensions": {"websocket.http.response": {}} if denial else {},
        }
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbox.put_nowait({"type": "http.request"} if kind == "http" else CONNECT)
        self.sent: list[dict[str, Any]] = []
        self.writable = asyncio.Event()
        self.writable.set()
        self.error: Exception | None = None

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send(self, message: dict[str, Any]) -> None:
        await self.writable.wait()
        if self.error:
            raise self.error
        self.sent.append(message)

    def says(self, text: str) -> None:
        """Let the client say something."""
        self.inbox.put_nowait({"type": "websocket.receive", "text": text})

    async def serve(self, app: Any, **options: Any) -> None:
        """Let the middleware serve it, until the application has returned."""
        middleware = TicketMiddleware(
            app, **{"origins": None, "service": self.service} | options
        )
        async with asyncio.timeout(5):
            await middleware(self.scope, self.receive, self.send)

    async def revoke(self, session: str | None = "s") -> None:
        """Disconnect the user, and let that be heard."""
        await asyncio.to_thread(self.service.disconnect, 7, session=session)
        await asyncio.to_thread(self.service.listener.poll)


class Stubborn(Server):
    """A server that goes on when it is cancelled, and has a message just then."""

    async def receive(self) -> dict[str, Any]:
        try:
            return await self.inbox.get()
        except asyncio.CancelledError:
            return {"type": "websocket.receive", "text": "late"}


@pytest.fixture
def service() -> Iterator[TicketService]:
    with using(LocMemBackend()) as service:
        yield service


class Ready(asyncio.Event):
    """Set by an application when its user may be disconnected."""

    def __init__(self) -> None:
        super().__init__()
        self.revoked = asyncio.Event()
        """Set when the user is disconnected, and that is heard."""


class App:
    """An application that does what a test says, in between two events."""

    def __init__(self, talk: Callable[[Receive, Send], Awaitable[None]]) -> None:
        self.talk = talk
        self.ready = Ready()
        self.has_returned = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.talk(receive, send)
        self.has_returned = True


async def revoked(
    server: Server,
    talk: Callable[[Receive, Send, Ready], Awaitable[None]],
    **options: Any,
) -> App:
    """Serve an application, and disconnect its user as soon as it is ready."""
    app = App(lambda receive, send: talk(receive, send, app.ready))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(app, **options))
        await app.ready.wait()
        await server.revoke()
        app.ready.revoked.set()
    return app


async def accepted(receive: Receive, send: Send) -> None:
    assert await receive() == CONNECT
    await send(ACCEPT)


class TestReceive:
    def test_ends_where_the_application_waits(self, service: TicketService) -> None:
        """It is told at once, with code and reason, and the socket is closed so.

        Mutants: asgi-live-wakes-nobody, asgi-live-closes-nothing.
        """
        heard = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            heard.append(await receive())

        async def main() -> Server:
            server = Server(service)
            await revoked(server, talk)
            return server

        with within(3.0):
            server = asyncio.run(main())
        assert heard == [DISCONNECT]
        assert server.sent == [ACCEPT, CLOSE]

    def test_returns_nothing_else(self, service: TicketService) -> None:
        """What arrived before, and what still arrives, never reaches it.

        Mutants: asgi-live-passes-calls-on.
        """
        heard = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            server.says("before")
            ready.set()
            await ready.revoked.wait()
            server.says("after")
            heard.extend([await receive() for _ in range(3)])

        async def main() -> None:
            nonlocal server
            server = Server(service)
            await revoked(server, talk)

        server: Any = None
        asyncio.run(main())
        assert heard == [DISCONNECT] * 3
        assert server.inbox.qsize() == 2

    def test_returns_no_message_of_the_same_moment(
        self, service: TicketService
    ) -> None:
        """A message on its way to the application is lost when the login ends.

        Mutants: asgi-live-hears-on.
        """

        heard = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            heard.extend([await receive() for _ in range(2)])
            task = asyncio.current_task()
            assert task is not None
            heard.append(task.cancelling())

        async def main() -> None:
            server = Stubborn(service)
            await revoked(server, talk)

        asyncio.run(main())
        assert heard == [DISCONNECT, DISCONNECT, 0]

    def test_can_be_called_in_many_tasks(self, service: TicketService) -> None:
        """Each of them is told."""
        heard: list[dict[str, Any]] = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            async def listen() -> None:
                heard.append(await receive())

            await accepted(receive, send)
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(listen())
                await asyncio.sleep(0)
                ready.set()

        async def main() -> None:
            await revoked(Server(service), talk)

        asyncio.run(main())
        assert heard == [DISCONNECT] * 3

    def test_can_time_out(self, service: TicketService) -> None:
        """A cancellation of the application's own goes through, before and after."""
        passed = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            for _ in range(2):
                try:
                    async with asyncio.timeout(0.005):
                        await receive()
                except TimeoutError:
                    passed.append("timeout")
            ready.set()
            async with asyncio.timeout(3):
                passed.append((await receive())["type"])
            try:
                async with asyncio.timeout(0):
                    await receive()
            except TimeoutError:
                passed.append("timeout")

        async def main() -> None:
            await revoked(Server(service), talk)

        asyncio.run(main())
        assert passed == ["timeout", "timeout", "websocket.disconnect", "timeout"]

    def test_tells_a_foreign_cancellation_from_its_own(
        self, service: TicketService
    ) -> None:
        """The application is cancelled by its server in the moment of the revocation.

        Mutants: asgi-live-takes-every-cancellation.
        """

        async def main() -> None:
            async def app(scope: Any, receive: Receive, send: Send) -> None:
                await accepted(receive, send)
                ready.set()
                await receive()

            def both(self: Any, reason: Any) -> None:
                task.cancel()
                revoke(self, reason)

            ready = asyncio.Event()
            revoke = _asgi_live.Connection.revoke
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_asgi_live.Connection, "revoke", both)
                server = Server(service)
                task = asyncio.create_task(server.serve(app))
                await ready.wait()
                await server.revoke()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(main())


class TestSend:
    def test_has_no_effect_and_then_fails(self, service: TicketService) -> None:
        """So a handler that is under way ends, and one that only sends does too.

        Mutants: asgi-live-passes-calls-on, asgi-live-never-fails-to-send.
        """
        failed = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            await ready.revoked.wait()
            await send({"type": "websocket.send", "text": "unheard"})
            try:
                while True:
                    await send({"type": "websocket.send", "text": "unheard"})
            except OSError as exc:
                failed.append(str(exc))
                raise

        async def main() -> tuple[Server, App]:
            server = Server(service)
            return server, await revoked(server, talk, grace=4.0)

        server, app = asyncio.run(main())
        assert server.sent == [ACCEPT, CLOSE]
        assert failed == ["The connection is closed, because its login has ended."]
        assert not app.has_returned

    def test_can_be_called_in_a_thread(self, service: TicketService) -> None:
        """By code that runs an event loop of its own, as ``async_to_sync()`` does.

        Mutants: asgi-live-takes-a-task-of-another-loop.
        """
        message = {"type": "websocket.send", "text": "from a thread"}

        async def talk(receive: Receive, send: Send) -> None:
            await accepted(receive, send)
            await asyncio.to_thread(lambda: async_to_sync(send)(message))

        server = Server(service)
        asyncio.run(server.serve(App(talk)))
        assert server.sent == [ACCEPT, message]

    def test_ends_where_the_client_does_not_read(self, service: TicketService) -> None:
        """An application that waits to send is told as well, and cleans up.

        Mutants: asgi-live-wakes-nobody.
        """
        heard = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            server.writable.clear()
            asyncio.get_running_loop().call_soon(ready.set)
            await send({"type": "websocket.send", "text": "unread"})
            heard.append(await receive())

        async def main() -> App:
            nonlocal server
            server = Server(service)
            return await revoked(server, talk)

        server: Any = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_asgi_live, "_CLOSE_WAIT", 0.05)
            with within(3.0):
                app = asyncio.run(main())
        assert heard == [DISCONNECT]
        assert app.has_returned
        assert server.sent == [ACCEPT]

    def test_raises_what_the_server_does(self, service: TicketService) -> None:
        """A client that left is the server's to tell."""

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            server.error = ConnectionResetError("gone")
            await send({"type": "websocket.send", "text": "unheard"})

        async def main() -> None:
            nonlocal server
            server = Server(service)
            with pytest.raises(ExceptionGroup) as caught:
                await revoked(server, talk)
            assert caught.group_contains(ConnectionResetError)

        server: Any = None
        asyncio.run(main())


class TestBeforeAnAnswer:
    @pytest.mark.parametrize(
        ("options", "denial", "sent"),
        [
            ({}, False, ["websocket.close"]),
            (
                {},
                True,
                ["websocket.http.response.start", "websocket.http.response.body"],
            ),
            ({"refusal": "visible"}, True, ["websocket.accept", "websocket.close"]),
        ],
        ids=["strict", "denial", "visible"],
    )
    @pytest.mark.parametrize("is_connected", [True, False])
    def test_a_websocket_is_refused(
        self,
        service: TicketService,
        options: dict[str, Any],
        denial: bool,
        sent: list[str],
        is_connected: bool,
    ) -> None:
        """As one with a bad ticket. The application is told in the usual order.

        Mutants: asgi-live-closes-what-is-not-open.
        """
        heard = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            if is_connected:
                heard.append(await receive())
            ready.set()
            await ready.revoked.wait()
            await send(ACCEPT)
            heard.extend([await receive() for _ in range(3 - is_connected)])

        async def main() -> Server:
            server = Server(service, denial=denial)
            await revoked(server, talk, **options)
            return server

        server = asyncio.run(main())
        assert [message["type"] for message in server.sent] == sent
        assert heard == [CONNECT, DISCONNECT, DISCONNECT]

    def test_a_request_is_refused(self, service: TicketService) -> None:
        """With 401, where the application has not begun to answer."""

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            ready.set()
            await ready.revoked.wait()
            await send(START)

        async def main() -> Server:
            server = Server(service, "http")
            await revoked(server, talk)
            return server

        start, _ = asyncio.run(main()).sent
        assert start["status"] == 401


class TestAStream:
    def test_ends(self, service: TicketService) -> None:
        """The response ends properly, and the application is told so.

        Mutants: asgi-live-closes-nothing.
        """
        heard = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            heard.append(await receive())
            await send(START)
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            ready.set()
            heard.extend([await receive(), await receive()])
            await send({"type": "http.response.body", "body": b"2", "more_body": True})

        async def main() -> Server:
            server = Server(service, "http")
            await revoked(server, talk)
            return server

        server = asyncio.run(main())
        assert heard == [{"type": "http.request"}, *[{"type": "http.disconnect"}] * 2]
        assert server.sent[0] == START
        assert [message["body"] for message in server.sent[1:]] == [b"1", b""]
        assert server.sent[-1] == END

    def test_that_has_ended_ends_once(self, service: TicketService) -> None:
        """A response that is complete is left alone."""

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await send(START)
            await send({"type": "http.response.body", "body": b"all"})
            ready.set()
            await receive()  # the request
            await receive()

        async def main() -> Server:
            server = Server(service, "http")
            await revoked(server, talk)
            return server

        assert len(asyncio.run(main()).sent) == 2


class TestAnApplicationThatDoesNotReturn:
    @pytest.mark.parametrize("is_deaf", [True, False])
    def test_is_cancelled(
        self,
        service: TicketService,
        caplog: pytest.LogCaptureFixture,
        is_deaf: bool,
    ) -> None:
        """After its time, whether it waits for something else or goes on listening.

        Mutants: asgi-live-waits-for-ever, asgi-live-keeps-its-cancellation.
        """

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            while True:
                await (asyncio.sleep(3600) if is_deaf else receive())

        async def main() -> None:
            app = App(lambda receive, send: talk(receive, send, app.ready))
            server = Server(service)

            async def serve() -> int:
                await server.serve(app, grace=0.1)
                task = asyncio.current_task()
                assert task is not None
                return task.cancelling()

            task = asyncio.create_task(serve())
            await app.ready.wait()
            await server.revoke()
            assert await task == 0
            assert not app.has_returned
            assert server.sent == [ACCEPT, CLOSE]

        with within(3.0):
            asyncio.run(main())
        assert "not returned 0.1 seconds after" in caplog.text

    def test_is_cancelled_whatever_a_log_filter_does(
        self, service: TicketService
    ) -> None:
        """Mutants: log-filters-stop-everything."""

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            await asyncio.sleep(5)

        async def main() -> None:
            app = App(lambda receive, send: talk(receive, send, app.ready))
            server = Server(service)
            task = asyncio.create_task(server.serve(app, grace=0.1))
            await app.ready.wait()
            await server.revoke()
            await task
            assert not app.has_returned

        with failing_filter():
            asyncio.run(main())

    def test_is_cancelled_again(
        self, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that swallowed it, or lost it. Nothing is left cancelled.

        Mutants: asgi-live-cancels-once, asgi-live-keeps-its-cancellation.
        """
        monkeypatch.setattr(_asgi_live, "_CANCEL_AGAIN", 0.05)
        cancellations = 0

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            nonlocal cancellations
            await accepted(receive, send)
            ready.set()
            for _ in range(3):
                try:
                    await asyncio.sleep(5)
                except asyncio.CancelledError:
                    cancellations += 1

        async def main() -> None:
            async def serve() -> int:
                await server.serve(app, grace=0.05)
                task = asyncio.current_task()
                assert task is not None
                return task.cancelling()

            app = App(lambda receive, send: talk(receive, send, app.ready))
            server = Server(service)
            task = asyncio.create_task(serve())
            await app.ready.wait()
            await server.revoke()
            assert await task == 0

        with within(3.0):
            asyncio.run(main())
        assert cancellations == 3

    def test_leaves_time_to_others(self, service: TicketService) -> None:
        """It may call receive() or send() in a loop, and the loop still turns.

        Mutants: asgi-live-hogs-the-loop.
        """

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            nonlocal calls
            await accepted(receive, send)
            ready.set()
            await ready.revoked.wait()
            while True:
                await receive()
                await send({"type": "websocket.send", "text": "unheard"})
                calls += 1

        async def main() -> None:
            await revoked(Server(service), talk, grace=0.3)

        calls = 0
        asyncio.run(main())
        assert calls < 30

    def test_may_clean_up_and_return(self, service: TicketService) -> None:
        """Its own errors are the server's to report, and nothing is left cancelled."""

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                raise RuntimeError("a bug in its clean-up") from None

        async def main() -> None:
            with pytest.raises(ExceptionGroup) as caught:
                await revoked(Server(service), talk, grace=0.05)
            assert caught.group_contains(RuntimeError, match="a bug")

        asyncio.run(main())

    def test_can_be_cancelled_by_its_server(self, service: TicketService) -> None:
        """Which hears of it, whatever is under way."""

        async def main() -> None:
            async def app(scope: Any, receive: Receive, send: Send) -> None:
                await accepted(receive, send)
                ready.set()
                await asyncio.sleep(3600)

            ready = asyncio.Event()
            server = Server(service)
            task = asyncio.create_task(server.serve(app))
            await ready.wait()
            await server.revoke()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())


class TestClosing:
    def test_takes_seconds_at_most(
        self, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client may ignore that, and the application has returned long ago.

        Mutants: asgi-live-waits-for-the-client.
        """
        monkeypatch.setattr(_asgi_live, "_CLOSE_WAIT", 0.05)

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            server.writable.clear()
            ready.set()
            await receive()

        async def main() -> App:
            nonlocal server
            server = Server(service)
            return await revoked(server, talk)

        server: Any = None
        assert asyncio.run(main()).has_returned

    @pytest.mark.parametrize("error", [ConnectionResetError("x"), RuntimeError("x")])
    def test_may_fail(
        self,
        service: TicketService,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        """A client that left by itself is no error."""

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            server.error = error
            ready.set()
            await receive()

        async def main() -> App:
            nonlocal server
            server = Server(service)
            return await revoked(server, talk)

        server: Any = None
        with caplog.at_level(logging.DEBUG):
            assert asyncio.run(main()).has_returned
        assert "not closed properly" in caplog.text
        assert not [r for r in caplog.records if r.levelno > logging.DEBUG]

    def test_uses_the_code_that_is_asked_for(self, service: TicketService) -> None:
        """For the client and for the application."""
        heard = []

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            ready.set()
            heard.append(await receive())

        async def main() -> Server:
            server = Server(service)
            await revoked(server, talk, close_code=4205)
            return server

        server = asyncio.run(main())
        assert heard[0]["code"] == server.sent[-1]["code"] == 4205

    def test_does_not_repeat_the_applications(self, service: TicketService) -> None:
        """A connection that it has closed itself is closed."""

        async def talk(receive: Receive, send: Send, ready: Ready) -> None:
            await accepted(receive, send)
            await send({"type": "websocket.close"})
            ready.set()
            await receive()

        async def main() -> Server:
            server = Server(service)
            await revoked(server, talk)
            return server

        assert asyncio.run(main()).sent == [ACCEPT, {"type": "websocket.close"}]


class TestWhoIsClosed:
    @pytest.mark.parametrize(
        ("options", "session", "is_closed"),
        [
            ({}, "s", True),
            ({}, None, True),
            ({}, "another", False),
            ({}, "", False),
            ({"disconnect": False}, None, False),
        ],
    )
    def test_is_whom_the_disconnect_names(
        self,
        service: TicketService,
        options: dict[str, Any],
        session: str | None,
        is_closed: bool,
    ) -> None:
        """The session, or every connection of the user. Nobody else."""
        heard = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await accepted(receive, send)
            ready.set()
            heard.append((await receive())["type"])

        async def main() -> None:
            nonlocal ready
            ready = asyncio.Event()
            server = Server(service)
            task = asyncio.create_task(server.serve(app, **options))
            await ready.wait()
            await server.revoke(session)
            await asyncio.sleep(0.05)
            server.says("still here")
            await task

        ready: Any = None
        asyncio.run(main())
        expected = "websocket.disconnect" if is_closed else "websocket.receive"
        assert heard == [expected]

    def test_is_nobody_without_a_ticket(self, service: TicketService) -> None:
        """There is no login that could end, and the server is left alone."""
        got = []

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            got.extend([scope["ticket"], receive])

        async def main() -> Server:
            server = Server(service)
            server.scope["query_string"] = b""
            await server.serve(app, required=False)
            return server

        server = asyncio.run(main())
        assert got == [None, server.receive]
        assert service.listener.last_read is None

    def test_is_nobody_who_has_left(self, service: TicketService) -> None:
        """A disconnect that is heard in the moment the application returns is late.

        Mutants: asgi-live-revokes-what-has-ended.
        """

        async def app(scope: Any, receive: Receive, send: Send) -> None:
            await accepted(receive, send)

        async def main() -> Server:
            server = Server(service)
            late = []
            watch = _asgi_live.Connection.watch

            async def note(self: Any, *args: Any) -> None:
                late.append(self)
                await watch(self, *args)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_asgi_live.Connection, "watch", note)
                await server.serve(app)
            late[0].revoke(Revoked("user"))
            await asyncio.sleep(0)
            return server

        assert asyncio.run(main()).sent == [ACCEPT]
        assert len(service.listener._state.watches) == 0

    def test_is_who_has_come_of_age(self, service: TicketService) -> None:
        """max_age ends a connection, whatever happens."""
        heard = []

        async def talk(receive: Receive, send: Send) -> None:
            await accepted(receive, send)
            heard.append(await receive())

        async def main() -> Server:
            server = Server(service)
            task = asyncio.create_task(server.serve(App(talk), max_age=0.05))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(service.listener.poll)
            await task
            return server

        assert asyncio.run(main()).sent[-1]["reason"] == "expired kind=age"
        assert heard[0]["code"] == 4401


class TestLettingIn:
    @pytest.mark.parametrize("kind", ["http", "websocket"])
    def test_refuses_a_login_that_has_ended(
        self, service: TicketService, kind: str
    ) -> None:
        """A ticket that was issued before a logout, and shown after it, is refused."""

        async def main() -> Server:
            server = Server(service, kind, denial=True)
            await server.revoke()
            await server.serve(None)
            return server

        assert asyncio.run(main()).sent[0]["status"] == 401

    def test_refuses_while_nothing_can_be_heard(
        self, service: TicketService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A connection that nobody could end does not begin."""

        def fails(keys: Any) -> Any:
            raise ConnectionError

        monkeypatch.setattr(service.backend, "read_many", fails)

        async def main() -> Server:
            server = Server(service, denial=True)
            await server.serve(None)
            return server

        assert asyncio.run(main()).sent[0]["status"] == 503


class TestOptions:
    def test_need_a_backend_that_can_be_read(self) -> None:
        """Which is said when the application is made, and how to go without it."""

        class Old(RecordingBackend):
            pass

        service = TicketService(Old())
        with pytest.raises(UnsupportedBackend, match=r"Old has no .*disconnect=False"):
            TicketMiddleware(None, origins=None, service=service)  # type: ignore[arg-type]
        TicketMiddleware(
            None,  # type: ignore[arg-type]
            origins=None,
            service=service,
            disconnect=False,
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"close_code": 1001},
            {"close_code": 2999},
            {"close_code": 5000},
            {"grace": -1},
            {"max_age": 0},
            {"in_doubt": "leave"},
        ],
        ids=str,
    )
    def test_are_checked(self, options: dict[str, Any]) -> None:
        """When the application is made, with or without a service."""
        with pytest.raises(ValueError, match=next(iter(options)) + "|closes with"):
            TicketMiddleware(None, origins=None, **options)  # type: ignore[arg-type]
