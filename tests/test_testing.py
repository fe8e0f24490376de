"""Backends that break the contract fail it: every clause has a mutant."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
import unittest
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from pymemcache.client.base import Client

from realtime_ticket import testing
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.batching import GroupCommit
from realtime_ticket.testing import AsyncDoor, BackendContract
from tests import servers
from tests.broken import GetThenDelete, NeverExpires, NeverRemoves, OnRedis
from tests.helpers import RecordingBackend


class EmptyForUnknown(OnRedis):
    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return [text or "" for text in super().pop_many(keys)]


class Overwrites(OnRedis):
    def add(self, key: str, data: str, expire: int) -> bool:
        return self.run("SET", key, data, "PX", expire * 1000) is not None

    add_many = BaseBackend.add_many


class LooksThenAdds(OnRedis):
    def add(self, key: str, data: str, expire: int) -> bool:
        if self.run("EXISTS", key):
            return False
        return self.run("SET", key, data, "PX", expire * 1000) is not None

    add_many = BaseBackend.add_many


class TouchesTheTaken(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        added = super().add_many(items)
        for item in items:
            self.run("PEXPIRE", item.key, item.expire * 1000)
        return added


class ExpiresEarly(OnRedis):
    def add(self, key: str, data: str, expire: int) -> bool:
        return self.run("SET", key, data, "NX", "PX", expire * 10) is not None

    add_many = BaseBackend.add_many


class Truncates(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return super().add_many([i._replace(data=i.data[:4000]) for i in items])


class Strips(OnRedis):
    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return [text and text.strip() for text in super().pop_many(keys)]


class FoldsCase(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return super().add_many([i._replace(key=i.key.lower()) for i in items])

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return super().pop_many([key.lower() for key in keys])


class CutsKeys(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        if any(len(item.key) > 128 for item in items):
            return [False] * len(items)
        return super().add_many(items)


class HidesErrors(RedisBackend):
    """An outage looks like "no such ticket", as with IGNORE_EXCEPTIONS."""

    def __init__(self) -> None:
        super().__init__(unix_socket_path="/nonexistent/socket")

    def pop(self, key: str) -> str | None:
        try:
            return super().pop(key)
        except redis.RedisError:
            return None


class LeaksDriverErrors(RedisBackend):
    storage_errors = ()

    def __init__(self) -> None:
        super().__init__(unix_socket_path="/nonexistent/socket")


class ClosesForGood(OnRedis):
    def close(self) -> None:
        super().close()
        self._pool = None


class TakesAnything(LocMemBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__()


class ClearsAll(LocMemBackend):
    def clear_expired(self) -> int:
        self._texts.clear()
        return 0


class CountsTheLiving(LocMemBackend):
    def clear_expired(self) -> int:
        super().clear_expired()
        return len(self._texts)


class AnswersRepeatsAgain(OnRedis):
    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        distinct = list(dict.fromkeys(keys))
        texts = dict(zip(distinct, super().pop_many(distinct), strict=True))
        return [texts[key] for key in keys]


class AnswersOutOfOrder(OnRedis):
    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return super().pop_many(keys)[::-1]


class SmallBatches(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return super().add_many(items[:500])


class OneSlot(OnRedis):
    """Two threads meet in an attribute, and one gets the other's text."""

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        self.texts = super().pop_many(keys)
        time.sleep(0)
        return self.texts


class OnMemcached(MemcachedBackend):
    def __init__(self) -> None:
        servers.require("memcached")
        super().__init__(servers=str(servers.MEMCACHED[0]))


class UnguardedFork(OnMemcached):
    """Parent and child go on with the same socket."""

    def __init__(self) -> None:
        super().__init__()
        self._client = Client(str(servers.MEMCACHED[0]), timeout=1)

    def _call(self, server: str, function: Callable[[Client], Any]) -> Any:
        return function(self._client)

    def close(self) -> None:
        self._client.close()


class UncheckedDelete(OnMemcached):
    """pymemcache's default: nobody waits for the answer to a delete."""

    def pop(self, key: str) -> str | None:
        def get_and_delete(client: Any) -> Any:
            data = client.get(key)
            client.delete(key, noreply=True)
            return data

        data = self._call(self._server(key), get_and_delete)
        return None if data is None else data.decode()


class ThreadBound(OnRedis):
    """Refuses every thread but the first one, as a SQLite connection does."""

    thread = None

    def _exchange(self, commands: Any) -> Any:
        self.thread = self.thread or threading.get_ident()
        if self.thread != threading.get_ident():
            raise redis.RedisError("another thread")
        return super()._exchange(commands)


class ReadsAndRemoves(OnRedis):
    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        return list(self.pop_many(keys))


class ReadsInTheStoresOrder(OnRedis):
    """As SELECT ... IN (...) does."""

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        return super().read_many(sorted(keys))


class SkipsWhatIsMissing(OnRedis):
    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        return [text for text in super().read_many(keys) if text is not None]


class ReadsInLowerCase(FoldsCase):
    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        return super().read_many([key.lower() for key in keys])


class ReadsTheExpired(LocMemBackend):
    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        return [self._texts.get(key, (None, 0.0))[0] for key in keys]


class ReadsAHundred(OnRedis):
    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        return super().read_many(keys[:100])


class ReadsOneByOne(OnRedis):
    """On a network where a round trip takes 5 ms."""

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        texts = []
        for key in keys:
            time.sleep(0.005)
            texts += super().read_many([key])
        return texts


class ReadsNothingInAnOutage(HidesErrors):
    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        try:
            return super().read_many(keys)
        except redis.RedisError:
            return [None] * len(keys)


class ReturnsAnOutage(HidesErrors):
    """Nothing could be read, and it does not raise."""

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        try:
            return super().read_many(keys)
        except redis.RedisError as exc:
            return [exc] * len(keys)


MUTANTS: list[tuple[str, Callable[[], BaseBackend]]] = [
    ("test_a_text_is_handed_out_once", NeverRemoves),
    ("test_what_was_never_stored_is_none", EmptyForUnknown),
    ("test_a_taken_key_is_refused", Overwrites),
    ("test_a_taken_key_is_refused", TouchesTheTaken),
    ("test_texts_come_back_exactly", Truncates),
    ("test_texts_come_back_exactly", Strips),
    ("test_keys_are_told_apart_exactly", FoldsCase),
    ("test_keys_may_be_long", CutsKeys),
    ("test_texts_expire", NeverExpires),
    ("test_clearing_spares_the_living", ClearsAll),
    ("test_clearing_spares_the_living", CountsTheLiving),
    ("test_of_racing_threads_one_wins", GetThenDelete),
    ("test_of_racing_threads_one_wins", UncheckedDelete),
    ("test_of_racing_processes_one_wins", GetThenDelete),
    ("test_of_racing_processes_one_wins", UncheckedDelete),
    ("test_of_racing_adds_one_wins", LooksThenAdds),
    ("test_threads_share_an_instance", OneSlot),
    ("test_threads_share_an_instance", ThreadBound),
    ("test_instances_share_the_storage", LocMemBackend),
    ("test_both_doors_lead_to_one_storage", ThreadBound),
    ("test_a_used_instance_survives_fork", UnguardedFork),
    ("test_batches_do_what_single_calls_do", AnswersRepeatsAgain),
    ("test_batches_do_what_single_calls_do", AnswersOutOfOrder),
    ("test_batches_may_be_large", SmallBatches),
    ("test_reading_takes_nothing", ReadsAndRemoves),
    ("test_reading_takes_nothing", ReadsInTheStoresOrder),
    ("test_reading_takes_nothing", SkipsWhatIsMissing),
    ("test_reading_tells_keys_apart", ReadsInLowerCase),
    ("test_reading_leaves_out_what_expired", ReadsTheExpired),
    ("test_reading_may_be_large", ReadsAHundred),
    ("test_reading_may_be_large", ReadsOneByOne),
    ("test_reading_in_an_outage_raises", ReadsNothingInAnOutage),
    ("test_reading_in_an_outage_raises", ReturnsAnOutage),
    ("test_disconnects_are_heard", ReadsAndRemoves),
    ("test_many_users_are_disconnected_at_once", ReadsAHundred),
    ("test_racing_disconnects_are_all_heard", LooksThenAdds),
    ("test_an_outage_raises", HidesErrors),
    ("test_an_outage_raises", LeaksDriverErrors),
    ("test_close_may_be_called_at_any_time", ClosesForGood),
    ("test_unknown_options_are_refused", TakesAnything),
]

ASYNC_MUTANTS: list[tuple[str, Callable[[], BaseBackend]]] = [
    ("test_coroutines_race_for_one_winner", AnswersRepeatsAgain),
    ("test_of_racing_threads_one_wins", AnswersRepeatsAgain),
    ("test_an_outage_raises", HidesErrors),
    ("test_texts_come_back_exactly", Truncates),
]


def suite_for(make: Callable[[], BaseBackend], *doors: type) -> Any:
    class Suite(*doors, BackendContract):  # type: ignore[misc]
        def make_backend(self) -> BaseBackend:
            return make()

        make_unreachable_backend = make_backend

    return Suite()


def clauses(suite: type) -> set[str]:
    members = inspect.getmembers(suite, inspect.isfunction)
    return {name for name, _ in members if name.startswith("test_")}


@pytest.mark.parametrize(("clause", "mutant"), MUTANTS)
def test_a_mutant_fails_its_clause(
    clause: str, mutant: Callable[[], BaseBackend]
) -> None:
    """The clause does not pass with a backend that breaks it."""
    suite = suite_for(mutant)

    with pytest.raises(Exception) as caught:
        getattr(suite, clause)()

    assert not isinstance(caught.value, pytest.skip.Exception)


def test_a_mutant_that_expires_early_fails_its_clause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clause sleeps for less here, because it says nothing if it wakes up late."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: time.sleep(0.1))
    monkeypatch.setattr(testing, "time", clock)

    with pytest.raises(AssertionError, match="over a second early"):
        suite_for(ExpiresEarly).test_texts_expire()


@pytest.mark.parametrize(("clause", "mutant"), ASYNC_MUTANTS)
def test_a_mutant_fails_its_clause_by_the_asynchronous_door(
    clause: str, mutant: Callable[[], BaseBackend]
) -> None:
    """The same, where calls are batched."""
    suite = suite_for(mutant, AsyncDoor)

    with pytest.raises(AssertionError):
        getattr(suite, clause)()


def test_loops_that_share_a_queue_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clauses about event loops fail when batches are not kept apart by loop."""
    suite = suite_for(LocMemBackend, AsyncDoor)
    by_loop = GroupCommit._queue
    only: list[Any] = []

    def one_for_all(self: GroupCommit[Any, Any]) -> Any:
        only[:] = only or [by_loop(self)]
        return only[0]

    monkeypatch.setattr(GroupCommit, "_queue", one_for_all)
    monkeypatch.setattr(testing, "_TIMEOUT", 3)

    with pytest.raises((RuntimeError, TimeoutError)):
        suite.test_event_loops_work_side_by_side()


def test_every_clause_has_a_mutant() -> None:
    """A clause that nothing can fail says nothing."""
    assert clauses(BackendContract) == {clause for clause, _ in MUTANTS}


def test_an_author_must_say_how_a_backend_is_made() -> None:
    """A suite without make_backend() fails."""
    with pytest.raises(NotImplementedError):
        BackendContract().test_a_text_is_handed_out_once()


def test_the_outage_clause_is_skipped_without_an_unreachable_backend() -> None:
    """make_unreachable_backend() is optional, and its absence shows."""

    class Suite(BackendContract):
        def make_backend(self) -> BaseBackend:
            return LocMemBackend()

    with pytest.raises(unittest.SkipTest, match="make_unreachable_backend"):
        Suite().test_an_outage_raises()


def test_the_clauses_of_the_journal_are_skipped_without_read_many() -> None:
    """A backend that only keeps tickets passes, and its omission shows."""

    class TicketsOnly(LocMemBackend):
        read_many = BaseBackend.read_many

    with pytest.raises(unittest.SkipTest, match="read_many"):
        suite_for(TicketsOnly).test_reading_takes_nothing()


@pytest.mark.parametrize(
    "clause",
    ["test_of_racing_processes_one_wins", "test_a_used_instance_survives_fork"],
)
def test_processes_are_skipped_where_there_is_no_fork(
    clause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows those clauses are skipped, and say so."""
    monkeypatch.delattr(os, "fork")

    with pytest.raises(unittest.SkipTest, match="fork"):
        getattr(suite_for(LocMemBackend), clause)()


def test_the_contract_runs_without_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that knows no Django is tested without it."""
    monkeypatch.delitem(sys.modules, "django.db")

    suite_for(LocMemBackend, AsyncDoor).test_event_loops_take_turns()

    assert "django.db" not in sys.modules


def test_the_contract_runs_under_unittest() -> None:
    """With TestCase as a base, unittest finds, runs and skips the clauses."""

    class Suite(BackendContract, unittest.TestCase):
        shared_between_processes = False

        def make_backend(self) -> BaseBackend:
            return LocMemBackend()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Suite).run(result)

    assert result.wasSuccessful(), result.failures + result.errors
    assert result.testsRun == len(clauses(BackendContract))
    assert 0 < len(result.skipped) < result.testsRun


@pytest.mark.parametrize(
    "clause", ["test_disconnects_are_heard", "test_reading_takes_nothing"]
)
def test_a_backend_for_tickets_only_skips_the_journal(clause: str) -> None:
    """A third party's backend without read_many() still passes the contract."""
    with pytest.raises(unittest.SkipTest, match="no read_many"):
        getattr(suite_for(RecordingBackend), clause)()


def test_an_asynchronous_store_pops_key_by_key() -> None:
    """As the clause about racing processes does, in processes that are not measured."""
    store = testing.AsyncStore(LocMemBackend())
    keys = [store.new_key() for _ in range(2)]
    assert store.add_many([Item(key, key, 60) for key in keys]) == [True, True]
    assert store.pop_all([*keys, keys[0]], threading.Barrier(1)) == [*keys, None]
