"""Row 5: a page asks Django for a ticket, or for another credential."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence

from .harness import Contender, Effort, Finding, Sample, Target, compare, fly
from .load import LIMIT, Connection, post
from .web import processes

TITLE = "Django: POST /ticket/"

AT_ONCE = 8
"""Requests in flight: enough to keep a worker busy."""

PEERS = {
    "a constant (floor)": "/floor/",
    "redis-py": "/redis-py/",
    "django-sesame": "/sesame/",
    "simplejwt": "/simplejwt/",
    "knox": "/knox/",
    "of 2012": "/2012/",
}
UNDER_WSGI = {"realtime_ticket": "/ticket/"} | PEERS
# The views of other products are synchronous, and so are those that are compared with
# them. The page says so.
UNDER_ASGI = {"realtime_ticket": "/async-ticket/"} | PEERS
UNDER_ASGI["a constant (floor)"] = "/async-floor/"

TARGETS = {
    "a constant (floor)": Target(at_least=0.88),
    "redis-py": Target(at_least=1),
    "simplejwt": Target(at_least=1),
    "knox": Target(at_least=1),
    "of 2012": Target(at_least=1.1),
}


def run(effort: Effort) -> list[Finding]:
    people = processes.sessions()
    with processes.beside(), asyncio.Runner() as runner:
        with processes.gunicorn() as server:
            one = _compare("gunicorn", UNDER_WSGI, server, people, effort, runner)
        with processes.uvicorn("benchmarks.web.asgi:application") as server:
            other = _compare("uvicorn", UNDER_ASGI, server, people, effort, runner)
    return [*one, *other]


def _compare(
    name: str,
    paths: Mapping[str, str],
    server: tuple[int, int],
    people: Sequence[str],
    effort: Effort,
    runner: asyncio.Runner,
) -> list[Finding]:
    """Compare the answers of one server to different paths."""
    result = compare(
        [
            _contender(other, server, [post(path, key) for key in people], runner)
            for other, path in paths.items()
        ],
        effort,
    )
    return [
        *[
            result.ratio(f"under {name}", other, "rate", TARGETS.get(other))
            for other in PEERS
        ],
        result.ratio(f"under {name}: processor for one", next(iter(PEERS)), "time"),
    ]


def _contender(
    name: str,
    server: tuple[int, int],
    requests: Sequence[bytes],
    runner: asyncio.Runner,
) -> Contender:
    """Return what sends the requests in turn, so many at once."""
    port, pid = server
    endless = itertools.cycle(requests)

    async def run(seconds: float) -> Sample:
        idle = [await Connection.open(port) for _ in range(AT_ONCE)]
        count = 0

        async def ask() -> None:
            nonlocal count
            connection = idle.pop()
            await connection.ask(next(endless), b"200")
            idle.append(connection)
            count += 1

        before = processes.processor(pid)
        measured = await asyncio.wait_for(fly(ask, AT_ONCE, seconds), LIMIT)
        used = processes.processor(pid) - before
        for connection in idle:
            connection.close()
        return {**measured, "time": used / count}

    return Contender(name, lambda seconds: runner.run(run(seconds)))
