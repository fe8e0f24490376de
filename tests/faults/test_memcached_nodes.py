"""Memcached at its limits: its memory is full, or one server of several is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pymemcache.exceptions import MemcacheServerError

from realtime_ticket import InvalidTicket, StorageError, Ticket, TicketService
from realtime_ticket.backends.memcached import MemcachedBackend
from tests import servers
from tests.faults.load import BOUND, BULKY, DOORS, Load
from tests.faults.nodes import MemcachedNode
from tests.faults.storages import PATIENT, on_memcached
from tests.helpers import CLAIMS, using

FAULTS = {
    "killed": (MemcachedNode.kill, MemcachedNode.start),
    "frozen": (MemcachedNode.freeze, MemcachedNode.thaw),
}
"""How to lose a server, and how to find it again."""

every_door = pytest.mark.parametrize("door", DOORS)


@pytest.fixture
def nodes() -> Iterator[list[MemcachedNode]]:
    """Give three servers of the test's own."""
    servers.need("memcached")
    nodes = [MemcachedNode() for _ in range(3)]
    yield nodes
    for node in nodes:
        node.thaw()
        node.kill()


def on(*nodes: MemcachedNode) -> MemcachedBackend:
    return MemcachedBackend(servers=[name_of(node) for node in nodes])


def name_of(node: MemcachedNode) -> str:
    return f"127.0.0.1:{node.port}"


def share_of(
    node: MemcachedNode, service: TicketService, tickets: list[Ticket]
) -> set[str]:
    """Return the tickets that this server has."""
    hasher = service.backend._hash
    return {t.value for t in tickets if hasher.get_node(t.value) == name_of(node)}


def outcome(service: TicketService, ticket: Ticket) -> str:
    """Return how consuming ends: "in", "refused" or "failed"."""
    try:
        assert service.consume(ticket.value) == ticket
    except InvalidTicket:
        return "refused"
    except StorageError:
        return "failed"
    return "in"


class TestMemory:
    @pytest.fixture
    def full(self, request: pytest.FixtureRequest) -> Iterator[MemcachedNode]:
        """Give a Memcached of two megabytes."""
        servers.need("memcached")
        node = MemcachedNode("-m", "2", *getattr(request, "param", []))
        yield node
        node.kill()

    @pytest.mark.parametrize("full", [["-M"]], indirect=True)
    def test_that_refuses(self, full: MemcachedNode) -> None:
        """With ``-M`` no ticket is issued, and all that were are good. When they are
        spent there is room again.

        Mutants: memcached-leaks-its-errors.
        """
        kept: list[Ticket] = []
        with using(on(full)) as service:
            with pytest.raises(StorageError) as caught:
                while len(kept) < 5000:
                    kept.append(service.issue(BULKY, expire=60))
            assert isinstance(caught.value.__cause__, MemcacheServerError)
            assert len(kept) > 100
            assert {outcome(service, ticket) for ticket in kept} == {"in"}
            assert outcome(service, service.issue(BULKY)) == "in"
            assert service.backend.diagnose()[1:] == []

    @every_door
    def test_that_evicts(self, full: MemcachedNode, door: str, record: Any) -> None:
        """Without ``-M`` it drops live tickets for new ones. They are refused, and no
        ticket lets in two. No call fails, so only the doctor tells.

        Mutants: memcached-only-reads, doctor-overlooks-memcached.
        """
        backend = on_memcached(full.port, PATIENT)
        with using(backend) as service, Load(service, door) as load:
            assert load.goes_on()
            poured = [service.issue(BULKY, expire=60) for _ in range(2000)]
            first = [outcome(service, ticket) for ticket in poured]
            again = {outcome(service, ticket) for ticket in poured}
            assert load.goes_on()
            found = {message.id for message in service.backend.diagnose()}
        assert set(first) == {"in", "refused"}
        assert again == {"refused"}
        assert load.outages == 0
        assert "realtime_ticket.W016" in found
        record("memory full, keys evicted", "Memcached", load, bound=BOUND[door])


class TestOneOfThree:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_fails_alone(self, nodes: list[MemcachedNode], fault: str) -> None:
        """Tickets of the server that is lost are an outage, never unknown, and never
        looked for elsewhere. The others let in once. One that was frozen has its
        tickets when it is back; one that was killed is empty, and takes new ones.

        Mutants: memcached-ignores-errors, memcached-moves-the-share-of-the-dead,
        memcached-only-reads.
        """
        lost, (lose, find) = nodes[1], FAULTS[fault]
        with using(on(*nodes)) as service:
            tickets = [service.issue(CLAIMS, expire=60) for _ in range(48)]
            share = share_of(lost, service, tickets)
            assert 0 < len(share) < len(tickets)
            lose(lost)
            # Two of the frozen one's are enough: each takes its second.
            patient = list(share)[2:]
            for ticket in tickets:
                if ticket.value not in patient:
                    is_lost = ticket.value in share
                    assert outcome(service, ticket) == ("failed" if is_lost else "in")
            find(lost)
            for ticket in tickets:
                is_back = fault == "frozen" and ticket.value in share
                assert outcome(service, ticket) == ("in" if is_back else "refused")
            assert {outcome(service, ticket) for ticket in tickets} == {"refused"}
            new = [service.issue(CLAIMS) for _ in range(48)]
            assert share_of(lost, service, new)
            assert {outcome(service, ticket) for ticket in new} == {"in"}

    @pytest.mark.parametrize("fault", FAULTS)
    @every_door
    def test_under_load(
        self, nodes: list[MemcachedNode], door: str, fault: str, record: Any
    ) -> None:
        """Threads that use the other two go on meanwhile, and all do afterwards.

        Mutants: memcached-only-reads, memcached-leaks-its-errors.
        """
        lost, (lose, find) = nodes[1], FAULTS[fault]
        with using(on(*nodes)) as service, Load(service, door) as load:
            assert load.goes_on()
            lose(lost)
            assert load.fails()
            if door == "sync":
                assert load.goes_on(10)
            find(lost)
            assert load.goes_on()
        record(f"one server of three {fault}", "Memcached", load, bound=BOUND[door])

    def test_fails_a_batch(self, nodes: list[MemcachedNode]) -> None:
        """A limit, documented under "A lost reply": the calls of coroutines that share
        a batch with one for the lost server fail with it. Nobody is refused, and those
        who come one at a time get in.

        Mutants: memcached-ignores-errors, memcached-moves-the-share-of-the-dead.
        """

        async def show(tickets: list[Ticket]) -> list[Any]:
            shown = [service.aconsume(ticket.value) for ticket in tickets]
            return await asyncio.gather(*shown, return_exceptions=True)

        lost = nodes[1]
        with using(on(*nodes)) as service:
            tickets = [service.issue(CLAIMS, expire=60) for _ in range(48)]
            share = share_of(lost, service, tickets)
            first = next(t for t in tickets if t.value in share)
            others = [t for t in tickets if t.value not in share]
            lost.kill()
            assert {type(e) for e in asyncio.run(show([first, *others]))} == {
                StorageError
            }
            assert [asyncio.run(show([ticket])) for ticket in others] == [
                [ticket] for ticket in others
            ]
            lost.start()
