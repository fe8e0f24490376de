"""Commands that an event loop sends to Redis, without a thread that waits for replies.

Nothing here can make the event loop wait: the connection is open, idle and without TLS,
the commands are few, and replies are read when all of them have arrived. Everything
else is left to a thread.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import redis

from realtime_ticket.outages import locate
from realtime_ticket.replies import Outcome, Request

from ._redis_exchange import Command, complete, packed, place_of_pool
from ._redis_pool import Pool

MAX_COMMANDS = 200
"""Commands in one request. A thread is worth its cost for more."""

_MAX_BYTES = 65_536
"""Bytes of replies that are looked at, and that redis-py reads at a time."""


def send(
    pool: Pool,
    commands: Sequence[Command],
    decode: Callable[[list[Any]], list[Outcome]],
) -> Request | None:
    """Send the commands, or return None when that could make the caller wait.

    ``decode`` turns the replies into outcomes.
    """
    request = packed(commands)  # may raise, so before a connection is lent
    connection = pool.idle_connection() if pool.is_plain else None
    if connection is None:
        return None
    try:
        sent = os.write(connection._sock.fileno(), request)  # never waits
    except OSError:  # nothing was sent
        connection.disconnect()
        pool.release(connection)
        return None
    return _Sent(pool, connection, request[sent:], commands, decode)


class _Sent(Request):
    """Commands on a connection that nobody else uses until all replies are read."""

    def __init__(
        self,
        pool: Pool,
        connection: Any,
        unsent: bytes,
        commands: Sequence[Command],
        decode: Callable[[list[Any]], list[Outcome]],
    ) -> None:
        self.timeout = pool.connection_kwargs["socket_timeout"]
        self._pool = pool
        self._connection = connection
        self._unsent = unsent
        self.is_sent = not unsent
        self._commands = commands
        self._decode = decode

    def fileno(self) -> int:
        descriptor: int = self._connection._sock.fileno()
        return descriptor

    def is_answered(self) -> bool:
        try:
            received = self._connection._sock.recv(_MAX_BYTES, socket.MSG_PEEK)
        except OSError:
            return True  # reading raises it again
        return not received or are_whole(received, len(self._commands))

    def outcomes(self) -> list[Outcome]:
        connection, self._connection = self._connection, None
        pool = self._pool
        try:
            if connection is None:
                raise redis.TimeoutError("Timeout reading from socket")
            replies = complete(pool, connection, self._unsent, self._commands)
        except (redis.RedisError, OSError) as exc:
            raise locate(exc, place_of_pool(pool))  # noqa: B904 (it is the same)
        return self._decode(replies)

    def expire(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    # An event loop that is closed forgets what it waits for.
    __del__ = expire


def are_whole(received: bytes, count: int) -> bool:
    """Return whether these bytes hold so many replies that are text, numbers or errors.

    https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    position = 0
    for _ in range(count):
        end = received.find(b"\r\n", position)
        kind = received[position : position + 1]
        if end < 0 or kind not in (b"+", b"-", b":", b"$"):
            return False
        if kind == b"$" and received[position + 1 : end] != b"-1":
            length = received[position + 1 : end]
            if not length.isdigit() or len(length) > 9:  # Redis has less than 1 GB
                return False
            end += 2 + int(length)
        position = end + 2
    return position <= len(received)
