"""The rows of the table: the number of each, and the module that measures it."""

from __future__ import annotations

from typing import Final

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
