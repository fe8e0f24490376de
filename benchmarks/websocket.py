"""Row 6: WebSocket handshakes, with and without a look at who is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import jwt

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL
from tests import servers

from . import by_hand
from .harness import Contender, Effort, Finding, Sample, Target, compare, sample
from .load import LIMIT, Connection, upgrade
from .web import processes, settings

TITLE = "WebSocket: authenticated handshakes under uvicorn"

WORK = "who is there"
FLOOR = "no authentication (floor)"
BY_HAND = "redis.asyncio per call"

AT_ONCE = 50
"""Handshakes under way."""

RATE = 2000
"""Handshakes in a second of the effort; what a server can do is of that order."""

EXPIRE = 60
"""Seconds. The tickets of a round are made before it begins."""

Requests = Callable[[int], Sequence[bytes]]
"""Makes so many handshakes, each good for one connection."""


def run(effort: Effort) -> list[Finding]:
    people = processes.sessions()
    service = TicketService(
        RedisBackend(unix_socket_path=str(servers.REDIS)), expire=EXPIRE
    )

    def with_sessions(count: int) -> list[bytes]:
        return [
            upgrade("/session", session=people[number % len(people)])
            for number in range(count)
        ]

    def with_tickets(path: str) -> Requests:
        return lambda count: asyncio.run(_with_tickets(service, path, count))

    with (
        processes.beside(),
        asyncio.Runner() as runner,
        processes.uvicorn("benchmarks.web.realtime:application") as server,
    ):

        def contender(name: str, requests: Requests) -> Contender:
            return Contender(
                name,
                lambda seconds: runner.run(
                    _handshakes(*server, requests(max(1, int(RATE * seconds))))
                ),
            )

        sessions = contender("AuthMiddlewareStack", with_sessions)
        result = compare(
            [
                contender("realtime_ticket", with_tickets("/ticket")),
                contender(FLOOR, _open_to_all),
                sessions,
                contender(BY_HAND, with_tickets("/per-call")),
                contender("JWT", _with_jwt),
            ],
            effort,
        )
        with_user = compare(
            [contender("realtime_ticket", with_tickets("/ticket-and-user")), sessions],
            effort,
        )
        without_storage = compare(
            [
                contender("realtime_ticket", with_tickets("/ticket-without-storage")),
                # The same handshakes, whose tickets nobody looks at.
                contender(FLOOR, with_tickets("/floor")),
            ],
            effort,
        )
    service.close()
    return [
        result.ratio(WORK, FLOOR, "rate", Target(at_least=0.8)),
        result.ratio(WORK, "AuthMiddlewareStack", "rate", Target(at_least=2)),
        result.ratio(WORK, BY_HAND, "rate"),
        result.ratio(WORK, "JWT", "rate", Target(at_least=1.1)),
        result.ratio(f"{WORK}: processor for one", FLOOR, "time"),
        without_storage.ratio(
            "without any storage", FLOOR, "rate", Target(at_least=0.95)
        ),
        with_user.ratio("with the user from the database", sessions.name, "rate"),
    ]


def _open_to_all(count: int) -> list[bytes]:
    return [upgrade("/floor", protocols=PROTOCOL)] * count


def _with_jwt(count: int) -> list[bytes]:
    claims = by_hand.CLAIMS | {"exp": int(time.time()) + EXPIRE}
    token = jwt.encode(claims, settings.SECRET_KEY, "HS256")
    return [upgrade("/jwt", protocols=f"{PROTOCOL}, ticket.{token}")] * count


async def _with_tickets(service: TicketService, path: str, count: int) -> list[bytes]:
    made = await asyncio.gather(
        *[
            # As benchmarks.web.people has made them.
            service.aissue({"id": 1 + n % 100, "username": f"user-{n % 100}"})
            for n in range(count)
        ]
    )
    return [
        upgrade(path, protocols=f"{PROTOCOL}, ticket.{ticket.value}") for ticket in made
    ]


async def _handshakes(port: int, pid: int, requests: Sequence[bytes]) -> Sample:
    """Connect with each of the requests, many at once, and hang up."""
    latencies = []
    rest = iter(requests)

    async def work() -> None:
        for request in rest:
            before = time.perf_counter()
            connection = await Connection.open(port)
            await connection.ask(request, b"101")
            connection.close()
            latencies.append(time.perf_counter() - before)

    before = processes.processor(pid)
    started = time.perf_counter()
    workers = [work() for _ in range(AT_ONCE)]
    await asyncio.wait_for(asyncio.gather(*workers), LIMIT)
    measured = sample(latencies, time.perf_counter() - started)
    used = processes.processor(pid) - before
    return {**measured, "time": used / len(latencies)}
