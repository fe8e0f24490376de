"""manage.py check: every finding, for the mistake that it is about."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from django.core.checks import CheckMessage
from django.core.checks.registry import registry
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django_bmemcached.memcached import BMemcached
from django_redis.cache import RedisCache as DjangoRedisCache
from django_redis.client.herd import HerdClient

from realtime_ticket.backends import _database_checks
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.checks import check_storage
from tests import servers
from tests.helpers import RecordingBackend, hide_package, real_redis

BACKENDS = "realtime_ticket.backends."
REDIS = f"{BACKENDS}redis.RedisBackend"
MEMCACHED = f"{BACKENDS}memcached.MemcachedBackend"
PATIENT = {"timeout": 1, "connect_timeout": 1, "dead_timeout": 1}
STEADY = {"retry_attempts": 0}
CACHE = f"{BACKENDS}cache.CacheBackend"
DATABASE = f"{BACKENDS}database.DatabaseBackend"
LOCMEM = f"{BACKENDS}locmem.LocMemBackend"
CACHES = "django.core.cache.backends."
MIDDLEWARE = "realtime_ticket.middleware.RealtimeTicketMiddleware"
PROCESSOR = "realtime_ticket.context_processors.realtime_ticket"
LEVELS = {"E": checks.ERROR, "W": checks.WARNING, "I": checks.INFO}
REDIS_PATIENCE = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": None}


HERD = "django_redis.client.herd.HerdClient"


def add_claims(request: Any) -> dict[str, Any]:
    return {}


class OwnSetting(RecordingBackend):
    """A backend with a setting of its own, as a package may bring one."""

    setting = "MINE"

    def __init__(self, *, room: str) -> None:
        super().__init__()


class OwnHerdClient(HerdClient):
    pass


class OwnDjangoRedis(DjangoRedisCache):
    pass


class OwnBMemcached(BMemcached):
    pass


class OwnDelete(FileBasedCache):
    def delete(self, key: str, version: int | None = None) -> bool:
        super().delete(key, version)
        return True


class OwnRedis(RedisCache):
    pass


class OwnRedisClient(RedisCacheClient):
    pass


class OwnClient(RedisCache):
    def __init__(self, server: Any, params: Any) -> None:
        super().__init__(server, params)
        self._class = OwnRedisClient


class OwnPyMemcache(PyMemcacheCache):
    pass


def findings(databases: list[str] | None = None) -> list[CheckMessage]:
    """Return what the checks of this package say, each with a hint."""
    messages = [
        message
        for check in registry.registered_checks
        if check.__module__ == "realtime_ticket.checks"
        and (databases or checks.Tags.database not in check.tags)
        for message in check(app_configs=None, databases=databases)
    ]
    for message in messages:
        assert message.hint, f"{message.id} has no hint"
        assert message.level == LEVELS[str(message.id).partition(".")[2][0]]
    return messages


def check_ids(databases: list[str] | None = None) -> list[str]:
    """Return the ids of the findings, without the name of the package."""
    return sorted(str(m.id).partition(".")[2] for m in findings(databases))


@pytest.fixture(autouse=True)
def configure(settings: Any) -> Any:
    """Begin with a project that is right, and return a function to spoil it."""

    def configure(**values: Any) -> None:
        for name, value in values.items():
            setattr(settings, f"REALTIME_TICKET_{name}", value)

    configure(BACKEND=REDIS)
    return configure


class TestACleanProject:
    def test_has_no_findings(self) -> None:
        """Nor does one without any setting of ours."""
        assert check_ids() == []

    def test_on_defaults(self, settings: Any) -> None:
        """The defaults are fine."""
        del settings.REALTIME_TICKET_BACKEND
        assert check_ids() == []

    @pytest.mark.parametrize(
        ("backend", "alias"),
        [(MEMCACHED, None), (CACHE, "redis"), (CACHE, "memcached"),
         (CACHE, "django-redis"), (CACHE, "database"), (DATABASE, None)],
    )  # fmt: skip
    def test_on_any_backend(
        self, configure: Any, backend: str, alias: str | None
    ) -> None:
        """Well configured, no storage that is shared draws a remark."""
        configure(BACKEND=backend, CACHE=alias or "default")
        assert check_ids() == []

    def test_with_every_setting(self, configure: Any) -> None:
        """All settings at once, each with a good value."""
        configure(EXPIRE=120, PREFIX="x", HASH_KEYS=True, AUDIENCES=["a"], REDIS={},
                  MEMCACHED={}, CACHE="default", DATABASE="default", OPTIONS={},
                  CLAIMS=f"{__name__}.add_claims",
                  SERVICE_KEYS=["a" * 32], DISCONNECT=False,
                  JOURNAL_EXPIRE=3600)  # fmt: skip
        assert check_ids() == []

    def test_is_part_of_check_deploy_and_of_tags(self) -> None:
        """The checks belong to the tag security, so they can be run alone."""
        call_command("check", "--tag", "security", verbosity=0)


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "ids"),
        [
            ({"BACKEND": "nothing.Here"}, ["E001"]),
            ({"BACKEND": "json.dumps"}, ["E002"]),
            ({"EXPIRE": 0}, ["E003"]),
            ({"EXPIRE": "10"}, ["E003"]),
            ({"REDIS": {"hots": "x"}}, ["E005"]),
            ({"OPTIONS": 7}, ["E005"]),
            ({"PREFIX": "a:"}, ["E006"]),
            ({"AUDIENCES": "chat"}, ["E007"]),
            ({"CLAIMS": "nothing.here"}, ["E008"]),
            ({"HASH_KEYS": "yes"}, ["E009"]),
            ({"BACKEND": CACHE, "CACHE": "nothing"}, ["E010"]),
            ({"BACKEND": DATABASE, "DATABASE": "nothing"}, ["E010"]),
            ({"SERVICE_KEYS": "a" * 32}, ["E013"]),
            ({"SERVICE_KEYS": ["too-short"]}, ["E013"]),
            ({"DISCONNECT": 1}, ["E017"]),
            ({"DISCONNECT": "False"}, ["E017"]),
            ({"JOURNAL_EXPIRE": 59}, ["E018"]),
            ({"JOURNAL_EXPIRE": 3601}, ["E018"]),
            ({"JOURNAL_EXPIRE": "120"}, ["E018"]),
            ({"JOURNAL_EXPIRE": True}, ["E018"]),
            ({"BACKEND": LOCMEM}, ["W001"]),
            ({"EXPIRE": 121, "JOURNAL_EXPIRE": 121}, ["W002"]),
            ({"EXPIRE": 121}, ["W002", "W023"]),
            ({"EXPIRE": 120, "JOURNAL_EXPIRE": 119}, ["W023"]),
            ({"EXPIRE": 121, "JOURNAL_EXPIRE": 0}, ["E018", "W002", "W023"]),
            ({"EXPIRY": 10}, ["W011"]),
            ({"REDIS_URL": "redis://x", "TTL": 1}, ["W011", "W011"]),
            ({"EXPIRE": 0, "PREFIX": "", "CLAIMS": 7}, ["E003", "E006", "E008"]),
        ],
        ids=ascii,
    )
    def test_findings(
        self, configure: Any, values: dict[str, Any], ids: list[str]
    ) -> None:
        """Each mistake is found once, and mistakes hide no others."""
        configure(**values)
        assert check_ids() == ids

    @pytest.mark.parametrize(
        ("package", "backend"), [("redis", REDIS), ("pymemcache", MEMCACHED)]
    )
    def test_a_driver_that_is_missing(
        self,
        configure: Any,
        monkeypatch: pytest.MonkeyPatch,
        package: str,
        backend: str,
    ) -> None:
        """E004 says what to install."""
        configure(BACKEND=backend)
        hide_package(monkeypatch, package, backend.rpartition(".")[0])
        (finding,) = findings()
        assert finding.id == "realtime_ticket.E004"
        assert "pip install" in str(finding.hint)

    def test_errors_stop_the_command(self, configure: Any) -> None:
        """manage.py check fails for an error and says how to mend it."""
        configure(EXPIRE=0)
        with pytest.raises(SystemCheckError, match=r"realtime_ticket\.E003"):
            call_command("check", "--tag", "security")

    def test_a_typo_is_named(self, configure: Any) -> None:
        """W011 names the setting that does not exist, and those that do."""
        configure(EXPIRES=10)
        (finding,) = findings()
        assert "REALTIME_TICKET_EXPIRES " in finding.msg
        assert "REALTIME_TICKET_EXPIRE," in str(finding.hint)

    def test_a_key_is_not_shown(self, configure: Any) -> None:
        """E013 says how to make a key, and not what the wrong one is."""
        configure(SERVICE_KEYS=["a-secret"])
        (finding,) = findings()
        assert "a-secret" not in str(finding)
        assert "secrets.token_urlsafe(32)" in str(finding.hint)

    def test_a_setting_of_a_backend_of_ones_own(self, configure: Any) -> None:
        """What a backend names as its setting is no typo; without it, it is."""
        configure(MINE={"room": "a"}, BACKEND=f"{__name__}.OwnSetting")
        assert "W011" not in check_ids()
        configure(BACKEND=REDIS)
        assert check_ids() == ["W011"]

    def test_a_backend_for_tickets_only(self, configure: Any) -> None:
        """W022 names the backend that cannot tell of disconnects, and what to do."""
        configure(BACKEND="tests.helpers.RecordingBackend")
        (finding,) = findings()
        assert finding.id == "realtime_ticket.W022"
        assert finding.msg.startswith("RecordingBackend has no read_many()")
        assert "Write read_many()" in str(finding.hint)

    @pytest.mark.parametrize("backend", [LOCMEM, CACHE])
    def test_memory_in_development(
        self, configure: Any, settings: Any, backend: str
    ) -> None:
        """With DEBUG it may be right. So it is no warning, but it is said: a realtime
        server in a process of its own refuses every ticket.

        Mutants: memory-unsaid-in-development.
        """
        settings.DEBUG = True
        configure(BACKEND=backend)
        (finding,) = findings()
        assert finding.id == "realtime_ticket.I007"
        assert "another process refuses" in finding.msg


class TestTemplateVariable:
    @pytest.mark.parametrize(
        ("middleware", "processor", "ids"),
        [
            (None, False, []),
            (MIDDLEWARE, True, []),
            ("realtime_ticket.RealtimeTicketMiddleware", True, []),
            (MIDDLEWARE, False, ["W008"]),
            ("realtime_ticket.RealtimeTicketMiddleware", False, ["W008"]),
            (None, True, ["W009"]),
        ],
    )
    def test_is_set_up_whole_or_not_at_all(
        self, settings: Any, middleware: str | None, processor: bool, ids: list[str]
    ) -> None:
        """For the whole site it takes both the middleware and the processor."""
        if middleware:
            settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
        templates = copy.deepcopy(settings.TEMPLATES)
        if processor:
            templates[0]["OPTIONS"]["context_processors"] = [PROCESSOR]
        settings.TEMPLATES = [
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "NAME": "x"},
            *templates,
        ]
        assert check_ids() == ids


class TestCache:
    @pytest.fixture(autouse=True)
    def _cache(self, configure: Any) -> None:
        configure(BACKEND=CACHE, CACHE="tickets")

    @pytest.mark.parametrize(
        ("backend", "options", "ids"),
        [
            ("locmem.LocMemCache", {"MAX_ENTRIES": 1000}, ["W001"]),
            ("locmem.LocMemCache", {}, ["W001", "W003"]),
            ("dummy.DummyCache", {}, ["W010"]),
            ("filebased.FileBasedCache", {}, ["W003", "W025"]),
            ("filebased.FileBasedCache", {"MAX_ENTRIES": 301}, ["W025"]),
            ("db.DatabaseCache", {}, ["W003"]),
            ("db.DatabaseCache", {"MAX_ENTRIES": 100_000}, []),
            ("redis.RedisCache", {}, ["W004"]),
            ("redis.RedisCache", {"socket_timeout": 1}, ["W004"]),
            ("redis.RedisCache", REDIS_PATIENCE, []),
            ("memcached.PyMemcacheCache", {}, ["W004", "W012"]),
            ("memcached.PyMemcacheCache", STEADY, ["W004"]),
            ("memcached.PyMemcacheCache", STEADY | {"timeout": 1}, ["W004"]),
            ("memcached.PyMemcacheCache", PATIENT, ["W012"]),
            ("memcached.PyMemcacheCache", PATIENT | {"retry_attempts": 1}, ["W012"]),
            ("memcached.PyMemcacheCache", PATIENT | STEADY, []),
            ("memcached.PyMemcacheCache",
             PATIENT | STEADY | {"ignore_exc": True}, ["E011"]),
            ("memcached.PyMemcacheCache",
             {"ignore_exc": True}, ["E011", "W004", "W012"]),
        ],
        ids=lambda value: ascii(value)[:60],
    )  # fmt: skip
    def test_findings(
        self, settings: Any, backend: str, options: dict[str, Any], ids: list[str]
    ) -> None:
        """What makes a cache unfit, or only fit with care, is found."""
        settings.CACHES = settings.CACHES | {
            "tickets": {
                "BACKEND": f"{CACHES}{backend}",
                "LOCATION": str(servers.DIRECTORY / "tickets"),
                "OPTIONS": options,
            }
        }
        assert check_ids() == ids

    @pytest.mark.parametrize(
        ("options", "ids"),
        [
            ({}, ["W004"]),
            ({"SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1}, ["W004"]),
            ({"CONNECTION_POOL_KWARGS": REDIS_PATIENCE}, []),
            (
                {
                    "SOCKET_TIMEOUT": 1,
                    "SOCKET_CONNECT_TIMEOUT": 1,
                    "CONNECTION_POOL_KWARGS": {"retry": None},
                },
                [],
            ),
            (
                {"IGNORE_EXCEPTIONS": True, "CONNECTION_POOL_KWARGS": REDIS_PATIENCE},
                ["E011"],
            ),
        ],
        ids=ascii,
    )
    def test_django_redis(
        self, settings: Any, options: dict[str, Any], ids: list[str]
    ) -> None:
        """django-redis spells its options in its own ways, and can hide errors."""
        pytest.importorskip("django_redis")
        settings.CACHES = settings.CACHES | {
            "tickets": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": "redis://localhost",
                "OPTIONS": options,
            }
        }
        assert check_ids() == ids

    @pytest.mark.parametrize(
        ("backend", "options", "ids"),
        [
            ("django_redis.cache.RedisCache", {"CLIENT_CLASS": HERD}, ["E015"]),
            ("django_redis.cache.RedisCache",
             {"CLIENT_CLASS": f"{__name__}.OwnHerdClient"}, ["E015"]),
            (f"{__name__}.OwnDjangoRedis", {"CLIENT_CLASS": HERD}, ["E015"]),
            (f"{__name__}.OwnDjangoRedis", {"IGNORE_EXCEPTIONS": True}, ["E011"]),
            ("django_bmemcached.memcached.BMemcached", {}, ["E016"]),
            (f"{__name__}.OwnBMemcached", {}, ["E016"]),
            (f"{__name__}.OwnDelete", {"MAX_ENTRIES": 1000}, ["W021", "W025"]),
            (f"{__name__}.OwnClient", {}, ["W004", "W021"]),
            (f"{__name__}.OwnPyMemcache", {}, ["W004", "W012"]),
            (f"{__name__}.OwnRedis", {}, ["W004"]),
            (f"{__name__}.OwnRedis", REDIS_PATIENCE, []),
        ],
        ids=lambda value: ascii(value)[:60],
    )  # fmt: skip
    def test_is_judged_by_what_it_does(
        self,
        settings: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        backend: str,
        options: dict[str, Any],
        ids: list[str],
    ) -> None:
        """What lets expired tickets in, or several people with one, is an error, under
        any name; what nobody has tried is a warning.

        Mutants: check-lets-herds-in, check-lets-several-in, check-knows-caches-by-name.
        """
        monkeypatch.chdir(tmp_path)  # where a file-based cache makes its folder
        if "redis" in backend.lower() and backend != f"{__name__}.OwnRedis":
            options = options | {"CONNECTION_POOL_KWARGS": REDIS_PATIENCE}
        settings.CACHES = settings.CACHES | {
            "tickets": {
                "BACKEND": backend,
                "LOCATION": "redis://localhost" if "edis" in backend else "127.0.0.1:1",
                "OPTIONS": options,
            }
        }
        assert check_ids() == ids

    def test_django_redis_can_hide_errors_everywhere(self, settings: Any) -> None:
        """Its global setting counts as well."""
        pytest.importorskip("django_redis")
        settings.DJANGO_REDIS_IGNORE_EXCEPTIONS = True
        settings.CACHES = settings.CACHES | {
            "tickets": {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": "redis://localhost",
                "OPTIONS": {"CONNECTION_POOL_KWARGS": REDIS_PATIENCE},
            }
        }
        assert check_ids() == ["E011"]

    @pytest.mark.parametrize(
        ("backend", "options"),
        [
            (f"{CACHES}redis.RedisCache", REDIS_PATIENCE),
            (
                "django_redis.cache.RedisCache",
                {"CONNECTION_POOL_KWARGS": REDIS_PATIENCE},
            ),
        ],
    )
    @pytest.mark.parametrize("joined", [False, True])
    def test_reading_from_replicas(
        self, settings: Any, backend: str, options: dict[str, Any], joined: bool
    ) -> None:
        """W026: both Redis caches write to the first server and read from the others.

        Mutants: check-knows-replicas-of-one-cache-only.
        """
        urls = ["redis://a.invalid", "redis://b.invalid"]
        settings.CACHES = settings.CACHES | {
            "tickets": {
                "BACKEND": backend,
                "LOCATION": ",".join(urls) if joined else urls,
                "OPTIONS": options,
            }
        }
        assert check_ids() == ["W026"]

    def test_ask_no_server(self, settings: Any) -> None:
        """A cache that is down can be checked."""
        settings.CACHES = settings.CACHES | {
            "tickets": {
                "BACKEND": f"{CACHES}redis.RedisCache",
                "LOCATION": "redis://127.0.0.1:1",
                "OPTIONS": REDIS_PATIENCE,
            }
        }
        assert check_ids() == []


class TestDatabase:
    @pytest.fixture(autouse=True)
    def _database(self, configure: Any) -> None:
        configure(BACKEND=DATABASE)

    @pytest.fixture
    def of_default(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Return a function that changes the settings of the default connection."""

        def change(**values: Any) -> None:
            for name, value in values.items():
                monkeypatch.setitem(connection.settings_dict, name, value)

        return change

    def test_atomic_requests(self, of_default: Any) -> None:
        """W007: a view in a transaction cannot consume."""
        of_default(ATOMIC_REQUESTS=True)
        assert check_ids() == ["W007"]

    @pytest.mark.parametrize(
        ("options", "ids"),
        [
            ({}, ["W006"]),
            ({"transaction_mode": "IMMEDIATE"}, ["W006"]),
            ({"init_command": "PRAGMA journal_mode=WAL"}, ["W006"]),
            ({"transaction_mode": "DEFERRED", "init_command": "x=wal"}, ["W006"]),
            ({"transaction_mode": None, "init_command": "x=wal"}, ["W006"]),
            ({"transaction_mode": "immediate", "init_command": "x=wal"}, []),
        ],
        ids=ascii,
    )
    def test_sqlite_without_its_log(
        self, of_default: Any, options: dict[str, Any], ids: list[str]
    ) -> None:
        """W006: racing writers need the write-ahead log and immediate transactions."""
        of_default(OPTIONS=options)
        assert check_ids() == ids

    def test_sqlite_in_memory(
        self, of_default: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A database in memory, as most test suites use, needs neither."""
        of_default(OPTIONS={})
        monkeypatch.setattr(connection, "is_in_memory_db", lambda: True)
        assert check_ids() == []

    def test_a_vendor_without_statements(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """E012: Oracle, for instance."""
        monkeypatch.setattr(connection, "vendor", "oracle")
        (message,) = DatabaseBackend().check()
        assert message.id == "realtime_ticket.E012"
        assert "'oracle'" in message.msg and message.hint

    def test_an_old_sqlite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """E012: RETURNING came with SQLite 3.35."""

        class Old:
            sqlite_version_info = (3, 34, 1)

        monkeypatch.setattr(connection, "Database", Old)
        (finding,) = findings()
        assert finding.id == "realtime_ticket.E012"
        assert "SQLite is 3.34.1" in finding.msg
        monkeypatch.setattr(_database_checks, "_SQLITE_RETURNING", (3, 34))
        assert check_ids() == []

    @pytest.mark.django_db
    def test_a_table_that_is_missing(self) -> None:
        """W005, and only when the command may query the database."""
        assert check_ids(["default"]) == []
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE realtime_ticket RENAME TO elsewhere")
        assert check_ids() == []
        assert check_ids(["default"]) == ["W005"]

    @pytest.mark.django_db
    def test_migrate_is_about_to_make_the_table(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It runs the checks first, and must not tell the user to do what it does."""
        monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE realtime_ticket RENAME TO elsewhere")
        assert check_ids(["default"]) == []

    @pytest.mark.django_db
    @pytest.mark.parametrize("name", ["/no/such/folder/db.sqlite3"])
    def test_a_database_that_is_down(self, of_default: Any, name: str) -> None:
        """W020, and no traceback: the table cannot be looked for either."""
        connection.close()
        of_default(NAME=name)
        (finding,) = findings(["default"])
        assert finding.id == "realtime_ticket.W020"
        assert name in finding.msg and "DATABASES['default']" in str(finding.hint)

    def test_without_permission_nothing_is_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A plain check runs no query: the database may be down."""

        def refused(*args: object) -> None:
            raise AssertionError("connected")

        # Of the class: what is undone on an instance stays there, and blocks it.
        backend = type(connections["default"])
        monkeypatch.setattr(backend, "ensure_connection", refused)
        assert check_ids() == []

    @pytest.mark.parametrize("alias", ["postgresql", "mariadb"])
    def test_other_databases(self, configure: Any, alias: str) -> None:
        """What SQLite needs is no matter for others."""
        if reason := servers.missing(alias):
            pytest.skip(reason)
        configure(DATABASE=alias)
        assert connections[alias].vendor != "sqlite"
        assert check_ids() == []


def test_several_memcached_servers_are_not_one(settings: Any, configure: Any) -> None:
    """W012 comes with more than one server: a dead one's keys go to its neighbour."""
    settings.CACHES = settings.CACHES | {
        "memcached": settings.CACHES["memcached"]
        | {"LOCATION": ["127.0.0.1:1", "127.0.0.1:2"]}
    }
    configure(BACKEND=CACHE, CACHE="memcached")
    assert check_ids() == ["W012"]


class TestStorages:
    """A storage that is asked, because the command may ask."""

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"BACKEND": REDIS, "REDIS": {"port": 1}}, "Redis at localhost:1 refuses"),
            ({"BACKEND": MEMCACHED, "MEMCACHED": "127.0.0.1:1"}, "127.0.0.1:1 refuses"),
            ({"BACKEND": CACHE, "CACHE": "redis-down"}, "is not there"),
        ],
        ids=["Redis", "Memcached", "cache"],
    )
    def test_that_are_down(
        self, configure: Any, values: dict[str, Any], says: str, caplog: Any
    ) -> None:
        """W020 names the address and the setting. Without a database, nothing is
        asked.

        Mutants: check-asks-no-storage.
        """
        configure(**values)
        assert check_ids() == []
        (finding,) = findings(["default"])
        assert finding.id == "realtime_ticket.W020"
        assert says in finding.msg and finding.hint
        assert not caplog.records

    @pytest.mark.parametrize("rights", ["+set", "+getdel", "+get"])
    def test_whose_user_may_do_one_thing(self, configure: Any, rights: str) -> None:
        """As the documentation has it, a user either issues or consumes. One who may
        do neither is found."""
        with real_redis() as client:
            words = f"ACL SETUSER half reset on >x ~rt_* {rights}".split()
            client.execute_command(*words)
            configure(REDIS={"unix_socket_path": str(servers.REDIS),
                             "username": "half", "password": "x"})  # fmt: skip
            ids = check_ids(["default"])
            client.execute_command("ACL", "DELUSER", "half")
        assert ids == (["W020"] if rights == "+get" else [])

    @pytest.mark.django_db
    def test_that_work(self, configure: Any) -> None:
        """Draw no remark; nor does a database that is not to be asked, or a wrong
        setting, which another check has reported."""
        servers.require("redis")
        configure(REDIS={"unix_socket_path": str(servers.REDIS)})
        assert check_ids(["default"]) == []
        configure(BACKEND=DATABASE)
        assert check_ids(["default"]) == check_ids(["other"]) == []
        configure(BACKEND=CACHE, CACHE="database")
        assert check_ids(["other"]) == []
        configure(EXPIRE=0)
        assert check_ids(["default"]) == ["E003"]


def test_nothing_is_asked_without_a_database() -> None:
    """As Django 5.2 runs the check in ``manage.py check``."""
    assert check_storage(databases=None) == []
