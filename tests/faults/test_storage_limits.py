"""Storages at their limits: full, read-only, busy, restored, and full of garbage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client

from realtime_ticket import InvalidTicket, StorageError, Ticket, TicketService
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.faults.load import BOUND, BULKY, DOORS, Load, lets_in
from tests.faults.storages import KINDS, PATIENT, Storage, on_redis
from tests.helpers import CLAIMS, eventually, using
from tests.servers import Node

GARBAGE = '{"id": 7}'
DECIDE_AT_ONCE = ["Redis", "PostgreSQL", "MariaDB"]
"""Storages that read and remove a ticket in one step."""

Trouble = Callable[[Node], AbstractContextManager[None]]

every_door = pytest.mark.parametrize("door", DOORS)
every_redis = pytest.mark.parametrize(
    "make_backend",
    [
        pytest.param(make_backend, id=name)
        for name, (server, _, make_backend) in KINDS.items()
        if server == "redis"
    ],
)


@pytest.fixture
def node() -> Iterator[Node]:
    """Give a Redis of the test's own."""
    servers.need("redis")
    node = Node()
    yield node
    node.kill()


@contextmanager
def under_load(node: Node, door: str, patience: int | None = None) -> Iterator[Load]:
    """Use this Redis from all sides until the block ends."""
    backend = on_redis(node.port, patience)
    with using(backend) as service, Load(service, door) as load:
        yield load


def commands(begin: str, end: str) -> Trouble:
    """Return a trouble that one command brings about, and one ends."""

    @contextmanager
    def trouble(node: Node) -> Iterator[None]:
        node.ask(*begin.split())
        yield
        node.ask(*end.split())

    return trouble


@contextmanager
def failing_snapshots(node: Node) -> Iterator[None]:
    """Let Redis find no place for its snapshot, as on a full disk, then let it."""

    def save(status: str) -> None:
        node.ask("BGSAVE")
        servers.until(
            lambda: node.ask("INFO", "persistence")["rdb_last_bgsave_status"] == status
        )

    in_its_place = node.folder / "dump.rdb"
    in_its_place.mkdir()
    node.ask("CONFIG", "SET", "save", "3600 1")
    save("err")
    yield
    in_its_place.rmdir()
    save("ok")


@contextmanager
def endless_script(node: Node, silence: int = 10) -> Iterator[None]:
    """Let Redis run somebody's script. For so many milliseconds it says nothing to
    others, then that it is busy; so it does when the block begins."""

    def run() -> None:
        with pytest.raises(redis.ResponseError, match="SCRIPT KILL"):
            node.ask("EVAL", "while true do end", 0)

    node.ask("CONFIG", "SET", "lua-time-limit", silence)
    with ThreadPoolExecutor(1) as pool, node.client() as watcher:
        running = pool.submit(run)
        servers.until(lambda: is_busy(watcher))
        try:
            yield
        finally:
            watcher.script_kill()
        running.result(30)


def is_busy(client: redis.Redis) -> bool:
    try:
        client.get("x")
    except redis.ResponseError as exc:
        return "BUSY" in str(exc)
    return False


TROUBLES: dict[str, tuple[str, Trouble]] = {
    "memory full": (
        "maxmemory",
        commands("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    ),
    "read-only replica": (
        "read only replica",
        commands("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ),
    "too few replicas": (
        "NOREPLICAS",
        commands(
            "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"
        ),
    ),
    "disk full": ("MISCONF", failing_snapshots),
    "busy with a script": ("BUSY", endless_script),
}
"""What Redis answers with an error, words of that error, and how it comes about."""

every_trouble = pytest.mark.parametrize("name", TROUBLES)


class TestErrorReplies:
    @every_trouble
    @every_redis
    def test_are_outages_that_pass(
        self, node: Node, make_backend: Callable[[int], BaseBackend], name: str
    ) -> None:
        """No ticket is issued, nobody gets in, and nobody is told that their ticket was
        bad: it is still good, once, when the trouble is over. Nothing is restarted. Out
        of memory, tickets can be consumed all the while.

        Mutants: redis-error-reply-is-no-ticket, redis-error-reply-is-a-reply.
        """
        words, trouble = TROUBLES[name]
        with using(make_backend(node.port)) as service:
            ticket = service.issue(CLAIMS, expire=60)
            with trouble(node):
                with pytest.raises(StorageError) as caught:
                    service.issue(CLAIMS)
                assert words in str(caught.value.__cause__)
                if name != "memory full":
                    with pytest.raises(StorageError):
                        service.consume(ticket.value)
                else:
                    assert lets_in(service, ticket)
            assert lets_in(service, ticket) is (name != "memory full")
            assert not lets_in(service, ticket)
            assert lets_in(service, service.issue(CLAIMS))

    @every_trouble
    @pytest.mark.django_db
    def test_are_503_to_a_page(self, node: Node, name: str, settings: Any) -> None:
        """With Retry-After. When the trouble is over, the same process issues again.

        Mutants: view-says-nothing-of-later, redis-error-reply-is-a-reply.
        """
        settings.REALTIME_TICKET_BACKEND = "realtime_ticket.backends.redis.RedisBackend"
        settings.REALTIME_TICKET_REDIS = {"port": node.port}
        browser = Client()
        browser.force_login(User.objects.create_user("ada"))
        with TROUBLES[name][1](node):
            answer = browser.post("/ticket/")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert browser.post("/ticket/").status_code == 200

    @every_trouble
    @every_door
    def test_under_load(self, node: Node, door: str, name: str, record: Any) -> None:
        """No ticket is lost.

        Mutants: redis-error-reply-is-a-reply.
        """
        with under_load(node, door) as load:
            assert load.goes_on()
            with TROUBLES[name][1](node):
                assert load.fails()
            assert load.goes_on()
        assert load.lost == 0
        record(name, "Redis", load, bound=BOUND[door])


class TestDisturbances:
    """What an administrator, or a neighbour on the same Redis, does to all."""

    @every_door
    def test_clients_killed(self, node: Node, door: str, record: Any) -> None:
        """The calls that were under way fail, and everybody connects again.

        Mutants: redis-knows-outages-only-by-time.
        """
        with under_load(node, door) as load:
            assert load.goes_on()

            def disturbed() -> bool:
                node.ask("CLIENT", "KILL", "TYPE", "normal")
                return load.outages >= 3

            assert eventually(disturbed, 20)
            assert load.goes_on()
        record("clients killed", "Redis", load, bound=BOUND[door])

    @every_door
    def test_too_many_clients(self, node: Node, door: str, record: Any) -> None:
        """Redis takes no more connections than there are, and ours are not among them.

        Mutants: redis-knows-outages-only-by-time.
        """
        with under_load(node, door) as load:
            assert load.goes_on()
            with node.client() as neighbour:
                neighbour.config_set("maxclients", 1)
                neighbour.client_kill_filter(_type="normal", skipme=True)
                assert load.fails(30)
                neighbour.config_set("maxclients", 10_000)
            assert load.goes_on()
        record("too many clients", "Redis", load, bound=BOUND[door])

    @every_door
    def test_all_keys_flushed(self, node: Node, door: str, record: Any) -> None:
        """Live tickets are refused as if they had expired. No call fails.

        Mutants: redis-only-reads.
        """
        with under_load(node, door, PATIENT) as load:
            for _ in range(10):
                aside = load.service.issue(CLAIMS, expire=60)
                node.ask("FLUSHALL")
                with pytest.raises(InvalidTicket):
                    load.service.consume(aside.value)
            assert load.goes_on()
        assert load.outages == 0
        record("all keys flushed", "Redis", load, bound=BOUND[door])

    @pytest.mark.parametrize("mode", ["ALL", "WRITE"])
    @every_door
    def test_clients_paused(
        self, node: Node, door: str, mode: str, record: Any
    ) -> None:
        """Before a failover by hand. Calls end after their second, and then fail.

        Mutants: redis-waits-for-ever.
        """
        with under_load(node, door) as load:
            assert load.goes_on()
            node.ask("CLIENT", "PAUSE", 3000, mode)
            assert load.fails()
            assert load.goes_on()
        record("clients paused", "Redis", load, bound=BOUND[door])

    @every_door
    def test_blocked(self, node: Node, door: str, record: Any) -> None:
        """By a command that takes longer than calls wait. Redis carries out what they
        have sent, later, and nobody gets in by that.

        Mutants: redis-keeps-spoiled-connections.
        """
        with under_load(node, door) as load:
            assert load.goes_on()
            with endless_script(node, silence=3000):
                assert load.outages > 0
            assert load.goes_on()
        record("blocked by a command", "Redis", load, bound=BOUND[door])

    @every_door
    def test_scripts_flushed(self, door: str, record: Any) -> None:
        """On a Redis without GETDEL, which is sent the script each time. No call fails.

        Mutants: redis-script-by-its-hash.
        """
        servers.need("old-redis")
        node = Node("--rename-command", "GETDEL", "")
        with under_load(node, door, PATIENT) as load:
            for _ in range(10):
                assert load.goes_on(5)
                node.ask("SCRIPT", "FLUSH")
            assert load.goes_on()
        node.kill()
        assert load.outages == 0
        record("scripts flushed", "Redis", load, bound=BOUND[door])


class TestMemory:
    def test_full_of_tickets(self, node: Node) -> None:
        """Redis takes no more of them, and gives out every one that it has. Then there
        is room again.

        Mutants: redis-error-reply-is-a-reply.
        """
        with using(RedisBackend(port=node.port)) as service:
            limit(node, "noeviction")
            kept = list(issue_until_full(service))
            assert len(kept) > 50
            for ticket in kept:
                assert service.consume(ticket.value) == ticket
            assert service.issue(BULKY)

    @pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
    @every_door
    def test_full_and_evicting(
        self, node: Node, door: str, policy: str, record: Any
    ) -> None:
        """Redis drops live tickets for new ones. They are refused, and none is good for
        two. No call fails, so only the doctor tells.

        Mutants: redis-only-reads, doctor-minds-no-eviction.
        """
        with under_load(node, door, PATIENT) as load:
            service = load.service
            assert load.goes_on()
            limit(node, policy)
            poured = [service.issue(BULKY, expire=60) for _ in range(800)]
            entries = [lets_in(service, ticket) for ticket in poured]
            again = [lets_in(service, ticket) for ticket in poured]
            assert load.goes_on()
            found = {message.id for message in service.backend.diagnose()}
        assert 0 < sum(entries) < len(poured)
        assert sum(again) == load.outages == 0
        assert "realtime_ticket.W013" in found
        record("memory full, keys evicted", "Redis", load, bound=BOUND[door])


def limit(node: Node, policy: str) -> None:
    """Leave room for some hundred bulky tickets."""
    used = int(node.ask("INFO", "memory")["used_memory"])
    node.ask("CONFIG", "SET", "maxmemory-policy", policy)
    node.ask("CONFIG", "SET", "maxmemory", used + 1_000_000)


def issue_until_full(service: TicketService) -> Iterator[Ticket]:
    for _ in range(5000):
        try:
            yield service.issue(BULKY, expire=60)
        except StorageError:
            return
    pytest.fail("it is never full")


class TestOnDisk:
    @pytest.mark.parametrize("kind", ["snapshot", "append-only file"])
    def test_a_spent_ticket_that_is_restored(self, kind: str) -> None:
        """A limit, documented under "When a spent ticket comes back": Redis starts from
        a file that does not know that the ticket is spent, so it is good once more. But
        not beyond its time, which is in the file as a point in time.

        Mutants: redis-forgets-expiry.
        """
        servers.need("redis")
        appends = kind == "append-only file"
        # Or Redis may answer first, and die before it has written.
        files = ["--appendonly", "yes", "--appendfsync", "always"] if appends else []
        node = Node(*files)
        with using(RedisBackend(port=node.port)) as service:
            long, short = (service.issue(CLAIMS, expire=n) for n in (60, 6))
            over = time.monotonic() + 6.1
            if not appends:
                node.ask("SAVE")
            assert lets_in(service, short) and lets_in(service, long)
        node.kill()
        if appends:
            forget_last_commands(node, 2)
        time.sleep(max(0, over - time.monotonic()))
        node.start()
        with using(RedisBackend(port=node.port)) as service:
            assert [lets_in(service, long) for _ in range(2)] == [True, False]
            assert not lets_in(service, short)
        node.kill()

    @pytest.mark.parametrize("end", ["kill", "terminate"])
    def test_nothing_is_restored_where_nothing_is_written(
        self, node: Node, end: str
    ) -> None:
        """With ``save ""`` and ``appendonly no`` no ticket outlives its server.

        Mutants: redis-only-reads.
        """
        with using(RedisBackend(port=node.port)) as service:
            spent, live = (service.issue(CLAIMS, expire=60) for _ in range(2))
            assert [lets_in(service, spent) for _ in range(2)] == [True, False]
            getattr(node.process, end)()
            node.process.wait(30)
            node.start()
            assert not lets_in(service, spent) and not lets_in(service, live)

    def test_while_it_is_loaded(self) -> None:
        """A Redis that still reads its file says so, and that is an outage. Then every
        ticket is there.

        Mutants: redis-knows-outages-only-by-time.
        """
        servers.need("redis")
        node = Node("--key-load-delay", "2000",
                    "--loading-process-events-interval-bytes", "1024")  # fmt: skip
        with using(RedisBackend(port=node.port)) as service:
            kept = [service.issue(CLAIMS, expire=60) for _ in range(300)]
            node.ask("SAVE")
            node.kill()
            causes = set()

            def is_back() -> bool:
                try:
                    return service.consume(kept[0].value) == kept[0]
                except StorageError as exc:
                    causes.add(type(exc.__cause__))
                return False

            with ThreadPoolExecutor(1) as pool:
                starting = pool.submit(node.start)
                assert eventually(is_back, 20)
                starting.result(30)
            assert redis.BusyLoadingError in causes
            assert all(lets_in(service, ticket) for ticket in kept[1:])
        node.kill()


def forget_last_commands(node: Node, count: int) -> None:
    """Cut off the append-only file, as a loss of power does."""
    (path,) = [*node.folder.glob("**/*.incr.aof"), *node.folder.glob("*only.aof")]
    commands = path.read_bytes().split(b"*")
    path.write_bytes(b"*".join(commands[:-count]))


class TestOtherTexts:
    @pytest.mark.parametrize(
        "command", ["RPUSH {} x", "SADD {} x", "ZADD {} 1 x", "HSET {} x y",
                    "XADD {} * x y"]
    )  # fmt: skip
    def test_of_another_type(self, node: Node, command: str) -> None:
        """What is no text is no ticket, and its neighbours in a batch get in. It stays
        where it is: it is not ours.

        Mutants: redis-wrong-type-fails-the-batch, redis-wrong-type-is-no-ticket.
        """

        async def show(service: TicketService, *values: str) -> list[Any]:
            shown = [service.aconsume(value) for value in values]
            return await asyncio.gather(*shown, return_exceptions=True)

        with using(RedisBackend(port=node.port)) as service:
            one, other, lost = (service.issue(CLAIMS) for _ in range(3))
            node.ask("DEL", lost.value)
            node.ask(*command.format(lost.value).split())
            for _ in range(2):
                with pytest.raises(InvalidTicket) as caught:
                    service.consume(lost.value)
                assert caught.value.reason == "mismatch"
            got = asyncio.run(show(service, one.value, lost.value, other.value))
            assert got[::2] == [one, other]
            assert isinstance(got[1], InvalidTicket)
            assert node.ask("EXISTS", lost.value) == 1

    @pytest.mark.parametrize("given", DECIDE_AT_ONCE, indirect=True)
    @every_door
    def test_garbage_under_load(self, given: Storage, door: str, record: Any) -> None:
        """Somebody takes tickets away and leaves garbage in their place. It lets nobody
        in, whether it comes before the caller, between two or after all.

        Mutants: ticket-from-garbage.
        """
        backend = given.patient_backend()
        with using(backend) as service, Load(service, door) as load:
            assert load.goes_on()
            planted = 0
            thief = given.backend()
            ends = time.monotonic() + 1
            while planted < 30 or time.monotonic() < ends:
                key = service._key(list(load.issued)[-1], "")
                thief.pop(key)
                planted += thief.add(key, GARBAGE, 60)
            assert load.goes_on()
            thief.close()
        assert load.outages == 0
        record("tickets replaced by garbage", given.name, load, bound=BOUND[door])

    @pytest.mark.parametrize(
        "given", [name for name in KINDS if name not in DECIDE_AT_ONCE], indirect=True
    )
    def test_garbage_that_is_deleted_in_place_of_a_ticket(
        self, given: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A limit, documented under "Who trusts whom": a storage that reads and then
        deletes lets in a second caller who has read the ticket, if somebody writes
        under its key between the two deletions. This package writes a key once.

        Mutants: cache-winner-deletes-nothing.
        """
        with using(given.backend()) as one, using(given.backend()) as other:
            ticket = one.issue(CLAIMS, expire=60)
            client = client_of(one.backend)
            get = client.get

            def overtaken(key: str) -> Any:
                text = get(key)
                assert other.consume(ticket.value) == ticket
                assert other.backend.add(key, GARBAGE, 60)
                return text

            monkeypatch.setattr(client, "get", overtaken)
            assert one.consume(ticket.value) == ticket


def client_of(backend: Any) -> Any:
    """Return what a backend reads with."""
    if isinstance(backend, MemcachedBackend):
        return backend._call(backend._server(""), lambda client: client)
    return backend._connection.cache
