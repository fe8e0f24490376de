"""The contract, as the tests of this project run it on all kinds of storages."""

from __future__ import annotations

import pytest

from realtime_ticket.testing import BackendContract
from tests import parts


@pytest.mark.usefixtures("patient_batches")
class Contract(BackendContract):
    race_tickets = parts.RACE_TICKETS
