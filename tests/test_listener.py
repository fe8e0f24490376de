"""The thread that reads the journal: it begins by itself, and nothing ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.listener import Listener
from realtime_ticket.live import LiveTickets, Revoked
from realtime_ticket.tickets import Ticket
from tests.helpers import WAIT, eventually, failing_filter, within
from tests.journals import ticket


class Backend(LocMemBackend):
    """Fails while ``error`` is set, and says in which threads it was used."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.failures = 0
        self.closed_in: list[threading.Thread] = []

    def read_many(self, keys: list[str]) -> list[str | Exception | None]:
        if self.error is not None:
            self.failures += 1
            raise self.error
        return super().read_many(keys)

    def close(self) -> None:
        self.closed_in.append(threading.current_thread())


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def live(backend: Backend) -> Iterator[LiveTickets]:
    live = LiveTickets(TicketService(backend))
    yield live
    live.close()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime_ticket.listener.POLL", 0.01)


def new_ticket(user_id: int = 7) -> Ticket:
    return ticket(user_id, issued_at=time.time())


class Connection:
    """A connection that ends when it is told."""

    def __init__(self, live: LiveTickets, user_id: int = 7) -> None:
        self._ended = threading.Event()
        self.revoked: list[Revoked] = []
        self.watch = live.watch(new_ticket(user_id), self.end)

    def end(self, revoked: Revoked) -> None:
        self.revoked.append(revoked)
        self._ended.set()

    def ends(self) -> bool:
        return self._ended.wait(WAIT)


def aconnect(live: LiveTickets) -> None:
    """Hold a connection of an event loop for a moment."""

    async def main() -> None:
        async with live.hold(new_ticket()):
            pass

    asyncio.run(main())


def threads(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == f"realtime-ticket-{name}"]


def listeners() -> list[threading.Thread]:
    return threads("listener")


def test_the_thread_begins_with_the_first_connection_and_ends_with_close(
    live: LiveTickets, backend: Backend
) -> None:
    assert (listeners(), live.last_read) == ([], None)
    Connection(live)
    (thread,) = listeners()
    assert thread.daemon
    assert live.last_read is not None
    assert time.monotonic() - live.last_read < WAIT
    live.close()
    live.close()
    assert listeners() == []
    assert backend.closed_in == [thread]


def test_all_live_tickets_of_a_service_share_one_thread(live: LiveTickets) -> None:
    others = [LiveTickets(live.service, max_age=60) for _ in range(3)]
    connections = [Connection(each) for each in [live, *others]]
    assert len(listeners()) == 1
    live.service.disconnect(7)
    assert all(connection.ends() for connection in connections)


def test_a_connection_that_was_open_when_the_thread_ended_is_ended_by_the_next(
    live: LiveTickets,
) -> None:
    first = Connection(live)
    live.close()
    Connection(live, 8)
    live.service.disconnect(7)
    assert first.ends()


def test_a_service_that_is_closed_ends_the_thread(live: LiveTickets) -> None:
    Connection(live)
    live.service.close()
    assert listeners() == []


def test_a_callback_may_close_the_listener(live: LiveTickets) -> None:
    live.watch(new_ticket(), lambda revoked: live.close())
    thread = listeners()[0]
    live.service.disconnect(7)
    thread.join(WAIT)
    assert not thread.is_alive()


def test_a_callback_may_read_the_journal(live: LiveTickets) -> None:
    live.watch(new_ticket(), lambda revoked: live.poll())
    connections = [Connection(live), Connection(live, 8)]
    live.service.disconnect(7, 8)
    assert all(connection.ends() for connection in connections)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_a_callback_that_raises_costs_nobody_a_disconnect(
    live: LiveTickets, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises is logged.

    Mutants: listener-dies-of-callbacks.
    """

    def fail(revoked: Revoked) -> None:
        raise error

    for _ in range(3):
        live.watch(new_ticket(), fail)
    connections = [Connection(live) for _ in range(3)]
    live.service.disconnect(7)
    assert all(connection.ends() for connection in connections)
    another = Connection(live, 8)
    live.service.disconnect(8)
    assert another.ends()
    assert caplog.text.count("The callback of a revoked connection failed.") == 3


@pytest.mark.parametrize("error", [OSError, RuntimeError, SystemExit, MemoryError])
def test_no_error_ends_the_thread(
    live: LiveTickets,
    backend: Backend,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It says once that it cannot read, and once that it can again.

    Mutants: listener-dies-of-errors, listener-repeats-itself.
    """
    connection = Connection(live)
    with caplog.at_level(logging.WARNING, "realtime_ticket"):
        backend.error = error()
        assert eventually(lambda: backend.failures >= 3)
        live.service.disconnect(7)
        backend.error = None
        assert connection.ends()
        live.close()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"The journal of disconnects cannot be read ({error.__name__}). Connections "
        "stay open, and new ones are refused in 5 seconds.",
        "The journal of disconnects can be read again.",
    ]


def test_a_log_filter_that_raises_does_not_end_the_thread(
    live: LiveTickets, backend: Backend
) -> None:
    """Mutants: log-filters-stop-everything."""
    connection = Connection(live)
    with failing_filter():
        backend.error = OSError()
        assert eventually(lambda: backend.failures >= 2)
        backend.error = None
        live.service.disconnect(7)
        assert connection.ends()


def test_a_thread_that_is_started_again_is_waited_for(
    live: LiveTickets, backend: Backend
) -> None:
    """Until it has read, because the last reading is too old.

    Mutants: listener-is-not-waited-for-again.
    """
    for connect in (Connection, aconnect):
        connect(live)
        live.close()
        live.service.listener._state.last_read = time.monotonic() - 10
        connect(live)


def test_an_age_does_not_wait_for_a_storage_that_hangs(
    live: LiveTickets, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    """Some drivers wait for ever. And no error ends the thread that looks.

    Mutants: age-waits-for-the-storage, clock-dies-of-errors.
    """
    limited = LiveTickets(live.service, max_age=0.5)
    connection = Connection(limited)
    hanging = threading.Event()
    monkeypatch.setattr(backend, "read_many", lambda keys: hanging.wait(WAIT) and [])
    watches = live.service.listener._state.watches
    take_aged, errors = watches.take_aged, [MemoryError()]

    def fail_once(now: float) -> Any:
        if errors and threading.current_thread() in threads("clock"):
            raise errors.pop()
        return take_aged(now)

    monkeypatch.setattr(watches, "take_aged", fail_once)
    assert connection.ends()
    assert not hanging.is_set()
    hanging.set()
    assert connection.revoked[0].cause == "age"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_killed_is_replaced(
    live: LiveTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two readings, as gevent kills greenlets.

    Mutants: listener-waits-for-a-dead-thread.
    """

    def kill(timeout: float) -> None:
        raise SystemExit

    first = Connection(live)
    (thread,) = listeners()
    monkeypatch.setattr(live.service.listener._state.stopped, "wait", kill)
    thread.join(WAIT)
    Connection(live, 8)
    live.service.disconnect(7)
    assert first.ends()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_both_threads_are_replaced_when_one_was_killed(
    live: LiveTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: clock-waits-for-the-listener-to-die."""
    Connection(live)
    (clock,), (listener,) = threads("clock"), listeners()
    stopped = live.service.listener._state.stopped
    wait = stopped.wait

    def kill(timeout: float) -> bool:
        if threading.current_thread() is clock:
            raise SystemExit
        return wait(timeout)

    monkeypatch.setattr(stopped, "wait", kill)
    clock.join(WAIT)
    Connection(live, 8)
    listener.join(WAIT)
    assert (len(threads("clock")), len(listeners())) == (1, 1)


def test_nobody_waits_for_a_thread_that_was_stopped_before_it_began(
    live: LiveTickets,
) -> None:
    """Mutants: listener-that-never-began-is-waited-for."""
    stopped, tried = threading.Event(), threading.Event()
    stopped.set()
    listener = live.service.listener
    listener._run(listener._state, stopped, tried)
    assert tried.is_set()


def test_a_storage_that_is_down_from_the_start_admits_nobody_and_says_so_at_once(
    live: LiveTickets, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime_ticket.live.MAX_SILENCE", WAIT)
    backend.error = OSError()
    with within(WAIT / 2), pytest.raises(StorageError, match="cannot be read"):
        Connection(live)
    with within(WAIT / 2), pytest.raises(StorageError, match="cannot be read"):
        asyncio.run(live.awatch(new_ticket(), print))  # type: ignore[arg-type]
    backend.error = None
    deadline = time.monotonic() + WAIT
    while live.last_read is None and time.monotonic() < deadline:
        time.sleep(0.01)
    Connection(live)


def test_a_process_without_threads_admits_nobody(
    live: LiveTickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StorageError, match="No thread can read the journal"):
            Connection(live)
    Connection(live)


def test_a_thread_that_hangs_admits_nobody(
    live: LiveTickets, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    Connection(live)
    hanging = threading.Event()
    monkeypatch.setattr(backend, "read_many", lambda keys: hanging.wait(WAIT) and [])
    with monkeypatch.context() as patch:
        patch.setattr("realtime_ticket.listener.MAX_SILENCE", 0.1)
        time.sleep(0.2)
        with pytest.raises(StorageError, match="cannot be read"):
            Connection(live)
    hanging.set()


def test_an_event_loop_hears_in_itself(live: LiveTickets) -> None:
    async def connection() -> threading.Thread:
        ended = asyncio.get_running_loop().create_future()
        watch = await live.awatch(
            new_ticket(), lambda _: ended.set_result(threading.current_thread())
        )
        with watch:
            await live.service.adisconnect(7)
            return await asyncio.wait_for(ended, WAIT)

    assert asyncio.run(connection()) is threading.main_thread()


def test_a_block_ends_by_itself(live: LiveTickets) -> None:
    async def connection() -> None:
        async with live.hold(new_ticket()):
            await live.service.adisconnect(7)
            await asyncio.sleep(WAIT)

    with pytest.raises(Revoked):
        asyncio.run(connection())


def test_a_forked_child_has_a_thread_and_connections_of_its_own(
    live: LiveTickets,
) -> None:
    """Its parent keeps the others.

    Mutants: listener-is-shared-with-a-fork.
    """
    inherited = Connection(live)
    child = os.fork()
    if not child:  # pragma: no cover (in the child)
        try:
            own = Connection(live)
            live.service.disconnect(7)
            fine = own.ends() and len(listeners()) == 1 and not inherited.revoked
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    # LocMemBackend is not shared: the parent's connection stays.
    assert not inherited.revoked


def test_a_fork_while_a_lock_is_held_hangs_nobody(live: LiveTickets) -> None:
    Connection(live)
    state = live.service.listener._state
    with state.lock, state.reading:
        child = os.fork()
        if not child:  # pragma: no cover (in the child)
            try:
                Connection(live)
                os._exit(0)
            finally:
                os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_a_ticket_that_is_refused_is_not_watched(live: LiveTickets) -> None:
    shown = new_ticket()
    live.service.disconnect(7)
    with pytest.raises(InvalidTicket):
        live.watch(shown, print)
    assert len(live.service.listener._state.watches) == 0


def test_no_disconnect_is_lost_between_admitting_and_watching(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is heard in between ends the connection, since it must wait for it.

    Mutants: listener-admits-before-it-watches.
    """
    live = LiveTickets(TicketService(backend), thread=False)
    live.poll()
    admit = Listener._admit
    hearing = threading.Thread(target=live.poll)

    def admit_and_disconnect(self: Listener, *args: Any) -> None:
        admit(self, *args)
        live.service.disconnect(7)
        hearing.start()
        hearing.join(0.1)

    monkeypatch.setattr(Listener, "_admit", admit_and_disconnect)
    connection = Connection(live)
    hearing.join(WAIT)
    assert connection.ends()
