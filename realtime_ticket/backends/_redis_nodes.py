"""Several Redis servers: the nodes of a cluster, or Sentinels and their masters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from realtime_ticket.outages import locate

from ._options import is_host, is_port
from ._redis_exchange import exchange
from ._redis_pool import Pool

Address = tuple[str, int]

_MAX_TIMEOUTS = 2
"""A call gives up after so many servers that did not answer. The next asks others."""


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


class Nodes:
    """A pool for each address, and the order in which the servers are asked.

    It has no lock that a fork could copy locked. Threads that call it at the same time
    make at worst a pool that is not used, or ask in another order.
    """

    def __init__(
        self, pattern: redis.ConnectionPool, order: Iterable[Address] = ()
    ) -> None:
        self._pattern = pattern
        self._pools: dict[Address, Pool] = {}
        self._order = tuple(order)

    def pool(self, address: Address) -> Pool:
        """Return the pool of connections to this address."""
        if address not in self._pools:
            pool = Pool(self._pattern, host=address[0], port=address[1])
            self._pools.setdefault(address, pool)
        return self._pools[address]

    def ask(self, *command: str) -> tuple[Address, Any]:
        """Return the address that answered, and its reply.

        Raise ConnectionError when no server answers. A server that was asked is asked
        last the next time: it may be frozen, or cut off with outdated knowledge.
        """
        timeouts = 0
        error: Exception | None = None
        for address in self._order:
            self._order = (*(a for a in self._order if a != address), address)
            try:
                (reply,) = exchange(self.pool(address), [command])
            except (redis.RedisError, OSError) as exc:
                error = exc
                timeouts += isinstance(exc, redis.TimeoutError)
                if timeouts == _MAX_TIMEOUTS:
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
            pool.disconnect()
