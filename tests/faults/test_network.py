"""Servers that die, freeze and are cut off, seen through a proxy on the way to them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from realtime_ticket import InvalidTicket, StorageError, Ticket, TicketService
from tests.faults.load import BOUND, DOORS, Load
from tests.faults.proxy import Fault
from tests.faults.storages import KINDS, Storage
from tests.helpers import CLAIMS, eventually, using

pytestmark = [
    pytest.mark.parametrize("door", DOORS),
    pytest.mark.parametrize("given", KINDS, indirect=True),
]
every_fault = pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)

OUTLAST = 1.4
"""Seconds, more than the one for which a storage is waited."""

WITHOUT_TIMEOUT = {"PostgreSQL"}
"""Storages whose driver waits for as long as a server keeps silent."""


def outlast(storage: Storage, load: Load) -> None:
    """Let a fault last until a call has been given up, if the driver ever does that.

    On a busy machine the first call after its beginning may be late.
    """
    time.sleep(OUTLAST)
    assert storage.name in WITHOUT_TIMEOUT or eventually(lambda: load.outages > 0, 20)


class TestUnderLoad:
    """After each fault calls go on by themselves, and nobody got in twice."""

    def test_a_server_that_is_killed(
        self, given: Storage, door: str, record: Any
    ) -> None:
        """Killed and restarted three times, it may lose tickets, and doubles none.

        Mutants: database-trusts-dead-connections.
        """
        with using(given.backend()) as service, Load(service, door) as load:
            for _ in range(3):
                assert load.goes_on()
                given.node.kill()
                assert load.fails()
                given.node.start()
            assert load.goes_on()
        record("killed and restarted", given.name, load, bound=BOUND[door])

    def test_a_server_that_is_frozen(
        self, given: Storage, door: str, record: Any
    ) -> None:
        """What was given up on is carried out when it thaws, and is never read as the
        reply to another call.

        Mutants: redis-keeps-spoiled-connections, redis-waits-for-ever.
        """
        with using(given.backend()) as service, Load(service, door) as load:
            assert load.goes_on()
            given.node.freeze()
            outlast(given, load)
            given.node.thaw()
            assert load.goes_on()
        assert load.lost == 0
        record("frozen and thawed", given.name, load, bound=BOUND[door])

    def test_a_port_that_is_closed(
        self, given: Storage, door: str, record: Any
    ) -> None:
        """An outage is an outage, and never looks like a ticket that is not there.

        Mutants: database-trusts-dead-connections, errors-mean-no-ticket.
        """
        with using(given.backend()) as service, Load(service, door) as load:
            assert load.goes_on()
            ticket = service.issue(CLAIMS, expire=60)
            given.proxy.refuse()
            assert load.fails(30)
            with pytest.raises(StorageError):
                service.consume(ticket.value)
            given.proxy.accept()
            assert load.goes_on()
        assert load.lost == 0
        record("connections refused", given.name, load, bound=BOUND[door])

    @every_fault
    def test_a_network_that_is_spoiled(
        self, given: Storage, door: str, fault: Fault, record: Any
    ) -> None:
        """Whichever direction breaks, and whether or not anybody is told.

        Mutants: redis-keeps-spoiled-connections, redis-waits-for-ever,
        errors-mean-no-ticket.
        """
        with using(given.backend()) as service, Load(service, door) as load:
            assert load.goes_on()
            given.proxy.spoil(fault)
            outlast(given, load)
            given.proxy.heal()
            assert load.goes_on()
        assert load.lost == 0
        record(fault.value, given.name, load, bound=BOUND[door])


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.TEAR, Fault.LOSE])
class TestOneCall:
    """A command whose reply does not come was sent once, and is not repeated."""

    def test_consuming(self, given: Storage, door: str, fault: Fault) -> None:
        """It fails. The ticket is spent or not, and lets in one at most.

        Mutants: redis-asks-twice, memcached-asks-twice, database-asks-twice.
        """
        with using(given.backend()) as service:
            ticket = connected(service, door)
            key = service._key(ticket.value, "").encode()
            with spoiling(given, fault), pytest.raises(StorageError):
                consume(service, door, ticket)
            assert given.proxy.sent.count(key) == 1
            assert [lets_in(service, door, ticket) for _ in range(3)].count(True) <= 1

    def test_issuing(self, given: Storage, door: str, fault: Fault) -> None:
        """It fails, whatever has become of the ticket, which nobody knows.

        Mutants: redis-asks-twice.
        """
        with using(given.backend()) as service:
            connected(service, door)
            with spoiling(given, fault), pytest.raises(StorageError):
                issue(service, door)
            assert given.proxy.sent.count(b"rt_") == 1


@contextmanager
def spoiling(storage: Storage, fault: Fault) -> Iterator[None]:
    """Spoil the replies in the block, but not those to a second attempt, if there is
    one, and let a driver that waits for ever off.
    """
    storage.proxy.sent.clear()
    storage.proxy.spoil(fault, newcomers=False)
    mending = threading.Timer(OUTLAST, storage.proxy.heal)
    if fault is Fault.LOSE and storage.name in WITHOUT_TIMEOUT:
        mending.start()
    try:
        yield
    finally:
        mending.cancel()
        storage.proxy.heal()


def connected(service: TicketService, door: str) -> Ticket:
    """Return a ticket, once there is a connection that works."""
    with suppress(StorageError):  # from a connection that the test before has left
        issue(service, door)
    return issue(service, door)


def issue(service: TicketService, door: str) -> Ticket:
    if door == "sync":
        return service.issue(CLAIMS, expire=60)
    return asyncio.run(service.aissue(CLAIMS, expire=60))


def consume(service: TicketService, door: str, ticket: Ticket) -> Ticket:
    if door == "sync":
        return service.consume(ticket.value)
    return asyncio.run(service.aconsume(ticket.value))


def lets_in(service: TicketService, door: str, ticket: Ticket) -> bool:
    with suppress(InvalidTicket, StorageError):
        return consume(service, door, ticket) == ticket
    return False
