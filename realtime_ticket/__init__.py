"""Single-use tickets that tell a realtime server who a Django user is.

Importing this package loads no Django. The names that need Django load it when they
are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .exceptions import (
    InvalidAudience,
    InvalidClaims,
    InvalidTicket,
    NotAuthenticated,
    OpenTransaction,
    RealtimeTicketError,
    Revoked,
    StorageError,
    UnsupportedBackend,
)
from .service import TicketService
from .tickets import Ticket

if TYPE_CHECKING:
    from .conf import get_service as get_service
    from .disconnects import adisconnect as adisconnect
    from .disconnects import disconnect as disconnect
    from .middleware import RealtimeTicketMiddleware as RealtimeTicketMiddleware
    from .shortcuts import aget_user as aget_user
    from .shortcuts import aissue_ticket as aissue_ticket
    from .shortcuts import get_user as get_user
    from .shortcuts import issue_ticket as issue_ticket
    from .views import AsyncRealtimeTicketView as AsyncRealtimeTicketView
    from .views import RealtimeTicketView as RealtimeTicketView

_DJANGO_BOUND = {
    "AsyncRealtimeTicketView": "views",
    "RealtimeTicketMiddleware": "middleware",
    "RealtimeTicketView": "views",
    "adisconnect": "disconnects",
    "aget_user": "shortcuts",
    "aissue_ticket": "shortcuts",
    "disconnect": "disconnects",
    "get_service": "conf",
    "get_user": "shortcuts",
    "issue_ticket": "shortcuts",
}

__all__ = [
    "AsyncRealtimeTicketView",
    "InvalidAudience",
    "InvalidClaims",
    "InvalidTicket",
    "NotAuthenticated",
    "OpenTransaction",
    "RealtimeTicketError",
    "RealtimeTicketMiddleware",
    "RealtimeTicketView",
    "Revoked",
    "StorageError",
    "Ticket",
    "TicketService",
    "UnsupportedBackend",
    "adisconnect",
    "aget_user",
    "aissue_ticket",
    "disconnect",
    "get_service",
    "get_user",
    "issue_ticket",
]


def __getattr__(name: str) -> Any:
    if name not in _DJANGO_BOUND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_DJANGO_BOUND[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
