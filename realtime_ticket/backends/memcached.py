"""Tickets in one Memcached server or several."""

from __future__ import annotations

import os
import select
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pymemcache.client.base import Client
from pymemcache.client.rendezvous import RendezvousHash
from pymemcache.exceptions import MemcacheError

from realtime_ticket.outages import Outage, explain, locate

from ._memcached_options import check_options, checked_servers
from ._reading import read_from_each
from .base import BaseBackend

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

Result = TypeVar("Result")

_MAX_EXPIRE = 30 * 24 * 60 * 60
"""Memcached takes a longer lifetime for a date, in 1970 (its protocol.txt)."""

_REST = 2.0
"""Seconds for which a server that did not answer a reading is not asked again. Reading
the journal takes many calls, and connections are refused if it takes five seconds."""


class MemcachedBackend(BaseBackend):
    """Keep each ticket on the server that its key hashes to.

    Options: ``servers`` (``["127.0.0.1:11211"]``; a path is a Unix socket), and any
    keyword of ``pymemcache.Client``, such as ``key_prefix`` or ``tls_context``.
    ``timeout`` and ``connect_timeout`` are 1 second.

    A ticket never outlives its time. It can die up to a second early, because Memcached
    counts whole seconds of a clock of its own, and up to two when that clock skips one.
    """

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (MemcacheError, OSError)
    thread_sensitive: ClassVar[bool] = False
    setting: ClassVar[str] = "MEMCACHED"
    shorthand: ClassVar[str] = "servers"

    def __init__(
        self, *, servers: str | Sequence[str] = "127.0.0.1:11211", **options: Any
    ) -> None:
        self._servers = checked_servers(servers)
        # A dead server keeps its share of the keys. pymemcache's HashClient would give
        # them to its neighbours, and an outage would look like "no such ticket".
        self._hash = RendezvousHash(self._servers, hash_function=_weight)
        self._options = {"timeout": 1, "connect_timeout": 1, "no_delay": True} | options
        # Not for the user to change: without replies nobody knows who won a pop.
        self._options |= {"default_noreply": False, "ignore_exc": False}
        check_options(self._options)
        for server in self._servers:  # raises TypeError; opens no socket
            Client(server, **self._options)
        self._silent_until: dict[str, float] = {}
        self._idle: dict[tuple[int, str], deque[Client]] = {}

    def add(self, key: str, data: str, expire: int) -> bool:
        if expire > _MAX_EXPIRE:
            raise ValueError(f"Memcached keeps nothing for over {_MAX_EXPIRE} seconds")
        text = data.encode()
        return self._call(
            self._server(key), lambda client: client.add(key, text, expire) is True
        )

    def pop(self, key: str) -> str | None:
        def pop(client: Client) -> str | None:
            data = client.get(key)
            # Only one of many deletes finds something to delete. That caller wins.
            if data is None or client.delete(key) is not True:
                return None
            return _text(data)

        return self._call(self._server(key), pop)

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        """See BaseBackend. One round trip to each server, one after the other."""
        shares: dict[str, list[int]] = defaultdict(list)
        for position, key in enumerate(keys):
            shares[self._server(key)].append(position)

        def read(server: str, positions: Sequence[int]) -> list[str | None]:
            share = [keys[position] for position in positions]
            if time.monotonic() < self._silent_until.get(server, 0.0):
                raise TimeoutError("The server did not answer a moment ago.")
            try:
                found = self._call(server, lambda client: client.get_many(share))
            except TimeoutError:
                self._silent_until[server] = time.monotonic() + _REST
                raise
            return [_text(found[key]) if key in found else None for key in share]

        return read_from_each(shares, read, self.storage_errors)

    def explain(self, error: Exception) -> Outage:
        return explain(error, storage="Memcached", setting=self.options_name)

    def diagnose(self) -> list[CheckMessage]:
        from ._memcached_diagnosis import examine, unique

        findings = [self._call(server, examine) for server in self._servers]
        return unique(chain.from_iterable(findings))

    def close(self) -> None:
        for server in self._servers:
            idle = self._idle_clients(server)
            with suppress(IndexError):
                while True:
                    idle.pop().close()

    def _server(self, key: str) -> str:
        """Return the server that holds this key."""
        server: str = self._hash.get_node(key)
        return server

    def _call(self, server: str, function: Callable[[Client], Result]) -> Result:
        """Call a function with a connection to this server that nobody else uses.

        Not pymemcache's pool: it loses the connection of a greenlet that is killed, and
        has a lock, which a fork copies locked when a thread holds it. Not a context
        manager either, which took three times as long.
        """
        idle = self._idle_clients(server)
        try:
            client = idle.pop()
        except IndexError:
            client = Client(server, **self._options)
        if client.sock is not None and _has_input(client.sock):
            client.close()  # as the server did; the call connects again
        try:
            result = function(client)
        except BaseException as exc:  # the rest of a reply must be read by nobody
            client.close()
            raise locate(exc, server)  # noqa: B904 (it is the same)
        idle.append(client)
        return result

    def _idle_clients(self, server: str) -> deque[Client]:
        """Return this process's connections that nobody uses.

        Two processes on one socket read each other's replies. A parent's connections
        are kept, under its own number, and never closed.
        """
        return self._idle.setdefault((os.getpid(), server), deque())


def _has_input(sock: Any) -> bool:
    """Return whether the server has closed the connection, or sent too much."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _weight(text: str, seed: int) -> int:
    """Return what a server weighs for a key; the heaviest has it.

    pymemcache's own hash is in Python, and takes as long as the server does.
    """
    return int.from_bytes(sha256(text.encode()).digest())
