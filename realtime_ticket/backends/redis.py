"""Tickets in Redis: the default, and the one that any language can read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import redis

from realtime_ticket.outages import Outage, explain, locate
from realtime_ticket.replies import Outcome, Request

from ._redis_exchange import Command, exchange, text_of
from ._redis_options import DEFAULTS, pattern_of
from ._redis_pool import Pool
from ._redis_request import MAX_COMMANDS, send
from .base import BaseBackend, Item

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

_POP_SCRIPT = """\
local data = redis.call('GET', KEYS[1])
if data then redis.call('DEL', KEYS[1]) end
return data"""

_GRANT = (
    "Give the user of {setting} the commands: +set to issue, +getdel to consume, both "
    "on the keys of the prefix."
)


class RedisBackend(BaseBackend):
    """Keep each ticket under its own key: ``SET key data NX PX``, then ``GETDEL key``.

    Options: ``url``, or any keyword of ``redis.Redis`` (``host``, ``port``, ``db``,
    ``username``, ``password``, ``unix_socket_path``, ``ssl`` ...), and
    ``max_connections`` (50). Waits are short: ``socket_timeout`` and
    ``socket_connect_timeout`` are 1 second, a free connection is awaited as long.

    With ``wait_replicas`` above 0, a ticket lets someone in only when so many replicas
    have confirmed within half of ``socket_timeout`` that it is spent (``WAIT``).
    Otherwise a replica that is promoted might still hold it.
    """

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (redis.RedisError, OSError)
    thread_sensitive: ClassVar[bool] = False
    setting: ClassVar[str] = "REDIS"
    shorthand: ClassVar[str] = "url"

    _storage: ClassVar[str] = "Redis"
    """What messages call it."""

    def __init__(
        self, *, url: str | None = None, wait_replicas: int = 0, **options: Any
    ) -> None:
        if type(wait_replicas) is not int or wait_replicas < 0:
            raise ValueError(f"wait_replicas is an int >= 0, not {wait_replicas!r}")
        self._wait_replicas = wait_replicas
        # None until a server has answered: before Redis 6.2 there is no GETDEL.
        self._has_getdel: bool | None = None
        self._connect(url, DEFAULTS | options)

    def _connect(self, url: str | None, options: dict[str, Any]) -> None:
        """Prepare connections. Raise TypeError or ValueError for wrong options."""
        self._pool = Pool(pattern_of(options, url))

    def add(self, key: str, data: str, expire: int) -> bool:
        return self.add_many([Item(key, data, expire)])[0]

    def pop(self, key: str) -> str | None:
        return self.pop_many([key])[0]

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        commands = [_to_add(item) for item in items]
        return [reply is not None for reply in self._exchange(commands)]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        if self._has_getdel is not False:
            try:
                texts = self._texts([self._to_pop(key) for key in keys])
            except redis.ResponseError as exc:
                if not _is_unknown(exc):
                    raise
                self._has_getdel = False  # nothing was removed
            else:
                self._has_getdel = True
                return texts
        return self._texts([self._to_pop(key) for key in keys])

    def send(self, calls: Sequence[Item | str]) -> Request | None:
        """See BaseBackend. Subclasses use threads: they may do more than send."""
        if type(self) is not RedisBackend or self._wait_replicas:
            return None
        if len(calls) > MAX_COMMANDS:
            return None
        if self._has_getdel is None and not all(isinstance(c, Item) for c in calls):
            return None  # which command removes is found out in a thread
        commands = [
            _to_add(call) if isinstance(call, Item) else self._to_pop(call)
            for call in calls
        ]
        return send(self._pool, commands, partial(self._outcomes, calls))

    def _outcomes(
        self, calls: Sequence[Item | str], replies: list[Any]
    ) -> list[Outcome]:
        outcomes = [*map(_outcome, calls, replies)]
        for outcome in outcomes:
            if isinstance(outcome, Exception) and _is_unknown(outcome):
                self._has_getdel = None  # another server; a thread asks it
        return outcomes

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        (replies,) = self._exchange([("MGET", *keys)])
        # Envoy puts an error in the place of what a server has that is down.
        errors = [reply for reply in replies if isinstance(reply, redis.ResponseError)]
        if errors and len(errors) == len(replies):
            raise errors[0]
        return [
            reply if isinstance(reply, redis.ResponseError) else text_of(reply)
            for reply in replies
        ]

    def explain(self, error: Exception) -> Outage:
        return explain(
            error,
            storage=self._storage,
            setting=self.options_name,
            hints={"permission": _GRANT},
        )

    def diagnose(self) -> list[CheckMessage]:
        from ._redis_diagnosis import diagnose

        return diagnose(self._pools(), self._wait_replicas)

    def close(self) -> None:
        self._pool.disconnect()

    def _pools(self) -> list[Pool]:
        """Return the pool of connections to each server that has tickets."""
        return [self._pool]

    def _to_pop(self, key: str) -> Command:
        if self._has_getdel is False:
            return ("EVAL", _POP_SCRIPT, 1, key)
        return ("GETDEL", key)

    def _texts(self, commands: Sequence[Command]) -> list[str | None]:
        return [text_of(reply) for reply in self._exchange(commands, confirm=True)]

    def _exchange(
        self, commands: Sequence[Command], *, confirm: bool = False
    ) -> list[Any]:
        """Return the replies. Raise an error reply."""
        (pool,) = self._pools()
        replies = self._ask(pool, commands, confirm=confirm)
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies

    def _ask(
        self,
        pool: Pool,
        commands: Sequence[Command],
        *,
        confirm: bool,
    ) -> list[Any]:
        """Return the replies, once enough replicas ``confirm`` them where they must."""
        if not (confirm and self._wait_replicas):
            return exchange(pool, commands)
        milliseconds = int((pool.timeout or 1) * 500)  # half of socket_timeout
        wait = ("WAIT", self._wait_replicas, milliseconds)
        *replies, confirmed = exchange(pool, [*commands, wait])
        if isinstance(confirmed, redis.ResponseError):
            raise confirmed
        if confirmed < self._wait_replicas:
            few = redis.TimeoutError("Too few replicas know of the spent tickets.")
            raise locate(few, kind="replicas")
        return replies


def _is_unknown(error: Exception) -> bool:
    return "unknown command" in str(error).lower()


def _outcome(call: Item | str, reply: Any) -> Outcome:
    if isinstance(reply, redis.ResponseError):
        return reply
    return reply is not None if isinstance(call, Item) else text_of(reply)


def _to_add(item: Item) -> Command:
    return ("SET", item.key, item.data, "NX", "PX", item.expire * 1000)
