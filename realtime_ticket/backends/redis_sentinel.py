"""Tickets in the Redis that Sentinel names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ._redis_exchange import Command
from ._redis_nodes import Address, Nodes, addresses
from ._redis_options import DEFAULTS, pattern_of
from ._redis_pool import Pool
from .redis import RedisBackend


class RedisSentinelBackend(RedisBackend):
    """Keep tickets in the master of a service that Redis Sentinel watches.

    Options: ``sentinels``, a list of ``(host, port)``; ``service_name``, the master's
    name in the Sentinels' configuration; ``sentinel_kwargs``, what the Sentinels alone
    need (``password``, ``ssl`` ...); and those of RedisBackend, except where to connect
    to. After every failure the Sentinels are asked again.

    Replicas are never read. Redis replicates asynchronously: a promoted replica may
    hold a ticket that was spent just before, unless ``wait_replicas`` forbids it.
    """

    shorthand: ClassVar[str] = ""
    _storage: ClassVar[str] = "Redis or Sentinel"

    def __init__(
        self,
        *,
        sentinels: Sequence[Address],
        service_name: str,
        sentinel_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if taken := {"url", "host", "port", "unix_socket_path"} & options.keys():
            raise TypeError(f"the Sentinels say where Redis is, not {sorted(taken)}")
        if not isinstance(service_name, str) or not service_name:
            raise TypeError("service_name is the master's name, a string")
        if not isinstance(sentinel_kwargs or {}, dict):
            raise TypeError("sentinel_kwargs is a dict of options")
        self._addresses = addresses("sentinels", sentinels)
        self._service_name = service_name
        self._sentinel_kwargs = sentinel_kwargs or {}
        super().__init__(**options)

    def _connect(self, url: str | None, options: dict[str, Any]) -> None:
        theirs = {name: options[name] for name in DEFAULTS} | self._sentinel_kwargs
        self._sentinels = Nodes(pattern_of(theirs), self._addresses)
        self._redises = Nodes(pattern_of(options))
        self._master: Address | None = None

    def close(self) -> None:
        self._sentinels.close()
        self._redises.close()

    def _pools(self) -> list[Pool]:
        master = self._master
        if master is None:
            _, (host, port) = self._sentinels.ask(
                "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service_name
            )
            master = self._master = (host.decode(), int(port))
        return [self._redises.pool(master)]

    def _exchange(
        self, commands: Sequence[Command], *, confirm: bool = False
    ) -> list[Any]:
        try:
            return super()._exchange(commands, confirm=confirm)
        except self.storage_errors:
            self._master = None  # there may be another one
            raise
