"""The signals of a ticket's life."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.dispatch import Signal

from realtime_ticket import InvalidTicket, get_service, signal_queue, tickets
from realtime_ticket.signalling import SignallingService
from realtime_ticket.signals import ticket_consumed, ticket_issued, ticket_rejected
from tests.helpers import CLAIMS, WAIT, within

Heard = list[tuple[str, dict[str, Any]]]
CACHE = "realtime_ticket.backends.cache.CacheBackend"
SIGNALS = {
    "issued": ticket_issued,
    "consumed": ticket_consumed,
    "rejected": ticket_rejected,
}


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method of the service, or its twin."""

    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(get_service(), name)(*args, **kwargs)
        return async_to_sync(getattr(get_service(), f"a{name}"))(*args, **kwargs)

    return call


@pytest.fixture
def connect() -> Iterator[Callable[[Signal, Any], None]]:
    """Connect a receiver for the time of a test."""
    connected: list[tuple[Signal, Any]] = []

    def connect(signal: Signal, receiver: Any) -> None:
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def heard(connect: Callable[[Signal, Any], None]) -> Heard:
    """What the receivers of all three signals hear."""
    heard: Heard = []
    for name, signal in SIGNALS.items():

        def receiver(
            sender: object, signal: Signal, name: str = name, **details: Any
        ) -> None:
            assert sender is SignallingService
            heard.append((name, details))

        connect(signal, receiver)
    return heard


def test_tell_of_every_ticket(call: Callable[..., Any], heard: Heard) -> None:
    """Issued and consumed come with the ticket, rejected with what is safe to log."""
    ticket = call("issue", CLAIMS, audience="chat")
    call("consume", ticket.value, audience="chat")
    with pytest.raises(InvalidTicket):
        call("consume", ticket.value, audience="chat")
    with pytest.raises(InvalidTicket):
        call("consume", "garbage")
    rejected = {"audience": "chat", "fingerprint": ticket.fingerprint}
    assert heard == [
        ("issued", {"ticket": ticket}),
        ("consumed", {"ticket": ticket}),
        ("rejected", {"reason": "unknown"} | rejected),
        ("rejected", {"reason": "malformed", "audience": "", "fingerprint": ""}),
    ]


def test_are_not_sent_for_revoking(call: Callable[..., Any], heard: Heard) -> None:
    """The caller of revoke() knows what it does."""
    call("revoke", call("issue", CLAIMS).value)
    assert [name for name, _ in heard] == ["issued"]


@pytest.mark.parametrize("is_async", [False, True])
def test_survive_a_broken_receiver(
    call: Callable[..., Any],
    connect: Callable[[Signal, Any], None],
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
) -> None:
    """A receiver that raises is logged, and costs nobody a ticket."""

    def broken(**kwargs: object) -> None:
        raise ZeroDivisionError

    async def abroken(**kwargs: object) -> None:
        raise ZeroDivisionError

    for signal in SIGNALS.values():
        connect(signal, abroken if is_async else broken)
    with caplog.at_level(logging.ERROR):
        ticket = call("issue", CLAIMS)
        assert call("consume", ticket.value) == ticket
        with pytest.raises(InvalidTicket):
            call("consume", ticket.value)
    assert len([r for r in caplog.records if r.exc_info]) == 3


def test_reach_asynchronous_receivers(
    call: Callable[..., Any], connect: Callable[[Signal, Any], None]
) -> None:
    """A receiver may be a coroutine function, whichever door the call came by."""
    heard: list[Any] = []

    async def receiver(ticket: Any, **kwargs: object) -> None:
        heard.append(ticket)

    connect(ticket_issued, receiver)
    assert heard == [] and call("issue", CLAIMS) == heard[0]


def test_are_logged_as_well(
    call: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The service that sends signals still writes its log."""
    with caplog.at_level(logging.DEBUG, logger="realtime_ticket"):
        call("issue", CLAIMS)
    assert "Ticket issued" in caplog.text


class TestInAnEventLoopOfItsOwn:
    """A realtime server: its coroutines share one thread for synchronous code."""

    def test_receivers_are_done_when_the_call_returns(self, heard: Heard) -> None:
        """As with Django's asend(), as long as they are not overtaxed."""

        async def scene() -> None:
            ticket = await get_service().aissue(CLAIMS)
            assert heard == [("issued", {"ticket": ticket})]
            with pytest.raises(InvalidTicket):
                await get_service().aconsume("garbage")
            assert [name for name, _ in heard] == ["issued", "rejected"]

        asyncio.run(scene())

    def test_a_slow_receiver_of_rejections_keeps_nobody_out(
        self,
        connect: Callable[[Signal, Any], None],
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """5 ms for each of thousands of junk handshakes, and others are in at once.

        Mutants: signals-all-at-once, signals-of-all-kinds-in-one-queue.
        """
        monkeypatch.setattr(signal_queue, "MAX_WAIT", WAIT)  # what keeps out is seen
        settings.REALTIME_TICKET_BACKEND = CACHE
        receiver = a_receiver(lambda: time.sleep(0.005))
        connect(ticket_rejected, receiver)
        connect(ticket_consumed, receiver)
        service = get_service()

        async def junk() -> None:
            while True:
                with suppress(InvalidTicket):
                    await service.aconsume(tickets.new_value())

        async def scene() -> list[float]:
            attackers = [asyncio.create_task(junk()) for _ in range(500)]
            await asyncio.sleep(0.2)
            times: list[float] = []
            while len(times) < 20 and max(times, default=0) < 1:
                started = time.monotonic()
                ticket = await service.aissue(CLAIMS)
                await service.aconsume(ticket.value)
                times.append(time.monotonic() - started)
            for attacker in attackers:
                attacker.cancel()
            return times

        assert max(asyncio.run(scene())) < 1

    def test_what_is_not_sent_is_counted_in_the_log(
        self,
        connect: Callable[[Signal, Any], None],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """So many signals may wait. Of the others, the log says how many there were.

        Mutants: signals-wait-without-end, signals-are-dropped-unsaid.
        """
        monkeypatch.setattr(signal_queue, "MAX_WAITING", 10)
        monkeypatch.setattr(signal_queue, "MAX_WAIT", 0.01)
        gate, heard = threading.Event(), []

        def receiver(**kwargs: object) -> None:
            assert gate.wait(WAIT)
            heard.append(kwargs["fingerprint"])

        connect(ticket_rejected, receiver)
        values = [tickets.new_value() for _ in range(100)]

        async def scene() -> None:
            calls = [get_service().aconsume(value) for value in values]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {InvalidTicket}
            gate.set()
            await until(lambda: len(heard) + lost() == len(values))

        def lost() -> int:
            return sum(record.args[1] for record in caplog.records)

        asyncio.run(scene())
        assert len(heard) == 10
        assert heard == [tickets.fingerprint(value) for value in values[:10]]
        assert all("ticket_rejected" in r.getMessage() for r in caplog.records)

    def test_the_end_of_the_event_loop_is_not_the_end_of_counting(
        self,
        connect: Callable[[Signal, Any], None],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A server that stops says which signals it did not send.

        Mutants: signals-are-lost-at-the-end.
        """
        monkeypatch.setattr(signal_queue, "MAX_WAIT", 0.01)

        async def receiver(**kwargs: object) -> None:
            await asyncio.sleep(WAIT)

        connect(ticket_rejected, receiver)

        async def scene() -> None:
            calls = [get_service().aconsume(tickets.new_value()) for _ in range(5)]
            await asyncio.gather(*calls, return_exceptions=True)

        asyncio.run(scene())
        (record,) = caplog.records
        assert record.args == ("ticket_rejected", 4)

    def test_who_waits_is_not_forgotten_when_all_tasks_are_cancelled(
        self, connect: Callable[[Signal, Any], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A test, or a framework, may cancel what it does not know."""
        monkeypatch.setattr(signal_queue, "MAX_WAIT", WAIT)

        async def receiver(**kwargs: object) -> None:
            entered.set()
            await asyncio.sleep(WAIT)

        connect(ticket_issued, receiver)
        entered = threading.Event()

        async def scene() -> None:
            mine = {asyncio.current_task()}
            calls = [
                asyncio.create_task(get_service().aissue(CLAIMS)) for _ in range(3)
            ]
            mine |= {*calls}
            await until(entered.is_set)
            for task in asyncio.all_tasks() - mine:
                task.cancel()
            with within(WAIT / 2):
                await asyncio.gather(*calls)

        asyncio.run(scene())

    def test_receivers_see_the_context_of_their_caller(
        self, connect: Callable[[Signal, Any], None]
    ) -> None:
        """Of several at once, each its own. Mutants: signals-in-one-context."""
        tenant: ContextVar[str] = ContextVar("tenant")
        seen: list[tuple[str, str]] = []

        def receiver(ticket: Any, **kwargs: object) -> None:
            seen.append((ticket.username, tenant.get("nobody")))

        connect(ticket_issued, receiver)

        async def issue(name: str) -> None:
            tenant.set(name)
            await get_service().aissue({"id": 1, "username": name})

        async def scene() -> None:
            await asyncio.gather(*[issue(name) for name in "abc"])

        asyncio.run(scene())
        assert seen == [(name, name) for name in "abc"]

    @pytest.mark.parametrize("error", [asyncio.CancelledError, RuntimeError])
    def test_one_that_cannot_be_sent_does_not_stop_the_others(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        heard: Heard,
        error: type[BaseException],
    ) -> None:
        """Not even when the thread for it is gone, or a receiver cancels itself."""
        asend, errors = Signal.asend_robust, [error()]

        async def fail_once(signal: Signal, *args: Any, **kwargs: Any) -> Any:
            if errors:
                raise errors.pop()
            return await asend(signal, *args, **kwargs)

        monkeypatch.setattr(Signal, "asend_robust", fail_once)

        async def scene() -> None:
            issued = [get_service().aissue(CLAIMS) for _ in range(3)]
            assert len(await asyncio.gather(*issued)) == 3

        asyncio.run(scene())
        assert [name for name, _ in heard] == ["issued"] * 2
        assert len(caplog.records) == (error is RuntimeError)

    def test_a_request_waits_for_its_receivers(
        self,
        connect: Callable[[Signal, Any], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Each request has a thread of its own: receivers run there, and are done.

        Mutants: signals-of-requests-in-a-queue.
        """
        monkeypatch.setattr(signal_queue, "MAX_WAIT", 0.01)
        threads: list[int] = []

        def receiver(**kwargs: object) -> None:
            time.sleep(0.05)
            threads.append(threading.get_ident())

        connect(ticket_issued, receiver)

        async def request() -> None:
            async with ThreadSensitiveContext():
                own = await sync_to_async(threading.get_ident)()
                await get_service().aissue(CLAIMS)
                assert threads.pop() == own

        async def scene() -> None:
            await request()
            await request()

        asyncio.run(scene())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition without holding up the event loop."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def a_receiver(act: Callable[[], object]) -> Callable[..., None]:
    """A receiver that does this."""

    def receiver(**kwargs: object) -> None:
        act()

    return receiver
