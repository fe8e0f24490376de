"""manage.py ticket_doctor: it finds what is wrong, says so, and leaves no ticket."""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import redis
from django.core import checks
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections, transaction

from realtime_ticket import InvalidTicket, TicketService, doctor, signals
from realtime_ticket.backends import (
    _clock,
    _database_diagnosis,
    _memcached_diagnosis,
    _redis_diagnosis,
)
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.backends.redis_cluster import RedisClusterBackend
from realtime_ticket.backends.redis_sentinel import RedisSentinelBackend
from realtime_ticket.models import StoredTicket
from tests import servers
from tests.helpers import (
    NOWHERE,
    clients_of,
    eventually,
    real_redis,
    silent_listener,
    using,
    within,
)
from tests.servers import Node

BACKENDS = "realtime_ticket.backends."
DATABASE = f"{BACKENDS}database.DatabaseBackend"
LOCMEM = f"{BACKENDS}locmem.LocMemBackend"
MEMCACHED = f"{BACKENDS}memcached.MemcachedBackend"
REDIS = f"{BACKENDS}redis.RedisBackend"
EXAMINATIONS = ["round trip", "race", "expiry", "latency", "project", "disconnect"]
DB = 7
"""Of the Redis of the tests, for these alone."""


class OnRedis(RedisBackend):
    """A backend on the real Redis that something is wrong with."""

    def __init__(self, **options: Any) -> None:
        super().__init__(unix_socket_path=str(servers.REDIS), db=DB, **options)


class GetsThenDeletes(OnRedis):
    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        texts = self._texts([("GET", key) for key in keys])
        self._exchange([("DEL", key) for key in keys])
        return texts


class IgnoresExpiry(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return super().add_many([item._replace(expire=30) for item in items])


class Replays(OnRedis):
    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return self._texts([("GET", key) for key in keys])


class Forgets(OnRedis):
    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return [True for _ in items]


class Swallows(RedisBackend):
    """Take an outage for an empty storage."""

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        try:
            return super().add_many(items)
        except redis.RedisError:
            return [True for _ in items]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        try:
            return super().pop_many(keys)
        except redis.RedisError:
            return [None for _ in keys]


class TicketsOnly(OnRedis):
    read_many = BaseBackend.read_many


class LosesInRaces(OnRedis):
    """Lose every other ticket."""

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        texts = super().pop_many(keys)
        if threading.current_thread() is threading.main_thread():
            return texts
        pairs = zip(texts, keys, strict=True)
        return [text if ord(key[9]) % 2 else None for text, key in pairs]


class FailsInRaces(OnRedis):
    """Fail for one thread, once, while others race."""

    failed: ClassVar[threading.Lock]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main and self.failed.acquire(blocking=False):
            raise redis.ConnectionError(f"lost the reply for {keys}")
        return super().pop_many(keys)


class BreaksInRaces(OnRedis):
    """Raise what no backend may."""

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        if threading.current_thread() is threading.main_thread():
            return super().pop_many(keys)
        raise KeyError("a bug")


_expiry = doctor._expiry
GRACE = doctor.GRACE


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no time over expiry, and less over what takes time."""
    monkeypatch.setattr(doctor, "_expiry", lambda probe: doctor.Finding("expiry", ""))
    monkeypatch.setattr(doctor, "PAIRS", 50)


@pytest.fixture
def patience(hurry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait until tickets expire, after all."""
    monkeypatch.setattr(doctor, "_expiry", _expiry)
    monkeypatch.setattr(doctor, "GRACE", 0.2)


@pytest.fixture
def watcher() -> Iterator[redis.Redis]:
    """Give a client of the Redis of the tests, on the database of these."""
    with real_redis(DB) as client:
        client.flushdb()
        yield client


@pytest.fixture
def configure(settings: Any) -> Any:
    def configure(backend: Any, **values: Any) -> None:
        if isinstance(backend, type):
            backend = f"{backend.__module__}.{backend.__qualname__}"
        settings.REALTIME_TICKET_BACKEND = backend
        for name, value in values.items():
            setattr(settings, f"REALTIME_TICKET_{name}", value)

    return configure


def run(*arguments: str) -> tuple[int, str]:
    """Return the exit status of the command, and what it prints."""
    output = StringIO()
    try:
        call_command("ticket_doctor", *arguments, stdout=output, no_color=True)
    except CommandError as exc:
        return exc.returncode, output.getvalue()
    return 0, output.getvalue()


def findings(*arguments: str) -> dict[str, Any]:
    """Return the findings of the command by name."""
    status, text = run("--json", *arguments)
    report = json.loads(text)
    assert report["healthy"] is (status == 0)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert len(found) == len(report["findings"])
    for finding in found.values():
        assert finding.keys() == {"name", "message", "level", "hint", "figures"}
        assert bool(finding["hint"]) or finding["level"] in ("OK", "INFO")
    return found


def wrong(*arguments: str) -> list[str]:
    """Return the names of the findings that are errors."""
    found = findings(*arguments)
    return [name for name, each in found.items() if each["level"] == "ERROR"]


def tickets_left(alias: str = "default") -> bool:
    """Tell whether the table holds more than a mark and an entry of the journal."""
    rows = StoredTicket.objects.using(alias)
    assert rows.filter(ticket_key__startswith="off:").count() == 1
    (mark,) = rows.exclude(ticket_key__startswith="off:")
    return not mark.data.startswith("project ")


def diagnosis(backend: Any) -> list[str]:
    """Return the ids of what a storage says of itself, and close the backend."""
    with using(backend):
        return [message.id.partition(".")[2] for message in backend.diagnose()]


@pytest.mark.usefixtures("patience")
class TestHealthyStorages:
    def test_local_memory(self, configure: Any, settings: Any) -> None:
        """Every examination is fine, and the command succeeds. It says who is not."""
        settings.DEBUG = True
        configure(LOCMEM)
        found = findings()
        assert list(found) == ["realtime_ticket.I007", *EXAMINATIONS]
        assert {found[name]["level"] for name in EXAMINATIONS} == {"OK"}

    def test_redis(self, configure: Any, watcher: redis.Redis) -> None:
        """And so is what the server says."""
        configure(OnRedis)
        found = findings()
        assert list(found) == [*EXAMINATIONS, "realtime_ticket.I002"]
        assert found["realtime_ticket.I002"]["message"].endswith(", master.")
        figures = found["race"]["figures"]
        assert figures == {"races": 25, "racers": 16, "most winners": 1}
        figures = found["latency"]["figures"]
        assert 0 < figures["median"] <= figures["p99"]

    def test_memcached(self, configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Several servers of one version are one finding.

        They count whole seconds, and on a busy machine they count late.
        """
        servers.require("memcached")
        monkeypatch.setattr(doctor, "GRACE", GRACE)
        configure(MEMCACHED, MEMCACHED={"servers": [str(p) for p in servers.MEMCACHED]})
        found = findings()
        assert list(found) == [
            *EXAMINATIONS, "realtime_ticket.I003", "realtime_ticket.W016",
        ]  # fmt: skip
        assert {found[name]["level"] for name in EXAMINATIONS} == {"OK"}

    @pytest.mark.django_db(transaction=True)
    def test_sqlite(self, configure: Any) -> None:
        configure(DATABASE)
        assert list(findings()) == [*EXAMINATIONS, "realtime_ticket.I005"]
        assert not tickets_left()

    @pytest.mark.django_db(transaction=True, databases=["postgresql"])
    def test_postgresql(self, configure: Any) -> None:
        configure(DATABASE, DATABASE="postgresql")
        assert list(findings()) == [*EXAMINATIONS, "realtime_ticket.I004"]
        assert not tickets_left("postgresql")

    @pytest.mark.django_db(transaction=True, databases=["mariadb"])
    def test_mariadb(self, configure: Any) -> None:
        configure(DATABASE, DATABASE="mariadb")
        assert wrong() == []
        assert not tickets_left("mariadb")

    def test_a_cache(self, configure: Any, settings: Any) -> None:
        """A backend that has nothing to say of its storage says nothing."""
        configure(f"{BACKENDS}cache.CacheBackend", CACHE="file")
        assert list(findings()) == ["realtime_ticket.W025", *EXAMINATIONS]

    def test_a_backend_for_tickets_only(
        self, configure: Any, watcher: redis.Redis
    ) -> None:
        """It is healthy, and the doctor warns that disconnects are not heard."""
        configure(TicketsOnly)
        found = findings()
        assert list(found) == [
            "realtime_ticket.W022", *EXAMINATIONS[:-1], "realtime_ticket.I002",
        ]  # fmt: skip
        assert found["realtime_ticket.W022"]["level"] == "WARNING"


def of_project(
    settings: Any, secret_key: str, *, prefix: str = "rt_", hash_keys: bool = False
) -> doctor.Finding:
    """Return what the doctor of a project with this SECRET_KEY says of others."""
    settings.SECRET_KEY = secret_key
    with using(OnRedis(), prefix=prefix, hash_keys=hash_keys) as service:
        return doctor._project(doctor._Probe(service))


@pytest.mark.usefixtures("watcher")
@pytest.mark.parametrize("hash_keys", [False, True])
def test_another_project_with_the_same_prefix_is_found(
    settings: Any, hash_keys: bool
) -> None:
    """As soon as the second one asks, and then by both. Another prefix is quiet.

    Mutants: doctor-overlooks-another-project.
    """
    told = []
    for project in ("shop", "shop", "forum", "forum", "shop"):
        found = of_project(settings, project, hash_keys=hash_keys)
        assert bool(found.hint) is (found.level == checks.WARNING)
        told.append(found.level)
    assert told == [0, 0, checks.WARNING, 0, checks.WARNING]
    assert of_project(settings, "forum", prefix="forum_").level == 0


class TestBrokenBackends:
    @pytest.mark.parametrize(
        ("backend", "names"),
        [
            (GetsThenDeletes, ["race"]),
            (IgnoresExpiry, ["expiry"]),
            (Replays, ["round trip", "race"]),
            (Forgets, ["round trip", "race", "disconnect"]),
            (LosesInRaces, ["race"]),
        ],
    )
    @pytest.mark.usefixtures("watcher", "patience")
    def test_are_found(
        self, configure: Any, backend: type[OnRedis], names: list[str]
    ) -> None:
        """With an error for what is wrong, and for nothing else."""
        configure(backend)
        assert wrong() == names

    @pytest.mark.usefixtures("watcher")
    def test_are_told_apart(self, configure: Any) -> None:
        """Letting in two is another trouble than letting in nobody."""
        configure(GetsThenDeletes)
        one = findings()["race"]
        assert one["figures"]["most winners"] > 1 and "atomic" in one["hint"]
        configure(LosesInRaces)
        other = findings()["race"]
        assert other["figures"]["most winners"] == 1 and "atomic" not in other["hint"]

    def test_that_swallow_an_outage(self, configure: Any) -> None:
        """With the storage down, one that says nothing of it keeps no ticket."""
        configure(Swallows, OPTIONS={"unix_socket_path": NOWHERE})
        assert "round trip" in wrong()

    @pytest.mark.usefixtures("watcher")
    def test_that_have_a_bug(self, configure: Any) -> None:
        """What is no outage is raised, as everywhere."""
        configure(BreaksInRaces)
        with pytest.raises(KeyError, match="a bug"):
            run()


class TestOutages:
    def test_a_storage_that_is_down(self, configure: Any) -> None:
        """One error, and no examination, at once."""
        configure(REDIS, REDIS={"unix_socket_path": NOWHERE})
        with within(4):
            found = findings()
        assert list(found) == ["storage"]
        assert found["storage"]["message"] == (
            f"The storage failed: Redis at {NOWHERE} is not there (ConnectionError)."
        )
        assert "REALTIME_TICKET_REDIS" in found["storage"]["hint"]
        assert run()[0] == 1

    def test_a_storage_that_is_frozen(self, configure: Any, tmp_path: Path) -> None:
        """The same, after two timeouts."""
        with silent_listener(tmp_path / "s") as listener:
            configure(REDIS, REDIS={"unix_socket_path": listener.getsockname()})
            assert list(findings()) == ["storage"]
            assert clients_of(listener) == 2

    def test_a_storage_that_fails_meanwhile(
        self, configure: Any, watcher: redis.Redis
    ) -> None:
        """The race ends for all threads, and the tickets that were left are taken back.

        Mutants: a thread that fails leaves the others waiting; nothing is taken back.
        """
        FailsInRaces.failed = threading.Lock()
        configure(FailsInRaces)
        found = findings()
        assert list(found) == ["round trip", "storage", "realtime_ticket.I002"]
        assert found["storage"]["level"] == "ERROR"
        assert watcher.dbsize() == 0

    @pytest.mark.django_db(transaction=True)
    def test_a_table_that_is_missing(self, configure: Any) -> None:
        """The doctor may query, so it knows the reason."""
        configure(DATABASE)
        with renamed_table():
            assert list(findings()) == ["realtime_ticket.W005", "storage",
                                        "realtime_ticket.I005"]  # fmt: skip

    @pytest.mark.django_db(transaction=True)
    def test_an_open_transaction(self, configure: Any) -> None:
        """Is a finding, not a traceback."""
        configure(DATABASE)
        with transaction.atomic():
            found = findings()
        assert "outside of transactions" in found["storage"]["message"]


@contextmanager
def renamed_table() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE realtime_ticket RENAME TO realtime_ticket_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE realtime_ticket_away RENAME TO realtime_ticket")


class TestSettings:
    def test_that_are_wrong(self, configure: Any) -> None:
        """Then there is nothing to examine, but all that is wrong is said."""
        configure(LOCMEM, EXPIRE=0, PREFIX="")
        assert set(findings()) == {
            f"realtime_ticket.{id}" for id in ("E003", "E006", "W001")
        }

    def test_that_are_risky(self, configure: Any) -> None:
        """Warnings do not keep it from going on."""
        configure(LOCMEM, EXPIRE=3600)
        found = findings()
        assert list(found) == [
            "realtime_ticket.W002", "realtime_ticket.W023", "realtime_ticket.W001",
            *EXAMINATIONS,
        ]  # fmt: skip
        assert run()[0] == 0

    def test_that_are_silenced(self, configure: Any, settings: Any) -> None:
        """Who has silenced a check is not told again, here and by the storage."""
        servers.require("memcached")
        settings.SILENCED_SYSTEM_CHECKS = ["realtime_ticket.W002",
                                           "realtime_ticket.W016"]  # fmt: skip
        configure(MEMCACHED, MEMCACHED=str(servers.MEMCACHED[0]), EXPIRE=3600,
                  JOURNAL_EXPIRE=3600)  # fmt: skip
        assert list(findings()) == [*EXAMINATIONS, "realtime_ticket.I003"]

    def test_that_are_wrong_and_silenced(self, configure: Any, settings: Any) -> None:
        """Who asks is told all the same, since nothing can be examined."""
        settings.SILENCED_SYSTEM_CHECKS = ["realtime_ticket.E001"]
        configure("no.such.Backend")
        assert list(findings()) == ["realtime_ticket.E001"]
        assert run()[0] == 1


class TestCommand:
    @pytest.mark.parametrize(
        ("level", "status"), [("ERROR", 0), ("WARNING", 1), ("INFO", 1)]
    )
    def test_fail_level(self, configure: Any, level: str, status: int) -> None:
        """The exit status is 1 from this level on."""
        configure(LOCMEM)
        assert run("--fail-level", level)[0] == status

    @pytest.mark.usefixtures("watcher")
    def test_fails_for_information_if_it_shall(self, configure: Any) -> None:
        configure(OnRedis)
        assert run("--fail-level", "WARNING")[0] == 0
        assert run("--fail-level", "INFO")[0] == 1

    def test_prints_a_line_for_each(self, configure: Any) -> None:
        """With a hint below, where there is one."""
        configure(LOCMEM)
        _, text = run()
        lines = text.splitlines()
        assert lines[0].startswith("WARNING realtime_ticket.W001: LocMemBackend keeps")
        assert lines[1].startswith("        Outside development, set")
        assert lines[2] == (
            "OK      round trip: A ticket was accepted once, and then refused."
        )
        assert len(lines) == 8

    @pytest.mark.parametrize("options", [["--fail-level", "BAD"], ["--no-such"]])
    def test_refuses_other_options(self, options: list[str]) -> None:
        with pytest.raises(CommandError):
            call_command("ticket_doctor", *options)

    def test_has_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        """--help says what it is for."""
        with pytest.raises(SystemExit):
            call_command("ticket_doctor", "--help")
        assert "Test the configured storage" in capsys.readouterr().out


class TestDiscretion:
    @pytest.mark.parametrize(
        "backend", [OnRedis, GetsThenDeletes, IgnoresExpiry, FailsInRaces]
    )
    def test_no_ticket_is_shown(
        self,
        configure: Any,
        backend: type[OnRedis],
        watcher: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Neither in a finding, nor in a log. Mutant: the driver's words are shown."""
        FailsInRaces.failed = threading.Lock()
        caplog.set_level(logging.DEBUG)
        values: list[str] = []
        issue = TicketService.issue

        def noted(*args: Any, **kwargs: Any) -> Any:
            ticket = issue(*args, **kwargs)
            values.append(ticket.value)
            return ticket

        monkeypatch.setattr(TicketService, "issue", noted)
        configure(backend)
        shown = run()[1] + run("--json")[1] + caplog.text
        assert len(values) > 20
        assert not [value for value in values if value in shown]

    @pytest.mark.parametrize("backend", [OnRedis, GetsThenDeletes])
    def test_nothing_is_left_behind_but_a_mark_of_the_project(
        self, configure: Any, backend: type[OnRedis], watcher: redis.Redis
    ) -> None:
        """No ticket, and no connection. The mark is no ticket either, and readers would
        miss the entry of the journal, which expires.
        """
        before = len(watcher.client_list())
        configure(backend)
        run()
        # An earlier doctor may still be confirming an entry of its own.
        *entries, mark = sorted(watcher.keys())
        value = mark.decode().partition(":")[0]
        with using(OnRedis()) as service, pytest.raises(InvalidTicket):
            service.consume(value, audience=doctor.AUDIENCE)
        assert entries and all(entry.startswith(b"off:") for entry in entries)
        assert all(0 < watcher.ttl(entry) <= 120 for entry in entries)
        assert eventually(lambda: len(watcher.client_list()) <= before)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.usefixtures("patience")
    def test_no_expired_row_is_left_behind(
        self, configure: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where expired tickets stay until someone clears them, it does.

        Mutant: it does not.
        """
        monkeypatch.setattr(random, "random", lambda: 1.0)  # so no issue sweeps
        configure(DATABASE)
        run()
        assert not tickets_left()

    @pytest.mark.django_db(transaction=True, databases=["postgresql"])
    @pytest.mark.parametrize("fails", [False, True])
    def test_no_database_connection_is_left_open(
        self, configure: Any, monkeypatch: pytest.MonkeyPatch, fails: bool
    ) -> None:
        """Sixteen threads had one each. Mutant: the threads do not close theirs."""
        configure(DATABASE, DATABASE="postgresql")
        if fails:
            pop = DatabaseBackend.pop

            def failing(self: DatabaseBackend, key: str) -> str | None:
                text = pop(self, key)
                if threading.current_thread() is not threading.main_thread():
                    raise DatabaseBackend.storage_errors[0]
                return text

            monkeypatch.setattr(DatabaseBackend, "pop", failing)

        def count() -> int:
            with connections["postgresql"].cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                    " current_database() AND backend_type = 'client backend'"
                )
                return int(cursor.fetchone()[0])

        before = count()
        opened = connections["postgresql"].connection
        assert wrong() == (["storage"] if fails else [])
        assert eventually(lambda: count() <= before)
        assert opened.closed

    def test_no_signal_is_sent(self, configure: Any) -> None:
        """The tickets are nobody's, and no receiver hears of them."""
        heard: list[Any] = []

        def receive(**kwargs: Any) -> None:
            heard.append(kwargs)

        all_signals = [
            signals.ticket_issued, signals.ticket_consumed, signals.ticket_rejected,
        ]  # fmt: skip
        configure(LOCMEM)
        for signal in all_signals:
            signal.connect(receive)
        run()
        for signal in all_signals:
            signal.disconnect(receive)
        assert heard == []

    def test_its_tickets_are_for_nobody(self, configure: Any) -> None:
        """They have an audience of their own."""
        audiences: set[str] = set()

        class Listening(TicketService):
            def notify(self, event: str, **details: Any) -> None:
                if ticket := details.get("ticket"):
                    audiences.add(ticket.audience)

        with using(LocMemBackend()) as service:
            list(doctor.examine(Listening(service.backend)))
        assert audiences == {"ticket-doctor"}


class TestRedisServers:
    @pytest.mark.parametrize(
        ("options", "ids"),
        [
            ([], ["I002"]),
            (["--maxmemory", "100mb"], ["I002"]),
            (["--maxmemory-policy", "allkeys-lru"], ["I002"]),
            (["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
             ["I002", "W013"]),
            (["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"],
             ["I002", "W013"]),
            (["--save", "3600 1"], ["I002", "W014"]),
            (["--appendonly", "yes"], ["I002", "W014"]),
            (["--rename-command", "CONFIG", ""], ["I002", "I001"]),
            (["--rename-command", "INFO", ""], ["I001"]),
        ],
        ids=ascii,
    )  # fmt: skip
    def test_settings(self, options: list[str], ids: list[str]) -> None:
        """What drops live tickets, or brings back spent ones, is found."""
        servers.need("redis")
        node = Node(*options)
        assert diagnosis(RedisBackend(port=node.port)) == ids
        node.kill()

    def test_a_user_who_may_not_ask(self, watcher: redis.Redis) -> None:
        """Is told what to look at. The tickets are examined all the same."""
        watcher.execute_command(
            "ACL", "SETUSER", "doctor", "on", ">secret", "resetkeys", "~rt_*", "~off:*",
            "-@all", "+set", "+getdel", "+mget", "+select",
        )  # fmt: skip
        backend = OnRedis(username="doctor", password="secret")
        with using(backend) as service:
            found = {each.name: each for each in doctor.examine(service)}
        watcher.acl_deluser("doctor")
        assert list(found) == [*EXAMINATIONS, "realtime_ticket.I001"]
        assert "noeviction" in found["realtime_ticket.I001"].hint

    def test_replicas(self, configure: Any) -> None:
        """Who has more than are waited for may see a ticket again; who has fewer lets
        nobody in, and is told why."""
        servers.require("redis-sentinel")
        port = servers.sentinel().master.port
        assert diagnosis(RedisBackend(port=port)) == ["I002", "W015"]
        assert diagnosis(RedisBackend(port=port, wait_replicas=1)) == ["I002"]
        configure(REDIS, REDIS={"port": port, "wait_replicas": 2})
        assert wrong() == ["storage", "realtime_ticket.E014"]

    def test_sentinel(self) -> None:
        """The master is asked."""
        servers.require("redis-sentinel")
        backend = RedisSentinelBackend(
            sentinels=[servers.sentinel().address], service_name=servers.Sentinel.name
        )
        assert diagnosis(backend) == ["I002", "W015"]

    def test_cluster(self) -> None:
        """Every master is asked, and what they agree on is said once."""
        servers.require("redis-cluster")
        cluster = servers.cluster()
        backend = RedisClusterBackend(startup_nodes=[cluster.nodes[0].address])
        assert diagnosis(backend) == ["I002"]
        last = cluster.masters[-1]
        last.ask("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy",
                 "allkeys-lru")  # fmt: skip
        assert diagnosis(backend) == ["I002", "W013"]
        last.ask("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")


class Rows:
    """A cursor that finds these."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self.rows = list(rows)

    def execute(self, sql: str) -> None: ...

    def fetchone(self) -> tuple[Any, ...]:
        return self.rows.pop(0)


class Server:
    """A client of a Redis that has no CONFIG, and of a Memcached that evicts."""

    def __init__(self, **info: Any) -> None:
        self.info = lambda: info

    def config_get(self, name: str) -> None:
        raise redis.ResponseError("unknown command")

    def version(self) -> bytes:
        return b"1.6.18"

    def stats(self, *names: str) -> dict[bytes, bytes]:
        return {b"evictions": b"on", b"time": b"%d" % time.time()}

    def time(self) -> tuple[int, int]:
        return int(time.time()), 0


class TestOtherServers:
    def test_valkey(self) -> None:
        """It is called by its own name: to clients it says that it is Redis 7.2.4."""
        server = Server(redis_version="7.2.4", valkey_version="8.1.1", role="master")
        message = next(_redis_diagnosis._server(server, 0))
        assert message.msg == "Valkey 8.1.1, master."

    def test_memcached_that_refuses_when_it_is_full(self) -> None:
        """With -M it drops nothing."""
        servers.require("memcached")
        path = servers.DIRECTORY / "memcached-M" / "socket"
        server = servers.start_memcached(path, "-M")
        assert diagnosis(MemcachedBackend(servers=str(path))) == ["I003"]
        assert diagnosis(
            MemcachedBackend(servers=[str(path), str(servers.MEMCACHED[0])])
        ) == ["I003", "W016"]
        servers.stop(server)

    @pytest.mark.django_db(transaction=True, databases=["postgresql"])
    def test_postgresql_with_a_table_that_is_logged(self) -> None:
        """Its tickets outlive a crash, and so would a spent one on a standby."""
        alter = "ALTER TABLE realtime_ticket SET "
        with connections["postgresql"].cursor() as cursor:
            cursor.execute(f"{alter} LOGGED")
            try:
                assert diagnosis(DatabaseBackend(alias="postgresql")) == [
                    "I004", "W017",
                ]  # fmt: skip
            finally:
                with connections["postgresql"].cursor() as cursor:
                    cursor.execute(f"{alter} UNLOGGED")
        assert diagnosis(DatabaseBackend(alias="postgresql")) == ["I004"]

    @pytest.mark.django_db(transaction=True)
    def test_sqlite_without_its_write_ahead_log(self) -> None:
        """Whatever the settings say, the file decides."""
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=DELETE")
        (information, warning) = DatabaseBackend().diagnose()
        assert "journal mode delete" in information.msg
        assert warning.id == "realtime_ticket.W018"
        connection.close()
        assert diagnosis(DatabaseBackend()) == ["I005"]

    @pytest.mark.django_db(transaction=True, databases=["mariadb"])
    @pytest.mark.parametrize(("flush", "ids"), [(0, ["W019"]), (1, [])])
    def test_mariadb_that_may_lose_commits(self, flush: int, ids: list[str]) -> None:
        """A crash could bring back a spent ticket."""
        with connections["mariadb"].cursor() as cursor:
            cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = %s", [flush])
        try:
            assert diagnosis(DatabaseBackend(alias="mariadb")) == ["I006", *ids]
        finally:
            with connections["mariadb"].cursor() as cursor:
                cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 0")

    def test_mysql(self) -> None:
        """It is told from MariaDB by its version."""
        (message,) = _database_diagnosis._mysql(Rows(("8.4.0", 1), (time.time(),)))
        assert message.msg == "MySQL 8.4.0."

    def test_what_has_nothing_to_say(self) -> None:
        """By default a backend has no diagnosis."""
        assert LocMemBackend().diagnose() == CacheBackend(alias="file").diagnose() == []


def _shifted(seconds: float) -> float:
    return time.time() + seconds


class TestClocks:
    """This machine's is compared with the storage's, where it has one."""

    STORAGES = {
        "redis": lambda: OnRedis(),
        "memcached": lambda: MemcachedBackend(servers=str(servers.MEMCACHED[0])),
        "postgresql": lambda: DatabaseBackend(alias="postgresql"),
        "mariadb": lambda: DatabaseBackend(alias="mariadb"),
    }

    DOUBT = {"memcached": 4.0}
    """Within how many seconds the storage's time is known."""

    @pytest.mark.django_db(transaction=True, databases=["postgresql", "mariadb"])
    @pytest.mark.parametrize("name", STORAGES)
    def test_that_differ(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """Two seconds are fine, and beyond ten disconnects are not heard.

        What is not certain is not held against the clock.

        Mutants: clock-of-memcached-ignored, clock-of-postgresql-ignored,
        clock-of-mariadb-ignored, clock-of-redis-ignored.
        """
        servers.require(name)
        found = []
        wrong = 4.0 + self.DOUBT.get(name, 0.0)
        for ahead in (0.0, -1.4, 1.4, wrong, -wrong, 20.0, -20.0):
            monkeypatch.setattr(_clock, "now", partial(_shifted, ahead))
            found += [
                (ahead, id)
                for id in diagnosis(self.STORAGES[name]())
                if id in ("W024", "E019")
            ]
        assert found == [
            (wrong, "W024"), (-wrong, "W024"), (20.0, "E019"), (-20.0, "E019"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("ahead", "ids"),
        [
            (-3.1, ["W024"]), (-2.9, []), (4.9, []), (5.1, ["W024"]),
            (-11.1, ["E019"]), (-10.9, ["W024"]), (12.9, ["W024"]), (13.1, ["E019"]),
        ],
    )  # fmt: skip
    def test_that_count_seconds(self, ahead: float, ids: list[str]) -> None:
        """One that may be a second ahead of its machine's, or three behind, is wrong
        when it is certain to be.

        Mutants: clock-that-counts-seconds-taken-for-exact.
        """
        with mock.patch.object(_clock, "now", lambda: 100.0 + ahead):
            found = _clock.compare(lambda: 100.0, fast=1, slow=3)
            assert [(each.id or "").partition(".")[2] for each in found] == ids

    def test_that_were_asked_slowly(self) -> None:
        """What the answer took is not held against the clock.

        Mutants: slow-answer-taken-for-a-clock.
        """
        times = iter([100.0, 106.0])
        with mock.patch.object(_clock, "now", lambda: next(times)):
            assert list(_clock.compare(lambda: 99.0)) == []

    def test_that_this_user_may_not_ask_for(self, watcher: redis.Redis) -> None:
        """Then nothing is said of it."""
        watcher.execute_command(
            "ACL", "SETUSER", "doctor", "on", ">secret", "resetkeys", "-@all",
            "+info", "+config|get", "+select",
        )  # fmt: skip
        assert diagnosis(OnRedis(username="doctor", password="secret")) == ["I002"]
        watcher.acl_deluser("doctor")


def test_messages_are_as_documented() -> None:
    """Each finding that has an id has a section, which quotes it."""
    page = Path(__file__).parent.parent / "docs" / "ticket-doctor.md"
    quoted = re.findall(
        r"^## (realtime_ticket\.\w\d{3})\n\n> (.*)\n\nWhy: .*(?:\n.+)*\n\nFix: ",
        page.read_text(),
        re.MULTILINE,
    )
    replicas = {"connected_slaves": 1}
    full = {"maxmemory": 1, "maxmemory_policy": "allkeys-lru"}
    now = (time.time(),)
    server: Any = Server(redis_version="7.0.15", role="master")
    found = [
        *_redis_diagnosis._replication(replicas, 2),
        *_redis_diagnosis._eviction(full),
        *_redis_diagnosis._persistence({"aof_enabled": 1}, {}),
        *_redis_diagnosis._replication(replicas, 0),
        *_redis_diagnosis._server(server, 0),
        *_redis_diagnosis._server(Server(redis_version="7.0.15"), 0),
        *_memcached_diagnosis.examine(server),
        *_database_diagnosis._postgresql(
            Rows(("15.18", "read committed"), ("p",), now)
        ),
        *_database_diagnosis._sqlite(Rows(("3.40.1",), ("delete",))),
        *_database_diagnosis._sqlite(Rows(("3.40.1",), ("wal",))),
        *_database_diagnosis._mysql(Rows(("10.11.19-MariaDB", 0), now)),
    ]
    found += _clock.compare(lambda: time.time() - 3.4)
    found += _clock.compare(lambda: time.time() + 12)
    said = {(message.id, message.msg) for message in found}
    assert said >= set(quoted)
    assert {id for id, _ in quoted} == {id for id, _ in said}
