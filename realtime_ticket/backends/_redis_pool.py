"""The connections to one Redis server, for threads, greenlets and event loops."""

from __future__ import annotations

import os
import queue
from collections import deque
from contextlib import suppress
from typing import Any

import redis


class Pool(redis.ConnectionPool):
    """Lend each connection to one caller at a time, at most ``max_connections``.

    A caller waits for a free connection as long as for a reply, ``socket_timeout``
    seconds. redis-py's plain pool raises at once, which a reconnect storm brings about.
    Its BlockingConnectionPool waits too, but lending takes a third of the processor
    time of a call, and it cannot lend without a risk of waiting, see idle_connection().
    """

    def __init__(self, pattern: redis.ConnectionPool, **where: Any) -> None:
        """Connect as ``pattern`` does, except for the options in ``where``."""
        options = pattern.connection_kwargs | where
        self.timeout: float | None = options["socket_timeout"]
        self._by_process: dict[int, _Connections] = {}
        super().__init__(pattern.connection_class, pattern.max_connections, **options)
        is_tls = issubclass(self.connection_class, redis.SSLConnection)
        # With a health check redis-py sends a command of its own before others.
        checks_health = bool(options.get("health_check_interval"))
        is_windows = os.name == "nt"  # whose sockets are not file descriptors
        self.is_plain = not (
            is_tls or checks_health or is_windows or self.timeout is None
        )
        """Whether what is written and read are just commands and replies, in time."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Return a connection that is ready for a command.

        Raise ConnectionError or TimeoutError when none becomes free in time, or the
        server cannot be reached.
        """
        connections = self._connections()
        try:
            connections.permits.get(timeout=self.timeout)
        except queue.Empty:
            # The outage is recognised by queue.Empty, the context of this error.
            raise redis.ConnectionError("No connection available.")  # noqa: B904
        try:
            connection = connections.idle.pop()
        except IndexError:
            connection = self.connection_class(**self.connection_kwargs)
        try:
            connection.connect()
            if not _is_clean(connection):
                connection.disconnect()
                connection.connect()
        except BaseException:
            connection.disconnect()  # it may have sent no AUTH or no SELECT
            self.release(connection)
            raise
        return connection

    def idle_connection(self) -> Any | None:
        """Return a connection that is ready now, or None. Never wait, never connect."""
        connections = self._connections()
        try:
            connections.permits.get_nowait()
        except queue.Empty:
            return None
        try:
            connection = connections.idle.pop()
        except IndexError:
            connections.permits.put(None)
            return None
        is_ready = False
        try:
            is_ready = connection._sock is not None and _is_clean(connection)
        finally:
            if not is_ready:
                connection.disconnect()  # or the next caller might find it clean
                self.release(connection)
        return connection if is_ready else None

    def release(self, connection: Any) -> None:
        """Take a connection back. All replies were read, or it is disconnected."""
        # A connection that was lent before a fork belongs to the parent.
        connections = self._by_process[connection.pid]
        connections.idle.append(connection)
        connections.permits.put(None)

    def disconnect(self, inuse_connections: bool = False) -> None:
        """Close the connections that nobody uses. The pool can still be used.

        Those in use stay open, whatever the argument says: their callers wait for a
        reply, and would get an error about a closed socket.
        """
        idle = self._connections().idle
        with suppress(IndexError):
            while True:
                idle.pop().disconnect()

    def _connections(self) -> _Connections:
        """Return the connections of this process.

        Two processes on one socket read each other's replies. The connections of a
        parent process are kept, under its number, and never closed.
        """
        pid = os.getpid()
        found = self._by_process.get(pid)
        return found or self._by_process.setdefault(
            pid, _Connections(self.max_connections)
        )


class _Connections:
    """The idle connections of one process, and permits to use one.

    Both have no lock that a fork could copy locked, or that a garbage collection could
    need while the same thread holds it.
    """

    def __init__(self, limit: int) -> None:
        self.idle: deque[Any] = deque()
        self.permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(limit):
            self.permits.put(None)


def _is_clean(connection: Any) -> bool:
    """Return whether the connection is open and no reply waits to be read.

    A reply that came too late must not be read by the next caller (CVE-2023-28858).
    """
    try:
        # Not just a poll of the socket: the parser may have read it already. Before
        # redis-py 8, can_read() overlooks a part of a reply that hiredis has read.
        reader = getattr(connection._parser, "_reader", None)
        return not (connection.can_read() or (reader and reader.has_data()))
    except (redis.RedisError, OSError):
        return False  # closed by the server
    except ValueError:  # the select() of redis-py 8.0.0 takes no descriptor above 1023
        return False
