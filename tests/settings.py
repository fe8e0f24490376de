"""A project with every kind of storage that this machine has a driver for."""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from tests import servers

SECRET_KEY = "for tests only, and as long as a signature with HS256 asks for"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "realtime_ticket",
    "tests.accounts",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "page.html": "<p>{{ realtime_ticket|default_if_none:'none' }}"
                        "{% if realtime_ticket is None %} is None{% endif %}</p>",
                        "silent.html": "<p>no ticket here</p>",
                    },
                )
            ],
        },
    }
]

_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}
DATABASES: dict[str, dict[str, Any]] = {
    "default": _SQLITE
    | {
        "NAME": servers.DIRECTORY / "default.sqlite3",
        "TEST": {"NAME": servers.DIRECTORY / "test.sqlite3"},
    },
}
if not servers.missing("postgresql"):
    DATABASES["postgresql"] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": str(servers.POSTGRESQL),
        "TEST": {"DEPENDENCIES": []},
    }
if not servers.missing("mariadb"):
    DATABASES["mariadb"] = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "test",
        "USER": "root",
        "OPTIONS": {"unix_socket": str(servers.MARIADB)},
        "TEST": {"DEPENDENCIES": []},
    }

_PATIENCE = {
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    "retry": Retry(NoBackoff(), 0),
}
_MANY = {"MAX_ENTRIES": 100_000}
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": _MANY,
    },
    "file": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": servers.DIRECTORY / "file-cache",
        "OPTIONS": _MANY,
    },
    "database": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache_table",
        "OPTIONS": _MANY,
    },
    "redis": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"unix://{servers.REDIS}?db=1",
        "OPTIONS": _PATIENCE,
    },
    "django-redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"unix://{servers.REDIS}?db=2",
        "OPTIONS": {"CONNECTION_POOL_KWARGS": _PATIENCE},
    },
    "memcached": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": f"unix:{servers.MEMCACHED[0]}",
        "OPTIONS": {
            "timeout": 1,
            "connect_timeout": 1,
            "dead_timeout": 1,
            "retry_attempts": 0,
        },
    },
}

# The same with nobody there.
_NOWHERE = "/nonexistent/socket"
CACHES |= {
    "redis-down": CACHES["redis"] | {"LOCATION": f"unix://{_NOWHERE}"},
    "django-redis-down": CACHES["django-redis"] | {"LOCATION": f"unix://{_NOWHERE}"},
    "memcached-down": CACHES["memcached"] | {"LOCATION": f"unix:{_NOWHERE}"},
}

REALTIME_TICKET_BACKEND = "realtime_ticket.backends.locmem.LocMemBackend"

# Django 6.1 asks for it. Its tests put a backend in place that keeps mails in memory.
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
