"""A service by its plain methods and by their twins, for tests of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from realtime_ticket import TicketService


class Door:
    """The methods of a service, by their plain names."""

    def __init__(self, service: TicketService) -> None:
        self.service = service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.service, name)
        return method


class AsyncDoor(Door):
    """The twins with an a, called as a synchronous test can."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return async_to_sync(getattr(self.service, f"a{name}"))


both_doors = pytest.mark.parametrize("door", [Door, AsyncDoor], ids=["sync", "async"])
