"""A rollback must not make a spent ticket valid again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction

from realtime_ticket import InvalidTicket, OpenTransaction, TicketService, get_service
from realtime_ticket.live import LiveTickets, Revoked
from tests.helpers import WAIT

CLAIMS = {"id": 1, "username": "alice"}
STORES = {
    "database": {"REALTIME_TICKET_BACKEND": "database.DatabaseBackend"},
    "cache": {
        "REALTIME_TICKET_BACKEND": "cache.CacheBackend",
        "REALTIME_TICKET_CACHE": "database",
    },
}


@pytest.fixture(params=STORES)
def service(request: pytest.FixtureRequest, settings: Any) -> Iterator[TicketService]:
    call_command("createcachetable", verbosity=0)
    for name, value in STORES[request.param].items():
        path = f"realtime_ticket.backends.{value}"
        setattr(settings, name, path if name.endswith("BACKEND") else value)
    yield get_service()


@pytest.mark.django_db(transaction=True)
def test_consuming_in_a_transaction_is_refused(service: TicketService) -> None:
    """The ticket is left alone, and can be consumed after the transaction.

    Mutants: database-consumes-in-a-transaction, cache-consumes-in-a-transaction.
    """
    ticket = service.issue(CLAIMS)

    with pytest.raises(OpenTransaction, match="rollback"), transaction.atomic():
        service.consume(ticket.value)

    assert service.consume(ticket.value) == ticket
    with pytest.raises(InvalidTicket):
        service.consume(ticket.value)


@pytest.mark.django_db
def test_the_transaction_of_a_test_case_is_none(service: TicketService) -> None:
    """In a TestCase, and its like in pytest, tickets are consumed as everywhere.

    Mutants: database-minds-the-transaction-of-a-test.
    """
    ticket = service.issue(CLAIMS)

    assert service.consume(ticket.value) == ticket


@pytest.mark.django_db(transaction=True)
def test_issuing_in_a_transaction_takes_effect_with_it(service: TicketService) -> None:
    """A ticket exists once the transaction is committed, and never after a rollback.

    Mutants: database-issues-for-good.
    """
    with transaction.atomic():
        kept = service.issue(CLAIMS)
    with transaction.atomic():
        lost = service.issue(CLAIMS)
        transaction.set_rollback(True)

    assert service.consume(kept.value) == kept
    with pytest.raises(InvalidTicket):
        service.consume(lost.value)


@pytest.mark.django_db(transaction=True)
def test_disconnecting_in_a_transaction_is_refused_or_done_beside_it(
    service: TicketService,
) -> None:
    """Nobody could read the disconnect before the commit, and a rollback undoes it.

    Mutants: database-disconnects-in-a-transaction, cache-disconnects-in-a-transaction.
    """
    live = LiveTickets(service, thread=False)
    live.poll()
    ended: list[Revoked] = []
    live.watch(service.issue(CLAIMS), ended.append)

    with transaction.atomic():
        with pytest.raises(OpenTransaction, match="rollback"):
            service.disconnect(1)
        live.poll()
        assert ended == []
    service.disconnect(1, background=True)
    assert service.outbox.join(WAIT)

    live.poll()
    assert [revoked.cause for revoked in ended] == ["user"]


@pytest.mark.django_db
def test_in_a_test_case_disconnects_are_heard(service: TicketService) -> None:
    """Tests of users need no real commits.

    Mutants: database-minds-the-transaction-of-a-test.
    """
    live = LiveTickets(service, thread=False)
    live.poll()
    ended: list[Revoked] = []
    live.watch(service.issue(CLAIMS), ended.append)
    service.disconnect(1)
    live.poll()
    assert len(ended) == 1
