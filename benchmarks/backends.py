"""The backends that rows 10 and 11 measure, on servers that this run has started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers

from . import tables

BACKENDS: Final[dict[str, Callable[[], BaseBackend]]] = {
    "Redis": lambda: RedisBackend(unix_socket_path=str(servers.REDIS)),
    "Memcached": lambda: MemcachedBackend(servers=[f"unix:{servers.MEMCACHED[0]}"]),
    "SQLite": lambda: DatabaseBackend(alias="sqlite"),
    "PostgreSQL": lambda: DatabaseBackend(alias="postgresql"),
}


def start() -> None:
    """Start the servers of all, and make their tables."""
    servers.start("redis")
    servers.start("memcached")
    tables.create("sqlite")
    tables.create("postgresql")
