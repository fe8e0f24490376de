"""The settings: what each may be, and the one service that they describe."""

from __future__ import annotations

import os
import secrets
import ssl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import TestCase, override_settings
from django.utils.module_loading import import_string

from realtime_ticket import TicketService, conf, get_service, signals
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.live import LiveTickets
from realtime_ticket.signalling import SignallingService
from tests.helpers import CLAIMS, WAIT, RecordingBackend, hide_package, in_child, shown

BACKENDS = "realtime_ticket.backends."
REDIS = f"{BACKENDS}redis.RedisBackend"
MEMCACHED = f"{BACKENDS}memcached.MemcachedBackend"
CACHE = f"{BACKENDS}cache.CacheBackend"
DATABASE = f"{BACKENDS}database.DatabaseBackend"
LOCMEM = f"{BACKENDS}locmem.LocMemBackend"
SENTINEL = f"{BACKENDS}redis_sentinel.RedisSentinelBackend"
CLUSTER = f"{BACKENDS}redis_cluster.RedisClusterBackend"
DUMMY_CACHE = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}

AT_SENTINEL: dict[str, Any] = {
    "sentinels": [("10.0.0.1", 26379)], "service_name": "tickets",
}  # fmt: skip
AT_CLUSTER: dict[str, Any] = {"startup_nodes": [("10.0.0.1", 6379)]}
WRONG_REDIS: list[dict[str, Any]] = [
    {"connection_pool": None}, {"single_connection_client": True},
    {"cache": object()}, {"cache_config": object()}, {"url": 7}, {"url": b"redis://x"},
    {"url": "redis://x?socket_timeout=-1"},
    {"host": 7}, {"host": ""}, {"host": None}, {"host": ["x"]},
    {"host": "redis://:s3cret@10.0.0.1"}, {"host": "a,b"}, {"host": "a:6379"},
    {"host": "[::1]"},
    {"port": 0}, {"port": 70_000}, {"port": -1}, {"port": "x"}, {"port": None},
    {"port": "s3cret"}, {"port": 1.5}, {"db": "x"}, {"db": -1}, {"db": None},
    {"unix_socket_path": 7}, {"username": 7}, {"password": ["s3cret"]},
    {"socket_timeout": "1"}, {"socket_timeout": 0}, {"socket_timeout": -1},
    {"socket_timeout": True}, {"socket_connect_timeout": "1"},
    {"health_check_interval": "1"},
    {"max_connections": 2**31}, {"retry": 3}, {"retry": None},
    {"retry_on_error": ["x"]}, {"retry_on_error": "x"}, {"protocol": 7},
    {"socket_keepalive_options": [1]}, {"ssl": True, "ssl_cert_reqs": "maybe"},
    {"ssl": True, "ssl_ca_certs": "/no/such/file"}, {"ssl": True, "ssl_keyfile": 7},
    {"wait_replicas": "1"}, {"wait_replicas": -1}, {"wait_replicas": True},
]  # fmt: skip
WRONG_MEMCACHED: list[dict[str, Any]] = [
    {"servers": wrong} for wrong in (
        "a:1,b:1", "a:1;b:1", "a:1 b:1", "", None, 7, {"a": 1}, ("10.0.0.1", 11211),
        [("10.0.0.1", 11211)], ["a:1", 7], ["a:1", "b:1,c:1"], "a:x", "a:99999", "::1",
        "memcached://u:s3cret@a",
    )
] + [
    {"timeout": "1"}, {"timeout": 0}, {"connect_timeout": -1}, {"tls_context": True},
    {"serde": object()}, {"serializer": str}, {"deserializer": str},
    {"encoding": "utf-16"}, {"socket_module": None}, {"key_prefix": 7},
]  # fmt: skip
WRONG_SENTINEL: list[dict[str, Any]] = [
    {"service_name": None}, {"service_name": b"tickets"}, {"service_name": ""},
    {"sentinel_kwargs": ["x"]}, {"sentinel_kwargs": {"pasword": "s3cret"}},
    {"sentinel_kwargs": {"socket_timeout": "1"}},
    *({"sentinels": wrong} for wrong in (
        "a:1", [], [("a", 70_000)], [("redis://:s3cret@a", 1)], [("a:1", 1)], [(7, 1)],
        [("a", 1, 2)],
    )),
    {"port": 6379}, {"url": "redis://a"}, {"connection_pool": None},
]  # fmt: skip
WRONG_CLUSTER: list[dict[str, Any]] = [
    *({"startup_nodes": wrong} for wrong in (
        "a:1", [], None, [("a", 0)], [("redis://:s3cret@a", 1)], [{"host": "a"}],
    )),
    {"db": 1}, {"host": "a"}, {"connection_pool": None}, {"socket_timeout": "1"},
]  # fmt: skip

NOT_CALLABLE = 1
SERVICE_KEY = "Ab9._~+/=-" * 4


async def add_claims_some_day(request: Any) -> dict[str, Any]:
    return {}


def add_claims(request: Any) -> dict[str, Any]:
    return {}


class Recording(RecordingBackend):
    """A user's own backend, with an option."""

    def __init__(self, *, room: str = "") -> None:
        super().__init__()
        self.room = room


class OwnSetting(Recording):
    """A backend with a setting of its own, as a package may bring one."""

    setting = "MINE"
    shorthand = "room"


class Clumsy(LocMemBackend):
    """Has a bug that only some options show."""

    def __init__(self, **options: Any) -> None:
        self.room = options["room"]


class Eager(BaseBackend):
    """A backend whose constructor refuses everything."""

    def __init__(self, **options: Any) -> None:
        raise ValueError("bad value")


class Abstract(BaseBackend):
    """A backend without methods."""


def configure(settings: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(settings, f"REALTIME_TICKET_{name}", value)


class TestDefaults:
    @pytest.fixture(autouse=True)
    def _nothing_set(self, settings: Any) -> Iterator[None]:
        del settings.REALTIME_TICKET_BACKEND
        conf._reset(setting="REALTIME_TICKET_BACKEND")  # del sends no signal
        yield
        conf._reset(setting="REALTIME_TICKET_BACKEND")

    def test_are_the_documented_ones(self) -> None:
        """Without a setting tickets live in a local Redis for ten seconds."""
        assert conf.backend_class() is RedisBackend
        assert conf.expire() == 10
        assert conf.prefix() == "rt_"
        assert conf.hash_keys() is False
        assert conf.audiences() == ()
        assert conf.claims() is None
        assert conf.service_keys() == ()

    def test_make_a_service(self) -> None:
        """get_service needs no setting at all, and no server either."""
        service = get_service()
        assert isinstance(service.backend, RedisBackend)
        assert (service.expire, service.prefix, service.hash_keys) == (10, "rt_", False)


class TestValues:
    def test_reach_the_service(self, settings: Any) -> None:
        """What is set is what the service does."""
        configure(settings, BACKEND=LOCMEM, EXPIRE=99, PREFIX="shop.", HASH_KEYS=True)
        service = get_service()
        assert isinstance(service.backend, LocMemBackend)
        assert (service.expire, service.prefix, service.hash_keys) == (
            99,
            "shop.",
            True,
        )

    @pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
    def test_audiences_may_be_any_collection(self, settings: Any, kind: Any) -> None:
        """A list, a tuple or a set of names."""
        configure(settings, AUDIENCES=kind(["chat", "news.2"]))
        assert sorted(conf.audiences()) == ["chat", "news.2"]

    def test_claims_is_a_dotted_path(self, settings: Any) -> None:
        """The function is imported when it is needed."""
        configure(settings, CLAIMS=f"{__name__}.add_claims")
        assert conf.claims() is add_claims

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_service_keys_are_in_order(self, settings: Any, kind: Any) -> None:
        """A list or a tuple of what fits a Bearer credential."""
        keys = ["a" * 32, SERVICE_KEY, "-" * 1000]
        configure(settings, SERVICE_KEYS=kind(keys))
        assert conf.service_keys() == tuple(keys)

    def test_a_service_key_may_be_made_as_the_hint_says(self, settings: Any) -> None:
        """secrets.token_urlsafe(32) always fits."""
        keys = [secrets.token_urlsafe(32) for _ in range(100)]
        configure(settings, SERVICE_KEYS=keys)
        assert conf.service_keys() == tuple(keys)

    @pytest.mark.parametrize(
        ("name", "value", "id"),
        [
            ("BACKEND", "nothing", "E001"),
            ("BACKEND", "", "E001"),
            ("BACKEND", ".RedisBackend", "E001"),
            ("BACKEND", "..redis.RedisBackend", "E001"),
            ("BACKEND", "nothing.of.the.Kind", "E001"),
            ("BACKEND", f"{BACKENDS}redis.Nothing", "E001"),
            ("BACKEND", "json.Nothing", "E001"),
            ("BACKEND", None, "E001"),
            ("BACKEND", 7, "E001"),
            ("BACKEND", RedisBackend, "E001"),
            ("BACKEND", "json.dumps", "E002"),
            ("BACKEND", "json.JSONDecoder", "E002"),
            ("BACKEND", f"{__name__}.NOT_CALLABLE", "E002"),
            ("EXPIRE", 0, "E003"),
            ("EXPIRE", -1, "E003"),
            ("EXPIRE", True, "E003"),
            ("EXPIRE", 1.5, "E003"),
            ("EXPIRE", "10", "E003"),
            ("EXPIRE", None, "E003"),
            ("OPTIONS", "room", "E005"),
            ("OPTIONS", None, "E005"),
            ("OPTIONS", ["room"], "E005"),
            ("OPTIONS", {"no_such_option": 1}, "E005"),
            ("OPTIONS", {1: 1}, "E005"),
            ("PREFIX", "", "E006"),
            ("PREFIX", "a" * 33, "E006"),
            ("PREFIX", "rt:", "E006"),
            ("PREFIX", "rt_\n", "E006"),
            ("PREFIX", None, "E006"),
            ("PREFIX", b"rt_", "E006"),
            ("AUDIENCES", "chat", "E007"),
            ("AUDIENCES", None, "E007"),
            ("AUDIENCES", {"chat": 1}, "E007"),
            ("AUDIENCES", ["chat", ""], "E007"),
            ("AUDIENCES", ["chat", "a b"], "E007"),
            ("AUDIENCES", ["chat\n"], "E007"),
            ("AUDIENCES", [None], "E007"),
            ("CLAIMS", "nothing", "E008"),
            ("CLAIMS", "", "E008"),
            ("CLAIMS", ".claims", "E008"),
            ("CLAIMS", "no.such.function", "E008"),
            ("CLAIMS", "json.nothing", "E008"),
            ("CLAIMS", 7, "E008"),
            ("CLAIMS", add_claims, "E008"),
            ("CLAIMS", f"{__name__}.NOT_CALLABLE", "E008"),
            ("CLAIMS", f"{__name__}.add_claims_some_day", "E008"),
            ("HASH_KEYS", 1, "E009"),
            ("HASH_KEYS", "False", "E009"),
            ("HASH_KEYS", None, "E009"),
            ("SERVICE_KEYS", SERVICE_KEY, "E013"),
            ("SERVICE_KEYS", None, "E013"),
            ("SERVICE_KEYS", {SERVICE_KEY}, "E013"),
            ("SERVICE_KEYS", {SERVICE_KEY: 1}, "E013"),
            ("SERVICE_KEYS", [None], "E013"),
            ("SERVICE_KEYS", [SERVICE_KEY.encode()], "E013"),
            ("SERVICE_KEYS", [uuid.UUID(int=5)], "E013"),
            ("SERVICE_KEYS", [""], "E013"),
            ("SERVICE_KEYS", [SERVICE_KEY, "a" * 31], "E013"),
            ("SERVICE_KEYS", [f"{SERVICE_KEY} "], "E013"),
            ("SERVICE_KEYS", [f"{SERVICE_KEY}\n"], "E013"),
            ("SERVICE_KEYS", [f"{SERVICE_KEY}:"], "E013"),
            ("SERVICE_KEYS", ["é" * 32], "E013"),
        ],
        ids=shown,
    )
    def test_that_are_wrong(
        self, settings: Any, name: str, value: object, id: str
    ) -> None:
        """A wrong value is ImproperlyConfigured on use, with an id and a hint."""
        configure(settings, **{"BACKEND": f"{__name__}.Recording", name: value})
        with pytest.raises(ImproperlyConfigured) as caught:
            get_service()
            conf.audiences()
            conf.claims()
            conf.service_keys()
        error: Any = caught.value
        assert isinstance(error, conf.WrongSetting)
        assert error.id == f"realtime_ticket.{id}"
        assert f"REALTIME_TICKET_{name}" in error.message
        assert len(error.hint) > 10
        assert str(error) == f"{error.message} {error.hint}"
        assert SERVICE_KEY not in str(error)  # it is a secret

    @pytest.mark.parametrize(
        ("package", "path", "extra"),
        [("redis", REDIS, "redis"), ("pymemcache", MEMCACHED, "memcached")],
    )
    def test_that_need_a_driver(
        self,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
        package: str,
        path: str,
        extra: str,
    ) -> None:
        """A missing driver is E004, and the hint is the command that installs it."""
        configure(settings, BACKEND=path)
        hide_package(monkeypatch, package, path.rpartition(".")[0])
        with pytest.raises(conf.WrongSetting) as caught:
            get_service()
        assert caught.value.id == "realtime_ticket.E004"
        assert f"'django-realtime-ticket[{extra}]>=1'" in caught.value.hint

    def test_that_need_some_other_module(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A module that a user's backend lacks is none of our drivers: E001."""
        (tmp_path / "needy_backend.py").write_text("import no_such_driver\n")
        monkeypatch.syspath_prepend(tmp_path)
        configure(settings, BACKEND="needy_backend.Backend")
        with pytest.raises(conf.WrongSetting, match="no_such_driver") as caught:
            get_service()
        assert caught.value.id == "realtime_ticket.E001"


class TestBackendOptions:
    @pytest.mark.parametrize(
        ("path", "name", "value", "attributes"),
        [
            (MEMCACHED, "MEMCACHED", "mem:1", {"_servers": ["mem:1"]}),
            (MEMCACHED, "MEMCACHED", {"servers": ["a", "b"]}, {"_servers": ["a", "b"]}),
            (CACHE, "CACHE", "file", {"alias": "file"}),
            (CACHE, "CACHE", {"alias": "file"}, {"alias": "file"}),
            (DATABASE, "DATABASE", "default", {"alias": "default"}),
            (DATABASE, "DATABASE", {"alias": "default"}, {"alias": "default"}),
            (f"{__name__}.Recording", "OPTIONS", {"room": "a"}, {"room": "a"}),
            (f"{__name__}.OwnSetting", "MINE", {"room": "a"}, {"room": "a"}),
            (f"{__name__}.OwnSetting", "MINE", "a", {"room": "a"}),
            (f"{__name__}.OwnSetting", "OPTIONS", {}, {"room": ""}),
        ],
    )
    def test_come_from_the_setting_of_the_backend(
        self,
        settings: Any,
        path: str,
        name: str,
        value: object,
        attributes: dict[str, object],
    ) -> None:
        """A dict of options, or a string that stands for the most important one."""
        configure(settings, BACKEND=path, **{name: value})
        backend = conf.backend()
        for attribute, expected in attributes.items():
            assert getattr(backend, attribute) == expected

    @pytest.mark.parametrize(
        "value",
        [
            "redis://cache.example:7000/3",
            {"url": "redis://cache.example:7000/3"},
            {"host": "cache.example", "port": 7000, "db": 3},
        ],
    )
    def test_of_redis(self, settings: Any, value: object) -> None:
        """REDIS is a URL, or the keywords of 2012."""
        configure(settings, BACKEND=REDIS, REDIS=value)
        backend: Any = conf.backend()
        kwargs = backend._pool.connection_kwargs
        assert (kwargs["host"], kwargs["port"], kwargs["db"]) == (
            "cache.example", 7000, 3,
        )  # fmt: skip

    def test_options_come_on_top(self, settings: Any) -> None:
        """REALTIME_TICKET_OPTIONS adds to the backend's own setting, and wins."""
        configure(
            settings,
            BACKEND=REDIS,
            REDIS={"host": "a", "db": 1},
            OPTIONS={"db": 2, "max_connections": 7},
        )
        backend: Any = conf.backend()
        kwargs = backend._pool.connection_kwargs
        assert (kwargs["host"], kwargs["db"]) == ("a", 2)
        assert backend._pool.max_connections == 7

    def test_leave_the_setting_alone(self, settings: Any) -> None:
        """The dict in the settings is not the one that the backend gets."""
        configure(settings, BACKEND=REDIS, REDIS={"host": "a"}, OPTIONS={"db": 2})
        conf.backend()
        assert settings.REALTIME_TICKET_REDIS == {"host": "a"}

    def test_of_other_backends_do_not_matter(self, settings: Any) -> None:
        """A setting for a backend that is not in use is not even looked at."""
        configure(settings, BACKEND=LOCMEM, REDIS=7, CACHE="nothing", DATABASE=None)
        assert isinstance(conf.backend(), LocMemBackend)

    @pytest.mark.parametrize(
        ("path", "name", "value", "id"),
        [
            (REDIS, "REDIS", None, "E005"),
            (REDIS, "REDIS", ["localhost"], "E005"),
            (REDIS, "REDIS", {"hots": "localhost"}, "E005"),
            (REDIS, "REDIS", "localhost:6379", "E005"),
            (REDIS, "REDIS", "redis://localhost?no_such_option=1", "E005"),
            (MEMCACHED, "MEMCACHED", ["localhost:11211"], "E005"),
            (MEMCACHED, "MEMCACHED", {"servers": []}, "E005"),
            (MEMCACHED, "MEMCACHED", {"sevrers": "x"}, "E005"),
            (CACHE, "CACHE", None, "E005"),
            (CACHE, "CACHE", {"timeout": 1}, "E005"),
            (CACHE, "CACHE", "nothing", "E010"),
            (CACHE, "CACHE", {"alias": "nothing"}, "E010"),
            (CACHE, "CACHE", {"alias": None}, "E010"),
            (CACHE, "CACHE", {"alias": ["default"]}, "E010"),
            (CACHE, "CACHE", "", "E010"),
            (DATABASE, "DATABASE", "nothing", "E010"),
            (DATABASE, "DATABASE", {"alias": "nothing"}, "E010"),
            (DATABASE, "DATABASE", None, "E005"),
            (f"{__name__}.Eager", "OPTIONS", {}, "E005"),
            (f"{__name__}.Abstract", "OPTIONS", {}, "E005"),
        ],
        ids=lambda value: ascii(value).rpartition(".")[2][:40],
    )
    def test_that_are_wrong(
        self, settings: Any, path: str, name: str, value: object, id: str
    ) -> None:
        """Options that do not suit are ImproperlyConfigured, and name the setting."""
        configure(settings, BACKEND=path, **{name: value})
        with pytest.raises(conf.WrongSetting) as caught:
            conf.backend()
        assert caught.value.id == f"realtime_ticket.{id}"
        assert f"REALTIME_TICKET_{name}" in caught.value.message
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("path", "options"),
        [
            *((REDIS, options) for options in WRONG_REDIS),
            *((MEMCACHED, options) for options in WRONG_MEMCACHED),
            *((SENTINEL, AT_SENTINEL | options) for options in WRONG_SENTINEL),
            *((CLUSTER, AT_CLUSTER | options) for options in WRONG_CLUSTER),
        ],
        ids=lambda value: shown(value).rpartition("Backend")[2][:60],
    )
    def test_that_drivers_would_refuse_when_they_are_used(
        self, settings: Any, path: str, options: dict[str, Any]
    ) -> None:
        """manage.py check finds them, and the text repeats no value.

        Mutants: redis-options-fail-when-they-are-used, redis-takes-a-pool,
        memcached-options-fail-when-they-are-used.
        """
        name = import_string(path).setting
        configure(settings, BACKEND=path, **{name: options})
        with pytest.raises(conf.WrongSetting) as caught:
            conf.backend()
        assert caught.value.id == "realtime_ticket.E005"
        assert f"REALTIME_TICKET_{name}" in caught.value.message
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("path", "options"),
        [
            (REDIS, {"port": "6379", "db": "1", "socket_timeout": None}),
            (REDIS, {"host": "::1", "health_check_interval": 0}),
            (REDIS, {"retry_on_error": [OSError], "password": b"x"}),
            (REDIS, {"socket_keepalive_options": {1: 1}, "ssl_ca_certs": __file__}),
            (MEMCACHED, {"servers": ["[::1]:11211", "a-b.example", "unix:/x", "/x"]}),
            (MEMCACHED, {"servers": ("10.0.0.1:11211",), "timeout": 0.5}),
            (MEMCACHED, {"tls_context": ssl.create_default_context()}),
        ],
        ids=lambda value: shown(value).rpartition("Backend")[2][:60],
    )
    def test_that_are_fine(
        self, settings: Any, path: str, options: dict[str, Any]
    ) -> None:
        """Numbers may be strings, as the environment has them; hosts of any kind."""
        configure(settings, BACKEND=path, **{import_string(path).setting: options})
        conf.backend()

    def test_that_a_backend_of_ones_own_trips_over(self, settings: Any) -> None:
        """Whatever a constructor raises is a wrong setting, not a traceback."""
        configure(settings, BACKEND=f"{__name__}.Clumsy", OPTIONS={})
        with pytest.raises(conf.WrongSetting, match=r"KeyError\('room'\)"):
            conf.backend()

    def test_shorthand_is_named_in_the_hint(self, settings: Any) -> None:
        """Where a string will do, the hint says what it stands for."""
        configure(settings, BACKEND=REDIS, REDIS=7)
        with pytest.raises(conf.WrongSetting, match="a string for 'url'"):
            conf.backend()
        configure(settings, BACKEND=LOCMEM, OPTIONS="x")
        with pytest.raises(conf.WrongSetting, match=r"a dict of options\.$"):
            conf.backend()

    @pytest.mark.parametrize(
        ("path", "cls"),
        [
            (REDIS, RedisBackend),
            (MEMCACHED, MemcachedBackend),
            (CACHE, CacheBackend),
            (DATABASE, DatabaseBackend),
            (LOCMEM, LocMemBackend),
        ],
    )
    def test_none_are_needed(self, settings: Any, path: str, cls: type) -> None:
        """Every backend has defaults."""
        configure(settings, BACKEND=path)
        assert type(conf.backend()) is cls


class TestGetService:
    @pytest.fixture(autouse=True)
    def _recording(self, settings: Any) -> None:
        configure(settings, BACKEND=f"{__name__}.Recording")

    def test_is_one_for_the_process(self) -> None:
        """It is made once."""
        service = get_service()
        assert isinstance(service, TicketService)
        assert get_service() is service

    def test_is_one_for_all_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Threads that ask first at the same moment get the same one."""
        barrier = threading.Barrier(16)
        made: list[BaseBackend] = []
        make = conf.backend

        def slowly() -> BaseBackend:
            made.append(make())
            threading.Event().wait(0.05)
            return made[-1]

        def ask(_: int) -> TicketService:
            barrier.wait(WAIT)
            return get_service()

        monkeypatch.setattr(conf, "backend", slowly)
        with ThreadPoolExecutor(16) as pool:
            services = set(pool.map(ask, range(16)))
        assert len(services) == 1 < len(made)

    def test_is_made_in_a_child_of_a_process_that_makes_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fork meanwhile leaves no lock behind that nobody will open."""
        parent, make = os.getpid(), conf.backend
        entered, gate = threading.Event(), threading.Event()

        def slowly() -> BaseBackend:
            if os.getpid() == parent:
                entered.set()
                assert gate.wait(WAIT)
            return make()

        monkeypatch.setattr(conf, "backend", slowly)
        with ThreadPoolExecutor(1) as pool:
            service = pool.submit(get_service)
            assert entered.wait(WAIT)
            try:
                assert in_child(lambda: type(get_service()).__name__)
            finally:
                gate.set()
            assert get_service() is service.result()

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("REALTIME_TICKET_EXPIRE", 20),
            ("REALTIME_TICKET_BACKEND", LOCMEM),
            ("REALTIME_TICKET_OPTIONS", {"room": "b"}),
            ("CACHES", {"default": DUMMY_CACHE}),
        ],
    )
    def test_follows_the_settings_of_a_test(self, setting: str, value: Any) -> None:
        """Overriding a setting makes a new service, before and after, and closes."""
        before = get_service()
        with override_settings(**{setting: value}):
            during = get_service()
            assert during is not before
            assert before.backend.closed == 1  # type: ignore[attr-defined]
        assert get_service() not in (before, during)

    def test_survives_other_settings(self) -> None:
        """An override that has nothing to do with tickets changes nothing."""
        before = get_service()
        with override_settings(DEBUG=True):
            assert get_service() is before
        assert before.backend.closed == 0  # type: ignore[attr-defined]

    def test_is_not_made_to_be_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An override before the first use is fine."""
        monkeypatch.setattr(conf, "_made", {})
        with override_settings(REALTIME_TICKET_EXPIRE=20):
            assert get_service().expire == 20

    def test_a_wrong_setting_can_be_corrected(self, settings: Any) -> None:
        """A failure is not remembered."""
        configure(settings, EXPIRE=0)
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured):
                get_service()
        configure(settings, EXPIRE=1)
        assert get_service().expire == 1

    def test_reads_settings_when_it_is_used(self, settings: Any) -> None:
        """Audiences and claims are those of the test, not of the first request.

        Mutants: settings-of-the-first-request.
        """
        get_service()
        assert conf.audiences() == ()
        configure(settings, AUDIENCES=["chat"])
        assert conf.audiences() == ("chat",)
        with override_settings(REALTIME_TICKET_AUDIENCES=["news"]):
            assert conf.audiences() == ("news",)
            del settings.REALTIME_TICKET_AUDIENCES  # as Django's own tests do
            assert conf.audiences() == ()
        assert conf.audiences() == ("chat",)

    def test_sends_signals(self) -> None:
        """It is a service that Django's receivers hear of."""
        heard: list[object] = []

        def receiver(sender: object, **kwargs: object) -> None:
            heard.append(sender)

        signals.ticket_issued.connect(receiver)
        try:
            get_service().issue(CLAIMS)
        finally:
            signals.ticket_issued.disconnect(receiver)
        assert heard == [SignallingService]


def test_overriding_ends_the_thread_that_hears_of_disconnects(settings: Any) -> None:
    """It reads the storage of before, and the next service has the new settings.

    Mutants: outdated-listener-goes-on.
    """
    settings.REALTIME_TICKET_BACKEND = f"{LocMemBackend.__module__}.LocMemBackend"
    service = get_service()

    def reading() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if "listener" in t.name}

    before = reading()
    LiveTickets(service).watch(service.issue(CLAIMS), print)
    assert len(reading()) == len(before) + 1
    settings.REALTIME_TICKET_JOURNAL_EXPIRE = 300
    assert reading() == before
    assert get_service().journal.expire == conf.new_service().journal.expire == 300


@override_settings(REALTIME_TICKET_BACKEND=DATABASE)
class TestOverridingInATestCase(TestCase):
    def test_leaves_the_transaction_of_the_test_alone(self) -> None:
        """A project on the database backend may override settings in its tests."""
        ticket = get_service().issue(CLAIMS)
        with self.settings(REALTIME_TICKET_EXPIRE=20):
            assert get_service().expire == 20
        assert connection.is_usable()
        assert get_service().consume(ticket.value) == ticket

    async def test_works_in_a_coroutine(self) -> None:
        """Where Django's connections may not be closed."""
        await get_service().aissue(CLAIMS)
        with self.settings(REALTIME_TICKET_EXPIRE=20):
            ticket = await get_service().aissue(CLAIMS)
        assert ticket.expires_at - ticket.issued_at == 20
        assert await get_service().aconsume(ticket.value) == ticket
