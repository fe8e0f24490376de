"""Backends with the bugs that tests of the contract and of histories have to find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.redis import RedisBackend
from tests import servers


class OnRedis(RedisBackend):
    """A base for mutants that need a real server to show their fault."""

    def __init__(self, **options: Any) -> None:
        servers.require("redis")
        super().__init__(unix_socket_path=str(servers.REDIS), **options)

    def run(self, *command: str | int) -> Any:
        return self._exchange([command])[0]


class GetThenDelete(OnRedis):
    """Nobody checks who deleted: the bug that everyone ships."""

    def pop(self, key: str) -> str | None:
        data = self.run("GET", key)
        self.run("DEL", key)
        return None if data is None else data.decode()

    pop_many = BaseBackend.pop_many


class NeverRemoves(OnRedis):
    def pop(self, key: str) -> str | None:
        data = self.run("GET", key)
        return None if data is None else data.decode()

    pop_many = BaseBackend.pop_many


class NeverExpires(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return super().add_many([item._replace(expire=3600) for item in items])
