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
        """Return one that no call may fail of, whatever else the machine does."""
        return self.make_backend(self.proxy.port, **PATIENT.get(self.name, {}))

    def mend(self) -> None:
        """Undo whatever a test that failed has left."""
        if self.node.process.poll() is None:
            self.node.thaw()
        else:
            self.node.start()
        self.proxy.heal()
        self.proxy.refuse()
        self.proxy.accept()


def on_redis(port: int, **options: float) -> BaseBackend:
    return RedisBackend(port=port, **options)


def on_memcached(port: int, **options: float) -> BaseBackend:
    return MemcachedBackend(servers=f"127.0.0.1:{port}", **options)


def on_postgresql(port: int) -> BaseBackend:
    return on_database("postgresql", "postgres", port, {"connect_timeout": 2})


def on_mariadb(port: int) -> BaseBackend:
    patience = dict.fromkeys(["connect_timeout", "read_timeout", "write_timeout"], 1)
    return on_database("mariadb", "test", port, patience)


def on_database(kind: str, name: str, port: int, options: Any) -> BaseBackend:
    alias = f"faulty-{kind}"
    connections.settings[alias] = connections.settings[kind] | {
        "NAME": name,
        "HOST": "127.0.0.1",
        "PORT": port,
        "OPTIONS": options,
    }
    return DatabaseBackend(alias=alias)


def on_cache(kind: str, scheme: str, port: int) -> BaseBackend:
    """Return a backend on a cache with the options that the tests give this kind."""
    alias = f"faulty-{kind}"
    location = f"{scheme}127.0.0.1:{port}"
    caches.settings[alias] = settings.CACHES[kind] | {"LOCATION": location}
    return CacheBackend(alias=alias)


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
"""What a server must be installed for, how to start it, and the backend for a port."""

PATIENT = {
    "Redis": {"socket_timeout": 5, "socket_connect_timeout": 5},
    "Memcached": {"timeout": 5, "connect_timeout": 5},
}
"""Options of our own backends, where no call may fail: seconds to wait for a reply."""


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
