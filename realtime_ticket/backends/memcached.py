"""Tickets in one Memcached server or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pymemcache.client.base import PooledClient
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheError

from .base import BaseBackend

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

_MAX_EXPIRE = 30 * 24 * 60 * 60
"""Memcached takes a longer lifetime for a date, in 1970 (its protocol.txt)."""


class MemcachedBackend(BaseBackend):
    """Keep each ticket on the server that its key hashes to.

    Options: ``servers`` (``["127.0.0.1:11211"]``; a path is a Unix socket), and any
    keyword of ``pymemcache.PooledClient``, such as ``key_prefix`` or ``tls_context``.
    ``timeout`` and ``connect_timeout`` are 1 second.

    A ticket never outlives its time. It can die up to a second early, because Memcached
    counts whole seconds of a clock of its own.
    """

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (MemcacheError, OSError)
    thread_sensitive: ClassVar[bool] = False
    setting: ClassVar[str] = "MEMCACHED"
    shorthand: ClassVar[str] = "servers"

    def __init__(
        self, *, servers: str | Sequence[str] = "127.0.0.1:11211", **options: Any
    ) -> None:
        self._servers = [servers] if isinstance(servers, str) else list(servers)
        if not self._servers:
            raise TypeError("MemcachedBackend: servers is empty")
        # A dead server keeps its share of the keys. pymemcache's HashClient would give
        # them to its neighbours, and an outage would look like "no such ticket".
        self._hash = RendezvousHash(self._servers)
        self._options = {"timeout": 1, "connect_timeout": 1, "no_delay": True} | options
        # Not for the user to change: without replies nobody knows who won a pop.
        self._options |= {"default_noreply": False, "ignore_exc": False}
        self._open()

    def add(self, key: str, data: str, expire: int) -> bool:
        if expire > _MAX_EXPIRE:
            raise ValueError(f"Memcached keeps nothing for over {_MAX_EXPIRE} seconds")
        return self._client(key).add(key, data.encode(), expire=expire) is True

    def pop(self, key: str) -> str | None:
        client = self._client(key)
        data = client.get(key)
        # Only one of many deletes finds something to delete. That caller wins.
        if data is None or client.delete(key) is not True:
            return None
        text: str = data.decode(errors="surrogateescape")
        return text

    def diagnose(self) -> list[CheckMessage]:
        from ._memcached_diagnosis import diagnose

        return diagnose(self._clients.values())

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._clients = {
            server: PooledClient(server, **self._options) for server in self._servers
        }

    def _client(self, key: str) -> PooledClient:
        """Return the client for the server that holds this key.

        A fork's child opens its own: two processes on one socket read each other's
        replies. It leaves the parent's open, because closing them takes a lock that a
        thread of the parent may have held at the fork.
        """
        if self._pid != os.getpid():
            self._inherited = self._clients
            self._open()
        return self._clients[self._hash.get_node(key)]
