"""A ticket as one would write it without this package, for the comparisons."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache

CLAIMS: Final = {"id": 7, "username": "ada"}
EXPIRE: Final = 60
"""Seconds. A ticket may wait behind thousands of others."""


def make() -> tuple[str, str]:
    """Return a new value and the text to store, like those of this package."""
    now = int(time.time())
    data = json.dumps(CLAIMS | {"iat": now, "exp": now + EXPIRE})
    return "rt_" + secrets.token_urlsafe(32), data


def read(data: str | bytes | None) -> dict[str, Any]:
    """Return what a stored text says. Raise LookupError if there is none."""
    if data is None:
        raise LookupError
    claims: dict[str, Any] = json.loads(data)
    return claims


def in_cache(cache: BaseCache) -> None:
    """Issue and consume a ticket in one of Django's caches."""
    value, data = make()
    if not cache.add(value, data, EXPIRE):
        raise RuntimeError
    stored = cache.get(value)
    if not cache.delete(value):
        raise LookupError
    read(stored)
