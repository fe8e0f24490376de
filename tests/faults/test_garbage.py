"""Hostile data in every storage: it lets nobody in, and nobody else pays for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from django.core.management import call_command

from realtime_ticket import (
    InvalidTicket,
    StorageError,
    Ticket,
    TicketService,
    tickets,
)
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.doors import Door, both_doors
from tests.faults.databases import BOUND
from tests.faults.planted import STORAGES, WHOLE, OnCache, OnRedis
from tests.helpers import CLAIMS, GOOD, real_redis, using, within


class TestStored:
    @both_doors
    @pytest.mark.parametrize("storage", STORAGES)
    def test_garbage(self, storage: OnRedis, door: type[Door]) -> None:
        """Lets nobody in, raises what is documented, and is no ticket later either.

        A cache's object that is no text at all is as good as none.

        Mutants: stored-bytes-for-a-text, stored-text-of-any-audience,
        ticket-from-garbage.
        """
        backend = storage.make()
        if isinstance(storage, OnCache) and storage.alias == "database":
            call_command("createcachetable", verbosity=0)
        key = tickets.storage_key(GOOD, hashed=backend.hashes_keys)
        with using(backend) as service:
            for data in storage.contents():
                storage.plant(key, data)
                is_text = isinstance(data, str) or not isinstance(storage, OnCache)
                first = {"storage", "mismatch" if is_text else "unknown"}
                for expected in first, {"storage", "unknown"}:
                    with within(BOUND):
                        assert outcome(door(service), GOOD) in expected, data[:60]

    def test_a_number_beyond_every_float(self) -> None:
        """JSON can write it, and not say it again. So it is a mismatch.

        Mutants: stored-number-of-any-size.
        """
        for number in (b"1e999", b"-1e999"):
            text = (WHOLE % (b',"x":' + number)).decode()
            with pytest.raises(InvalidTicket, match="mismatch"):
                tickets.decode(text, value=GOOD, audience="")

    @both_doors
    def test_the_text_of_another_ticket(self, door: type[Door]) -> None:
        """Of another audience is a mismatch. Of the same it says who wrote it there.

        Mutants: stored-text-of-any-audience.
        """
        with using(LocMemBackend()) as service:
            backend = service.backend
            for audience, expected in (("chat", "mismatch"), ("", "ada")):
                other = service.issue(CLAIMS, audience=audience)
                key = tickets.storage_key(other.value, audience)
                text = backend.pop(key)
                assert text is not None
                backend.add(GOOD, text, 60)
                assert outcome(door(service), GOOD) == expected

    def test_neighbours_in_a_batch(self) -> None:
        """On Redis, garbage of any type spoils nobody else's ticket.

        Mutants: redis-wrong-type-fails-the-batch.
        """
        servers.require("redis")
        backend = RedisBackend(unix_socket_path=str(servers.REDIS))
        bad = [tickets.new_value() for _ in range(5)]
        with real_redis() as redis, using(backend) as service:
            redis.set(bad[0], b"\xff\xfe" * 100_000, px=60_000)
            redis.rpush(bad[1], "x")
            redis.hset(bad[2], "id", 7)
            redis.xadd(bad[3], {"id": 7})
            redis.zadd(bad[4], {"id": 7})
            good = [service.issue(CLAIMS) for _ in range(10)]
            values = [t.value for pair in zip(good, bad * 2, strict=True)
                      for t in (pair[0], SimpleNamespace(value=pair[1]))]  # fmt: skip
            outcomes = asyncio.run(together(service, values))
            redis.delete(*bad)
        assert outcomes[::2] == ["ada"] * 10
        assert set(outcomes[1::2]) <= {"mismatch", "unknown"}


def outcome(door: Door, value: str) -> str:
    """Return whom the ticket lets in, or why it lets in nobody."""
    try:
        return str(door.consume(value).username)
    except InvalidTicket as error:
        return error.reason
    except StorageError:
        return "storage"


async def together(service: TicketService, values: list[str]) -> list[str]:
    """Return what comes of showing all of them at once."""
    shown = await asyncio.gather(
        *(service.aconsume(value) for value in values), return_exceptions=True
    )
    return [
        ticket.username if isinstance(ticket, Ticket) else ticket.reason  # type: ignore[union-attr]
        for ticket in shown
    ]
