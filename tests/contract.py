"""The contract, as the tests of this project run it on all kinds of storages."""

from __future__ import annotations

import pytest

from realtime_ticket import batching
from realtime_ticket.testing import BackendContract
from tests import parts


class Contract(BackendContract):
    race_tickets = parts.RACE_TICKETS

    @pytest.fixture(autouse=True)
    def _time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give a batch of 1,000 files or commands time on a busy machine.

        How long a caller waits at most is the subject of test_batching.
        """
        monkeypatch.setattr(batching, "MAX_WAIT", 60.0)
