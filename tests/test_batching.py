"""Group commit: which calls form a batch, and what can go wrong with one."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

from realtime_ticket import InvalidTicket, StorageError, batching, tickets
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.batching import GroupCommit
from realtime_ticket.replies import Request
from tests import servers
from tests.helpers import (
    CLAIMS,
    WAIT,
    GatedBackend,
    RecordingBackend,
    eventually,
    in_child,
    real_redis,
    using,
    within,
)
from tests.journals import Clocks


class Storage:
    """Answer each call with itself in capitals. Note each batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: list[threading.Thread] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, calls: list[str]) -> list[Any]:
        self.batches.append(list(calls))
        self.threads.append(threading.current_thread())
        self.entered.set()
        assert self.gate.wait(WAIT), "the test forgot to open the gate"
        return [call.upper() for call in calls]


def group(
    storage: Callable[[list[str]], list[Any]], sensitive: bool = False
) -> GroupCommit[str, Any]:
    return GroupCommit(storage, thread_sensitive=sensitive)


async def all_of(commit: GroupCommit[str, Any], *calls: str) -> list[Any]:
    """Return the outcomes of simultaneous calls, exceptions included."""
    tasks = [commit.submit(call) for call in calls]
    return await asyncio.gather(*tasks, return_exceptions=True)


async def until(event: threading.Event) -> None:
    """Wait for a thread without holding up the loop."""
    deadline = time.monotonic() + WAIT
    while not event.is_set():
        assert time.monotonic() < deadline, "the batch did not start"
        await asyncio.sleep(0.001)


async def submit_all(
    commit: GroupCommit[str, Any], *calls: str
) -> list[asyncio.Future[Any]]:
    """Start calls that are to wait behind a batch under way."""
    tasks = [asyncio.ensure_future(commit.submit(call)) for call in calls]
    await asyncio.sleep(0)
    return tasks


class TestBatches:
    def test_a_storm_makes_few_batches(self) -> None:
        """1,000 concurrent aconsume calls reach the backend at once and in order.

        Mutants: batch-of-one.
        """
        values = [tickets.new_value() for _ in range(1000)]
        backend = RecordingBackend()

        async def storm() -> list[Any]:
            calls = [service.aconsume(value) for value in values]
            return await asyncio.gather(*calls, return_exceptions=True)

        with using(backend) as service:
            outcomes = asyncio.run(storm())
        assert len(backend.calls) <= 3
        assert [key for _, keys in backend.calls for key in keys] == values
        assert all(isinstance(outcome, InvalidTicket) for outcome in outcomes)

    def test_every_caller_gets_their_own_ticket(self) -> None:
        """Of 1,000 tickets in one batch, each goes to the caller that consumed it.

        Mutants: batch-in-the-wrong-order.
        """

        async def storm() -> None:
            issued = await asyncio.gather(
                *[service.aissue({"id": n, "username": str(n)}) for n in range(1000)]
            )
            consumed = await asyncio.gather(
                *[service.aconsume(ticket.value) for ticket in reversed(issued)]
            )
            assert [ticket.user_id for ticket in consumed] == list(range(999, -1, -1))

        with using(RecordingBackend()) as service:
            asyncio.run(storm())

    def test_a_lone_call_uses_the_plain_method(self) -> None:
        """A batch of one calls add or pop. Mutants: batch-even-of-one-call."""

        async def alone() -> None:
            ticket = await service.aissue(CLAIMS)
            await service.aconsume(ticket.value)

        backend = RecordingBackend()
        with using(backend) as service:
            asyncio.run(alone())
        assert [name for name, _ in backend.calls] == ["add", "pop"]

    def test_issuing_and_consuming_share_a_batch(self) -> None:
        """Mixed calls need one round trip of each kind, and keep their callers.

        Mutants: batch-starts-at-once.
        """

        async def mixed() -> None:
            first = await service.aissue(CLAIMS)
            backend.calls.clear()
            second, third, consumed = await asyncio.gather(
                service.aissue(CLAIMS | {"id": 2}),
                service.aissue(CLAIMS | {"id": 3}),
                service.aconsume(first.value),
            )
            assert (second.user_id, third.user_id, consumed) == (2, 3, first)
            assert backend.calls == [
                ("add_many", (second.value, third.value)),
                ("pop", (first.value,)),
            ]

        backend = RecordingBackend()
        with using(backend) as service:
            asyncio.run(mixed())

    def test_a_call_after_many_lone_ones_starts_at_once(self) -> None:
        """Others that follow in the same turn of the event loop form the next batch,
        and those after that go together again.

        Mutants: batch-of-a-lone-caller-waits, batch-starts-at-once,
        batch-is-alone-after-another.
        """
        started: list[list[str]] = []

        def send(calls: list[str]) -> None:
            started.append([*calls])

        async def main() -> None:
            commit = GroupCommit(Storage(), thread_sensitive=False, send=send)
            for number in range(batching._LONE_BATCHES):
                call = commit.submit("lone")
                assert len(started) == number
                await call
            started.clear()
            calls = [commit.submit(call) for call in "abc"]
            assert started == [["a"]]
            await asyncio.gather(*calls)
            await all_of(commit, "d", "e")
            assert started == [["a"], ["b", "c"], ["d", "e"]]

        asyncio.run(main())

    def test_calls_during_a_batch_form_the_next(self) -> None:
        """Calls gather while a batch is under way, and then go together.

        Mutants: batch-of-one.
        """

        async def scene() -> None:
            storage.gate.clear()
            first = await submit_all(commit, "a")
            await until(storage.entered)
            late = await submit_all(commit, "b", "c")
            late += await submit_all(commit, "d")
            storage.gate.set()
            assert await asyncio.gather(*first, *late) == ["A", "B", "C", "D"]

        storage = Storage()
        commit = group(storage)
        asyncio.run(scene())
        commit.close()
        assert storage.batches == [["a"], ["b", "c", "d"]]

    def test_a_batch_has_a_greatest_size(self) -> None:
        """No batch has more than 1,000 calls; the others follow in order.

        Mutants: batch-without-limit.
        """
        storage = Storage()
        commit = group(storage)
        calls = [f"c{n}" for n in range(2500)]
        outcomes = asyncio.run(all_of(commit, *calls))
        commit.close()
        assert outcomes == [call.upper() for call in calls]
        assert [len(batch) for batch in storage.batches] == [1000, 1000, 500]
        assert [call for batch in storage.batches for call in batch] == calls

    def test_outcomes_may_be_exceptions(self) -> None:
        """An exception among the outcomes is raised for its caller alone.

        Mutants: batch-fails-when-one-call-fails.
        """
        error = KeyError("b")
        commit = group(lambda calls: [error if c == "b" else c for c in calls])
        outcomes = asyncio.run(all_of(commit, "a", "b", "c"))
        commit.close()
        assert outcomes == ["a", error, "c"]


class TestRealRedis:
    def test_a_storm_needs_few_connections_and_round_trips(self) -> None:
        """Redis sees 1,000 GETDEL on one or two connections, in a few reads.

        Mutants: batch-of-one.
        """

        async def storm() -> None:
            issued = await asyncio.gather(
                *[service.aissue(CLAIMS) for _ in range(1000)]
            )
            before.update(watcher.info())
            consumed = await asyncio.gather(
                *[service.aconsume(ticket.value) for ticket in issued]
            )
            after.update(watcher.info())
            assert consumed == issued

        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        with (
            real_redis() as watcher,
            using(RedisBackend(unix_socket_path=str(servers.REDIS))) as service,
        ):
            at_rest = watcher.info()["total_connections_received"]
            getdel = watcher.info("commandstats").get("cmdstat_getdel", {"calls": 0})
            asyncio.run(storm())
            stats = watcher.info("commandstats")
        assert after["total_connections_received"] - at_rest <= 2
        assert after["total_reads_processed"] - before["total_reads_processed"] < 60
        assert stats["cmdstat_getdel"]["calls"] - getdel["calls"] == 1000


class TestCancelling:
    def test_before_the_batch_starts_the_call_is_not_made(self) -> None:
        """A caller that gives up while it waits never reaches the storage.

        Mutants: batch-makes-cancelled-calls.
        """

        async def scene() -> None:
            storage.gate.clear()
            first = await submit_all(commit, "a")
            await until(storage.entered)
            _, quitter, _ = waiting = await submit_all(commit, "b", "c", "d")
            quitter.cancel()
            storage.gate.set()
            outcomes = await asyncio.gather(*first, *waiting, return_exceptions=True)
            assert outcomes[:2] + outcomes[3:] == ["A", "B", "D"]
            assert isinstance(outcomes[2], asyncio.CancelledError)

        storage = Storage()
        commit = group(storage)
        asyncio.run(scene())
        commit.close()
        assert storage.batches == [["a"], ["b", "d"]]

    def test_after_the_batch_started_disturbs_nobody(self) -> None:
        """The others of the batch get their outcomes, and the next batch goes.

        Mutants: batch-fails-when-one-leaves.
        """

        async def scene() -> None:
            storage.gate.clear()
            _, quitter, _ = tasks = await submit_all(commit, "a", "b", "c")
            await until(storage.entered)
            quitter.cancel()
            await asyncio.sleep(0)
            assert quitter.cancelled(), "the caller has to wait for the storage"
            storage.gate.set()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert outcomes[::2] == ["A", "C"]
            assert await commit.submit("d") == "D"

        storage = Storage()
        commit = group(storage)
        asyncio.run(scene())
        commit.close()
        assert storage.batches == [["a", "b", "c"], ["d"]]

    def test_all_calls_lets_the_next_one_start(self) -> None:
        """When all who wait are cancelled no batch starts, and the next call works.

        Mutants: batch-starts-empty.
        """

        async def scene() -> None:
            tasks = [asyncio.ensure_future(commit.submit(call)) for call in "ab"]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await commit.submit("c") == "C"

        storage = Storage()
        commit = group(storage)
        asyncio.run(scene())
        commit.close()
        assert storage.batches == [["c"]]

    def test_a_cancelled_consume_loses_no_other_ticket(self) -> None:
        """By the service: of two who consume, one may go away.

        Mutants: batch-fails-when-one-leaves.
        """

        async def scene() -> None:
            backend.gate.set()
            kept, left = await asyncio.gather(
                service.aissue(CLAIMS), service.aissue(CLAIMS)
            )
            backend.gate.clear()
            backend.entered.clear()
            stays = asyncio.ensure_future(service.aconsume(kept.value))
            leaves = asyncio.ensure_future(service.aconsume(left.value))
            await until(backend.entered)
            leaves.cancel()
            backend.gate.set()
            assert await stays == kept
            with pytest.raises(asyncio.CancelledError):
                await leaves
            with pytest.raises(InvalidTicket):
                await service.aconsume(left.value)

        backend = GatedBackend()
        with using(backend) as service:
            asyncio.run(scene())


class TestTrouble:
    @pytest.mark.parametrize("sensitive", [False, True])
    def test_a_batch_that_raises_fails_for_all(self, sensitive: bool) -> None:
        """What the function raises is raised for each caller; then life goes on.

        Mutants: batch-error-looks-like-slowness.
        """

        def commit_once(calls: list[str]) -> list[str]:
            if "bad" in calls:
                raise ZeroDivisionError
            return calls

        async def scene() -> None:
            outcomes = await all_of(commit, "good", "bad", "ugly")
            assert [type(each) for each in outcomes] == [ZeroDivisionError] * 3
            assert await commit.submit("again") == "again"

        commit: GroupCommit[str, Any] = GroupCommit(
            commit_once, thread_sensitive=sensitive
        )
        asyncio.run(scene())
        commit.close()

    def test_too_many_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond MAX_WAITING a call fails at once, and those in the queue do not.

        Mutants: batch-queue-without-end.
        """
        monkeypatch.setattr(batching, "MAX_WAITING", 3)

        async def scene() -> None:
            storage.gate.clear()
            first = await submit_all(commit, "a")
            await until(storage.entered)
            waiting = await submit_all(commit, "b", "c", "d")
            with pytest.raises(StorageError, match="too many"):
                await commit.submit("e")
            storage.gate.set()
            assert await asyncio.gather(*first, *waiting) == ["A", "B", "C", "D"]
            assert await commit.submit("f") == "F"

        storage = Storage()
        commit = group(storage)
        asyncio.run(scene())
        commit.close()

    def test_waiting_too_long_for_a_batch(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call that is overdue when its turn comes fails and is not made.

        Mutants: batch-makes-overdue-calls.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 7.0)
        monkeypatch.setattr(batching, "MAX_BATCH", 1)
        clocks = Clocks()
        monkeypatch.setattr(batching, "time", clocks)
        made: list[str] = []

        def slow(calls: list[str]) -> list[str]:
            made.extend(calls)
            clocks.advance(4.0)
            return calls

        async def scene() -> None:
            outcomes = await all_of(commit, "a", "b", "late", "later")
            assert outcomes[:2] == ["a", "b"]
            assert [type(each) for each in outcomes[2:]] == [StorageError] * 2
            assert "in time" in str(outcomes[2])
            assert await commit.submit("after") == "after"

        commit = group(slow)
        asyncio.run(scene())
        commit.close()
        assert made == ["a", "b", "after"]

    def test_waiting_too_long_for_the_storage(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A storage that hangs fails calls of the batch, waiting calls and new ones.

        When it answers at last, calls are taken again.

        Mutants: batch-sets-no-timer, batch-timeout-forgets-the-queue,
        batch-takes-calls-after-a-timeout.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 0.2)

        async def scene() -> None:
            storage.gate.clear()
            started = await submit_all(commit, "a", "b")
            await until(storage.entered)
            waiting = await submit_all(commit, "c")
            with within(WAIT / 2):  # the gate holds for WAIT
                outcomes = await asyncio.gather(
                    *started, *waiting, return_exceptions=True
                )
            assert [type(each) for each in outcomes] == [StorageError] * 3
            with pytest.raises(StorageError, match="too slow"):
                await commit.submit("d")
            storage.gate.set()
            await recovered(commit)

        storage = Storage()
        commit = group(storage)
        asyncio.run(scene())
        commit.close()
        assert storage.batches[0] == ["a", "b"]
        assert not {"c", "d"} & {call for batch in storage.batches for call in batch}

    def test_a_batch_in_time_does_not_time_out_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The timer of a batch that is done does not run on.

        Mutants: batch-timer-is-not-cancelled.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 1.0)

        async def scene() -> None:
            assert await commit.submit("a") == "A"
            await asyncio.sleep(1.1)
            assert await commit.submit("b") == "B"

        commit = group(Storage())
        asyncio.run(scene())
        commit.close()

    @pytest.mark.parametrize("sensitive", [False, True])
    def test_a_loop_that_is_busy(
        self, sensitive: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The storage is not slow, so no call fails, of the batch or waiting.

        Mutants: batch-timer-has-one-step,
        batch-deadlines-by-the-clock-of-the-loop.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 0.3)
        monkeypatch.setattr(batching, "MAX_BATCH", 1)

        async def scene() -> None:
            started = await submit_all(commit, "a")
            await until(storage.entered)
            waiting = await submit_all(commit, "b", "c")
            for _ in range(3):
                time.sleep(0.4)  # noqa: ASYNC251 (a loop that is busy)
                await asyncio.sleep(0)
            assert await asyncio.gather(*started, *waiting) == ["A", "B", "C"]

        storage = Storage()
        commit = group(storage, sensitive)
        asyncio.run(scene())
        commit.close()

    def test_no_thread_can_be_started(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A batch that cannot start fails its callers, and the next one can start.

        Mutants: batch-cannot-start-and-says-nothing.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 0.3)
        start, failures = threading.Thread.start, ["can't start new thread"]

        def start_later(thread: threading.Thread) -> None:
            if failures:
                raise RuntimeError(failures.pop())
            start(thread)

        async def scene() -> None:
            with pytest.raises((StorageError, RuntimeError)):
                await asyncio.wait_for(commit.submit("a"), 2)
            assert await commit.submit("b") == "B"

        commit = group(Storage())
        monkeypatch.setattr(threading.Thread, "start", start_later)
        with caplog.at_level(logging.CRITICAL, logger="asyncio"):
            asyncio.run(scene())
        commit.close()

    @pytest.mark.parametrize("calls_before", [0, batching._LONE_BATCHES])
    @pytest.mark.parametrize("error", [OSError, StopIteration])
    def test_a_batch_that_cannot_be_sent(
        self, error: type[Exception], calls_before: int
    ) -> None:
        """It fails its caller, who first gets a future, and the next one can start.

        Mutants: batch-cannot-start-and-raises, batch-error-is-no-outcome.
        """
        errors: list[Exception] = []

        def send(calls: list[str]) -> None:
            if errors:
                raise errors.pop()

        async def scene() -> None:
            for _ in range(calls_before):
                await commit.submit("lone")
            errors.append(error("sent"))
            waiter = commit.submit("a")
            assert not waiter.done()
            with pytest.raises((OSError, RuntimeError), match="sent"):
                await asyncio.wait_for(waiter, WAIT)
            assert await asyncio.wait_for(commit.submit("b"), WAIT) == "B"

        commit = GroupCommit(Storage(), thread_sensitive=False, send=send)
        asyncio.run(scene())
        commit.close()

    def test_a_batch_whose_rest_cannot_be_sent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It fails its caller once, who first gets a future.

        Mutants: batch-fails-twice.
        """
        half_sent = Mock(Request, is_sent=False)
        requests: list[Any] = [half_sent, *[None] * batching._LONE_BATCHES]

        async def scene() -> None:
            for _ in range(batching._LONE_BATCHES):
                await commit.submit("lone")
            monkeypatch.setattr(commit, "in_thread", Mock(side_effect=OSError("full")))
            waiter = commit.submit("a")
            assert not waiter.done()
            with pytest.raises(OSError, match="full"):
                await asyncio.wait_for(waiter, WAIT)

        commit: GroupCommit[str, Any] = GroupCommit(
            Storage(), thread_sensitive=False, send=lambda calls: requests.pop()
        )
        asyncio.run(scene())
        half_sent.expire.assert_called_once_with()
        commit.close()

    def test_a_batch_that_is_cancelled(self) -> None:
        """When all tasks of a loop are cancelled, the batch's callers get an error.

        Mutants: batch-cancels-its-callers.
        """

        async def scene() -> None:
            callers = await submit_all(commit, "a", "b")
            await asyncio.sleep(0)
            others = {asyncio.current_task(), *callers}
            (batch,) = asyncio.all_tasks() - others
            batch.cancel()
            outcomes = await asyncio.gather(*callers, return_exceptions=True)
            assert [type(each) for each in outcomes] == [StorageError] * 2
            assert await commit.submit("c") == "C"

        storage = Storage()
        commit: GroupCommit[str, Any] = GroupCommit(storage, thread_sensitive=True)
        asyncio.run(scene())


async def recovered(commit: GroupCommit[str, Any]) -> None:
    """Ask again until the storage answers, as clients do."""
    for _ in range(500):
        try:
            assert await commit.submit("again") == "AGAIN"
        except StorageError:
            await asyncio.sleep(0.01)
        else:
            return
    pytest.fail("the storage is back, but calls are still refused")


class TestLoopsAndThreads:
    def test_loops_take_turns(self) -> None:
        """One event loop after another works.

        Mutants: batch-remembers-its-first-loop.
        """
        commit = group(Storage())
        for turn in "abc":
            assert asyncio.run(all_of(commit, turn)) == [turn.upper()]
        commit.close()

    def test_loops_interrupt_each_other(self) -> None:
        """A loop finds its batch again after another one ran in the same thread.

        Mutants: batch-remembers-its-first-loop.
        """

        async def begin() -> list[asyncio.Future[Any]]:
            storage.gate.clear()
            started = await submit_all(commit, "a")
            await until(storage.entered)
            return started + await submit_all(commit, "b", "c")

        storage = Storage()
        commit = group(storage)
        one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
        pending = one.run_until_complete(begin())
        storage.gate.set()
        assert other.run_until_complete(all_of(commit, "x", "y")) == ["X", "Y"]
        outcomes = asyncio.gather(*pending)
        assert one.run_until_complete(outcomes) == ["A", "B", "C"]
        for loop in (one, other):
            loop.close()
        commit.close()

    def test_loops_work_side_by_side(self) -> None:
        """Loops of several threads use one instance, each with its own batches.

        Mutants: batch-remembers-its-first-loop.
        """
        commit = group(Storage())
        barrier = threading.Barrier(4)

        async def session(name: str) -> None:
            for turn in range(100):
                calls = [f"{name}{turn}-{n}" for n in range(5)]
                assert await all_of(commit, *calls) == [c.upper() for c in calls]

        def run(name: str) -> None:
            barrier.wait(WAIT)
            asyncio.run(session(name))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, "wxyz"))
        commit.close()

    def test_a_thread_of_its_own(self) -> None:
        """Batches that are not thread-sensitive share one thread with a name.

        Mutants: batch-gets-a-thread-each.
        """
        storage = Storage()
        commit = group(storage)
        for _ in range(3):
            asyncio.run(all_of(commit, "a", "b"))
        assert len(set(storage.threads)) == 1
        assert storage.threads[0].name.startswith("realtime-ticket")
        assert storage.threads[0] is not threading.current_thread()
        commit.close()

    def test_close_ends_the_thread_and_the_next_call_starts_another(self) -> None:
        """close can be called at any time, twice too.

        Mutants: batch-close-keeps-the-thread.
        """
        storage = Storage()
        commit = group(storage)
        commit.close()
        asyncio.run(all_of(commit, "a"))
        commit.close()
        commit.close()
        assert eventually(lambda: not storage.threads[0].is_alive())
        assert asyncio.run(all_of(commit, "b")) == ["B"]
        assert storage.threads[0] is not storage.threads[1]
        commit.close()

    def test_close_lets_a_batch_finish(self) -> None:
        """A batch under way is not lost when another thread closes.

        Mutants: batch-close-waits.
        """

        async def scene() -> None:
            storage.gate.clear()
            tasks = await submit_all(commit, "a", "b")
            await until(storage.entered)
            commit.close()
            storage.gate.set()
            assert await asyncio.gather(*tasks) == ["A", "B"]

        storage = Storage()
        commit = group(storage)
        asyncio.run(scene())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_a_fork_gets_a_new_thread(self) -> None:
        """A child goes on with an instance whose thread stayed with the parent.

        Mutants: batch-inherits-the-thread-of-the-parent.
        """
        commit = group(lambda calls: [os.getpid()] * len(calls))
        assert asyncio.run(all_of(commit, "a")) == [os.getpid()]
        pid, outcomes = in_child(
            lambda: (os.getpid(), asyncio.run(asyncio.wait_for(all_of(commit, "b"), 5)))
        )
        assert outcomes == [pid]
        assert pid != os.getpid()
        assert asyncio.run(all_of(commit, "c")) == [os.getpid()]
        commit.close()


class TestThreadSensitive:
    def test_runs_in_the_thread_of_synchronous_code(self) -> None:
        """Under async_to_sync, as in a TestCase, that is the thread of the test.

        Mutants: batch-leaves-djangos-thread.
        """
        storage = Storage()
        commit: GroupCommit[str, Any] = GroupCommit(storage, thread_sensitive=True)
        assert async_to_sync(all_of)(commit, "a", "b") == ["A", "B"]
        assert storage.threads == [threading.current_thread()]
        assert storage.batches == [["a", "b"]]
        commit.close()

    def test_runs_in_one_thread_for_a_realtime_server(self) -> None:
        """Without contexts all callers of a loop share asgiref's one thread.

        Mutants: batch-of-one.
        """
        storage = Storage()
        commit: GroupCommit[str, Any] = GroupCommit(storage, thread_sensitive=True)

        async def scene() -> None:
            for _ in range(3):
                await all_of(commit, "a", "b")

        asyncio.run(scene())
        assert len(set(storage.threads)) == 1
        assert storage.batches == [["a", "b"]] * 3

    def test_never_mixes_requests(self) -> None:
        """Each request has a context: its calls batch, in its own thread, alone.

        Mutants: batch-mixes-requests.
        """
        storage = Storage()
        commit: GroupCommit[str, Any] = GroupCommit(storage, thread_sensitive=True)

        async def request(name: str) -> list[Any]:
            async with ThreadSensitiveContext():
                return await all_of(commit, f"{name}1", f"{name}2")

        async def scene() -> list[list[Any]]:
            return await asyncio.gather(*[request(name) for name in "abc"])

        outcomes = asyncio.run(scene())
        assert outcomes == [["A1", "A2"], ["B1", "B2"], ["C1", "C2"]]
        assert sorted(storage.batches) == [["a1", "a2"], ["b1", "b2"], ["c1", "c2"]]
        assert len(set(storage.threads)) == 3

    def test_a_thread_that_waits_may_be_the_only_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Synchronous code, in asgiref's one thread, calls and waits. Its batch is made
        there, not after one that waits for that thread.

        Mutants: batch-mixes-requests.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 1.0)
        commit: GroupCommit[str, Any] = GroupCommit(Storage(), thread_sensitive=True)
        entered, submitted = threading.Event(), threading.Event()

        def synchronous() -> list[Any]:
            entered.set()
            assert submitted.wait(WAIT)
            return async_to_sync(all_of)(commit, "x")

        async def scene() -> list[Any]:
            first = asyncio.create_task(sync_to_async(synchronous)())
            await until(entered)
            waiting = await submit_all(commit, "a", "b")
            submitted.set()
            return [*await first, *await asyncio.gather(*waiting)]

        assert asyncio.run(scene()) == ["X", "A", "B"]

    def test_a_thread_that_waited_is_gone_afterwards(self) -> None:
        """Who came meanwhile is none of its business.

        Mutants: batch-forgets-who-waits-in-a-thread.
        """
        storage = Storage()
        commit: GroupCommit[str, Any] = GroupCommit(storage, thread_sensitive=True)

        def synchronous() -> list[Any]:
            return async_to_sync(all_of)(commit, "x")

        async def scene() -> list[Any]:
            storage.gate.clear()
            in_a_thread = sync_to_async(synchronous, thread_sensitive=False)
            first = asyncio.create_task(in_a_thread())
            await until(storage.entered)
            waiting = await submit_all(commit, "a", "b")
            storage.gate.set()
            return [*await first, *await asyncio.gather(*waiting)]

        assert asyncio.run(scene()) == ["X", "A", "B"]
        assert storage.batches == [["x"], ["a", "b"]]

    def test_only_the_task_that_is_refused_a_thread_fails(self) -> None:
        """asgiref refuses a task that its thread started: both might wait for ever.

        Mutants: batch-shares-who-is-refused-a-thread.
        """
        commit: GroupCommit[str, Any] = GroupCommit(Storage(), thread_sensitive=True)

        async def scene() -> None:
            loop, submitted = asyncio.get_running_loop(), asyncio.Event()

            async def call() -> Any:
                waiter = commit.submit("x")
                submitted.set()
                return await waiter

            def start() -> Future[Any]:
                return asyncio.run_coroutine_threadsafe(call(), loop)

            starting = asyncio.create_task(sync_to_async(start)())
            await submitted.wait()
            others = await submit_all(commit, "a", "b")
            with pytest.raises(RuntimeError, match="deadlock"):
                await asyncio.wrap_future(await starting)
            assert await asyncio.gather(*others) == ["A", "B"]

        asyncio.run(scene())

    def test_forgets_requests(self) -> None:
        """Nothing is kept of a request whose context is over.

        Mutants: batch-keeps-requests.
        """
        commit: GroupCommit[str, Any] = GroupCommit(Storage(), thread_sensitive=True)

        async def request() -> weakref.ref[ThreadSensitiveContext]:
            async with ThreadSensitiveContext() as context:
                await commit.submit("a")
                return weakref.ref(context)

        async def scene() -> None:
            contexts = [await asyncio.create_task(request()) for _ in range(5)]
            gc.collect()
            assert [context() for context in contexts] == [None] * 5

        asyncio.run(scene())

    def test_a_backend_without_it_batches_across_requests(self) -> None:
        """What uses no database connection of Django's may mix requests.

        Mutants: batch-separates-requests-without-need.
        """
        storage = Storage()
        commit = group(storage)

        async def request(name: str) -> None:
            async with ThreadSensitiveContext():
                await commit.submit(name)

        async def scene() -> None:
            await asyncio.gather(*[request(name) for name in "abc"])

        asyncio.run(scene())
        commit.close()
        assert storage.batches == [["a", "b", "c"]]


def test_another_event_loop_is_told_what_to_do() -> None:
    """Under trio, as with ``hypercorn -k trio``, no loop of asyncio is running.

    Mutants: batch-needs-a-loop-unsaid.
    """
    with using(RecordingBackend()) as service:
        coroutine = service.aissue(CLAIMS)
        with pytest.raises(RuntimeError, match="With trio, call the twin"):
            coroutine.send(None)
