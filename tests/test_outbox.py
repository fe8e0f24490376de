"""Disconnects that the storage did not take at once."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from realtime_ticket import OpenTransaction, StorageError, TicketService, outbox
from realtime_ticket.live import LiveTickets
from tests.helpers import WAIT, eventually, failing_filter
from tests.journals import Clocks, Store, World, entry


@pytest.fixture
def store() -> Store:
    return Store(Clocks())


@pytest.fixture
def service(store: Store, monkeypatch: pytest.MonkeyPatch) -> TicketService:
    monkeypatch.setattr("realtime_ticket.outbox._PAUSE", 0.01)
    monkeypatch.setattr("realtime_ticket.outbox.CONFIRM_AFTER", 0.1)
    return TicketService(store)


@pytest.fixture
def clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Give the clock that says when entries are written again. It stands still."""
    clock = SimpleNamespace(monotonic=store.clocks.monotonic, sleep=time.sleep)
    monkeypatch.setattr(outbox, "time", clock)
    return store.clocks


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Give live tickets, and an outbox that goes by the same clocks."""
    world = World(monkeypatch)
    monkeypatch.setattr("realtime_ticket.outbox._PAUSE", 0.01)
    clock = SimpleNamespace(monotonic=world.clocks.monotonic, sleep=time.sleep)
    monkeypatch.setattr(outbox, "time", clock)
    yield world
    world.service.close()


def users(service: TicketService) -> list[str]:
    """Return the users in the journal, in the order of their slots."""
    disconnects, _ = service.journal.since(int(time.time()) - 60)
    return [user for each in disconnects for user in each.users]


def test_a_disconnect_is_written_when_the_storage_is_back(
    service: TicketService, store: Store
) -> None:
    """In the order in which they came.

    Mutants: disconnect-is-lost-when-the-storage-is-down, outbox-gives-up-at-once.
    """
    store.is_down = lambda key: True
    for user_id in range(30):
        with pytest.raises(StorageError):
            service.disconnect(user_id)
    assert not service.outbox.join(0.05)
    store.is_down = lambda key: False
    assert service.outbox.join(WAIT)
    assert users(service) == [str(user_id) for user_id in range(30)]


def test_a_call_that_failed_halfway_is_finished(
    service: TicketService, store: Store
) -> None:
    store.is_down = lambda key: len(store.texts) >= 2
    with pytest.raises(StorageError):
        service.disconnect(*range(2000))
    assert len(store.texts) == 2
    store.is_down = lambda key: False
    assert service.outbox.join(WAIT)
    assert sorted(map(int, users(service))) == list(range(2000))


def test_the_thread_closes_its_connections_and_ends(
    service: TicketService, store: Store
) -> None:
    service.disconnect(7, background=True)
    assert service.outbox.join(WAIT)
    assert eventually(lambda: store.closed > 0)
    assert store.closed == 1
    service.disconnect(8, background=True)
    assert service.outbox.join(WAIT)
    assert users(service) == ["7", "8"]


def test_a_disconnect_in_a_transaction_is_refused_or_written_by_the_thread(
    service: TicketService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = threading.current_thread()

    def add_durably(key: str, data: str, expire: int) -> bool:
        if threading.current_thread() is here:
            raise OpenTransaction("Leave it.")
        return store.add(key, data, expire)

    monkeypatch.setattr(store, "add_durably", add_durably)
    with pytest.raises(OpenTransaction):
        service.disconnect(7)
    assert service.outbox.join(0)
    service.disconnect(8, background=True)
    assert service.outbox.join(WAIT)
    assert users(service) == ["8"]


def test_a_storage_that_stays_down_is_given_up_and_logged(
    service: TicketService,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("realtime_ticket.outbox.KEEP", 0.05)
    store.is_down = lambda key: True
    with pytest.raises(StorageError):
        service.disconnect(7)
    assert eventually(lambda: service.outbox.join(0))
    (lost,) = [each for each in caplog.records if "lost" in each.getMessage()]
    assert lost.levelno == logging.ERROR
    assert lost.getMessage().startswith("A disconnect is lost: the storage failed")


def test_a_log_filter_that_raises_costs_no_disconnect(
    service: TicketService, store: Store
) -> None:
    """Mutants: log-filters-stop-everything."""
    store.is_down = lambda key: True
    with failing_filter(), pytest.raises(StorageError):
        service.disconnect(7)
    store.is_down = lambda key: False
    assert service.outbox.join(WAIT)
    assert users(service) == ["7"]


def test_a_log_filter_that_raises_does_not_end_the_thread(
    service: TicketService,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mutants: log-filters-stop-everything."""
    monkeypatch.setattr("realtime_ticket.outbox.KEEP", 0.05)
    store.is_down = lambda key: True
    with failing_filter():
        service.disconnect(7, background=True)
        assert eventually(lambda: service.outbox.join(0))
    store.is_down = lambda key: False
    service.disconnect(8, background=True)
    assert service.outbox.join(WAIT)
    assert users(service) == ["8"]


def test_what_waits_is_bounded(
    service: TicketService,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("realtime_ticket.outbox.MAX_KEPT", 10)
    store.is_down = lambda key: True
    for user_id in range(12):
        with pytest.raises(StorageError):
            service.disconnect(user_id)
    lost = "A disconnect is lost: too many wait for the storage."
    assert [each for each in caplog.messages if "lost" in each] == [lost] * 2
    store.is_down = lambda key: False
    assert service.outbox.join(WAIT)
    assert users(service) == [str(user_id) for user_id in range(2, 12)]


def test_a_forked_child_does_not_write_what_its_parent_keeps(
    service: TicketService, store: Store
) -> None:
    """It has a thread and entries of its own.

    Mutants: outbox-is-shared-with-a-fork.
    """
    store.is_down = lambda key: True
    with pytest.raises(StorageError):
        service.disconnect(7)
    child = os.fork()
    if not child:  # pragma: no cover (in the child)
        try:
            store.is_down = lambda key: False
            service.disconnect(8, background=True)
            fine = service.outbox.join(WAIT) and users(service) == ["8"]
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    store.is_down = lambda key: False
    assert service.outbox.join(WAIT)


def test_a_disconnect_that_is_written_twice_is_heard_once(
    service: TicketService, store: Store
) -> None:
    service.disconnect(7)
    ((text, _),) = store.texts.values()
    service.outbox.put([text])
    assert service.outbox.join(WAIT)
    assert len(store.texts) == 2
    live = LiveTickets(service, thread=False)
    live.poll()
    assert len(service.listener._state.watches._disconnects["7"]) == 1


def test_an_entry_that_is_pushed_out_while_it_is_written_pushes_out_no_other(
    service: TicketService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime_ticket.outbox.MAX_KEPT", 1)
    another = [entry("8")]

    def push_out(key: str) -> bool:
        while another:
            service.outbox.put([another.pop()])
        return False

    store.is_down = push_out
    service.disconnect(7, background=True)
    assert service.outbox.join(WAIT)
    assert users(service) == ["7", "8"]


def test_a_process_that_ends_writes_what_is_left(
    service: TicketService, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A command that disconnects in the background must not end before its thread.

    Mutants: outbox-is-forgotten-at-the-end.
    """
    taking = threading.Event()
    store.is_down = lambda key: not taking.wait(WAIT)
    service.disconnect(7, background=True)
    threading.Timer(0.1, taking.set).start()
    outbox._finish()
    assert users(service) == ["7"]
    assert caplog.messages == []


def test_what_a_process_that_ends_could_not_write_is_logged(
    service: TicketService,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.is_down = lambda key: True
    monkeypatch.setattr("realtime_ticket.outbox.AT_EXIT", 0.05)
    service.disconnect(7, 8, background=True)
    outbox._finish()
    assert caplog.messages == [
        "1 disconnects are lost: the process ends, and the storage failed."
    ]
    store.is_down = lambda key: False
    assert service.outbox.join(WAIT)


def test_a_process_without_threads_says_so_and_tries_again(
    service: TicketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: outbox-waits-for-a-thread-that-never-began."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        service.disconnect(6)  # written at once, and nobody needs to know
        with pytest.raises(StorageError, match="No thread can write a disconnect"):
            service.disconnect(7, background=True)
    service.disconnect(8, background=True)
    assert service.outbox.join(WAIT)
    assert users(service) == ["6", "7", "8"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_killed_is_replaced(
    service: TicketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: outbox-waits-for-a-dead-thread."""

    def kill(text: str) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(service.journal, "write", kill)
        service.disconnect(7, background=True)
        thread = service.outbox._state.thread
        assert thread is not None
        thread.join(WAIT)
        assert not service.outbox.join(0)
    service.disconnect(8, background=True)
    assert service.outbox.join(WAIT)
    assert users(service) == ["7", "8"]


def test_a_storage_that_loses_its_memory_gets_the_disconnect_again(
    service: TicketService, store: Store, clock: Clocks
) -> None:
    """Once: it is killed before anybody has read it.

    Mutants: outbox-trusts-every-storage.
    """
    service.disconnect(7)
    service.disconnect(8, background=True)
    assert service.outbox.join(WAIT)
    lost = [text for text, _ in store.texts.values()]
    store.texts.clear()
    clock.advance(1)
    assert eventually(lambda: store.closed > 0)
    assert sorted(text for text, _ in store.texts.values()) == sorted(lost)


def test_a_disconnect_that_was_lost_before_an_outage_is_heard_after_it(
    world: World,
) -> None:
    """The reader, which is back first, reads the second of the logout no more.

    Mutants: outbox-writes-where-it-wrote.
    """
    world.connect("here")
    world.service.disconnect(7)
    world.store.texts.clear()
    reader = threading.current_thread()
    world.store.is_down = lambda key: threading.current_thread() is not reader
    assert world.after(15) == {}
    world.store.is_down = lambda key: False
    assert eventually(lambda: bool(world.store.texts))
    assert world.after(0.5) == {"here": "user"}


def test_a_disconnect_that_was_lost_is_heard_beside_one_in_its_slot(
    world: World,
) -> None:
    """Mutants: outbox-writes-where-it-wrote."""
    world.connect("first", 7)
    world.connect("second", 8)
    world.service.disconnect(7)
    world.store.texts.clear()
    world.service.disconnect(8)
    assert world.after(0.5) == {"second": "user"}
    world.clocks.advance(3)
    assert eventually(lambda: not world.service.outbox._state.written)
    assert world.after(0.5) == {"first": "user", "second": "user"}


def test_a_database_keeps_its_memory_and_is_left_alone(
    service: TicketService, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "database", "default")
    service.disconnect(7)
    assert service.outbox._state.thread is None


def test_a_cache_of_django_may_be_redis_and_is_not_trusted(
    service: TicketService,
    store: Store,
    clock: Clocks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mutants: outbox-trusts-every-cache."""
    monkeypatch.setattr(Store, "thread_sensitive", True)
    service.disconnect(7)
    store.texts.clear()
    clock.advance(1)
    assert eventually(lambda: store.closed > 0)
    assert len(store.texts) == 1


def test_a_storage_that_stays_down_is_not_asked_again_for_ever(
    service: TicketService, store: Store, clock: Clocks
) -> None:
    """Only while readers remember the first entry's id.

    Mutants: outbox-writes-again-however-late.
    """
    service.disconnect(7)
    store.is_down = lambda key: True
    clock.advance(60)
    assert not eventually(lambda: store.closed > 0, 0.2)
    clock.advance(61)
    assert eventually(lambda: store.closed > 0)


def test_a_service_that_is_closed_writes_nothing_again(
    service: TicketService, store: Store
) -> None:
    service.disconnect(7)
    service.close()
    store.texts.clear()
    closed = store.closed
    assert eventually(lambda: store.closed > closed)
    assert store.texts == {}
