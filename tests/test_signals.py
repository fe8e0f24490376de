"""The signals of a ticket's life."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.dispatch import Signal

from realtime_ticket import InvalidTicket, get_service
from realtime_ticket.conf import SignallingService
from realtime_ticket.signals import ticket_consumed, ticket_issued, ticket_rejected
from tests.helpers import CLAIMS

Heard = list[tuple[str, dict[str, Any]]]
SIGNALS = {
    "issued": ticket_issued,
    "consumed": ticket_consumed,
    "rejected": ticket_rejected,
}


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method of the service, or its twin."""

    def call(name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(get_service(), name)(*args, **kwargs)
        return async_to_sync(getattr(get_service(), f"a{name}"))(*args, **kwargs)

    return call


@pytest.fixture
def connect() -> Iterator[Callable[[Signal, Any], None]]:
    """Connect a receiver for the time of a test."""
    connected: list[tuple[Signal, Any]] = []

    def connect(signal: Signal, receiver: Any) -> None:
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def heard(connect: Callable[[Signal, Any], None]) -> Heard:
    """What the receivers of all three signals hear."""
    heard: Heard = []
    for name, signal in SIGNALS.items():

        def receiver(
            sender: object, signal: Signal, name: str = name, **details: Any
        ) -> None:
            assert sender is SignallingService
            heard.append((name, details))

        connect(signal, receiver)
    return heard


def test_tell_of_every_ticket(call: Callable[..., Any], heard: Heard) -> None:
    """Issued and consumed come with the ticket, rejected with what is safe to log."""
    ticket = call("issue", CLAIMS, audience="chat")
    call("consume", ticket.value, audience="chat")
    with pytest.raises(InvalidTicket):
        call("consume", ticket.value, audience="chat")
    with pytest.raises(InvalidTicket):
        call("consume", "garbage")
    rejected = {"audience": "chat", "fingerprint": ticket.fingerprint}
    assert heard == [
        ("issued", {"ticket": ticket}),
        ("consumed", {"ticket": ticket}),
        ("rejected", {"reason": "unknown"} | rejected),
        ("rejected", {"reason": "malformed", "audience": "", "fingerprint": ""}),
    ]


def test_are_not_sent_for_revoking(call: Callable[..., Any], heard: Heard) -> None:
    """Who revokes knows what he does."""
    call("revoke", call("issue", CLAIMS).value)
    assert [name for name, _ in heard] == ["issued"]


@pytest.mark.parametrize("is_async", [False, True])
def test_survive_a_broken_receiver(
    call: Callable[..., Any],
    connect: Callable[[Signal, Any], None],
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
) -> None:
    """A receiver that raises is logged, and costs nobody his ticket."""

    def broken(**kwargs: object) -> None:
        raise ZeroDivisionError

    async def abroken(**kwargs: object) -> None:
        raise ZeroDivisionError

    for signal in SIGNALS.values():
        connect(signal, abroken if is_async else broken)
    with caplog.at_level(logging.ERROR):
        ticket = call("issue", CLAIMS)
        assert call("consume", ticket.value) == ticket
        with pytest.raises(InvalidTicket):
            call("consume", ticket.value)
    assert len([r for r in caplog.records if r.exc_info]) == 3


def test_reach_asynchronous_receivers(
    call: Callable[..., Any], connect: Callable[[Signal, Any], None]
) -> None:
    """A receiver may be a coroutine function, whichever door the call came by."""
    heard: list[Any] = []

    async def receiver(ticket: Any, **kwargs: object) -> None:
        heard.append(ticket)

    connect(ticket_issued, receiver)
    assert heard == [] and call("issue", CLAIMS) == heard[0]


def test_are_logged_as_well(
    call: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The service that sends signals still writes its log."""
    with caplog.at_level(logging.DEBUG, logger="realtime_ticket"):
        call("issue", CLAIMS)
    assert "Ticket issued" in caplog.text
