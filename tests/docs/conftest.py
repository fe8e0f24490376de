"""What the tests of several pages need."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime_ticket import TicketService, signals
from realtime_ticket.backends.redis import RedisBackend
from tests import servers


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where files of pages go, on the import path until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modules = set(sys.modules)
    all_signals = [
        signals.ticket_issued,
        signals.ticket_consumed,
        signals.ticket_rejected,
        signals.user_disconnected,
    ]
    receivers = [list(signal.receivers) for signal in all_signals]
    yield tmp_path
    for signal, before in zip(all_signals, receivers, strict=True):
        signal.receivers = before
        signal.sender_receivers_cache.clear()
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def issuer() -> Iterator[TicketService]:
    servers.require("redis")
    service = TicketService(RedisBackend(unix_socket_path=str(servers.REDIS)))
    yield service
    service.close()
