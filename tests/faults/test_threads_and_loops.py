"""Threads, event loops and cancellations: many callers of one service, and quitters."""

from __future__ import annotations

import asyncio
import gc
import importlib
import random
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis

from realtime_ticket import InvalidTicket, Ticket, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.integrations.asgi import TicketMiddleware
from tests import servers
from tests.faults.load import CALLERS, Load
from tests.faults.proxy import Fault
from tests.faults.storages import KINDS, Storage
from tests.helpers import eventually, using

# psycopg warns of the connection of an ended thread, and Python of a socket of Django's
# RedisCache, also in the middle of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

every_storage = pytest.mark.parametrize("given", KINDS, indirect=True)

BOUND = 9.0
"""Seconds that a call may take while a crowd shares two processors, and one batch."""

HANGS = 60
"""Seconds after which coroutines that are not done will never be."""

CONNECTIONS = 8
"""Fewer than a crowd has threads."""


@contextmanager
def crowd(service: TicketService, *doors: str) -> Iterator[list[Load]]:
    """Use a service from several sides. By the sync door each has 12 threads."""
    with ExitStack() as stack:
        yield [stack.enter_context(Load(service, door)) for door in doors]


def go_on(loads: list[Load]) -> bool:
    return all(load.goes_on(10) for load in loads)


async def storm(load: Load, tickets: int = 200) -> None:
    """Issue tickets all at once, and show each to three at the same moment."""

    async def visit() -> None:
        if ticket := await load.aissue():
            await asyncio.gather(*(load.ashow(ticket) for _ in range(CALLERS)))

    async with asyncio.timeout(HANGS):
        await asyncio.gather(*(visit() for _ in range(tickets)))


@pytest.mark.parametrize("given", ["Redis"], indirect=True)
class TestPool:
    """72 threads and 8 connections.

    Only Redis has a pool with a limit. A thread that talks to Memcached has its own
    connection for as long as the call takes, and one that uses a database or a cache
    of Django's has its own altogether.
    """

    def test_is_waited_for(self, given: Storage, record: Any) -> None:
        """Nobody fails for want of a connection, and there is never a ninth.

        Mutants: redis-pool-does-not-wait, redis-pool-without-limit.
        """
        most = 0
        backend = a_small_pool(given, socket_timeout=5)
        with using(backend) as service, crowd(service, *["sync"] * 6) as loads:
            assert eventually(lambda: len(given.proxy.links) >= CONNECTIONS, 20)
            for _ in range(50):
                most = max(most, len(given.proxy.links))
                time.sleep(0.01)
            assert go_on(loads)
        assert most == CONNECTIONS
        for load in loads:
            assert (load.outages, load.lost) == (0, 0)
            record("72 threads, 8 connections", given.name, load, bound=HANGS)

    def test_keeps_its_connections_through_errors(
        self, given: Storage, record: Any
    ) -> None:
        """However calls fail, all eight are there afterwards, and no more.

        Mutants: redis-loses-connections, redis-trusts-its-connections.
        """
        backend = a_small_pool(given)
        with using(backend) as service, crowd(service, *["sync"] * 6) as loads:
            for fault in Fault:
                given.proxy.spoil(fault)
                assert loads[0].fails()
                given.proxy.heal()
                assert go_on(loads)
            # The proxy takes a moment to see who has left.
            assert eventually(lambda: len(given.proxy.links) <= CONNECTIONS)
        taken = [backend._pool.get_connection() for _ in range(CONNECTIONS)]
        with pytest.raises(redis.ConnectionError):
            backend._pool.get_connection()
        for connection in taken:
            backend._pool.release(connection)
        backend.close()
        for load in loads:
            record("72 threads, 8 connections that fail", given.name, load, bound=BOUND)

    def test_is_waited_for_no_longer_than_a_frozen_server(
        self, given: Storage, record: Any
    ) -> None:
        """A second for the pool, and one for the reply. Here two connections are all.

        Mutants: redis-pool-waits-for-ever.
        """
        backend = a_small_pool(given, max_connections=2)
        with using(backend) as service, crowd(service, *["sync"] * 6) as loads:
            assert go_on(loads)
            given.node.freeze()
            time.sleep(6)
            given.node.thaw()
            assert go_on(loads)
        for load in loads:
            record("72 threads, 2 frozen connections", given.name, load, bound=4.5)


def a_small_pool(storage: Storage, **options: Any) -> RedisBackend:
    options = {"max_connections": CONNECTIONS} | options
    return RedisBackend(port=storage.proxy.port, **options)


@every_storage
class TestThreads:
    def test_that_end_leave_no_connections(self, given: Storage) -> None:
        """After 80 threads, eight at a time, no more are open than for eight.

        Mutants: cache-keeps-the-connections-of-dead-threads.
        """
        with using(given.patient_backend()) as service:
            load = Load(service, "sync")

            def pair() -> None:
                if ticket := load.issue():
                    load.show(ticket)

            for _ in range(10):
                threads = [threading.Thread(target=pair) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(10)
            gc.collect()
            assert eventually(lambda: len(given.proxy.links) <= 8)
        assert len(load.accepted) == 80

    @pytest.mark.usefixtures("patient_batches")
    def test_and_event_loops_share_a_service(self, given: Storage, record: Any) -> None:
        """Two loops and 36 threads, and one loop that ends before the others.

        Mutants: redis-close-closes-connections-in-use.
        """
        doors = ["async", "sync", "sync", "sync", "async"]
        with using(given.patient_backend()) as service, crowd(service, *doors) as loads:
            assert go_on(loads)
        for load in loads:
            assert (load.outages, load.lost) == (0, 0)
            record("threads and event loops", given.name, load, bound=HANGS)

    @pytest.mark.usefixtures("patient_batches")
    def test_may_close_the_service_that_others_use(
        self, given: Storage, record: Any
    ) -> None:
        """Calls under way are not torn from their connections, nor from their thread.

        Mutants: redis-close-closes-connections-in-use,
        cache-close-closes-a-connection-in-use, batch-close-shuts-down.
        """
        doors = ["async", "async", "sync"]
        with using(given.patient_backend()) as service, crowd(service, *doors) as loads:
            for _ in range(200):
                service.close()
                time.sleep(0.002)
            assert go_on(loads)
        for load in loads:
            assert (load.outages, load.lost) == (0, 0)
            record("closed while in use", given.name, load, bound=HANGS)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C work, also where a shell started us with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class TestLoops:
    @pytest.mark.parametrize("name", ["asyncio", "uvloop"])
    @every_storage
    @pytest.mark.usefixtures("patient_batches")
    def test_take_turns_on_one_connection(
        self, given: Storage, name: str, record: Any
    ) -> None:
        """Two loops, one after the other, with 600 tasks each at once.

        Mutants: batch-remembers-its-first-loop.
        """
        servers.need_module(name)
        make_loop = importlib.import_module(name).new_event_loop
        with using(given.patient_backend()) as service:
            for _ in range(2):
                load = Load(service, "async")
                with asyncio.Runner(loop_factory=make_loop) as runner:
                    runner.run(storm(load))
                    assert len(given.proxy.links) == 1
                assert (load.outages, load.lost, load.surprises) == (0, 0, [])
                record("a storm of 600 tasks", given.name, load, bound=HANGS)
            asyncio.run(service.aclose())

    @every_storage
    @pytest.mark.usefixtures("ctrl_c", "patient_batches")
    def test_left_in_the_middle_of_a_batch(self, given: Storage, record: Any) -> None:
        """By an error, Ctrl-C or sys.exit(). The next loop goes on as if it was first.

        Who was aboard shows the ticket again: it was spent, or it lets in.

        Mutants: queues-of-the-first-loop.
        """
        with using(given.patient_backend()) as service:
            for leave, error in WAYS_OUT:
                load = Load(service, "async")
                tickets = [ticket for _ in range(20) if (ticket := load.issue())]
                given.node.freeze()
                thaw = threading.Timer(0.3, given.node.thaw)
                thaw.start()
                with pytest.raises(error):
                    asyncio.run(begin(load, tickets, leave))
                thaw.join(10)
                asyncio.run(show(load, tickets))
                asyncio.run(storm(load, 20))
                assert (load.outages, load.surprises) == (0, [])
                record("event loop left", given.name, load, bound=HANGS)
            asyncio.run(service.aclose())


def fail() -> None:
    raise ZeroDivisionError


WAYS_OUT: list[tuple[Callable[[], None], type[BaseException]]] = [
    (fail, ZeroDivisionError),
    (lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt),
    (sys.exit, SystemExit),
]


async def begin(load: Load, tickets: list[Ticket], leave: Callable[[], None]) -> None:
    """Leave when half of the tickets are on their way, and half wait."""
    half = len(tickets) // 2
    tasks = [asyncio.create_task(load.ashow(ticket)) for ticket in tickets[:half]]
    await asyncio.sleep(0.05)
    tasks += [asyncio.create_task(load.ashow(ticket)) for ticket in tickets[half:]]
    await asyncio.sleep(0.05)
    leave()
    await asyncio.gather(*tasks)


async def show(load: Load, tickets: list[Ticket]) -> None:
    async with asyncio.timeout(HANGS):
        await asyncio.gather(*(load.ashow(ticket) for ticket in tickets))


QUITTERS = 400

Way = Callable[[Awaitable[None], float], Awaitable[object]]


async def by_timeout(call: Awaitable[None], delay: float) -> None:
    async with asyncio.timeout(delay):
        await call


async def by_wait_for(call: Awaitable[None], delay: float) -> None:
    await asyncio.wait_for(call, delay)


async def by_cancel(call: Awaitable[None], delay: float) -> None:
    task = asyncio.ensure_future(call)
    asyncio.get_running_loop().call_later(delay, task.cancel)
    await task


async def by_a_failing_sibling(call: Awaitable[None], delay: float) -> None:
    async def sibling() -> None:
        await asyncio.sleep(delay)
        raise TimeoutError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(sibling())
            await call
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


WAYS: list[Way] = [by_timeout, by_wait_for, by_cancel, by_a_failing_sibling]


class Quitters:
    """Callers that leave after up to five milliseconds, among others that stay.

    ``left`` says how many did so before they were answered, and ``slowest`` how many
    seconds the slowest needed for it. ``troubles`` is what the loop complained of.
    """

    def __init__(self, service: TicketService) -> None:
        self.stayers, self.leavers = Load(service, "async"), Load(service, "async")
        self.troubles: list[Any] = []
        self.left = 0
        self.slowest = 0.0

    async def run(self, storage: Storage, *, frozen: float = 0) -> None:
        """Let everyone call, on a storage that is frozen for so many seconds."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.troubles.append(context))
        tickets = [await self.leavers.aissue() for _ in range(QUITTERS // 2)]
        over = asyncio.Event()
        others = [asyncio.create_task(self._stay(over)) for _ in range(16)]
        if frozen:
            storage.node.freeze()
            loop.call_later(frozen, storage.node.thaw)
        await asyncio.gather(
            *(self._leave(self.leavers.ashow(t)) for t in tickets if t),
            *(self._leave(self.leavers.aissue()) for _ in tickets),
        )
        await asyncio.sleep(frozen)
        over.set()
        await asyncio.wait_for(asyncio.gather(*others), HANGS)
        for ticket in list(self.leavers.issued.values()):
            await self.leavers.ashow(ticket)
        await self.leavers.service.aclose()
        gc.collect()  # or nobody would hear of an exception that was never retrieved

    async def _stay(self, over: asyncio.Event) -> None:
        while not over.is_set():
            if ticket := await self.stayers.aissue():
                await self.stayers.ashow(ticket)

    async def _leave(self, call: Any) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        started = time.monotonic()
        try:
            await random.choice(WAYS)(call, random.uniform(0, 0.005))
        except (TimeoutError, asyncio.CancelledError):
            self.left += 1
            self.slowest = max(self.slowest, time.monotonic() - started)


@every_storage
class TestQuitters:
    @pytest.mark.usefixtures("patient_batches")
    def test_disturb_nobody(self, given: Storage, record: Any) -> None:
        """Of 400 calls many are cancelled, at any moment. All others get their answer.

        Mutants: batch-fails-when-one-leaves, batch-goes-down-with-a-leaver,
        batch-answers-who-has-left.
        """
        with using(given.patient_backend()) as service:
            quitters = Quitters(service)
            asyncio.run(quitters.run(given))
        assert quitters.troubles == []
        assert quitters.left > QUITTERS / 10
        for load in (quitters.stayers, quitters.leavers):
            assert (load.outages, load.surprises) == (0, [])
            record("400 cancellations", given.name, load, bound=HANGS)
        assert quitters.stayers.lost == 0

    def test_leave_a_frozen_storage_at_once(self, given: Storage, record: Any) -> None:
        """No caller has to wait with the batch that it was in.

        Mutants: batch-holds-who-leaves.
        """
        with using(given.backend()) as service:
            quitters = Quitters(service)
            asyncio.run(quitters.run(given, frozen=1.5))
        assert quitters.troubles == []
        assert quitters.left > QUITTERS / 2
        assert quitters.slowest < 1.4
        for load in (quitters.stayers, quitters.leavers):
            assert load.surprises == []
            record("400 cancellations, frozen", given.name, load, bound=BOUND)

    def test_leave_in_the_handshake(self, given: Storage) -> None:
        """A server cancels the middleware when the client is gone: nobody gets in late.

        Who stays gets in, and a ticket of one who left is shown again.

        Mutants: batch-in-the-wrong-order, batch-goes-down-with-a-leaver.
        """
        entered: list[tuple[Ticket, Ticket]] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            entered.append((scope["client"], scope["ticket"]))

        async def nothing(*args: Any) -> None:
            pass

        async def connect(middleware: TicketMiddleware, ticket: Ticket) -> None:
            scope = {
                "type": "websocket",
                "client": ticket,
                "headers": [],
                "query_string": f"ticket={ticket.value}".encode(),
            }
            await middleware(scope, nothing, nothing)

        async def scene(service: TicketService) -> None:
            middleware = TicketMiddleware(application, service=service, origins=None)
            claims = [{"id": n, "username": f"user {n}"} for n in range(100)]
            tickets = await asyncio.gather(*(service.aissue(each) for each in claims))
            leavers, stayers = tickets[::2], tickets[1::2]
            leaving = (
                by_timeout(connect(middleware, ticket), random.uniform(0, 0.005))
                for ticket in leavers
            )
            staying = (connect(middleware, ticket) for ticket in stayers)
            await asyncio.gather(*leaving, *staying, return_exceptions=True)
            await asyncio.gather(*(connect(middleware, ticket) for ticket in leavers))
            assert all(ticket == issued for issued, ticket in entered)
            names = [ticket.value for ticket, _ in entered]
            assert len(set(names)) == len(names)
            assert {ticket.value for ticket in stayers} <= {*names}
            for ticket in tickets:
                with pytest.raises(InvalidTicket):
                    await service.aconsume(ticket.value)
            await service.aclose()

        with using(given.backend()) as service:
            asyncio.run(scene(service))
