"""Leave in one of these ways, with the service open."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

from realtime_ticket import TicketService
from tests.faults.programs.common import say, service_on
from tests.helpers import CLAIMS, GOOD

service: TicketService
"""Global, as in most projects: it is there until the interpreter tears all down."""


async def pair() -> None:
    ticket = await service.aissue(CLAIMS)
    assert await service.aconsume(ticket.value) == ticket


async def calls() -> list[asyncio.Task[object]]:
    """Be in the middle of a batch, with others waiting for the next one."""
    tasks = [asyncio.create_task(service.aconsume(GOOD)) for _ in range(20)]
    await asyncio.sleep(0.1)
    return tasks + [asyncio.create_task(service.aconsume(GOOD)) for _ in range(20)]


def open_service() -> None:
    """Say nothing, as a script that has come to its end."""
    leave()


def running_batch() -> None:
    """Let the event loop end in the middle of a batch."""

    async def main() -> None:
        tasks = await calls()
        leave()
        del tasks

    asyncio.run(main())


def terminated() -> None:
    """Stop when told to, as servers do, in the middle of a batch."""

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        tasks = await calls()
        leave()
        await stop.wait()
        for task in tasks:
            task.cancel()
        await service.aclose()

    asyncio.run(main())


def leave() -> None:
    """Tell the test, which may freeze the storage before and looks at its watch now."""
    say("leaving")


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way for way in (open_service, running_batch, terminated)
}

if __name__ == "__main__":
    kind, place, way = sys.argv[1:]
    service = service_on(kind, place)
    service.consume(service.issue(CLAIMS).value)
    asyncio.run(pair())
    say("ready")
    sys.stdin.readline()
    WAYS[way]()
