"""Tickets in the memory of one process: for development and for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from .base import BaseBackend

if TYPE_CHECKING:
    from django.core.checks import CheckMessage


class LocMemBackend(BaseBackend):
    """Keep tickets in a dict. Other processes, such as realtime servers, see none."""

    thread_sensitive: ClassVar[bool] = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[str, tuple[str, float]] = {}

    def add(self, key: str, data: str, expire: int) -> bool:
        now = time.monotonic()
        with self._lock:
            self._drop_expired(now, oldest_only=True)
            entry = (data, now + expire)
            return self._texts.setdefault(key, entry) is entry

    def pop(self, key: str) -> str | None:
        with self._lock:
            data, deadline = self._texts.pop(key, ("", 0.0))
        return data if time.monotonic() < deadline else None

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        with self._lock:
            entries = [self._texts.get(key, ("", 0.0)) for key in keys]
        now = time.monotonic()
        return [data if now < deadline else None for data, deadline in entries]

    def clear_expired(self) -> int:
        with self._lock:
            return self._drop_expired(time.monotonic())

    def _drop_expired(self, now: float, *, oldest_only: bool = False) -> int:
        """Drop expired entries and return their number.

        A dict keeps its order, and most tickets have one lifetime, so looking at the
        front keeps the dict small at almost no cost.
        """
        expired = []
        for key, (_, deadline) in self._texts.items():
            if deadline <= now:
                expired.append(key)
            elif oldest_only:
                break
        for key in expired:
            del self._texts[key]
        return len(expired)

    def check(self, databases: Collection[str] = ()) -> list[CheckMessage]:
        from ._memory_checks import check_memory

        return check_memory("LocMemBackend", "REALTIME_TICKET_BACKEND", "a storage")
