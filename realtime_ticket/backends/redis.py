"""Tickets in Redis: the default, and the one that any language can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .base import BaseBackend, Item

_POP_SCRIPT = """\
local data = redis.call('GET', KEYS[1])
if data then redis.call('DEL', KEYS[1]) end
return data"""


class RedisBackend(BaseBackend):
    """Keep each ticket under its own key: ``SET key data NX PX``, then ``GETDEL key``.

    Options: ``url``, or any keyword of ``redis.Redis`` (``host``, ``port``, ``db``,
    ``username``, ``password``, ``unix_socket_path``, ``ssl`` ...), and
    ``max_connections`` (50). Waits are short: ``socket_timeout`` and
    ``socket_connect_timeout`` are 1 second, a free connection is awaited as long.
    """

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (redis.RedisError, OSError)
    thread_sensitive: ClassVar[bool] = False
    setting: ClassVar[str] = "REDIS"
    shorthand: ClassVar[str] = "url"

    def __init__(self, *, url: str | None = None, **options: Any) -> None:
        settings: dict[str, Any] = {
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            # redis-py 8 makes ten: 59 s of waiting for a frozen server, and a GETDEL
            # that is sent twice turns a lost reply into a false refusal.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "max_connections": 50,
        } | options
        if url is None:
            template = redis.Redis(**settings).connection_pool
        else:
            template = redis.ConnectionPool.from_url(url, **settings)
        # The plain pool raises when it is exhausted, which a reconnect storm brings
        # about. This one waits for a connection.
        self._pool = redis.BlockingConnectionPool(
            max_connections=template.max_connections,
            timeout=template.connection_kwargs["socket_timeout"],
            connection_class=template.connection_class,
            **template.connection_kwargs,
        )
        # Opens no socket, but raises TypeError for an option that a URL let through.
        template.connection_class(**template.connection_kwargs)
        self._has_getdel = True

    def add(self, key: str, data: str, expire: int) -> bool:
        return self.add_many([Item(key, data, expire)])[0]

    def pop(self, key: str) -> str | None:
        return self.pop_many([key])[0]

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        commands = [
            ("SET", key, data, "NX", "PX", expire * 1000) for key, data, expire in items
        ]
        return [reply is not None for reply in self._exchange(commands)]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        if self._has_getdel:
            try:
                return self._texts([("GETDEL", key) for key in keys])
            except redis.ResponseError as exc:
                if "unknown command" not in str(exc).lower():
                    raise
                self._has_getdel = False  # Redis before 6.2: nothing was removed
        return self._texts([("EVAL", _POP_SCRIPT, 1, key) for key in keys])

    def close(self) -> None:
        self._pool.disconnect()

    def _texts(self, commands: Sequence[tuple[str | int, ...]]) -> list[str | None]:
        return [
            None if reply is None else reply.decode(errors="surrogateescape")
            for reply in self._exchange(commands)
        ]

    def _exchange(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Send all commands at once on one connection and return their replies.

        Twice as fast as a client's pipeline, which parses and collects for every kind
        of command. Every reply is read before an error reply is raised, and any other
        trouble closes the connection, so no reply is left for the next caller to read
        as his own (CVE-2023-28858).
        """
        connection = self._pool.get_connection()
        replies: list[Any] = []
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except redis.ResponseError as exc:
                    replies.append(exc)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies
