"""Row 7: many clients get a ticket and show it, all at the same moment."""

from __future__ import annotations

import asyncio
import dataclasses
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import redis
import redis.asyncio

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL
from tests import servers

from . import by_hand
from .harness import Contender, Effort, Finding, Sample, Target, compare, sample
from .load import Connection, upgrade
from .web import processes

TITLE = "A storm: 20,000 clients come back at once"

CLIENTS = 20_000

CONNECTIONS = 50
"""To Redis, for a client that needs one for each call; as many as threads of ours."""

PATIENCE = 60
"""Seconds that clients and tickets last, so that the slower design may finish, too."""

STORMS = 2
"""Rounds at most: a storm takes seconds."""

OPENING = 100
"""Connections opened together, before the storm. A server's backlog is short."""

_OTHER_FILES = 200

Issue = Callable[[], Awaitable[str]]
"""Stores a ticket and returns its value."""

Issuing = Callable[[], AbstractAsyncContextManager[Issue]]


def run(effort: Effort) -> list[Finding]:
    servers.start("redis")
    effort = dataclasses.replace(effort, rounds=min(STORMS, effort.rounds))
    with processes.beside():
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES
        clients = min(CLIENTS, effort.most, limit)
        findings = []
        for pool in (1, 2):
            findings += _compare(pool, clients, effort)
    return findings


def _compare(pool: int, clients: int, effort: Effort) -> list[Finding]:
    """Compare both designs with a pool of so many realtime processes."""

    def contender(name: str, path: str, issuing: Issuing) -> Contender:
        def run(seconds: float) -> Sample:
            count = max(2 * pool, int(clients * min(1, seconds / effort.seconds)))
            return asyncio.run(_storm(pool, count, path, issuing))

        return Contender(name, run)

    theirs = contender("redis.asyncio per call", "/per-call", _per_call)
    result = compare([contender("realtime_ticket", "/ticket", _ours), theirs], effort)
    work = f"{clients:,} clients, {pool} realtime process{'es' * (pool > 1)}"
    return [
        result.ratio(work, theirs.name, "last", Target(at_most=1)),
        result.ratio(work, theirs.name, "p99", Target(at_most=1)),
        result.ratio(work, theirs.name, "memory"),
        result.figure(work, "errors", Target(at_most=0)),
        result.ratio(f"{work}: processor of Redis for a ticket", theirs.name, "time"),
    ]


async def _storm(pool: int, clients: int, path: str, issuing: Issuing) -> Sample:
    """Let so many clients in, and tell how long each of them took."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                processes.uvicorn("benchmarks.web.realtime:application", core=core)
            )
            for core in range(pool)
        ]
        connections = await _open([port for port, _ in started], clients)
        async with issuing() as issue:
            before = _processor_of_redis()
            latencies, errors = await _rush(connections, path, issue)
            redis_time = (_processor_of_redis() - before) / clients
        memory = sum(processes.memory(pid) for _, pid in started)
        for connection in connections:
            connection.close()
    return {
        **sample(latencies, max(latencies)),
        "time": redis_time,
        "last": max(latencies),
        "memory": memory,
        "errors": errors,
    }


async def _open(ports: Sequence[int], count: int) -> list[Connection]:
    """Open the connections, evenly to all ports. The requests come later."""
    connections: list[Connection] = []
    while len(connections) < count:
        numbers = range(len(connections), min(count, len(connections) + OPENING))
        connections += await asyncio.gather(
            *[
                Connection.open(ports[number % len(ports)], f"127.0.0.{1 + number % 9}")
                for number in numbers
            ]
        )
    return connections


async def _rush(
    connections: Sequence[Connection], path: str, issue: Issue
) -> tuple[list[float], int]:
    """Connect them all, and return how long each took and how many did not succeed."""
    started = time.perf_counter()

    async def connect(connection: Connection) -> float:
        value = await issue()
        await connection.ask(
            upgrade(path, protocols=f"{PROTOCOL}, ticket.{value}"), b"101"
        )
        return time.perf_counter() - started

    rush = [asyncio.create_task(connect(connection)) for connection in connections]
    _, late = await asyncio.wait(rush, timeout=PATIENCE)
    for task in late:
        task.cancel()
    outcomes = await asyncio.gather(*rush, return_exceptions=True)
    latencies = [outcome for outcome in outcomes if isinstance(outcome, float)]
    if not latencies:
        raise RuntimeError(f"Nobody got in: {outcomes[0]!r}")
    return latencies, len(outcomes) - len(latencies)


@asynccontextmanager
async def _ours() -> AsyncIterator[Issue]:
    service = TicketService(
        RedisBackend(unix_socket_path=str(servers.REDIS)), expire=PATIENCE
    )

    async def issue() -> str:
        return (await service.aissue(by_hand.CLAIMS)).value

    yield issue
    await service.aclose()


@asynccontextmanager
async def _per_call() -> AsyncIterator[Issue]:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        f"unix://{servers.REDIS}", max_connections=CONNECTIONS, timeout=PATIENCE
    )
    async with redis.asyncio.Redis.from_pool(pool) as client:

        async def issue() -> str:
            value, data = by_hand.make()
            if not await client.set(value, data, ex=PATIENCE):
                raise RuntimeError
            return value

        yield issue


def _processor_of_redis() -> float:
    """Return how many seconds of a processor Redis has used."""
    with redis.Redis(unix_socket_path=str(servers.REDIS)) as client:
        used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
