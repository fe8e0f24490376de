"""Row 11: how soon connections end with their login, and no others."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing

from realtime_ticket import TicketService

from . import backends
from .harness import Effort, Finding, Target, once, sample
from .load import Connection, upgrade
from .web import processes

TITLE = "Disconnects: how soon connections under uvicorn end"

HELD = 10_000
ENDED = 1_000
"""Connections of one process, and users who are disconnected by one call."""

USERS = 300
"""Who have two sessions each, and log out of one, one after the other."""

AT_ONCE = 50
EXPIRE = 60
"""Handshakes under way, and seconds that their tickets live."""

PINGS = "3600"
"""Seconds. These clients answer none."""

SOON = 1.0
PATIENCE = 5.0
"""Seconds in which connections must end; the benchmark waits no longer."""

_OTHER_FILES = 200
_CLOSE = 0x88

End = Callable[[], None]


class Held(Connection):
    """A connection that waits for its close frame, and notes when and how it came."""

    code: int | None = None
    ended_at: float | None = None

    def data_received(self, data: bytes) -> None:
        if self._answer is None or not self._answer.done():
            super().data_received(data)
        elif data[0] == _CLOSE:
            self.ended_at = time.perf_counter()
            self.code = int.from_bytes(data[2:4])


def run(effort: Effort) -> list[Finding]:
    backends.start()
    findings = []
    with processes.beside():
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES
        most = min(effort.most, limit)
        with processes.uvicorn(
            "benchmarks.web.live:application", "--ws-ping-interval", PINGS
        ) as (port, _):
            for name, backend in backends.BACKENDS.items():
                with closing(TicketService(backend(), expire=EXPIRE)) as service:
                    scene = _Scene(name, port, service)
                    findings += scene.logouts(min(USERS, most // 2))
                    findings += scene.disconnects(min(HELD, most))
    return findings


class _Scene:
    """The clients of one backend."""

    def __init__(self, name: str, port: int, service: TicketService) -> None:
        self._name = name
        self._port = port
        self._service = service

    def logouts(self, users: int) -> list[Finding]:
        """Log users out of one of two sessions, one after the other."""
        sessions = [(user, name) for user in range(users) for name in "ab"]

        def end(user: int) -> End:
            return lambda: self._service.disconnect(user, session=f"{user}a")

        return asyncio.run(
            self._play(
                f"{self._name}: {users} logouts, of one session of two",
                sessions,
                ends=[end(user) for user in range(users)],
                concerned={(user, "a") for user in range(users)},
            )
        )

    def disconnects(self, held: int) -> list[Finding]:
        """Disconnect a tenth of the users who are connected, by one call."""
        # Other users than before, who are still refused for a moment.
        users = [f"user-{number}" for number in range(held)]
        ended = users[: max(1, held * ENDED // HELD)]
        return asyncio.run(
            self._play(
                f"{self._name}: {len(ended):,} of {held:,} connections",
                [(user, "a") for user in users],
                ends=[lambda: self._service.disconnect(*ended)],
                concerned={(user, "a") for user in ended},
            )
        )

    async def _play(
        self,
        work: str,
        sessions: Sequence[tuple[int | str, str]],
        *,
        ends: Sequence[End],
        concerned: Collection[tuple[int | str, str]],
    ) -> list[Finding]:
        held = await self._connect(sessions)
        done_at: list[float] = []

        def all_ends() -> None:
            for end in ends:
                end()
                done_at.append(time.perf_counter())

        await asyncio.to_thread(all_ends)
        await self._until_ended([held[who] for who in concerned])
        # Each from its own logout, or all from the call that named them.
        since = done_at if len(done_at) > 1 else done_at * len(concerned)
        mine = [held[who] for who in sessions if who in concerned]
        took = [
            (client.ended_at or since[n] + PATIENCE) - since[n]
            for n, client in enumerate(mine)
        ]
        wrong = sum(client.code != 4401 for client in mine)
        wrong += sum(held[who].code is not None for who in {*held} - {*concerned})
        for client in held.values():
            client.close()
        return [
            once(work, "p99", sample(took, 1)["p99"], Target(at_most=SOON)),
            once(work, "last", max(took)),
            once(work, "errors", wrong, Target(at_most=0)),
        ]

    async def _connect(
        self, sessions: Sequence[tuple[int | str, str]]
    ) -> dict[tuple[int | str, str], Held]:
        held = {}
        rest = iter(sessions)

        async def work() -> None:
            for user, name in rest:
                ticket = await self._service.aissue(
                    {"id": user, "username": "ada"}, session=f"{user}{name}"
                )
                connection = await Held.open(self._port)
                request = upgrade(f"/{self._name}?ticket={ticket.value}")
                await connection.ask(request, b"101")
                held[user, name] = connection

        await asyncio.gather(*[work() for _ in range(AT_ONCE)])
        return held

    async def _until_ended(self, clients: Sequence[Held]) -> None:
        deadline = time.perf_counter() + PATIENCE
        while time.perf_counter() < deadline:
            if all(client.ended_at for client in clients):
                return
            await asyncio.sleep(0.05)
