"""Consume 1,000 tickets at once: our batches beside a redis.asyncio call for each.

``python -m benchmarks.consume`` starts a private Redis, runs both in turns and prints
the medians. ``--at-least 2`` makes it fail below that ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from tests import servers

AT_ONCE = 1000
STORMS = 5
ROUNDS = 7


async def main(at_least: float) -> None:
    servers.start("redis")
    service = TicketService(
        RedisBackend(unix_socket_path=str(servers.REDIS)), expire=300
    )
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        f"unix://{servers.REDIS}", max_connections=100, timeout=60
    )
    client = redis.asyncio.Redis(connection_pool=pool)

    async def per_call(value: str) -> dict[str, Any]:
        claims: dict[str, Any] = json.loads(await client.getdel(value))
        return claims

    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(await rate(service, service.aconsume))
        theirs.append(await rate(service, per_call))
    await client.aclose()
    service.close()

    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"TicketService.aconsume  {statistics.median(ours):8,.0f} tickets/s")
    print(f"redis.asyncio per call  {statistics.median(theirs):8,.0f} tickets/s")
    print(f"ratio                   {ratio:8.1f}")
    if ratio < at_least:
        raise SystemExit(f"Below {at_least}.")


async def rate(
    service: TicketService, consume: Callable[[str], Awaitable[object]]
) -> float:
    """Return how many tickets per second it consumes, in storms of 1,000 calls."""
    seconds = 0.0
    for _ in range(STORMS):
        claims = {"id": 1, "username": "alice"}
        values = [service.issue(claims).value for _ in range(AT_ONCE)]
        started = time.perf_counter()
        await asyncio.gather(*[consume(value) for value in values])
        seconds += time.perf_counter() - started
    return STORMS * AT_ONCE / seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-least", type=float, default=0)
    asyncio.run(main(parser.parse_args().at_least))
