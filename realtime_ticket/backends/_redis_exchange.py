"""One round trip to a Redis server, for any number of commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from realtime_ticket.outages import locate, place_of

from ._redis_pool import Pool

Command = tuple[str | int, ...]

_TEXT = (bytes, type(None))
_TYPES: dict[str | int, Any] = {
    "SET": _TEXT, "GETDEL": _TEXT, "EVAL": _TEXT, "GET": _TEXT,
    "MGET": list, "WAIT": int,
}  # fmt: skip
"""The types of replies. A connection with another one is out of step."""


def exchange(pool: Pool, commands: Sequence[Command]) -> list[Any]:
    """Send all commands at once on one connection and return a reply for each.

    An error reply is returned, as an exception. This is faster than a pipeline of
    redis-py, which packs, parses and collects for every kind of command.
    """
    request = packed(commands)  # may raise, so before a connection is lent
    try:
        connection = pool.get_connection()
        return complete(pool, connection, request, commands)
    except (redis.RedisError, OSError) as exc:
        raise locate(exc, place_of_pool(pool))  # noqa: B904 (it is the same)


def complete(
    pool: Pool, connection: Any, unsent: bytes, commands: Sequence[Command]
) -> list[Any]:
    """Send the rest of a request, return its replies, and release the connection.

    Either all replies are read, or the connection is closed, so that the next caller
    cannot read a reply that belongs to this one (CVE-2023-28858). An error reply closes
    it too, because the server may be a master that has become a replica.
    """
    replies: list[Any] = []
    try:
        if unsent:
            connection.send_packed_command([unsent])
        replies += [_reply(connection, command) for command in commands]
    finally:
        if not replies or any(isinstance(r, redis.ResponseError) for r in replies):
            connection.disconnect()
        pool.release(connection)
    for reply in replies:
        if isinstance(reply, redis.ResponseError):
            locate(reply, place_of_pool(pool))
    return replies


def text_of(reply: bytes | None) -> str | None:
    """Return the text of a key, or None where there is none."""
    return None if reply is None else reply.decode(errors="surrogateescape")


def place_of_pool(pool: Pool) -> str:
    """Return where the pool connects to."""
    options = pool.connection_kwargs
    if path := options.get("path"):
        return str(path)
    return place_of(options.get("host", "localhost"), options.get("port", 6379))


def packed(commands: Sequence[Command]) -> bytes:
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


def _reply(connection: Any, command: Command) -> Any:
    try:
        reply = connection.read_response(disable_decoding=True)
    except redis.ResponseError as exc:
        # A value of another type is not a ticket. It must not fail the whole batch.
        return b"" if str(exc).startswith("WRONGTYPE") else exc
    except ValueError as exc:  # redis-py's own parser expected a number
        raise redis.InvalidResponse("This is not the protocol of Redis.") from exc
    if not isinstance(reply, _TYPES.get(command[0], object)):
        raise redis.InvalidResponse("This is the reply to another command.")
    return reply
