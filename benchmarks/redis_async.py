"""Row 2: the same in an event loop, with more and more calls in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial

import coredis
import glide
import redis.asyncio

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from tests import servers

from . import by_hand, ours
from .harness import Contender, Effort, Finding, Sample, Target, compare, fly
from .pipelined import Pipelined

TITLE = "Redis: many at once in an event loop"

PATIENCE = 60
"""Seconds. No caller gives up, however long it waits for its turn."""

CONNECTIONS = 50
"""What a client may open that needs one for each call."""

Pair = Callable[[], Awaitable[object]]
"""Issue a ticket and consume it."""


def run(effort: Effort) -> list[Finding]:
    servers.start("redis")
    findings = []
    with asyncio.Runner() as runner:
        for workers in (1, 10, 100, 1000, 10_000):
            if workers <= effort.most:
                findings += at_once(workers, effort, runner)
    return findings


def at_once(workers: int, effort: Effort, runner: asyncio.Runner) -> list[Finding]:
    """Compare all clients with so many pairs in flight."""
    contenders = [
        contender(name, client, workers, runner) for name, client in CLIENTS.items()
    ]
    if workers >= 1000:  # and each of them takes seconds
        effort = replace(effort, rounds=min(3, effort.rounds))
    result = compare(contenders, effort)
    work = f"{workers:,} in flight"
    _, *others = CLIENTS
    compared = [(other, "rate") for other in others] + [("redis.asyncio", "p99")]
    return [
        result.ratio(work, *how, target=TARGETS.get((workers, *how)))
        for how in compared
    ]


def contender(
    name: str,
    client: Callable[[], AbstractAsyncContextManager[Pair]],
    workers: int,
    runner: asyncio.Runner,
) -> Contender:
    async def run(seconds: float) -> Sample:
        async with client() as pair:
            await asyncio.gather(*[pair() for _ in range(CONNECTIONS)])  # connects
            return await fly(pair, workers, seconds)

    return Contender(name, lambda seconds: runner.run(run(seconds)))


@asynccontextmanager
async def realtime_ticket() -> AsyncIterator[Pair]:
    service = TicketService(RedisBackend(unix_socket_path=str(servers.REDIS)))

    yield partial(ours.apair, service)
    await service.aclose()


@asynccontextmanager
async def redis_asyncio() -> AsyncIterator[Pair]:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        f"unix://{servers.REDIS}", max_connections=CONNECTIONS, timeout=PATIENCE
    )
    async with redis.asyncio.Redis.from_pool(pool) as client:
        yield partial(per_call, client)


async def per_call(client: redis.asyncio.Redis) -> None:
    value, data = by_hand.make()
    if not await client.set(value, data, px=by_hand.EXPIRE * 1000):
        raise RuntimeError
    by_hand.read(await client.getdel(value))


@asynccontextmanager
async def valkey_glide() -> AsyncIterator[Pair]:
    address = glide.NodeAddress(unix_socket_path=str(servers.REDIS))
    client = await glide.GlideClient.create(
        glide.GlideClientConfiguration(
            [address], request_timeout=PATIENCE * 1000, inflight_requests_limit=100_000
        )
    )
    expiry = glide.ExpirySet(glide.ExpiryType.MILLSEC, by_hand.EXPIRE * 1000)

    async def pair() -> None:
        value, data = by_hand.make()
        if not await client.set(value, data, expiry=expiry):
            raise RuntimeError
        by_hand.read(await client.getdel(value))

    yield pair
    await client.close()


@asynccontextmanager
async def core_redis() -> AsyncIterator[Pair]:
    async with coredis.Redis(
        unix_socket_path=str(servers.REDIS),
        max_connections=CONNECTIONS,
        pool_timeout=PATIENCE,
        stream_timeout=PATIENCE,
    ) as client:
        yield partial(per_call, client)


@asynccontextmanager
async def by_protocol() -> AsyncIterator[Pair]:
    connection = await Pipelined.connect(str(servers.REDIS))
    yield connection.pair
    connection.close()


CLIENTS: dict[str, Callable[[], AbstractAsyncContextManager[Pair]]] = {
    "realtime_ticket": realtime_ticket,
    "redis.asyncio": redis_asyncio,
    "valkey-glide": valkey_glide,
    "coredis": core_redis,
    "protocol by hand (limit)": by_protocol,
}

TARGETS = {
    (1, "redis.asyncio", "rate"): Target(at_least=1.2),
    (10, "valkey-glide", "rate"): Target(at_least=1.2),
    (100, "redis.asyncio", "rate"): Target(at_least=6),
    (1000, "redis.asyncio", "rate"): Target(at_least=6.5),
    (1000, "redis.asyncio", "p99"): Target(at_most=0.1),
    (1000, "valkey-glide", "rate"): Target(at_least=1.8),
    (1000, "protocol by hand (limit)", "rate"): Target(at_least=0.6),
}
