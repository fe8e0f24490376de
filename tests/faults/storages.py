"""Every storage behind a network: its server, the way to it, and its backend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.management import call_command
from django.db import connections

from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.faults.nodes import MariaDBNode, MemcachedNode, PostgreSQLNode
from tests.faults.proxy import Proxy

PATIENT = 5
"""Seconds that a call may wait for its storage where none may fail."""


@dataclass(frozen=True)
class Storage:
    """A server that is the test's to torment, a spoiled way to it, and the backend."""

    name: str
    node: Any
    proxy: Proxy
    make_backend: Callable[..., BaseBackend]

    def backend(self) -> BaseBackend:
        """Return a new backend that goes through the proxy."""
        return self.make_backend(self.proxy.port)

    def patient_backend(self) -> BaseBackend:
        """Return one of which no call may fail, whatever else the machine does."""
        return self.make_backend(self.proxy.port, PATIENT)

    def mend(self) -> None:
        """Undo whatever a test that failed has left."""
        if self.node.process.poll() is None:
            self.node.thaw()
        else:
            self.node.start()
        self.proxy.heal()
        self.proxy.refuse()
        self.proxy.accept()


def on_redis(port: int, patience: int | None = None) -> BaseBackend:
    names = "socket_timeout", "socket_connect_timeout"
    return RedisBackend(port=port, **timeouts(patience, *names))


def on_memcached(port: int, patience: int | None = None) -> BaseBackend:
    options = timeouts(patience, "timeout", "connect_timeout")
    return MemcachedBackend(servers=f"127.0.0.1:{port}", **options)


def on_postgresql(port: int, patience: int | None = None) -> BaseBackend:
    options = timeouts(patience or 2, "connect_timeout")
    alias = alias_for("postgresql", patience)
    return on_database(alias, "postgresql", "postgres", port, options)


def on_mariadb(port: int, patience: int | None = None) -> BaseBackend:
    names = "connect_timeout", "read_timeout", "write_timeout"
    options, alias = timeouts(patience or 1, *names), alias_for("mariadb", patience)
    return on_database(alias, "mariadb", "test", port, options)


def on_database(
    alias: str, kind: str, name: str, port: int, options: Any
) -> BaseBackend:
    connections.settings[alias] = connections.settings[kind] | {
        "NAME": name,
        "HOST": "127.0.0.1",
        "PORT": port,
        "OPTIONS": options,
    }
    return DatabaseBackend(alias=alias)


def on_cache(
    kind: str, scheme: str, port: int, patience: int | None = None
) -> BaseBackend:
    """Return a backend on a cache with the options that the tests give this kind."""
    alias = alias_for(kind, patience)
    cache = settings.CACHES[kind] | {"LOCATION": f"{scheme}127.0.0.1:{port}"}
    if patience:
        cache["OPTIONS"] = with_timeouts(cache["OPTIONS"], patience)
    caches.settings[alias] = cache
    return CacheBackend(alias=alias)


def alias_for(kind: str, patience: int | None) -> str:
    """Return two names, because threads keep a connection of each with its options."""
    return f"patient-{kind}" if patience else f"faulty-{kind}"


def timeouts(seconds: int | None, *names: str) -> dict[str, int]:
    """Return these options of a driver, or none of them."""
    return dict.fromkeys(names, seconds) if seconds else {}


def with_timeouts(options: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Return the options of a cache with another value of each timeout among them."""
    changed = {}
    for name, value in options.items():
        if isinstance(value, dict):
            changed[name] = with_timeouts(value, seconds)
        else:
            changed[name] = seconds if "timeout" in name else value
    return changed


KINDS: dict[str, tuple[str, Callable[[], Any], Callable[..., BaseBackend]]] = {
    "Redis": ("redis", servers.Node, on_redis),
    "Memcached": ("memcached", MemcachedNode, on_memcached),
    "PostgreSQL": ("postgresql", PostgreSQLNode, on_postgresql),
    "MariaDB": ("mariadb", MariaDBNode, on_mariadb),
    "Django's RedisCache": (
        "redis",
        servers.Node,
        functools.partial(on_cache, "redis", "redis://"),
    ),
    "django-redis": (
        "redis",
        servers.Node,
        functools.partial(on_cache, "django-redis", "redis://"),
    ),
    "Django's PyMemcacheCache": (
        "memcached",
        MemcachedNode,
        functools.partial(on_cache, "memcached", ""),
    ),
}
"""What a server must be installed for, how to start it, and the backend for a port.

The backend's calls wait for as many seconds as it is told, or for the default.
"""


@functools.cache
def storage(name: str) -> Storage:
    """Return the storage of this name, with its table if it has one."""
    _, make_node, make_backend = KINDS[name]
    node = make_node()
    found = Storage(name, node, Proxy(node.port), make_backend)
    backend = found.backend()
    if isinstance(backend, DatabaseBackend):
        call_command("migrate", "realtime_ticket", database=backend.alias, verbosity=0)
        backend.close()
    return found
