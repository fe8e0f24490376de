"""The messages of the system checks are those that the pages show."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from django.core import checks as django_checks
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections
from django.test import override_settings

from realtime_ticket import checks
from realtime_ticket.backends._database_checks import check_database
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from tests import servers
from tests.docs.pages import PACKAGE, PAGES, read


def _documented_checks(page: str = "system-checks.md") -> dict[str, str]:
    found = re.findall(
        r"^## realtime_ticket\.([EIW]\d{3})\n\n> (.*)\n\nWhy: .*(?:\n.+)*\n\nFix: ",
        read(page),
        re.MULTILINE,
    )
    return dict(found)


def test_check_ids_are_those_of_the_source() -> None:
    source = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    used = set(re.findall(r'id="(?:realtime_ticket\.)?([EIW]\d{3})"', source))
    assert len(used) > 20
    of_doctor = set(_documented_checks("ticket-doctor.md"))
    assert {*_documented_checks(), *of_doctor} == used
    assert _documented_checks().keys().isdisjoint(of_doctor)
    every_page = "".join(map(read, PAGES))
    assert set(re.findall(r"\b[EIW]0\d\d\b", every_page)) <= used


_CACHE = {"REALTIME_TICKET_BACKEND": "realtime_ticket.backends.cache.CacheBackend"}
_DJANGO_CACHES = "django.core.cache.backends"
_PROCESSOR = "realtime_ticket.context_processors.realtime_ticket"


def _cache(backend: str, **options: Any) -> dict[str, Any]:
    return _CACHE | {"CACHES": {"default": {"BACKEND": backend, "OPTIONS": options}}}


class MyBackend(LocMemBackend):
    """A backend of somebody's own, for tickets only."""

    read_many = BaseBackend.read_many


class OwnDelete(LocMemCache):
    def delete(self, key: str, version: int | None = None) -> bool:
        raise NotImplementedError

    delete.__module__ = "shop.caches"  # where the page has it


TRIGGERS: dict[str, dict[str, Any]] = {
    "E001": {"REALTIME_TICKET_BACKEND": "no.such.Backend"},
    "E002": {"REALTIME_TICKET_BACKEND": "decimal.Decimal"},
    "E003": {"REALTIME_TICKET_EXPIRE": 0},
    "E005": {
        "REALTIME_TICKET_BACKEND": "realtime_ticket.backends.redis.RedisBackend",
        "REALTIME_TICKET_REDIS": {"hots": "localhost"},
    },
    "E006": {"REALTIME_TICKET_PREFIX": "rt:"},
    "E007": {"REALTIME_TICKET_AUDIENCES": "chat"},
    "E008": {"REALTIME_TICKET_CLAIMS": "no.such.function"},
    "E009": {"REALTIME_TICKET_HASH_KEYS": "yes"},
    "E010": _CACHE | {"REALTIME_TICKET_CACHE": "nowhere"},
    "E011": _cache(
        "django_redis.cache.RedisCache",
        IGNORE_EXCEPTIONS=True,
        CONNECTION_POOL_KWARGS={},
    ),
    "E015": _cache(
        "django_redis.cache.RedisCache",
        CLIENT_CLASS="django_redis.client.herd.HerdClient",
        CONNECTION_POOL_KWARGS={},
    ),
    "E016": _cache("django_bmemcached.memcached.BMemcached"),
    "E013": {"REALTIME_TICKET_SERVICE_KEYS": "a-single-key-that-is-long-enough"},
    "E017": {"REALTIME_TICKET_DISCONNECT": "no"},
    "E018": {"REALTIME_TICKET_JOURNAL_EXPIRE": 10},
    "I007": {
        "DEBUG": True,
        "REALTIME_TICKET_BACKEND": "realtime_ticket.backends.locmem.LocMemBackend",
    },
    "W001": {
        "REALTIME_TICKET_BACKEND": "realtime_ticket.backends.locmem.LocMemBackend"
    },
    "W002": {"REALTIME_TICKET_EXPIRE": 3600},
    "W003": _cache(f"{_DJANGO_CACHES}.locmem.LocMemCache"),
    "W004": _cache(f"{_DJANGO_CACHES}.redis.RedisCache"),
    "W008": {"MIDDLEWARE": ["realtime_ticket.middleware.RealtimeTicketMiddleware"]},
    "W009": {
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"context_processors": [_PROCESSOR]},
            }
        ]
    },
    "W010": _cache(f"{_DJANGO_CACHES}.dummy.DummyCache"),
    "W011": {"REALTIME_TICKET_TIMEOUT": 10},
    "W012": _cache(f"{_DJANGO_CACHES}.memcached.PyMemcacheCache"),
    "W021": _cache(f"{__name__}.OwnDelete"),
    "W025": _cache(f"{_DJANGO_CACHES}.filebased.FileBasedCache"),
    "W026": _CACHE
    | {
        "CACHES": {
            "default": {
                "BACKEND": f"{_DJANGO_CACHES}.redis.RedisCache",
                "LOCATION": ["redis://a.invalid", "redis://b.invalid"],
            }
        }
    },
    "W022": {"REALTIME_TICKET_BACKEND": f"{__name__}.MyBackend"},
    "W023": {"REALTIME_TICKET_EXPIRE": 3600},
}


@pytest.mark.parametrize("id", TRIGGERS)
def test_check_messages_are_as_documented(id: str) -> None:
    with override_settings(**TRIGGERS[id]):
        found = [
            *checks.check_settings(),
            *checks.check_template_variable(),
            *checks.check_backend(),
        ]
    assert _documented_checks()[id] in _messages(found, id)


def test_the_message_about_a_missing_driver_is_as_documented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = "realtime_ticket.backends.redis"
    monkeypatch.delitem(sys.modules, path)
    monkeypatch.setitem(sys.modules, "redis", None)
    with override_settings(REALTIME_TICKET_BACKEND=f"{path}.RedisBackend"):
        found = checks.check_settings()
    assert _documented_checks()["E004"] in _messages(found, "E004")


def test_messages_about_a_database_are_as_documented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documented = _documented_checks()
    connection: Any = connections["default"]
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: False)
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    monkeypatch.setattr(connection.introspection, "table_names", list)
    found = check_database("default", may_query=True)
    for id in ("W005", "W006", "W007"):
        assert documented[id] in _messages(found, id)
    monkeypatch.setattr(connection, "vendor", "oracle")
    found = check_database("default", may_query=True)
    assert documented["E012"] in _messages(found, "E012")


def test_the_message_about_an_outage_is_as_documented() -> None:
    port = servers.free_port()
    with override_settings(
        REALTIME_TICKET_BACKEND="realtime_ticket.backends.redis.RedisBackend",
        REALTIME_TICKET_REDIS={"port": port},
    ):
        (found,) = checks.check_storage(databases=["default"])
    said = str(found.msg).replace(str(port), "6380")
    assert (found.id, said) == ("realtime_ticket.W020", _documented_checks()["W020"])


def test_every_check_is_triggered_here() -> None:
    elsewhere = {"E004", "E012", "W005", "W006", "W007", "W020"}
    assert TRIGGERS.keys() | elsewhere == _documented_checks().keys()


def _messages(found: list[django_checks.CheckMessage], id: str) -> list[str]:
    return [str(check.msg) for check in found if check.id == f"realtime_ticket.{id}"]
