"""The cache backend: connections per thread, lost races, strange caches."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.db import transaction

from realtime_ticket import (
    InvalidTicket,
    OpenTransaction,
    StorageError,
    TicketService,
)
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.integrations.http import DisconnectsView
from tests import servers
from tests.helpers import CLAIMS, GOOD, in_child, real_redis, using


class WatchedCache(LocMemCache):
    """A cache that can be told what to do, and notes who was made and closed."""

    made: list[WatchedCache] = []
    closed: list[WatchedCache] = []
    answers: dict[str, Any] = {}

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(name, params)
        self.made.append(self)

    def close(self, **kwargs: Any) -> None:
        self.closed.append(self)

    def _answer(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method not in self.answers:
            return getattr(super(), method)(*args, **kwargs)
        answer = self.answers[method]
        if isinstance(answer, (Exception, type)):
            raise answer
        return answer

    def add(self, *args: Any, **kwargs: Any) -> Any:
        return self._answer("add", *args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self._answer("get", *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        return self._answer("delete", *args, **kwargs)


FAILING: dict[str, Callable[[TicketService], object]] = {
    "add": lambda service: service.backend.add(GOOD, "text", 9),
    "issue": lambda service: service.issue(CLAIMS),
    "consume": lambda service: service.consume(GOOD),
    "write": lambda service: service.journal.write("text"),
    "read": lambda service: DisconnectsView(service=service).read_journal(
        int(time.time())
    ),
}
"""Calls that fail in a cache that cannot be reached, or that keeps nothing."""


@pytest.fixture(autouse=True)
def answers(settings: Any) -> Iterator[dict[str, Any]]:
    """Use the watched cache, and return what it is to answer."""
    watched = {"BACKEND": f"{__name__}.WatchedCache", "LOCATION": "watched"}
    settings.CACHES = settings.CACHES | {"watched": watched}
    yield WatchedCache.answers
    for register in (WatchedCache.answers, WatchedCache.made, WatchedCache.closed):
        register.clear()


@pytest.fixture
def backend() -> Iterator[CacheBackend]:
    backend = CacheBackend(alias="watched")
    yield backend
    backend._connection.cache.clear()
    backend.close()


class TestOneText:
    def test_is_under_the_key_of_the_cache(self, backend: CacheBackend) -> None:
        """Another process finds it by Django's own cache API."""
        assert backend.add(GOOD, "text", 9) is True
        assert caches["watched"].get(GOOD) == "text"
        assert backend.pop(GOOD) == "text"
        assert caches["watched"].get(GOOD) is None

    def test_obeys_the_prefix_of_the_cache(self, settings: Any) -> None:
        """KEY_PREFIX and VERSION are the cache's business."""
        with real_redis(db=1) as watcher:
            redis = settings.CACHES["redis"] | {"KEY_PREFIX": "site", "VERSION": 3}
            settings.CACHES = settings.CACHES | {"redis": redis}
            backend = CacheBackend(alias="redis")
            backend.add(GOOD, "text", 9)
            assert watcher.exists(f"site:3:{GOOD}") == 1
            assert backend.pop(GOOD) == "text"
            backend.close()

    @pytest.mark.parametrize("answer", [False, None, 0])
    def test_goes_to_who_deletes_it(
        self, backend: CacheBackend, answers: dict[str, Any], answer: Any
    ) -> None:
        """Reading a text is not enough: another caller may have read it too.

        Mutants: cache-ignores-who-deleted.
        """
        backend.add(GOOD, "text", 9)
        answers["delete"] = answer
        assert backend.pop(GOOD) is None

    @pytest.mark.parametrize("value", [b"bytes", 7, {"id": 1}, None, True, ["x"]])
    def test_is_a_text(self, backend: CacheBackend, value: Any) -> None:
        """What else somebody keeps under such a key is no ticket."""
        caches["watched"].set(GOOD, value)
        with using(backend) as service, pytest.raises(InvalidTicket):
            service.consume(GOOD)

    @pytest.mark.parametrize("answer", [False, None, 0])
    def test_that_the_cache_did_not_keep(
        self, backend: CacheBackend, answers: dict[str, Any], answer: Any
    ) -> None:
        """A cache that swallows its errors says so by its answer: no ticket.

        Mutants: cache-believes-a-cache-that-kept-nothing.
        """
        answers["add"] = answer
        with using(backend) as service, pytest.raises(StorageError):
            service.issue(CLAIMS)


@pytest.mark.django_db(transaction=True)
class TestDatabaseCache:
    """Django's cache in a table, where a rollback could revive a ticket."""

    @pytest.fixture(autouse=True)
    def _table(self) -> None:
        call_command("createcachetable", verbosity=0)

    def test_refuses_an_open_transaction(self) -> None:
        """OpenTransaction, and the ticket stays good.

        Mutants: cache-consumes-in-a-transaction.
        """
        service = TicketService(CacheBackend(alias="database"))
        ticket = service.issue(CLAIMS)
        with transaction.atomic(), pytest.raises(OpenTransaction):
            service.consume(ticket.value)
        assert service.consume(ticket.value) == ticket
        with transaction.atomic():
            kept = service.issue(CLAIMS)
        assert service.consume(kept.value) == kept

    def test_close_ends_no_transaction(self) -> None:
        """What was written in it is kept.

        Mutants: cache-close-ends-a-transaction.
        """
        service = TicketService(CacheBackend(alias="database"))
        with transaction.atomic():
            ticket = service.issue(CLAIMS)
            service.close()
        assert service.consume(ticket.value) == ticket


@pytest.mark.django_db
def test_other_caches_mind_no_transaction(backend: CacheBackend) -> None:
    """What is not in the database is not rolled back with it.

    Mutants: cache-minds-every-transaction.
    """
    with using(backend) as service, transaction.atomic():
        ticket = service.issue(CLAIMS)
        assert service.consume(ticket.value) == ticket


@pytest.mark.parametrize("method", ["add", "get", "delete"])
def test_whatever_a_cache_raises_is_an_outage(
    backend: CacheBackend, answers: dict[str, Any], method: str
) -> None:
    """Nobody can list the exceptions of all client libraries.

    Mutants: cache-knows-outages-by-their-errno.
    """
    caches["watched"].set(GOOD, "text")
    cause = answers[method] = type("LibraryError", (Exception,), {})(f"for {GOOD}")
    with using(backend) as service, pytest.raises(StorageError) as caught:
        if method == "add":
            service.issue(CLAIMS)
        else:
            service.consume(GOOD)
    assert caught.value.__cause__ is cause
    assert GOOD not in str(caught.value)
    answers.clear()


class TestConnections:
    def test_that_cannot_be_made(
        self,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """That is an outage, and nothing is left that cannot be closed.

        Mutants: cache-that-was-not-made-is-closed.
        """
        settings.CACHES = {"default": {"BACKEND": "no.such.Cache"}}
        # A record that pytest keeps would hold the error, and with it what is left.
        caplog.set_level(logging.CRITICAL, "realtime_ticket")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # what other tests have left
        unraised: list[object] = []
        monkeypatch.setattr(sys, "unraisablehook", unraised.append)
        with using(CacheBackend()) as service, pytest.raises(StorageError) as caught:
            service.issue(CLAIMS)
        assert type(caught.value.__cause__).__name__ == "InvalidCacheBackendError"
        del caught
        gc.collect()
        assert unraised == []

    def test_are_one_for_a_thread(self, backend: CacheBackend) -> None:
        """A thread keeps its own, and others have theirs.

        Mutants: cache-is-one-for-all-threads.
        """
        mine = backend._connection.cache
        assert backend._connection.cache is mine
        assert mine is not caches["watched"]
        others: list[Any] = []
        thread = threading.Thread(
            target=lambda: others.append(backend._connection.cache)
        )
        thread.start()
        thread.join()
        assert others[0] is not mine

    def test_end_with_their_thread(self, backend: CacheBackend) -> None:
        """A thread that is over leaves no connection open.

        Mutants: cache-leaves-connections-open.
        """
        thread = threading.Thread(target=backend.pop, args=(GOOD,))
        thread.start()
        thread.join()
        gc.collect()
        (made,) = WatchedCache.made
        assert made in WatchedCache.closed

    @pytest.mark.parametrize("call", FAILING)
    def test_end_with_a_thread_whose_last_call_failed(
        self,
        backend: CacheBackend,
        answers: dict[str, Any],
        call: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """At once: no error keeps them until Python next looks for garbage, which warns
        of a socket that it finds before its owner.

        Mutants: cache-error-keeps-its-connection, service-error-keeps-its-connection,
        journal-error-keeps-its-connection, http-error-keeps-its-connection.
        """
        raised: list[str] = []

        def work() -> None:
            try:
                FAILING[call](TicketService(backend))
            except (LookupError, OSError, StorageError) as exc:
                raised.append(type(exc).__name__)

        answers |= {"add": False, "get": None, "delete": OSError}
        if call != "add":
            answers |= {"add": OSError, "get": OSError}
        # Pytest would keep what is logged, with the error in it.
        monkeypatch.setattr(TicketService, "report", lambda self, error: None)
        gc.disable()
        try:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            ours, *_ = WatchedCache.made  # Django's own may be looked at, too
            assert ours in WatchedCache.closed
        finally:
            gc.enable()
        assert len(raised) == 1

    def test_end_with_close(self, backend: CacheBackend) -> None:
        """close drops the connection, and the next call makes another.

        Mutants: cache-close-closes-nothing.
        """
        mine = backend._connection.cache
        backend.close()
        gc.collect()
        assert mine in WatchedCache.closed
        assert backend._connection.cache is not mine

    def test_serve_many_batches(self, backend: CacheBackend) -> None:
        """Batches of coroutines do not each connect again, as caches[alias] would.

        Mutants: cache-connects-for-each-call.
        """

        async def session() -> None:
            for _ in range(20):
                tickets = await asyncio.gather(
                    *[service.aissue(CLAIMS) for _ in range(3)]
                )
                await asyncio.gather(*[service.aconsume(t.value) for t in tickets])

        with using(backend) as service:
            asyncio.run(session())
        assert len(WatchedCache.made) == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
    def test_are_not_shared_with_a_child(self, backend: CacheBackend) -> None:
        """A child makes its own, and leaves the parent's open.

        Mutants: cache-shares-a-connection-with-a-child,
        cache-child-closes-the-connection-of-its-parent.
        """
        mine = backend._connection.cache

        def child() -> tuple[bool, bool]:
            is_mine = backend._connection.cache is mine
            gc.collect()
            return is_mine, inherited in map(id, WatchedCache.closed)

        inherited = id(mine)
        assert in_child(child) == (False, False)
        assert backend._connection.cache is mine

    @pytest.mark.parametrize(
        ("alias", "server"),
        [("redis", "redis"), ("django-redis", "redis"), ("memcached", "memcached")],
    )
    def test_work_on_a_real_server(self, alias: str, server: str) -> None:
        """A session of a hundred batches, one after another.

        Mutants: cache-keeps-what-is-no-text.
        """
        servers.require(server)

        async def session() -> None:
            for _ in range(50):
                ticket = await service.aissue(CLAIMS)
                assert await service.aconsume(ticket.value) == ticket

        with using(CacheBackend(alias=alias)) as service:
            asyncio.run(session())


def test_unknown_options_are_refused() -> None:
    """The cache's own options belong in CACHES."""
    with pytest.raises(TypeError, match="timeout"):
        CacheBackend(timeout=1)  # type: ignore[call-arg]


def test_making_one_asks_for_no_cache() -> None:
    """Neither settings nor network: an alias that is not there is seen later."""
    assert CacheBackend(alias="nothing").alias == "nothing"
