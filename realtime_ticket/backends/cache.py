"""Tickets in any cache of Django's ``CACHES``."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from realtime_ticket.outages import Outage, locate

from .base import BaseBackend

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache
    from django.core.checks import CheckMessage

_MARK = "off:mark"
"""A key that the journal of disconnects cannot have. If the cache has it, the cache
answered: some return nothing at all in an outage."""


class CacheBackend(BaseBackend):
    """Keep tickets in the cache with this alias.

    Options: ``alias`` (``"default"``). Everything else, timeouts included, is set in
    ``CACHES``.
    """

    # A cache may raise any exception of its client library.
    storage_errors: ClassVar[tuple[type[Exception], ...]] = (Exception,)
    setting: ClassVar[str] = "CACHE"
    shorthand: ClassVar[str] = "alias"

    def __init__(self, *, alias: str = "default") -> None:
        self.alias = alias
        self._local = threading.local()

    def add(self, key: str, data: str, expire: int) -> bool:
        connection = self._connection
        cache = connection.cache
        if cache.add(key, data, timeout=expire):
            return True
        # A cache that hides its errors also says "taken", as Django's DatabaseCache
        # does. Then there is nothing under the key, or get() raises.
        if cache.get(key) is None:
            # No name for the error, whose traceback would refer to this very frame.
            raise locate(
                LookupError("The cache did not keep the ticket."), kind="forgotten"
            )
        return False

    def pop(self, key: str) -> str | None:
        connection = self._connection
        cache = connection.cache
        with self._for_good(cache):
            data = cache.get(key)
            # Only one of many deletes finds something to delete. That caller wins. A
            # plain get-then-delete let up to 32 of 32 racing callers in.
            if not isinstance(data, str) or not cache.delete(key):
                return None
        return data

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        """See BaseBackend. The first call adds a key to the cache, ``off:mark``."""
        connection = self._connection
        cache = connection.cache
        wanted = [_MARK, *keys]
        found = cache.get_many(wanted)
        if found.get(_MARK) is None:
            cache.set(_MARK, "", timeout=None)
            found = cache.get_many(wanted)
        if found.get(_MARK) is None:
            raise LookupError("The cache keeps nothing, or hides its errors.")
        texts = (found.get(key) for key in keys)
        return [text if isinstance(text, str) else None for text in texts]

    def add_durably(self, key: str, data: str, expire: int) -> bool:
        with self._for_good(self._connection.cache):
            return self.add(key, data, expire)

    def close(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local = threading.local()
        cache = getattr(connection, "cache", None)
        if table := getattr(cache, "cache_model_class", None):
            _close_own(table)

    @property
    def _connection(self) -> _Connection:
        """Return this thread's own connection to the cache.

        Keep a reference until you are done: a close() in another thread drops it.

        Not ``caches[alias]``: asgiref keeps that for each context, so every batch of
        coroutines would connect again, and a forked child inherits its sockets.
        """
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.pid != os.getpid():
            connection = self._local.connection = _Connection(self.alias)
        if table := getattr(connection.cache, "cache_model_class", None):
            _replace_dead(table)
        return connection

    @property
    def database(self) -> str | None:
        from django.core.cache import caches
        from django.db import router

        table = getattr(caches[self.alias], "cache_model_class", None)
        return router.db_for_write(table) if table else None

    def _for_good(self, cache: Any) -> AbstractContextManager[None]:
        """Refuse an open transaction, where the cache is Django's table."""
        if (table := getattr(cache, "cache_model_class", None)) is None:
            return nullcontext()
        from django.db import connections, router

        from ._database_connection import for_good

        return for_good(connections[router.db_for_write(table)])

    def check(self, databases: Collection[str] = ()) -> list[CheckMessage]:
        from ._cache_checks import check_cache

        return check_cache(self.alias)

    def explain(self, error: Exception) -> Outage:
        from ._cache_outages import explain_cache

        return explain_cache(self.alias, error)


def _replace_dead(table: Any) -> None:
    """Replace connections to Django's cache table that died, or came from a fork."""
    from ._database_connection import live_connection

    for alias in _aliases(table):
        live_connection(alias)


def _close_own(table: Any) -> None:
    """Close this thread's connections to Django's cache table: its thread may end."""
    from ._database_connection import own_connection

    for alias in _aliases(table):
        connection = own_connection(alias)
        if not connection.in_atomic_block:  # which would be rolled back
            connection.close()


def _aliases(table: Any) -> set[str]:
    from django.db import router

    return {router.db_for_read(table), router.db_for_write(table)}


class _Connection:
    """A cache that is closed when its thread ends, unless a fork copied it."""

    def __init__(self, alias: str) -> None:
        from django.core.cache import caches

        self.cache: BaseCache = caches.create_connection(alias)
        self.pid = os.getpid()

    def __del__(self) -> None:
        if getattr(self, "pid", None) == os.getpid():
            self.cache.close()
