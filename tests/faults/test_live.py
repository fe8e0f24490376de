"""Live connections whose storage freezes."""

from __future__ import annotations

import pytest

from realtime_ticket.exceptions import Revoked
from realtime_ticket.live import LiveTickets
from tests.faults.storages import Storage
from tests.helpers import CLAIMS, eventually, using


@pytest.mark.parametrize("given", ["PostgreSQL"], indirect=True)
def test_a_connection_reaches_its_age_while_the_storage_is_frozen(
    given: Storage,
) -> None:
    """Its driver waits without end.

    Mutants: age-waits-for-the-storage.
    """
    ended: list[Revoked] = []
    with using(given.backend()) as service:
        live = LiveTickets(service, max_age=2)
        ticket = service.consume(service.issue(CLAIMS, expire=60).value)
        with live.watch(ticket, ended.append):
            given.node.freeze()
            assert eventually(lambda: bool(ended))
            given.node.thaw()
    assert ended[0].cause == "age"
