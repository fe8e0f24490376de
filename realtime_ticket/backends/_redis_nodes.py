"""Several Redis servers: the nodes of a cluster, or Sentinels and their masters."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import redis

from realtime_ticket.outages import locate

from ._options import is_host, is_port
from ._redis_exchange import exchange

Address = tuple[str, int]

_PATIENCE = 2
"""Servers that one call waits for in vain. The next call asks others."""


def addresses(option: str, value: Any) -> tuple[Address, ...]:
    """Return the addresses in an option. Raise TypeError if there are none."""
    try:
        found = tuple((host, int(port)) for host, port in value)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(
        is_host(host) and is_port(port) for host, port in found
    ):  # without the value: a URL in it may hold a password
        raise TypeError(f"{option} is a list of (host, port), without URLs")
    return found


def waiting_pool(
    pattern: redis.ConnectionPool, **where: Any
) -> redis.BlockingConnectionPool:
    """Return a pool like another one, except where it connects to.

    The plain pool raises when it is exhausted, which a reconnect storm brings about.
    This one waits for a connection.
    """
    options = pattern.connection_kwargs | where
    return redis.BlockingConnectionPool(
        max_connections=pattern.max_connections,
        timeout=options["socket_timeout"],
        connection_class=pattern.connection_class,
        **options,
    )


def hang_up(pool: redis.BlockingConnectionPool) -> None:
    """Close the connections that nobody uses. The pool can still be used.

    Not disconnect(), which closes those in use too: their callers, who wait for a
    reply, would get whatever Python says of a socket that is gone.
    """
    if pool.pid != os.getpid():
        return  # all of them, and the lock of the queue, are the parent's
    idle = []
    with suppress(queue.Empty):
        while True:
            idle.append(pool.pool.get_nowait())
    for connection in idle:
        if connection is not None:
            connection.disconnect()
        pool.pool.put_nowait(connection)


class Nodes:
    """A pool for each address, and the order in which they are asked for news.

    It has no lock that a fork could copy locked: threads that meet make at most a pool
    in vain, or ask in another order.
    """

    def __init__(
        self, pattern: redis.ConnectionPool, order: Iterable[Address] = ()
    ) -> None:
        self._pattern = pattern
        self._pools: dict[Address, redis.BlockingConnectionPool] = {}
        self._order = tuple(order)

    def pool(self, address: Address) -> redis.BlockingConnectionPool:
        """Return the pool of connections to this address."""
        if address not in self._pools:
            pool = waiting_pool(self._pattern, host=address[0], port=address[1])
            self._pools.setdefault(address, pool)
        return self._pools[address]

    def ask(self, *command: str) -> tuple[Address, Any]:
        """Return who answers, and what. Raise ConnectionError when nobody does.

        Whoever was asked is asked last the next time. He may be frozen, or alone with
        an old view of the world.
        """
        waits = 0
        error: Exception | None = None
        for address in self._order:
            self._order = (*(a for a in self._order if a != address), address)
            try:
                (reply,) = exchange(self.pool(address), [command])
            except (redis.RedisError, OSError) as exc:
                error = exc
                waits += isinstance(exc, redis.TimeoutError)
                if waits == _PATIENCE:
                    break
            else:
                if isinstance(reply, redis.ResponseError):
                    error = reply
                elif reply:
                    return address, reply
        nobody = redis.ConnectionError("No server says who is in charge.")
        raise locate(nobody, kind="" if error else "in charge") from error

    def learn(self, addresses: Iterable[Address]) -> None:
        """Ask these too from now on."""
        self._order = tuple(dict.fromkeys((*self._order, *addresses)))

    def close(self) -> None:
        for pool in list(self._pools.values()):
            hang_up(pool)
