"""Row 1: one ticket after the other, in Redis."""

from __future__ import annotations

import json
import socket
import uuid
from pathlib import Path

import redis

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from tests import servers

from . import by_hand, ours
from .harness import Effort, Finding, Target, calls, compare

TITLE = "Redis: issue a ticket and consume it"
WORK = "issue and consume"


def run(effort: Effort) -> list[Finding]:
    servers.start("redis")
    service = TicketService(RedisBackend(unix_socket_path=str(servers.REDIS)))
    client = redis.Redis(unix_socket_path=str(servers.REDIS))
    with client, Socket(servers.REDIS) as raw:
        result = compare(
            [
                calls("realtime_ticket", lambda: ours.pair(service)),
                calls("redis-py", lambda: by_redis_py(client)),
                calls("four commands of 2012", lambda: of_2012(client)),
                calls("raw socket (floor)", raw.pair),
            ],
            effort,
        )
    service.close()
    return [
        result.ratio(WORK, "redis-py", "time", Target(at_most=0.9)),
        result.ratio(WORK, "four commands of 2012", "rate", Target(at_least=2.2)),
        result.ratio(WORK, "raw socket (floor)", "time"),
    ]


def by_redis_py(client: redis.Redis) -> None:
    value, data = by_hand.make()
    if not client.set(value, data, px=by_hand.EXPIRE * 1000):
        raise RuntimeError
    by_hand.read(client.getdel(value))


def of_2012(client: redis.Redis) -> None:
    """Do what this package did in 2012, and what its README told a consumer to do."""
    value = str(uuid.uuid4())
    client.set(value, json.dumps(by_hand.CLAIMS))
    client.expire(value, by_hand.EXPIRE)
    by_hand.read(client.get(value))
    client.delete(value)


class Socket:
    """The least that a Python process can do: the protocol's bytes, on one socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def pair(self) -> None:
        value, data = by_hand.make()
        milliseconds = by_hand.EXPIRE * 1000
        self._ask(
            f"*6\r\n$3\r\nSET\r\n${len(value)}\r\n{value}\r\n${len(data)}\r\n{data}\r\n"
            f"$2\r\nNX\r\n$2\r\nPX\r\n${len(str(milliseconds))}\r\n{milliseconds}\r\n"
        )
        reply = self._ask(f"*2\r\n$6\r\nGETDEL\r\n${len(value)}\r\n{value}\r\n")
        by_hand.read(reply.split(b"\r\n")[1])

    def _ask(self, request: str) -> bytes:
        self._socket.sendall(request.encode())
        reply = self._socket.recv(4096)
        if reply[:1] not in b"+$" or not reply.endswith(b"\r\n"):
            raise RuntimeError(reply)
        return reply
