"""Whether the classes behind a cache give a value to one caller, and only in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache

_HERD_CLIENT = "django_redis.client.herd.HerdClient"
_TESTED = (
    *("django.core.cache.", "django_redis.cache.", "django_redis.client.default."),
    "pymemcache.",
)
"""Modules whose caches pass the contract suite, if no class in between changes them."""


def check_class(cache: Any, alias: str) -> Iterator[checks.CheckMessage]:
    """Check the classes that the cache calls, whatever its own class is named."""
    client = getattr(cache, "_client_cls", None) or getattr(cache, "_class", object)
    if _HERD_CLIENT in names_of(client):
        yield checks.Error(
            f"The cache {alias!r} keeps expired values (django-redis' HerdClient), so "
            "tickets live for a minute longer.",
            hint="Give tickets a cache of their own, with the DefaultClient.",
            id="realtime_ticket.E015",
        )
    elif any(name.startswith("bmemcached.") for name in names_of(client)):
        yield checks.Error(
            f"The cache {alias!r} does not tell which caller removed a value "
            "(bmemcached), so one ticket lets several in.",
            hint="Use PyMemcacheCache or PyLibMCCache of Django, or MemcachedBackend.",
            id="realtime_ticket.E016",
        )
    elif not isinstance(cache, DummyCache) and (unknown := _untested(cache, client)):
        yield checks.Warning(
            f"The cache {alias!r} uses {unknown}, which is not tested with tickets.",
            hint="Run manage.py ticket_doctor, which tests it with a race. If it finds "
            "nothing, silence this.",
            id="realtime_ticket.W021",
        )


def _untested(cache: BaseCache, client: Any) -> str:
    """Return the name of a method or client that is not known, or nothing."""
    methods = [getattr(type(cache), name) for name in ("add", "get", "delete")]
    for each in [*methods, client]:
        name = f"{each.__module__}.{each.__qualname__}"
        if each is not object and not name.startswith(_TESTED):
            return name
    return ""


def names_of(cls: Any) -> list[str]:
    """Return the full names of a class and those that it is derived from."""
    return [f"{each.__module__}.{each.__qualname__}" for each in cls.__mro__]
