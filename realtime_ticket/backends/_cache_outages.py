"""What the errors of a cache mean, in texts that are safe to log."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.db import router

from realtime_ticket.outages import Outage, explain, place_of

from ._database_outages import explain_database


def explain_cache(alias: str, error: Exception) -> Outage:
    """Return what an error of the cache with this alias means."""
    storage = f"The cache {alias!r}"
    try:
        cache: Any = caches[alias]
    except InvalidCacheBackendError:
        cache = None
    if table := getattr(cache, "cache_model_class", None):
        database = explain_database(
            router.db_for_write(table),
            error,
            table=cache._table,
            make="createcachetable",
        )
        return Outage(f"{storage} failed. {database.message}", database.hint)
    return explain(
        error,
        storage=storage,
        setting=f"CACHES[{alias!r}]",
        place=_place_of(settings.CACHES[alias].get("LOCATION", "")),
    )


def _place_of(location: Any) -> str:
    """Return the addresses in a LOCATION, without passwords."""
    many = location if isinstance(location, (list, tuple)) else [location]
    servers = [each for one in many for each in re.split("[;,]", str(one))]
    return ", ".join(filter(None, map(_address, servers)))


def _address(server: str) -> str:
    if "://" not in server:
        return place_of(server.removeprefix("unix:"))
    try:
        url = urlsplit(server)
        if url.hostname:
            return place_of(url.hostname, url.port or "")
    except ValueError:  # a password that is not percent-encoded may break it
        return ""
    return place_of(url.path)
