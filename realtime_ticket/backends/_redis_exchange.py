"""One round trip to a Redis server, for any number of commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from realtime_ticket.outages import locate, place_of

Command = tuple[str | int, ...]


def exchange(pool: redis.ConnectionPool, commands: Sequence[Command]) -> list[Any]:
    """Send all commands at once on one connection and return a reply for each.

    An error reply is returned, as an exception. Faster than a client's pipeline, which
    packs, parses and collects for every kind of command. All replies are read, or else
    the connection is closed, so none is left for the next caller to read as his own
    (CVE-2023-28858). An error reply closes it too: a master that became a replica is to
    be left.
    """
    try:
        replies = _exchange(pool, commands)
    except (redis.RedisError, OSError) as exc:
        raise locate(exc, _place_of(pool))  # noqa: B904 (it is the same)
    for reply in replies:
        if isinstance(reply, redis.ResponseError):
            locate(reply, _place_of(pool))
    return replies


def _exchange(pool: redis.ConnectionPool, commands: Sequence[Command]) -> list[Any]:
    connection = pool.get_connection()
    replies: list[Any] = []
    try:
        connection.send_packed_command([_packed(commands)])
        replies += [_reply(connection) for _ in commands]
    finally:
        if not replies or any(isinstance(r, redis.ResponseError) for r in replies):
            connection.disconnect()
        pool.release(connection)
    return replies


def text_of(reply: bytes | None) -> str | None:
    """Return the text of a key, or None where there is none."""
    return None if reply is None else reply.decode(errors="surrogateescape")


def _place_of(pool: redis.ConnectionPool) -> str:
    """Return where the pool connects to."""
    options = pool.connection_kwargs
    if path := options.get("path"):
        return str(path)
    return place_of(options.get("host", "localhost"), options.get("port", 6379))


def _packed(commands: Sequence[Command]) -> bytes:
    """Return the commands in the protocol of Redis: arrays of bulk strings.

    redis-py's own packing takes four times as long, and eight times for a large batch.
    """
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            text = str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except redis.ResponseError as exc:
        # What has another type is no ticket. It must not fail the rest of the batch.
        return b"" if str(exc).startswith("WRONGTYPE") else exc
    except ValueError as exc:  # redis-py's own parser expected a number
        raise redis.InvalidResponse("This is not the protocol of Redis.") from exc
