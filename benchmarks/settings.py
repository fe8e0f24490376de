"""The Django of the benchmarks: three databases, each twice, and a cache of each kind.

The second of each database is the one that holds many tickets.
"""

from __future__ import annotations

from typing import Any

from tests import servers

SECRET_KEY = "for benchmarks only"
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["realtime_ticket"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}
_POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "USER": "postgres",
    "HOST": str(servers.POSTGRESQL),
}
_MARIADB = {
    "ENGINE": "django.db.backends.mysql",
    "USER": "root",
    "OPTIONS": {"unix_socket": str(servers.MARIADB)},
}
DATABASES: dict[str, dict[str, Any]] = {
    "default": _SQLITE | {"NAME": servers.DIRECTORY / "few.sqlite3"},
    "sqlite": _SQLITE | {"NAME": servers.DIRECTORY / "few.sqlite3"},
    "sqlite-many": _SQLITE | {"NAME": servers.DIRECTORY / "many.sqlite3"},
    "postgresql": _POSTGRESQL | {"NAME": "few"},
    "postgresql-prepared": _POSTGRESQL
    | {
        "NAME": "few",
        "OPTIONS": {"server_side_binding": True, "prepare_threshold": 5},
    },
    "postgresql-many": _POSTGRESQL | {"NAME": "many"},
    "mariadb": _MARIADB | {"NAME": "few"},
    "mariadb-many": _MARIADB | {"NAME": "many"},
}

# A cache in a table of each database, by a router of its own.
DATABASE_ROUTERS = ["benchmarks.settings.CacheTables"]

CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "redis": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"unix://{servers.REDIS}?db=1",
    },
    "django-redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"unix://{servers.REDIS}?db=2",
    },
    "memcached": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": f"unix:{servers.MEMCACHED[0]}",
    },
    "file": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": servers.DIRECTORY / "file-cache",
    },
}
CACHES |= {
    f"{alias}-table": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": f"cache_{alias}",
    }
    for alias in ("sqlite", "postgresql", "mariadb")
}


class CacheTables:
    """Find each cache's table in the database that it is named after."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        if model._meta.app_label != "django_cache":
            return None
        return str(model._meta.db_table).removeprefix("cache_")

    db_for_write = db_for_read

    def allow_migrate(
        self, alias: str, app_label: str, model: Any = None, **hints: Any
    ) -> bool | None:
        return alias == self.db_for_read(model) if app_label == "django_cache" else None
