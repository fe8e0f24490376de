"""Tickets in a Redis Cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from ._reading import read_from_each
from ._redis_exchange import Command, text_of
from ._redis_nodes import Address, Nodes, addresses
from ._redis_options import pattern_of
from ._redis_pool import Pool
from .redis import RedisBackend


class RedisClusterBackend(RedisBackend):
    """Keep each ticket in the master that serves its slot.

    Options: ``startup_nodes``, a list of ``(host, port)`` of which one must answer; and
    those of RedisBackend, except where to connect to. A batch goes to each master that
    has some of its keys in one round trip, one master after the other. While a master
    is down, calls for tickets of its slots fail, and so do all calls in their batch.

    Replicas are never read. Redis replicates asynchronously: a promoted replica may
    hold a ticket that was spent just before, unless ``wait_replicas`` forbids it.
    """

    shorthand: ClassVar[str] = ""
    _storage: ClassVar[str] = "Redis Cluster"

    def __init__(self, *, startup_nodes: Sequence[Address], **options: Any) -> None:
        if taken := {"url", "host", "port", "db", "unix_socket_path"} & options.keys():
            raise TypeError(f"startup_nodes say where Redis is, not {sorted(taken)}")
        self._addresses = addresses("startup_nodes", startup_nodes)
        super().__init__(**options)

    def _connect(self, url: str | None, options: dict[str, Any]) -> None:
        self._nodes = Nodes(pattern_of(options), self._addresses)
        self._masters: dict[int, Address] = {}
        """By slot. Empty when they have to be asked for."""

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        """See BaseBackend. One round trip to each master, one after the other."""
        commands = [("GET", key) for key in keys]

        def read(master: Address | None, positions: Sequence[int]) -> list[str | None]:
            share = [commands[position] for position in positions]
            replies = self._ask_master(master, share)
            return [text_of(reply) for reply in replies]

        return read_from_each(self._shares(commands), read, self.storage_errors)

    def close(self) -> None:
        self._nodes.close()

    def _pools(self) -> list[Pool]:
        return [self._nodes.pool(master) for master in {*self._find_masters().values()}]

    def _exchange(
        self, commands: Sequence[Command], *, confirm: bool = False
    ) -> list[Any]:
        """Return the replies, each from the master of the key's slot."""
        shares = self._shares(commands)
        replies: list[Any] = [None] * len(commands)
        # A slot without a master comes first: it fails the batch before it takes any.
        for master in sorted(shares, key=bool):
            positions = shares[master]
            share = [commands[position] for position in positions]
            answers = self._ask_master(master, share, confirm=confirm)
            for position, answer in zip(positions, answers, strict=True):
                replies[position] = answer
        return replies

    def _shares(self, commands: Sequence[Command]) -> dict[Address | None, list[int]]:
        """Return the positions of each master's commands. None serves no slot."""
        masters = self._masters or self._find_masters()
        shares: dict[Address | None, list[int]] = defaultdict(list)
        for position, command in enumerate(commands):
            shares[masters.get(key_slot(_key_of(command)))].append(position)
        return shares

    def _ask_master(
        self,
        master: Address | None,
        commands: Sequence[Command],
        *,
        confirm: bool = False,
    ) -> list[Any]:
        """Return the replies of a master, or of those that it redirects to.

        Raise an error reply.
        """
        try:
            if master is None:
                raise redis.ConnectionError("No master serves this slot.")
            replies = self._ask(self._nodes.pool(master), commands, confirm=confirm)
            for position, reply in enumerate(replies):
                if error := _redirection(reply):  # nothing was done there
                    reply = self._follow(error, master, commands[position], confirm)
                if isinstance(reply, redis.ResponseError):
                    raise reply
                replies[position] = reply
        except self.storage_errors:
            self._masters = {}  # there may be others
            raise
        return replies

    def _follow(
        self, error: AskError, sender: Address, command: Command, confirm: bool
    ) -> Any:
        """Return the reply of the master that has the slot, or is about to have it."""
        if isinstance(error, MovedError):
            self._masters = {}
        pool = self._nodes.pool((error.host or sender[0], error.port))
        return self._ask(pool, [("ASKING",), command], confirm=confirm)[1]

    def _find_masters(self) -> dict[int, Address]:
        """Ask a node who serves which slots."""
        sender, ranges = self._nodes.ask("CLUSTER", "SLOTS")
        masters: dict[int, Address] = {}
        for first, last, *nodes in ranges:
            # A node that does not know its own name leaves it out.
            found = [
                ((host or b"").decode() or sender[0], port) for host, port, *_ in nodes
            ]
            self._nodes.learn(found)
            masters |= dict.fromkeys(range(first, last + 1), found[0])
        self._masters = masters
        return masters


def _redirection(reply: Any) -> AskError | None:
    """Return where the reply sends us, if it does. redis-py 5 leaves that in words."""
    if isinstance(reply, AskError):
        return reply
    words = str(reply) if isinstance(reply, redis.ResponseError) else ""
    word, _, where = words.partition(" ")
    if kind := {"ASK": AskError, "MOVED": MovedError}.get(word):
        return kind(where)
    return None


def _key_of(command: Command) -> bytes:
    return str(command[3] if command[0] == "EVAL" else command[1]).encode()
