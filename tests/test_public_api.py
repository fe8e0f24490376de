"""What ``import realtime_ticket`` offers."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest
from django.utils.module_loading import import_string

import realtime_ticket
from realtime_ticket import exceptions

NAMES = {
    "AsyncRealtimeTicketView": "views",
    "InvalidAudience": "exceptions",
    "InvalidClaims": "exceptions",
    "InvalidTicket": "exceptions",
    "NotAuthenticated": "exceptions",
    "OpenTransaction": "exceptions",
    "RealtimeTicketError": "exceptions",
    "RealtimeTicketMiddleware": "middleware",
    "RealtimeTicketView": "views",
    "Revoked": "exceptions",
    "StorageError": "exceptions",
    "Ticket": "tickets",
    "TicketService": "service",
    "UnsupportedBackend": "exceptions",
    "adisconnect": "disconnects",
    "aget_user": "shortcuts",
    "aissue_ticket": "shortcuts",
    "disconnect": "disconnects",
    "get_service": "conf",
    "get_user": "shortcuts",
    "issue_ticket": "shortcuts",
}
"""Every public name, and the module that it comes from."""


def test_all_is_complete() -> None:
    """__all__ has the documented names, sorted, and no others."""
    assert realtime_ticket.__all__ == sorted(NAMES)


@pytest.mark.parametrize(("name", "module"), NAMES.items())
def test_names_are_the_modules_own(name: str, module: str) -> None:
    """A name of the package is the very object of its module."""
    home = importlib.import_module(f"realtime_ticket.{module}")
    assert getattr(realtime_ticket, name) is getattr(home, name)


def test_names_can_be_imported_with_a_star() -> None:
    """from realtime_ticket import * brings them all."""
    namespace: dict[str, object] = {}
    exec("from realtime_ticket import *", namespace)
    assert namespace.keys() >= NAMES.keys()


def test_dir_lists_them() -> None:
    """dir() and with it completion know the names before they are loaded."""
    assert dir(realtime_ticket) == sorted(NAMES)
    command = "import realtime_ticket; print(*dir(realtime_ticket))"
    output = subprocess.check_output([sys.executable, "-c", command], text=True)
    assert set(output.split()) == NAMES.keys()


@pytest.mark.parametrize("name", ["nothing", "RealtimeTicket", "__path", "LazyTicket"])
def test_unknown_names_are_attribute_errors(name: str) -> None:
    """As with any module; an import of them is an ImportError."""
    with pytest.raises(AttributeError, match=f"realtime_ticket.*{name}"):
        getattr(realtime_ticket, name)
    assert not hasattr(realtime_ticket, name)
    with pytest.raises(ImportError):
        exec(f"from realtime_ticket import {name}")


def test_every_error_has_one_base() -> None:
    """RealtimeTicketError catches whatever the package raises on purpose."""
    errors = [
        error
        for _, error in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(error, Exception)
    ]
    assert len(errors) == 9
    assert all(issubclass(e, realtime_ticket.RealtimeTicketError) for e in errors)
    assert {error.__name__ for error in errors} <= NAMES.keys()


@pytest.mark.parametrize("name", ["issue", "consume", "revoke", "notify", "close"])
def test_twins_have_the_same_signature(name: str) -> None:
    """Each method and its twin with an a take the same arguments."""
    service = realtime_ticket.TicketService
    plain, twin = getattr(service, name), getattr(service, f"a{name}")
    assert inspect.signature(plain) == inspect.signature(twin)
    assert inspect.iscoroutinefunction(twin)
    assert not inspect.iscoroutinefunction(plain)


@pytest.mark.parametrize("name", ["disconnect", "issue_ticket", "get_user"])
def test_shortcuts_have_twins(name: str) -> None:
    """So do the functions."""
    plain = getattr(realtime_ticket, name)
    twin = getattr(realtime_ticket, f"a{name}")
    assert inspect.signature(plain) == inspect.signature(twin)
    assert inspect.iscoroutinefunction(twin)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_documented(name: str) -> None:
    """Every public name has a docstring."""
    assert inspect.getdoc(getattr(realtime_ticket, name))


@pytest.mark.parametrize(
    "path",
    [
        "realtime_ticket.RealtimeTicketMiddleware",
        "realtime_ticket.middleware.RealtimeTicketMiddleware",
        "realtime_ticket.context_processors.realtime_ticket",
        "realtime_ticket.backends.redis.RedisBackend",
        "realtime_ticket.backends.memcached.MemcachedBackend",
        "realtime_ticket.backends.cache.CacheBackend",
        "realtime_ticket.backends.database.DatabaseBackend",
        "realtime_ticket.backends.locmem.LocMemBackend",
        "realtime_ticket.signals.ticket_issued",
        "realtime_ticket.signals.ticket_consumed",
        "realtime_ticket.signals.ticket_rejected",
        "realtime_ticket.testing.BackendContract",
        "realtime_ticket.testing.AsyncDoor",
        "realtime_ticket.urls.urlpatterns",
        "realtime_ticket.handshake.PROTOCOL",
        "realtime_ticket.handshake.PARAMETER",
        "realtime_ticket.handshake.CARRIERS",
        "realtime_ticket.handshake.AllowedOrigins",
        "realtime_ticket.handshake.find_ticket",
        "realtime_ticket.handshake.select_subprotocol",
        "realtime_ticket.handshake.split_subprotocols",
        "realtime_ticket.handshake.strip_query",
        "realtime_ticket.handshake.without_ticket",
        "realtime_ticket.integrations.asgi.TicketMiddleware",
        "realtime_ticket.integrations.http.AuthorizeView",
        "realtime_ticket.integrations.http.BadRequest",
        "realtime_ticket.integrations.http.ConsumeView",
        "realtime_ticket.integrations.http.ServiceView",
        "realtime_ticket.integrations.centrifugo.CentrifugoConnectView",
        "realtime_ticket.integrations.urls.urlpatterns",
    ],
)
def test_documented_paths_exist(path: str) -> None:
    """The dotted paths that settings and tests of users name."""
    found = import_string(path)
    assert found is not None
    if inspect.isclass(found) or inspect.isroutine(found):
        assert inspect.getdoc(found)


def test_is_typed() -> None:
    """The package tells type checkers so."""
    from importlib.resources import files

    assert files("realtime_ticket").joinpath("py.typed").is_file()
