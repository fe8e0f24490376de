"""The rows of the table: the number of each, and the module that measures it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Final

from tests import servers

ROWS: Final = {
    1: "redis_sync",
    2: "redis_async",
    3: "databases",
    4: "caches",
    5: "http",
    6: "websocket",
    7: "storm",
    8: "growth",
    9: "imports",
    10: "journal",
    11: "revoked",
}

NEEDS: Final[dict[int, tuple[str, ...]]] = {
    1: ("redis",),
    2: ("redis",),
    3: (),
    4: ("redis", "memcached"),
    5: ("redis",),
    6: ("redis",),
    7: ("redis",),
    8: ("redis", "memcached"),
    9: (),
    10: ("redis", "memcached", "postgresql"),
    11: ("redis", "memcached", "postgresql"),
}
"""The servers without which a row cannot be measured."""

MAY_HAVE: Final = {3: ("postgresql", "mariadb"), 8: ("postgresql", "mariadb")}
"""The servers that a row can leave out."""


def why_not(number: int) -> str:
    """Return why a row cannot be measured here, or an empty string."""
    try:
        import_module(f"benchmarks.{ROWS[number]}")
    except ModuleNotFoundError as exc:
        return str(exc)
    return next(filter(None, map(servers.missing, NEEDS[number])), "")


def left_out(number: int) -> Iterator[str]:
    """Yield what a row leaves out here, and why."""
    yield from filter(None, map(servers.missing, MAY_HAVE.get(number, ())))
