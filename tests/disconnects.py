"""Whose connections end, and a storage that does not hear of it at once."""

from __future__ import annotations

import threading
from typing import Any

from realtime_ticket.backends.locmem import LocMemBackend

Heard = list[tuple[tuple[Any, ...], str | None]]
FAILING = f"{__name__}.DownBackend"


class DownBackend(LocMemBackend):
    """Fails everyone but the thread that tries again."""

    def add(self, key: str, data: str, expire: int) -> bool:
        if threading.current_thread().name != "realtime-ticket-outbox":
            raise OSError("the storage is down")
        return super().add(key, data, expire)
