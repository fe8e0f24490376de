"""Redis with replicas, under Sentinel, and as a cluster: what dies, moves and lags.

A test of a fault names the mutants of the package that it has caught.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from realtime_ticket import InvalidTicket, StorageError, Ticket, TicketService
from realtime_ticket.backends import redis_cluster
from realtime_ticket.backends._redis_nodes import Address
from realtime_ticket.backends.base import Item
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.backends.redis_cluster import RedisClusterBackend
from realtime_ticket.backends.redis_sentinel import RedisSentinelBackend
from realtime_ticket.checks import check_settings
from realtime_ticket.tickets import new_value
from tests import servers
from tests.helpers import CLAIMS, GOOD, eventually, using, within
from tests.servers import Cluster, Node, Sentinel, free_port

logger = logging.getLogger(__name__)  # for the figures: --log-level=INFO -rP

BOUND = 4.5
"""Seconds that a call may take at worst: two to learn where to go, two to go there."""

BACKENDS = "realtime_ticket.backends."


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    """Give a master and its replica."""
    servers.need("redis-sentinel")
    master, replica = Node(), Node()
    replica.follow(master)
    yield master, replica
    master.kill()
    replica.kill()


@pytest.fixture
def sentinel() -> Iterator[Sentinel]:
    """Give a Sentinel of the test's own, with a master and a replica.

    On a busy machine a master that lives can be silent for a second.
    """
    servers.need("redis-sentinel")
    sentinel = Sentinel(patience=3)
    yield sentinel
    sentinel.kill()


@pytest.fixture
def shared_sentinel() -> Sentinel:
    """Give the one that stays as it is."""
    servers.require("redis-sentinel")
    return servers.sentinel()


@pytest.fixture
def cluster() -> Cluster:
    """Give the one that stays as it is: three masters."""
    servers.require("redis-cluster")
    return servers.cluster()


@contextmanager
def own_cluster(**size: int) -> Iterator[Cluster]:
    servers.need("redis-cluster")
    cluster = Cluster(**size)
    try:
        yield cluster
    finally:
        cluster.kill()


def until_told(condition: Callable[[], bool]) -> None:
    """Wait until a Sentinel has told a server what it is, and hung up on its clients.

    The one who asks may be among them.
    """

    def holds() -> bool:
        with suppress(redis.ConnectionError):
            return condition()
        return False

    servers.until(holds)


def on_sentinel(sentinel: Sentinel, **options: Any) -> RedisSentinelBackend:
    options = {"sentinels": [sentinel.address]} | options
    return RedisSentinelBackend(service_name=Sentinel.name, **options)


def on_cluster(cluster: Cluster, **options: Any) -> RedisClusterBackend:
    nodes = [node.address for node in cluster.nodes]
    return RedisClusterBackend(startup_nodes=nodes, **options)


def key_in(slot: int) -> str:
    """Return a ticket of this slot."""
    return next(key for key in iter(new_value, "") if key_slot(key.encode()) == slot)


def calls_of(node: Node, command: str) -> int:
    stats = node.ask("INFO", "commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


class Load:
    """Threads that issue tickets and show each twice, until the block ends."""

    def __init__(self, service: TicketService, threads: int = 8) -> None:
        self.service = service
        self.accepted: list[Ticket] = []
        self.twice = self.failures = 0
        self.last_failure = 0.0
        self.longest = 0.0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.01):
            ticket = self._timed(lambda: self.service.issue(CLAIMS, expire=60))
            if ticket is None:
                continue
            spend = lambda: self.service.consume(ticket.value)  # noqa: B023, E731
            if self._timed(spend):
                self.accepted.append(ticket)
                self.twice += self._timed(spend) is not None

    def _timed(self, call: Callable[[], Ticket]) -> Ticket | None:
        started = time.monotonic()
        try:
            return call()
        except InvalidTicket:
            return None
        except StorageError:
            self.failures += 1
            self.last_failure = time.monotonic()
            return None
        finally:
            self.longest = max(self.longest, time.monotonic() - started)

    def figures(self, since: float) -> str:
        return (
            f"{len(self.accepted)} let in, {self.failures} failures, the last after "
            f"{self.last_failure - since:.1f} s, longest wait {self.longest:.2f} s"
        )

    def goes_on(self) -> bool:
        """Wait until more tickets let someone in."""
        count = len(self.accepted)
        return eventually(lambda: len(self.accepted) > count + 50, 20)


class TestReplicas:
    @pytest.mark.parametrize("value", [-1, True, 1.0, "1", None], ids=ascii)
    def test_are_waited_for_in_whole_numbers(self, value: Any) -> None:
        """A wrong number is refused when the backend is made.

        Mutants: wait-for-any-number.
        """
        with pytest.raises(ValueError, match="wait_replicas"):
            RedisBackend(wait_replicas=value)

    def test_that_live_confirm(self, pair: tuple[Node, Node]) -> None:
        """Tickets work by both doors, and issuing waits for nobody.

        Mutants: wait-is-not-sent.
        """
        master, _ = pair
        patient = RedisBackend(port=master.port, wait_replicas=1, socket_timeout=6)
        with using(patient) as service:
            for _ in range(20):
                ticket = service.issue(CLAIMS)
                assert service.consume(ticket.value) == ticket
                with pytest.raises(InvalidTicket):
                    service.consume(ticket.value)
            assert asyncio.run(_rounds(service, 100)) == (100, 100)
        assert calls_of(master, "wait") >= 40

    def test_that_are_frozen_let_nobody_in(self, pair: tuple[Node, Node]) -> None:
        """Consuming fails within its bound, by both doors, and passes with the frost.

        Mutants: wait-reply-is-ignored, wait-is-sent-for-new-tickets-too,
        wait-has-no-end.
        """
        master, replica = pair
        # Half of the four seconds is their time to confirm.
        patient = RedisBackend(port=master.port, wait_replicas=1, socket_timeout=4)
        with using(patient) as service:
            one, other = (service.issue(CLAIMS, expire=60) for _ in range(2))
            replica.freeze()
            with within(3.8), pytest.raises(StorageError) as caught:
                service.consume(one.value)
            assert isinstance(caught.value.__cause__, redis.TimeoutError)
            with within(3.8), pytest.raises(StorageError):
                asyncio.run(service.aconsume(other.value))
            with within(1.8):
                last = service.issue(CLAIMS, expire=60)
            replica.thaw()
            assert eventually(lambda: _lets_in(service, service.issue(CLAIMS)), 9)
            for spent in (one, other):
                with pytest.raises(InvalidTicket):
                    service.consume(spent.value)
            assert service.consume(last.value) == last

    def test_too_few_of_them_let_nobody_in(self, pair: tuple[Node, Node]) -> None:
        """Two confirmations cannot come from one replica.

        Mutants: wait-is-content-with-one.
        """
        master, _ = pair
        # Long enough for the one that there is, however busy the machine.
        patient = RedisBackend(port=master.port, wait_replicas=2, socket_timeout=4)
        with using(patient) as service:
            ticket = service.issue(CLAIMS)
            with within(3.9), pytest.raises(StorageError):
                service.consume(ticket.value)

    def test_a_server_without_wait_lets_nobody_in(self) -> None:
        """An error in the place of the confirmation is an error.

        Mutants: wait-error-confirms.
        """
        servers.need("redis")
        node = Node("--rename-command", "WAIT", "")
        with using(RedisBackend(port=node.port, wait_replicas=1)) as service:
            ticket = service.issue(CLAIMS)
            with pytest.raises(StorageError) as caught:
                service.consume(ticket.value)
        assert isinstance(caught.value.__cause__, redis.ResponseError)
        node.kill()

    @pytest.mark.parametrize(("wait_replicas", "entries"), [(0, 2), (1, 1)])
    def test_that_lag_and_are_promoted(
        self, pair: tuple[Node, Node], wait_replicas: int, entries: int
    ) -> None:
        """A limit, documented: a ticket that is spent while the replica is cut off is
        good again when that one is promoted. With wait_replicas it lets in one.

        Mutants: wait-reply-is-ignored.
        """
        master, replica = pair
        accepted = 0
        with using(
            RedisBackend(port=master.port, wait_replicas=wait_replicas)
        ) as service:
            ticket = service.issue(CLAIMS, expire=60)
            assert eventually(lambda: replica.ask("EXISTS", ticket.value) == 1)
            replica.ask("REPLICAOF", "127.0.0.1", free_port())
            accepted += _lets_in(service, ticket)
        master.kill()
        replica.ask("REPLICAOF", "NO", "ONE")
        with using(RedisBackend(port=replica.port)) as service:
            accepted += _lets_in(service, ticket)
            accepted += _lets_in(service, ticket)
        assert accepted == entries


def _reason(error: StorageError) -> str:
    """Return what the last server said that was asked."""
    assert error.__cause__ is not None
    return str(error.__cause__.__cause__)


def _lets_in(service: TicketService, ticket: Ticket) -> bool:
    try:
        service.consume(ticket.value)
    except (InvalidTicket, StorageError):
        return False
    return True


async def _rounds(service: TicketService, count: int) -> tuple[int, int]:
    """Issue tickets, show each twice, and return how many are let in and refused."""
    issued = await asyncio.gather(
        *[service.aissue(CLAIMS | {"id": number}) for number in range(count)]
    )
    shown = await asyncio.gather(
        *[service.aconsume(ticket.value) for ticket in issued for _ in range(2)],
        return_exceptions=True,
    )
    let_in = [ticket for ticket in shown if isinstance(ticket, Ticket)]
    assert {t.value: t.user_id for t in let_in} == {t.value: t.user_id for t in issued}
    return len(let_in), sum(isinstance(outcome, InvalidTicket) for outcome in shown)


class TestSentinel:
    @pytest.mark.parametrize("fault", ["kill", "freeze"])
    def test_a_failover_under_load(self, sentinel: Sentinel, fault: str) -> None:
        """The master is lost: calls fail within their bound, then go on by themselves.
        The old master comes back, becomes a replica, and is not used.

        Mutants: sentinel-keeps-a-lost-master.
        """
        old = sentinel.master
        lose, find = {
            "kill": (old.kill, old.start),
            "freeze": (old.freeze, old.thaw),
        }[fault]
        with using(on_sentinel(sentinel)) as service, Load(service) as load:
            assert load.goes_on()
            lose()
            lost = time.monotonic()
            servers.until(lambda: sentinel.named() == sentinel.replica.port)
            assert load.goes_on()
            find()
            until_told(lambda: old.follows() == sentinel.replica.port)
            before = load.failures, calls_of(old, "getdel")
            assert load.goes_on()
            assert before == (load.failures, calls_of(old, "getdel"))
        logger.info(load.figures(since=lost))
        assert load.twice == 0
        assert load.failures > 0 and load.last_failure - lost < 15
        assert load.longest < BOUND
        assert fault == "freeze" or calls_of(old, "getdel") == 0

    def test_nobody_gets_in_twice_over_a_failover(self, sentinel: Sentinel) -> None:
        """With wait_replicas, no ticket that let someone in does so again on the
        promoted replica.

        While no replica is left nobody gets in; when there is one again, all is well.

        Mutants: wait-reply-is-ignored.
        """
        with using(on_sentinel(sentinel, wait_replicas=1)) as service:
            with Load(service) as load:
                assert load.goes_on()
                sentinel.master.kill()
                servers.until(lambda: sentinel.named() == sentinel.replica.port)
                until_told(lambda: sentinel.replica.ask("ROLE")[0] == "master")
                count = len(load.accepted)
                time.sleep(0.6)
                assert len(load.accepted) == count
                sentinel.master.start()
                assert load.goes_on()
            assert load.twice == 0
        with using(on_sentinel(sentinel)) as service:
            again = [t for t in load.accepted if _lets_in(service, t)]
        assert load.longest < BOUND
        assert again == []

    def test_a_demoted_master_is_left(self, sentinel: Sentinel) -> None:
        """Its READONLY makes the backend ask the Sentinels again.

        Mutants: sentinel-keeps-a-lost-master.
        """
        with using(on_sentinel(sentinel)) as service:
            ticket = service.issue(CLAIMS)
            sentinel.promote()
            until_told(lambda: sentinel.master.ask("ROLE")[0] == "slave")
            with pytest.raises(StorageError) as caught:
                service.consume(ticket.value)
            assert isinstance(caught.value.__cause__, redis.ReadOnlyError)
            ticket = service.issue(CLAIMS)
            assert service.consume(ticket.value) == ticket
        assert calls_of(sentinel.replica, "getdel") == 1

    def test_dead_sentinels_are_passed_over(self, shared_sentinel: Sentinel) -> None:
        """One that answers is enough. Mutants: nodes-ask-only-the-first."""
        dead = [("127.0.0.1", free_port()) for _ in range(3)]
        backend = on_sentinel(
            shared_sentinel, sentinels=[*dead, shared_sentinel.address]
        )
        with using(backend) as service, within(BOUND):
            ticket = service.issue(CLAIMS)
            assert service.consume(ticket.value) == ticket

    def test_frozen_sentinels_are_waited_for_twice(
        self, shared_sentinel: Sentinel
    ) -> None:
        """A call gives up after two of them, and the next asks others.

        Mutants: nodes-wait-for-everyone, nodes-keep-their-order.
        """
        asked = Counter[Address]()
        with (
            listening(asked=asked) as a,
            listening(asked=asked) as b,
            listening(asked=asked) as c,
        ):
            backend = on_sentinel(
                shared_sentinel, sentinels=[a, b, c, shared_sentinel.address]
            )
            with using(backend) as service:
                with pytest.raises(StorageError):
                    service.issue(CLAIMS)
                assert eventually(lambda: asked == Counter([a, b]))
                for _ in range(2):
                    service.issue(CLAIMS)
                    assert eventually(lambda: asked == Counter([a, b, c]))

    def test_an_outdated_sentinel_is_not_believed_for_ever(
        self, shared_sentinel: Sentinel
    ) -> None:
        """It names a master that is dead. Another is asked the next time.

        Mutants: nodes-believe-who-answered.
        """
        port = str(free_port())
        wrong = f"*2\r\n$9\r\n127.0.0.1\r\n${len(port)}\r\n{port}\r\n".encode()
        with listening(wrong) as liar:
            backend = on_sentinel(
                shared_sentinel, sentinels=[liar, shared_sentinel.address]
            )
            with using(backend) as service:
                with pytest.raises(StorageError):
                    service.issue(CLAIMS)
                assert service.issue(CLAIMS)

    def test_sentinels_are_asked_once(self, shared_sentinel: Sentinel) -> None:
        """Without a failure, nobody needs them.

        Mutants: sentinel-is-asked-by-each-call.
        """
        with using(on_sentinel(shared_sentinel)) as service:
            service.issue(CLAIMS)
            before = _commands(shared_sentinel)
            for _ in range(100):
                service.issue(CLAIMS)
            assert _commands(shared_sentinel) - before < 50

    def test_an_unknown_name_is_an_outage(self, shared_sentinel: Sentinel) -> None:
        """A Sentinel that watches no such service knows nothing.

        Mutants: nodes-take-silence-for-an-answer.
        """
        backend = RedisSentinelBackend(
            sentinels=[shared_sentinel.address], service_name="nothing"
        )
        with using(backend) as service, pytest.raises(StorageError):
            service.issue(CLAIMS)

    def test_a_redis_is_no_sentinel(self, shared_sentinel: Sentinel) -> None:
        """Who points at the master itself sees the reason in the cause.

        Mutants: nodes-forget-the-reason.
        """
        backend = on_sentinel(
            shared_sentinel, sentinels=[shared_sentinel.master.address]
        )
        with using(backend) as service, pytest.raises(StorageError) as caught:
            service.issue(CLAIMS)
        assert "unknown command" in _reason(caught.value)

    def test_sentinels_have_options_of_their_own(
        self, shared_sentinel: Sentinel
    ) -> None:
        """A password of the Sentinels does not go to Redis.

        Mutants: sentinel-gets-the-options-of-redis, sentinel-options-go-to-redis.
        """
        backend = on_sentinel(
            shared_sentinel, sentinel_kwargs={"password": "s3cret"}, db=3
        )
        with using(backend) as service, pytest.raises(StorageError) as caught:
            service.issue(CLAIMS)
        assert "AUTH" in _reason(caught.value)
        assert backend._redises.pool(NOWHERE).connection_kwargs["password"] is None
        with using(on_sentinel(shared_sentinel, db=3)) as service:
            value = service.issue(CLAIMS).value
            with redis.Redis(port=shared_sentinel.named(), db=3) as watcher:
                assert watcher.exists(value) == 1

    def test_sentinels_are_waited_for_as_redis_is(self) -> None:
        """And no more connections are opened to them. redis-py before 8 has no limit of
        its own, and a pool that waits makes room for all at once.

        Mutants: sentinel-connections-without-limit.
        """
        backend = RedisSentinelBackend(**SENTINEL, socket_timeout=3, max_connections=7)
        pool = backend._sentinels.pool(NOWHERE)
        assert pool.max_connections == 7
        assert pool.connection_kwargs["socket_timeout"] == 3
        assert pool.connection_kwargs["socket_connect_timeout"] == 1
        assert pool.connection_kwargs["retry"]._retries == 0

    def test_close_leaves_no_connection(self, shared_sentinel: Sentinel) -> None:
        """Neither at the Sentinel nor at the master.

        Mutants: sentinel-close-forgets-the-sentinels.
        """
        master = shared_sentinel.master
        before = [_clients(node) for node in (shared_sentinel, master)]
        with using(on_sentinel(shared_sentinel)) as service:
            service.issue(CLAIMS)
            now = [_clients(node) for node in (shared_sentinel, master)]
            assert now == [count + 1 for count in before]
        assert eventually(
            lambda: before == [_clients(node) for node in (shared_sentinel, master)]
        )


def _clients(node: Node) -> int:
    with node.client() as client:
        return len(client.client_list(_type="normal"))


@contextmanager
def listening(
    answer: bytes = b"", asked: Counter[Address] | None = None
) -> Iterator[Address]:
    """Listen on a port, and say this when asked who is the master.

    ``asked`` counts who connects, by the address of the port.
    """
    clients: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(client)
                if asked is not None:
                    asked[listener.getsockname()] += 1
                while answer and (request := client.recv(4096)):
                    client.sendall(b"+OK\r\n" * request.count(b"SETINFO"))
                    if b"GET-MASTER" in request:
                        client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in clients:
                client.close()


class TestCluster:
    def test_a_thousand_at_once(self, cluster: Cluster) -> None:
        """Coroutines whose tickets belong to all masters each get their own.

        Mutants: cluster-answers-master-by-master.
        """
        before = [calls_of(node, "getdel") for node in cluster.masters]
        with using(on_cluster(cluster)) as service:
            assert asyncio.run(_rounds(service, 1000)) == (1000, 1000)
        after = [calls_of(node, "getdel") for node in cluster.masters]
        shares = [b - a for a, b in zip(before, after, strict=True)]
        assert min(shares) > 400

    def test_a_batch_is_one_round_trip_to_each(self, cluster: Cluster) -> None:
        """Not one for each ticket. Mutants: cluster-sends-one-by-one."""
        backend = on_cluster(cluster)
        backend.pop(GOOD)
        items = [Item(new_value(), str(n), 9) for n in range(300)]
        reads = [_reads(node) for node in cluster.masters]
        assert backend.add_many(items) == [True] * 300
        assert backend.pop_many([i.key for i in items]) == [i.data for i in items]
        trips = [_reads(n) - r for n, r in zip(cluster.masters, reads, strict=True)]
        assert max(trips) < 30
        backend.close()

    def test_a_slot_that_moves(self, cluster: Cluster) -> None:
        """Its tickets are good before, while and after it moves, and its new ones too.

        Mutants: cluster-takes-ask-for-an-error, cluster-takes-moved-for-an-error,
        cluster-does-not-say-asking, cluster-keeps-an-old-map.
        """
        slot, other = 5, 16000
        source, target = cluster.owner(slot), cluster.owner(other)
        with using(on_cluster(cluster)) as service:
            stays, goes, last = key_in(slot), key_in(slot), key_in(slot)
            elsewhere = key_in(other)
            backend = service.backend
            for key in (stays, goes, last, elsewhere):
                assert backend.add(key, key, 60)
            with cluster.moving(slot, source, target):
                source.ask("MIGRATE", *target.address, goes, 0, 1000)
                born = key_in(slot)
                assert backend.add(born, born, 60)
                assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 2
                assert backend.pop_many([goes, elsewhere, stays, born, goes]) == [
                    goes, elsewhere, stays, born, None,
                ]  # fmt: skip
                source.ask("MIGRATE", *target.address, last, 0, 1000)
            errors = _redirections(source)
            assert backend.pop(last) == last
            for _ in range(5):
                assert backend.add(born, born, 60)
                assert backend.pop_many([born, born]) == [born, None]
            assert _redirections(source) == errors + 1
            with cluster.moving(slot, target, source):
                pass
            assert backend.pop_many([born, born]) == [None, None]

    def test_reading_is_one_round_trip_to_each(self, cluster: Cluster) -> None:
        """In the order of the keys, whichever master has them.

        Mutants: reading-answers-server-by-server, cluster-reads-one-by-one.
        """
        backend = on_cluster(cluster)
        backend.pop(GOOD)
        items = [Item(f"off:rt_:1764303000:{n}", str(n), 9) for n in range(300)]
        backend.add_many(items)
        reads = [_reads(node) for node in cluster.masters]
        assert backend.read_many([i.key for i in items]) == [i.data for i in items]
        trips = [_reads(n) - r for n, r in zip(cluster.masters, reads, strict=True)]
        assert max(trips) < 10
        assert backend.pop_many([i.key for i in items]) == [i.data for i in items]
        backend.close()

    def test_reading_from_a_slot_that_moves(self, cluster: Cluster) -> None:
        """Before, while and after it moves. Mutants: cluster-reads-no-redirection."""
        slot, other = 9, 16000
        source, target = cluster.owner(slot), cluster.owner(other)
        backend = on_cluster(cluster)
        stays, goes, elsewhere = key_in(slot), key_in(slot), key_in(other)
        keys = [goes, elsewhere, stays, goes]
        backend.add_many([Item(key, key, 60) for key in set(keys)])
        assert backend.read_many(keys) == keys
        with cluster.moving(slot, source, target):
            source.ask("MIGRATE", *target.address, goes, 0, 1000)
            assert backend.read_many(keys) == keys
            source.ask("MIGRATE", *target.address, stays, 0, 1000)
        errors = _redirections(source)
        for _ in range(3):
            assert backend.read_many([stays, elsewhere]) == [stays, elsewhere]
        assert _redirections(source) == errors + 1
        with cluster.moving(slot, target, source):
            for key in (stays, goes):
                target.ask("MIGRATE", *source.address, key, 0, 1000)
        assert backend.pop_many([stays, goes, elsewhere]) == [stays, goes, elsewhere]
        backend.close()

    def test_a_slot_moves_under_load(self, cluster: Cluster) -> None:
        """Nobody gets in twice, and nobody is refused.

        Mutants: cluster-asks-the-same-again.
        """
        slot = 7
        source, target = cluster.owner(slot), cluster.owner(16000)
        backend = on_cluster(cluster)
        keys = [key_in(slot) for _ in range(40)]
        assert backend.add_many([Item(key, key, 60) for key in keys]) == [True] * 40
        with ThreadPoolExecutor(4) as pool, cluster.moving(slot, source, target):
            shown = [pool.submit(backend.pop, key) for key in keys for _ in range(2)]
            while moving := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
                source.ask("MIGRATE", *target.address, *moving, 0, 1000)
            texts = [future.result() for future in shown]
        assert sorted(filter(None, texts)) == sorted(keys)
        with cluster.moving(slot, target, source):
            pass
        backend.close()

    @pytest.mark.parametrize(
        ("error", "kind"), [("ASK", AskError), ("MOVED", MovedError)]
    )
    def test_redirections_in_words(self, error: str, kind: type[AskError]) -> None:
        """redis-py 5 does not tell them from other errors. Other errors are none.

        Mutants: cluster-reads-no-words.
        """
        found = redis_cluster._redirection(redis.ResponseError(f"{error} 5 10.0.0.1:7"))
        assert type(found) is kind
        assert (found.host, found.port) == ("10.0.0.1", 7)
        assert redis_cluster._redirection(redis.ResponseError("OOM x")) is None
        assert redis_cluster._redirection(f"{error} 5 10.0.0.1:7".encode()) is None

    def test_old_servers_get_a_script(self, cluster: Cluster) -> None:
        """EVAL goes where its key is. Mutants: cluster-hashes-the-script."""
        backend = on_cluster(cluster)
        backend._has_getdel = False
        keys = [new_value() for _ in range(30)]
        errors = [_redirections(node) for node in cluster.masters]
        assert backend.add_many([Item(key, key, 9) for key in keys]) == [True] * 30
        assert backend.pop_many(keys) == keys
        assert backend.pop(keys[0]) is None
        assert [_redirections(node) for node in cluster.masters] == errors
        backend.close()

    def test_a_master_that_dies_and_comes_back(self) -> None:
        """Tickets of its slots fail within their bound, others work meanwhile, and all
        do again afterwards, frozen or dead. Who reads misses its keys only.

        Mutants: cluster-learns-no-nodes, reading-fails-with-one-server.
        """
        # No failover is needed.
        with own_cluster(masters=3, patience=10) as cluster:
            victim = cluster.owner(100)
            lost, good = key_in(100), key_in(16000)
            known = RedisClusterBackend(startup_nodes=[victim.address])
            with using(known) as service:
                backend = service.backend
                for stop, start in (
                    (victim.freeze, victim.thaw),
                    (victim.kill, victim.start),
                ):
                    assert backend.add_many([Item(lost, "", 9), Item(good, "", 9)])
                    stop()
                    found = backend.read_many([lost, good, lost])
                    assert isinstance(found.pop(0), backend.storage_errors)
                    assert found[0] == "" and isinstance(found[1], redis.RedisError)
                    longest = [0.0, 0.0]
                    for _ in range(4):
                        longest[0] = max(
                            longest[0], _seconds(service, lost, fails=True)
                        )
                        longest[1] = max(
                            longest[1], _seconds(service, good, fails=False)
                        )
                    logger.info("%s: longest waits %s", stop.__name__, longest)
                    assert longest[0] < BOUND and longest[1] < 2.5
                    start()
                    servers.until(lambda: _works(backend, lost))
                    cluster.until_agreed()

    def test_a_failover_under_load(self) -> None:
        """A replica takes over by itself, and so does the client. The old master comes
        back, and is not used.

        Mutants: cluster-keeps-its-map-after-a-failure.
        """
        # A second master must not be taken for dead because the machine is busy.
        with own_cluster(masters=3, replicas=1, patience=3) as cluster:
            old = cluster.owner(100)
            with using(on_cluster(cluster)) as service, Load(service) as load:
                assert load.goes_on()
                old.kill()
                killed = time.monotonic()
                servers.until(lambda: _works(on_cluster(cluster), key_in(100)))
                assert load.goes_on()
                before = load.failures
                assert load.goes_on()
                old.start()
                servers.until(lambda: old.follows() > 0)
                assert load.goes_on()
            logger.info(load.figures(since=killed))
            assert load.twice == 0
            assert 0 < load.failures == before
            assert load.last_failure - killed < 15
            assert load.longest < BOUND
            assert calls_of(old, "getdel") == 0

    def test_replicas_confirm(self) -> None:
        """wait_replicas counts those of the ticket's master, redirected or not.

        Mutants: wait-reply-is-ignored, cluster-redirected-calls-are-not-confirmed.
        """
        with (
            own_cluster(masters=2, replicas=1, patience=10) as cluster,
            using(on_cluster(cluster, wait_replicas=1, socket_timeout=6)) as patient,
            using(on_cluster(cluster, wait_replicas=1)) as service,
        ):
            assert asyncio.run(_rounds(patient, 50)) == (50, 50)
            slot, key = 5, key_in(5)
            source, target, _, replica = cluster.nodes
            service.backend.add(key, key, 60)
            with cluster.moving(slot, source, target):
                source.ask("MIGRATE", *target.address, key, 0, 1000)
                replica.freeze()
                with within(BOUND), pytest.raises(redis.TimeoutError):
                    service.backend.pop(key)
                replica.thaw()

    def test_a_slot_that_nobody_serves(self) -> None:
        """Is an outage for its tickets, and the others work. A lone node that does not
        know its own address is found where it answered.

        Mutants: cluster-takes-no-address-for-one, cluster-sends-anywhere.
        """
        servers.need("redis-cluster")
        node = Node("--cluster-enabled", "yes", "--cluster-port", str(free_port()),
                    "--cluster-require-full-coverage", "no")  # fmt: skip
        node.ask("CLUSTER", "ADDSLOTS", *range(8192))
        backend = RedisClusterBackend(startup_nodes=[node.address])
        assert eventually(lambda: "cluster_state:ok" in node.ask("CLUSTER", "INFO"))
        good, lost = key_in(5), key_in(16000)
        assert backend.add(good, good, 9) is True
        with pytest.raises(redis.ConnectionError):
            backend.add(lost, lost, 9)
        with pytest.raises(redis.ConnectionError):
            backend.pop_many([good, lost])
        assert backend.pop(good) == good
        backend.close()
        node.kill()

    def test_a_redis_is_no_cluster(self) -> None:
        """Who points at a plain Redis sees the reason in the cause.

        Mutants: nodes-forget-the-reason.
        """
        servers.need("redis-cluster")
        node = Node()
        backend = RedisClusterBackend(startup_nodes=[node.address])
        with using(backend) as service, pytest.raises(StorageError) as caught:
            service.issue(CLAIMS)
        assert "cluster support disabled" in _reason(caught.value)
        node.kill()

    def test_a_master_that_answers_with_an_error(self, cluster: Cluster) -> None:
        """Out of memory, it fails the call, and tickets can still be consumed.

        Mutants: cluster-error-reply-is-a-reply.
        """
        backend = on_cluster(cluster)
        key, master = key_in(5), cluster.owner(5)
        backend.add(key, key, 9)
        master.ask("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            backend.add(key_in(5), "", 9)
        assert backend.pop(key) == key
        master.ask("CONFIG", "SET", "maxmemory", 0)
        backend.close()

    def test_close_leaves_no_connection(self, cluster: Cluster) -> None:
        """At no master. Mutants: cluster-close-closes-nothing."""
        before = [_clients(node) for node in cluster.masters]
        with using(on_cluster(cluster)) as service:
            asyncio.run(_rounds(service, 30))
            assert sum(_clients(node) for node in cluster.masters) == sum(before) + 3
        assert eventually(lambda: before == [_clients(n) for n in cluster.masters])


def _commands(node: Node) -> int:
    return int(node.ask("INFO", "stats")["total_commands_processed"])


def _reads(node: Node) -> int:
    return int(node.ask("INFO", "stats")["total_reads_processed"])


def _redirections(node: Node) -> int:
    errors = node.ask("INFO", "errorstats")
    return int(errors.get("errorstat_MOVED", {"count": 0})["count"])


def _seconds(service: TicketService, key: str, *, fails: bool) -> float:
    """Return how long it takes to add and pop this key, or to fail."""
    started = time.monotonic()
    if fails:
        with pytest.raises(service.backend.storage_errors):
            service.backend.pop(key)
    else:
        service.backend.pop(key)
        assert service.backend.add(key, key, 9)
        assert service.backend.pop(key) == key
    return time.monotonic() - started


def _works(backend: RedisClusterBackend, key: str) -> bool:
    try:
        backend.add(key, key, 9)
        return backend.pop(key) is not None
    except backend.storage_errors:
        return False


NOWHERE = ("127.0.0.1", 1)
SENTINEL = {"sentinels": [NOWHERE], "service_name": "tickets"}
CLUSTER = {"startup_nodes": [NOWHERE]}


class TestBoth:
    @pytest.mark.parametrize(
        ("cls", "options"),
        [(RedisSentinelBackend, SENTINEL), (RedisClusterBackend, CLUSTER)],
        ids=["sentinel", "cluster"],
    )
    def test_constructors_open_no_socket(
        self,
        cls: type[RedisBackend],
        options: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The first call connects. Mutants: cluster-asks-at-once."""

        def refused(*args: object, **kwargs: object) -> None:
            raise AssertionError("opened a socket")

        monkeypatch.setattr(socket, "socket", refused)
        backend = cls(**options)
        with pytest.raises(AssertionError, match="opened a socket"):
            backend.pop(GOOD)

    @pytest.mark.parametrize("kind", ["sentinel", "cluster"])
    def test_threads_wait_for_a_connection(
        self, kind: str, request: pytest.FixtureRequest
    ) -> None:
        """Of 32 threads that share two connections none fails.

        Mutants: redis-pool-does-not-wait.
        """
        if kind == "sentinel":
            servers.require("redis-sentinel")
            backend: Any = on_sentinel(servers.sentinel(), max_connections=2)
        else:
            servers.require("redis-cluster")
            backend = on_cluster(servers.cluster(), max_connections=2)

        def work(_: int) -> None:
            for _ in range(10):
                key = new_value()
                assert backend.add(key, key, 9) and backend.pop(key) == key

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(work, range(32)))
        backend.close()

    @pytest.mark.parametrize(
        ("backend", "options", "said"),
        [
            ("redis_sentinel.RedisSentinelBackend", {}, "'sentinels'"),
            ("redis_sentinel.RedisSentinelBackend", {"sentinels": [NOWHERE]},
             "'service_name'"),
            ("redis_sentinel.RedisSentinelBackend", SENTINEL | {"sentinels": []},
             "sentinels is a list of (host, port)"),
            ("redis_sentinel.RedisSentinelBackend",
             SENTINEL | {"sentinels": ["localhost:26379"]},
             "sentinels is a list of (host, port)"),
            ("redis_sentinel.RedisSentinelBackend", SENTINEL | {"host": "h"},
             "not ['host']"),
            ("redis_sentinel.RedisSentinelBackend", SENTINEL | {"hots": "h"}, "'hots'"),
            ("redis_sentinel.RedisSentinelBackend",
             SENTINEL | {"sentinel_kwargs": {"hots": "h"}}, "'hots'"),
            ("redis_sentinel.RedisSentinelBackend", SENTINEL | {"wait_replicas": "1"},
             "wait_replicas"),
            ("redis_cluster.RedisClusterBackend", {}, "'startup_nodes'"),
            ("redis_cluster.RedisClusterBackend", {"startup_nodes": "localhost"},
             "startup_nodes is a list of (host, port)"),
            ("redis_cluster.RedisClusterBackend", {"startup_nodes": 7},
             "startup_nodes is a list of (host, port)"),
            ("redis_cluster.RedisClusterBackend", CLUSTER | {"db": 1}, "not ['db']"),
            ("redis_cluster.RedisClusterBackend", CLUSTER | {"url": "redis://h"},
             "not ['url']"),
            ("redis_cluster.RedisClusterBackend", CLUSTER | {"hots": "h"}, "'hots'"),
            ("redis.RedisBackend", {"wait_replicas": -1}, "wait_replicas"),
        ],
        ids=ascii,
    )  # fmt: skip
    def test_wrong_options_are_found_by_the_checks(
        self, backend: str, options: dict[str, Any], said: str, settings: Any
    ) -> None:
        """manage.py check names the setting, the backend and what is wrong."""
        settings.REALTIME_TICKET_BACKEND = f"{BACKENDS}{backend}"
        settings.REALTIME_TICKET_REDIS = options
        (finding,) = check_settings()
        assert finding.id == "realtime_ticket.E005"
        assert "REALTIME_TICKET_REDIS does not suit Redis" in finding.msg
        assert said in finding.msg

    @pytest.mark.parametrize(
        "backend", ["redis_sentinel.RedisSentinelBackend",
                    "redis_cluster.RedisClusterBackend"]
    )  # fmt: skip
    def test_no_string_stands_for_the_options(
        self, backend: str, settings: Any
    ) -> None:
        """A URL names one server."""
        settings.REALTIME_TICKET_BACKEND = f"{BACKENDS}{backend}"
        settings.REALTIME_TICKET_REDIS = "redis://localhost"
        (finding,) = check_settings()
        assert finding.id == "realtime_ticket.E005"
