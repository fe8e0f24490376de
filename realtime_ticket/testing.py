"""The tests that every storage backend must pass, your own too.

.. code-block:: python

    from realtime_ticket.testing import AsyncDoor, BackendContract

    class TestMyBackend(BackendContract):
        def make_backend(self):
            return MyBackend(url="...")

    class TestMyBackendAsync(AsyncDoor, TestMyBackend):
        pass

The classes are plain, so pytest collects them as they are; with unittest, add
``unittest.TestCase`` as a base. A backend on Django's database connections needs tests
that really commit: ``TransactionTestCase``, or ``django_db(transaction=True)``. Point
``make_backend`` at a real server: an imitation, or a dict, cannot show a race.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import time
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async

from .backends.base import BaseBackend, Item
from .exceptions import StorageError
from .live import LiveTickets
from .service import TicketService
from .tickets import MAX_DATA, new_value, storage_key

T = TypeVar("T")

_TIMEOUT: Final = 60.0
"""Seconds after which a clause that hangs has failed."""

_LIFETIME: Final = 60
"""Seconds; the life of tickets in clauses that are not about expiry."""


class BackendContract:
    """The tests of what the service relies on: one method for each clause.

    Subclass it, and write ``make_backend()``. AsyncDoor runs them with async calls.
    """

    shared_between_processes: ClassVar[bool] = True
    """Set it to False for a store in the memory of one process. A realtime server is
    another process, so such a store is for development only."""

    race_tickets: ClassVar[int] = 200
    """The number of tickets in each race."""

    def make_backend(self) -> BaseBackend:
        """Return a new instance of the backend, each time on the same storage."""
        raise NotImplementedError

    def make_unreachable_backend(self) -> BaseBackend:
        """Return an instance whose storage is down, or skip a clause without it."""
        raise unittest.SkipTest("make_unreachable_backend() is not written")

    # What is stored

    def test_a_text_is_handed_out_once(self) -> None:
        """``pop`` returns what ``add`` stored, and None from then on."""
        with self._store() as store:
            key = store.new_key()
            assert store.add(key, '{"id":1}') is True
            assert store.pop(key) == '{"id":1}'
            assert store.pop(key) is None
            assert store.pop(key) is None

    def test_what_was_never_stored_is_none(self) -> None:
        """``pop`` returns None for a key that nobody added."""
        with self._store() as store:
            assert store.pop(store.new_key()) is None

    def test_a_taken_key_is_refused(self) -> None:
        """``add`` on a taken key returns False and leaves text and lifetime alone."""
        aged = self._aged()
        assert aged.second is False
        assert aged.taken == "first"

    def test_texts_come_back_exactly(self) -> None:
        """Printable ASCII of up to 4 KiB comes back character for character."""
        ascii = "".join(map(chr, range(32, 127)))
        texts = ["", " ", "0", "null", " {} ", "%s %% {0} \\n \\u0000", ascii]
        texts += ["x" * MAX_DATA, "\\" * MAX_DATA]
        with self._store() as store:
            for text in texts:
                key = store.new_key()
                assert store.add(key, text) is True
                assert store.pop(key) == text

    def test_keys_are_told_apart_exactly(self) -> None:
        """Neither another case, nor a part of a key, nor an addition finds a text."""
        with self._store() as store:
            key = store.new_key()
            assert store.add(key, "mine") is True
            strangers = [key[:-1], f"{key}x"]
            if not store.backend.hashes_keys:
                strangers += [key.swapcase(), key.replace("_", "-")]
            assert store.pop_many(strangers) == [None] * len(strangers)
            assert store.pop(key) == "mine"

    def test_keys_may_be_long(self) -> None:
        """A key may have 150 characters; prefix, value and audience fill 141."""
        with self._store() as store:
            key = store.new_key().ljust(150, "z")
            assert store.add(key, "long") is True
            assert store.pop(key) == "long"

    # How long

    def test_texts_expire(self) -> None:
        """A text never outlives its lifetime, and ends at most a second early."""
        aged = self._aged()
        assert aged.early == "early" or not aged.in_time, "expired over a second early"
        assert aged.late is None, "outlived its time"

    def test_clearing_spares_the_living(self) -> None:
        """``clear_expired`` returns how much it removed, and removes nothing alive."""
        aged = self._aged()
        assert isinstance(aged.cleared, int) and aged.cleared >= 0
        assert aged.cleared_again == 0
        assert aged.dead_and_alive == [None, "alive"]

    # Exactly once

    def test_of_racing_threads_one_wins(self) -> None:
        """Of 32 threads that pop one key at the same moment, exactly one gets it."""
        with self._store() as store:
            keys = self._fill(store)
            results = _in_threads(32, lambda gate: store.pop_all(keys, gate))
        _assert_one_winner_each(keys, results)

    def test_of_racing_processes_one_wins(self) -> None:
        """Of 8 processes that pop one key at the same moment, exactly one gets it."""
        self._require_processes()
        with self._store() as store:
            keys = self._fill(store)

            def run(gate: Any) -> list[str | None]:
                with self._store() as own:
                    return own.pop_all(keys, gate)

            results = _in_processes(8, run)
        _assert_one_winner_each(keys, results)

    def test_of_racing_adds_one_wins(self) -> None:
        """Of 8 threads that add one key at the same moment, exactly one stores."""
        with self._store() as store:
            keys = [store.new_key() for _ in range(50)]

            def run(gate: Any) -> list[str]:
                name, stored = str(threading.get_ident()), []
                for key in keys:
                    gate.wait(_TIMEOUT)
                    if store.add(key, name):
                        stored.append(f"{key} {name}")
                return stored

            claims = [claim for stored in _in_threads(8, run) for claim in stored]
            kept = [f"{key} {store.pop(key)}" for key in keys]
        assert sorted(claims) == sorted(kept), "not exactly one add won each key"

    # Who shares it

    def test_threads_share_an_instance(self) -> None:
        """Threads that use one instance at once each get their own texts."""
        with self._store() as store:
            _in_threads(16, store.add_and_pop)

    def test_instances_share_the_storage(self) -> None:
        """What one instance adds, another pops."""
        if not self.shared_between_processes:
            raise unittest.SkipTest("shared_between_processes is False")
        with self._store() as one, self._store() as other:
            key = one.new_key()
            assert one.add(key, "shared") is True
            assert other.pop(key) == "shared"

    def test_both_doors_lead_to_one_storage(self) -> None:
        """Async calls pop what synchronous calls add, and the other way round."""
        with self._store() as store:
            stores = [Store(store.backend), AsyncStore(store.backend)]
            for one, other in (stores, stores[::-1]):
                key = one.new_key()
                assert one.add(key, "here") is True
                assert other.pop(key) == "here"

    def test_a_used_instance_survives_fork(self) -> None:
        """Parent and children can use an instance that was used before the fork."""
        self._require_processes()
        with self._store() as store:
            assert store.pop(store.new_key()) is None
            _in_processes(4, store.add_and_pop, join=store)

    # Batches

    def test_batches_do_what_single_calls_do(self) -> None:
        """Batches answer in order, for keys that come twice as well."""
        with self._store() as store:
            a, b, c, d = (store.new_key() for _ in range(4))
            assert store.add(a, "A") is True
            items = [Item(key, key[-4:], _LIFETIME) for key in (b, a, c, b)]
            assert store.add_many(items) == [True, False, True, False]
            assert store.pop_many([c, d, a, b, c]) == [c[-4:], None, "A", b[-4:], None]

    def test_batches_may_be_large(self) -> None:
        """A batch may have 1,000 calls."""
        with self._store() as store:
            items = [Item(store.new_key(), str(n), _LIFETIME) for n in range(1000)]
            assert store.add_many(items) == [True] * 1000
            texts = store.pop_many([item.key for item in reversed(items)])
            assert texts == [item.data for item in reversed(items)]

    # The journal of disconnects

    def test_reading_takes_nothing(self) -> None:
        """``read_many`` answers in order each time, and ``pop`` works after it."""
        with self._journal() as (store, keys):
            a, b, c = keys[:3]
            assert store.add_many([Item(a, "A", 60), Item(c, "C", 60)]) == [True] * 2
            for _ in range(2):
                assert store.read_many([c, b, a, c]) == ["C", None, "A", "C"]
            assert store.pop_many([a, b]) == ["A", None]
            assert store.read_many([a, b, c]) == [None, None, "C"]

    def test_reading_tells_keys_apart(self) -> None:
        """Neither another case, nor a part of a key, nor an addition is read."""
        with self._journal() as (store, keys):
            key = keys[1]
            assert store.add(key, "mine") is True
            strangers = [key[:-1], f"{key}1", key.swapcase()]
            assert store.read_many([*strangers, key]) == [None] * 3 + ["mine"]

    def test_reading_leaves_out_what_expired(self) -> None:
        """``read_many`` returns None for an expired text."""
        with self._journal() as (store, keys):
            dead, alive = keys[:2]
            items = [Item(dead, "dead", 1), Item(alive, "alive", _LIFETIME)]
            assert store.add_many(items) == [True, True]
            time.sleep(2)
            assert store.read_many([dead, alive]) == [None, "alive"]

    def test_reading_may_be_large(self) -> None:
        """500 texts are read in one call, within two seconds."""
        with self._journal() as (store, keys):
            items = [Item(key, key, _LIFETIME) for key in keys]
            assert store.add_many(items) == [True] * len(keys)
            started = time.monotonic()
            assert store.read_many(keys[::-1]) == keys[::-1]
            assert time.monotonic() - started < 2, "a reader would fall behind"

    def test_reading_in_an_outage_raises(self) -> None:
        """With the storage down ``read_many`` raises; it never says "nothing there"."""
        with self._journal(self.make_unreachable_backend) as (store, keys):
            try:
                outcome = store.read_many(keys[:2])
            except StorageError as exc:
                assert exc.__cause__ is not None
            else:
                raise AssertionError(f"returned {outcome!r} from a dead storage")

    def test_disconnects_are_heard(self) -> None:
        """A disconnect ends the connections that it names, and no others."""
        with self._stage() as (store, live):
            ended: list[str] = []
            for name, user_id in [("laptop", 7), ("phone", 7), ("", 7), ("laptop", 8)]:
                _watch(live, ended, f"{name} of {user_id}", user_id, name)
            store.disconnect(7, session="laptop")
            live.poll()
            assert ended == ["laptop of 7"]
            store.disconnect(7, session="")
            live.poll()
            assert ended[1:] == [" of 7"]
            store.disconnect(7)
            live.poll()
            assert ended[2:] == ["phone of 7"]

    def test_many_users_are_disconnected_at_once(self) -> None:
        """One reading finds 10,000 users of one call, within seconds."""
        with self._stage() as (store, live):
            ended: list[str] = []
            for user_id in (0, 5_000, 9_999, 10_000):
                _watch(live, ended, str(user_id), user_id, "")
            started = time.monotonic()
            store.disconnect(*range(10_000))
            live.poll()
            assert sorted(ended) == ["0", "5000", "9999"]
            assert time.monotonic() - started < 10

    def test_racing_disconnects_are_all_heard(self) -> None:
        """All that 8 threads write to the journal at the same moment is read."""
        with self._stage() as (store, live):
            ended: list[str] = []
            names = [f"{thread}-{n}" for thread in range(8) for n in range(20)]
            for name in names:
                _watch(live, ended, name, 7, name)
            waiting = iter(range(8))

            def run(gate: Any) -> None:
                thread = next(waiting)
                gate.wait(_TIMEOUT)
                for n in range(20):
                    store.disconnect(7, session=f"{thread}-{n}")

            _in_threads(8, run)
            live.poll()
            assert sorted(ended) == sorted(names), "a disconnect is lost"

    @contextmanager
    def _stage(self) -> Iterator[tuple[Store, LiveTickets]]:
        """Yield a store that disconnects, and live tickets on another instance."""
        prefix = f"rt_{os.urandom(8).hex()}"
        with self._store() as store:
            if not store.backend.supports_read_many():
                raise unittest.SkipTest("the backend has no read_many()")
            store.service = TicketService(store.backend, prefix=prefix)
            other = store.backend
            if self.shared_between_processes:
                other = self.make_backend()
            live = LiveTickets(TicketService(other, prefix=prefix), thread=False)
            live.poll()
            yield store, live
            live.service.close()

    @contextmanager
    def _journal(
        self, make: Callable[[], BaseBackend] | None = None
    ) -> Iterator[tuple[Store, list[str]]]:
        """Yield a store and 500 keys of one second of a journal. Skip without any."""
        with self._store(make) as store:
            if not store.backend.supports_read_many():
                raise unittest.SkipTest("the backend has no read_many()")
            second = f"off:rt_{os.urandom(8).hex()}:1764303000"
            yield store, [f"{second}:{n}" for n in range(500)]

    # Trouble

    def test_an_outage_raises(self) -> None:
        """With the storage down every call raises; none says "no such ticket"."""
        with self._store(self.make_unreachable_backend) as store:
            key = store.new_key()
            calls: list[Callable[[], object]] = [
                lambda: store.add(key),
                lambda: store.pop(key),
                lambda: store.add_many([Item(key, "{}", 9), Item(f"{key}x", "{}", 9)]),
                lambda: store.pop_many([key, f"{key}x"]),
            ]
            for call in calls:
                try:
                    outcome = call()
                except StorageError as exc:
                    assert exc.__cause__ is not None
                    assert key not in str(exc)
                else:
                    raise AssertionError(f"returned {outcome!r} from a dead storage")

    def test_close_may_be_called_at_any_time(self) -> None:
        """``close`` can be called twice, and the next call connects again."""
        with self._store() as store:
            key = store.new_key()
            assert store.add(key, "kept") is True
            store.backend.close()
            store.backend.close()
            text = store.pop(key)
            assert text == "kept" or not self.shared_between_processes

    def test_unknown_options_are_refused(self) -> None:
        """The constructor raises a TypeError that names an option it does not know."""
        with self._store() as store:
            cls = type(store.backend)
        construct = cls.__init__

        def with_one_more(self: BaseBackend, *args: Any, **options: Any) -> None:
            construct(self, *args, **options, no_such_option=1)

        with mock.patch.object(cls, "__init__", with_one_more):
            try:
                self.make_backend()
            except TypeError as exc:
                assert "no_such_option" in str(exc)
            else:
                raise AssertionError("no_such_option was accepted")

    # Machinery

    _store_class: ClassVar[type[Store]]
    _observed: ClassVar[_Aged]

    def _aged(self) -> _Aged:
        """Return what became of texts in three seconds. A class waits for them once."""
        cls = type(self)
        if "_observed" not in vars(cls):
            cls._observed = self._age()
        return cls._observed

    def _age(self) -> _Aged:
        with self._store() as store:
            early, late, taken, dead, alive = (store.new_key() for _ in range(5))
            items = [Item(dead, "dead", 1), Item(alive, "alive", _LIFETIME)]
            assert store.add_many(items) == [True, True]
            assert store.add(taken, "first") is True
            second = store.add(taken, "second", 1)
            started = time.monotonic()
            assert store.add(early, "early", 2) is True
            assert store.add(late, "late", 2) is True
            time.sleep(0.9)
            text = store.pop(early)
            in_time = time.monotonic() - started < 1
            time.sleep(2)
            return _Aged(
                second=second,
                in_time=in_time,
                early=text,
                late=store.pop(late),
                taken=store.pop(taken),
                cleared=store.backend.clear_expired(),
                # Texts of other clauses may expire between two calls on a slow machine.
                cleared_again=min(store.backend.clear_expired() for _ in range(3)),
                dead_and_alive=store.pop_many([dead, alive]),
            )

    @contextmanager
    def _store(self, make: Callable[[], BaseBackend] | None = None) -> Iterator[Store]:
        store = self._store_class((make or self.make_backend)())
        try:
            yield store
        finally:
            store.service.close()

    def _fill(self, store: Store) -> list[str]:
        """Add the tickets of a race and return their keys. Each text is its key."""
        items = _named(self._new_keys(store))
        assert store.add_many(items) == [True] * len(items)
        return [item.key for item in items]

    def _new_keys(self, store: Store) -> list[str]:
        return [store.new_key() for _ in range(self.race_tickets)]

    def _require_processes(self) -> None:
        if not self.shared_between_processes:
            raise unittest.SkipTest("shared_between_processes is False")
        if not hasattr(os, "fork"):
            raise unittest.SkipTest("this platform cannot fork")


class Store:
    """A backend, called as the service calls it."""

    def __init__(self, backend: BaseBackend) -> None:
        self.backend = backend
        self.service = TicketService(backend)

    def new_key(self) -> str:
        """Return a key of the kind that the service hands this backend."""
        return storage_key(new_value(), "chat", hashed=self.backend.hashes_keys)

    def add(self, key: str, data: str = "{}", expire: int = _LIFETIME) -> bool:
        return self.service._call(self.backend.add, key, data, expire)

    def pop(self, key: str) -> str | None:
        return self.service._call(self.backend.pop, key)

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return self.service._call(self.backend.add_many, items)

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return self.service._call(self.backend.pop_many, keys)

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        return self.service._call(self.backend.read_many, keys)

    def disconnect(self, *user_ids: int, session: str | None = None) -> None:
        self.service.disconnect(*user_ids, session=session)

    def pop_all(self, keys: Sequence[str], gate: Any) -> list[str | None]:
        """Pop each key at the moment when all the others do."""
        texts = []
        for key in keys:
            gate.wait(_TIMEOUT)
            texts.append(self.pop(key))
        return texts

    def add_and_pop(self, gate: Any) -> None:
        """Add and pop texts that name their key, so that a crossed reply shows."""
        gate.wait(_TIMEOUT)
        for _ in range(25):
            keys = [self.new_key() for _ in range(3)]
            assert self.add_many(_named(keys)) == [True] * 3
            assert self.pop(keys[0]) == keys[0]
            assert self.pop_many(keys) == [None, *keys[1:]]


class AsyncStore(Store):
    """A backend as coroutines use it: batched, in a thread."""

    def add(self, key: str, data: str = "{}", expire: int = _LIFETIME) -> bool:
        return self.add_many([Item(key, data, expire)])[0]

    def pop(self, key: str) -> str | None:
        return self.pop_many([key])[0]

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return self._submit(items)

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return self._submit(keys)

    def disconnect(self, *user_ids: int, session: str | None = None) -> None:
        async_to_sync(self.service.adisconnect)(*user_ids, session=session)

    def _submit(self, calls: Sequence[Item | str]) -> list[Any]:
        # Not asyncio.run(): its thread-sensitive thread is not the test's own, which
        # alone sees the transaction of a TestCase.
        return async_to_sync(self._gather)(calls)

    async def _gather(self, calls: Sequence[Item | str]) -> list[Any]:
        submit = self.service._submit
        return await asyncio.gather(*[submit(call) for call in calls])

    # Below, one event loop for all the calls, as a realtime server has. Loops that come
    # and go with each call have clauses of their own.

    def pop_all(self, keys: Sequence[str], gate: Any) -> list[str | None]:
        rounds = async_to_sync(self.pop_each)([[key] for key in keys], gate)
        return [text for (text,) in rounds]

    async def pop_each(
        self, batches: Sequence[Sequence[str]], gate: Any
    ) -> list[list[str | None]]:
        """Pop each batch at the moment when all the others do."""
        rounds = []
        for keys in batches:
            gate.wait(_TIMEOUT)
            rounds.append(await self._gather(keys))
        return rounds

    def add_and_pop(self, gate: Any) -> None:
        async def session() -> None:
            for _ in range(25):
                keys = [self.new_key() for _ in range(3)]
                assert await self._gather(_named(keys)) == [True] * 3
                assert await self._gather(keys[:1]) == keys[:1]
                assert await self._gather(keys) == [None, *keys[1:]]

        gate.wait(_TIMEOUT)
        async_to_sync(session)()


BackendContract._store_class = Store


@dataclass(frozen=True, slots=True)
class _Aged:
    """What became of texts in two seconds.

    ``second`` is what ``add`` returned for the taken key, ``in_time`` whether ``early``
    was popped less than a second after it was added.
    """

    second: bool
    in_time: bool
    early: str | None
    late: str | None
    taken: str | None
    cleared: int
    cleared_again: int
    dead_and_alive: list[str | None]


class AsyncDoor:
    """Put this before a contract class to run its clauses with async calls."""

    _store_class = AsyncStore

    make_backend: Callable[[], BaseBackend]
    race_tickets: int

    # The journal is read by a thread of its own, never by coroutines.
    test_reading_takes_nothing: ClassVar[None] = None
    test_reading_tells_keys_apart: ClassVar[None] = None
    test_reading_leaves_out_what_expired: ClassVar[None] = None
    test_reading_may_be_large: ClassVar[None] = None
    test_reading_in_an_outage_raises: ClassVar[None] = None

    def test_event_loops_take_turns(self) -> None:
        """An instance serves one event loop after another."""
        store = AsyncStore(self.make_backend())
        for _ in range(3):
            key = store.new_key()
            assert _run(store._gather([Item(key, "turn", 9)])) == [True]
            assert _run(store._gather([key])) == ["turn"]
        store.service.close()

    def test_event_loops_work_side_by_side(self) -> None:
        """Event loops in two threads use one instance at once."""
        store = AsyncStore(self.make_backend())

        async def session() -> None:
            for _ in range(50):
                keys = [store.new_key() for _ in range(5)]
                await store._gather([Item(key, key, 9) for key in keys])
                assert await store._gather(keys) == keys

        def run(gate: Any) -> None:
            gate.wait(_TIMEOUT)
            _run(session())

        _in_threads(2, run)
        store.service.close()

    def test_of_racing_threads_one_wins(self) -> None:
        """Of 32 coroutines in 8 threads that pop one key, exactly one gets it."""
        store = AsyncStore(self.make_backend())
        keys = [store.new_key() for _ in range(self.race_tickets)]
        store.add_many(_named(keys))
        crowd = [[key] * 4 for key in keys]
        results = _in_threads(8, lambda gate: _run(store.pop_each(crowd, gate)))
        texts = [list(each) for rounds in results for each in zip(*rounds, strict=True)]
        store.service.close()
        _assert_one_winner_each(keys, texts)

    def test_coroutines_race_for_one_winner(self) -> None:
        """Of 200 coroutines that pop one key, exactly one gets it."""
        store = AsyncStore(self.make_backend())
        key = store.new_key()
        assert store.add(key, "once") is True
        texts = store.pop_many([key] * 200)
        assert Counter(texts) == {"once": 1, None: 199}
        store.service.close()


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it in a new event loop, for ``_TIMEOUT`` seconds at most."""

    async def main() -> T:
        try:
            return await asyncio.wait_for(coroutine, _TIMEOUT)
        finally:
            await sync_to_async(_close_djangos_connections)()

    return asyncio.run(main())


def _close_djangos_connections() -> None:
    """Close this thread's, as Django does after a request; the server counts them."""
    if django_db := sys.modules.get("django.db"):
        django_db.connections.close_all()


def _named(keys: Sequence[str]) -> list[Item]:
    """Return an item for each key, whose text is the key."""
    return [Item(key, key, _LIFETIME) for key in keys]


def _watch(
    live: LiveTickets, ended: list[str], name: str, user_id: int, session: str
) -> None:
    """Open a connection, which adds its name to the list when it must end."""
    claims = {"id": user_id, "username": "ada"}
    live.watch(
        live.service.issue(claims, session=session), lambda _: ended.append(name)
    )


def _assert_one_winner_each(
    keys: Sequence[str], results: Sequence[Sequence[str | None]]
) -> None:
    for key, texts in zip(keys, zip(*results, strict=True), strict=True):
        won = [text for text in texts if text is not None]
        assert won == [key], f"{len(won)} of {len(texts)} got the same ticket"


def _in_threads(count: int, run: Callable[[Any], T]) -> list[T]:
    """Run it in as many threads, with a barrier, and return the results."""
    gate = threading.Barrier(count)

    def guarded() -> T:
        try:
            return run(gate)
        except BaseException:
            gate.abort()
            raise
        finally:
            _close_djangos_connections()

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(guarded) for _ in range(count)]
        errors = [error for future in futures if (error := future.exception())]
        # A thread that fails breaks the barrier for the others. Show its error first.
        errors.sort(key=lambda e: isinstance(e, threading.BrokenBarrierError))
        for error in errors:
            raise error
        return [future.result() for future in futures]


def _in_processes(
    count: int, run: Callable[[Any], T], *, join: Store | None = None
) -> list[T]:
    """Run it in as many forked processes, with a barrier, and return the results.

    The parent, with ``join``, uses that store at the same time.
    """
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(count + (join is not None))
    ends = [context.Pipe(duplex=False) for _ in range(count)]

    def report(end: Any) -> None:
        try:
            end.send((run(gate), ""))
        except BaseException as exc:
            end.send((None, f"{exc!r} from {exc.__cause__!r}"))
            gate.abort()

    children = [context.Process(target=report, args=(end,)) for _, end in ends]
    with warnings.catch_warnings():
        # Python 3.12 and newer warn of a fork beside threads. Ours are at rest.
        warnings.simplefilter("ignore", DeprecationWarning)
        for child in children:
            child.start()
    try:
        if join is not None:
            join.add_and_pop(gate)
        results = []
        for receiver, _ in ends:
            assert receiver.poll(_TIMEOUT), "a process hangs"
            result, error = receiver.recv()
            assert not error, error
            results.append(result)
        return results
    finally:
        for child in children:
            child.join(1)
            child.kill()
            child.join()
        for pair in ends:
            for end in pair:
                end.close()
