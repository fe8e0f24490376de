"""The logger of the package."""

from __future__ import annotations

import pytest

from realtime_ticket.logs import logger
from tests.helpers import failing_filter


def test_a_record_names_the_line_that_logged(caplog: pytest.LogCaptureFixture) -> None:
    """And not one of the logger's own. Mutants: log-names-itself."""
    logger.error("%d disconnects", 3)
    (record,) = caplog.records
    assert record.pathname == __file__
    assert (record.name, record.getMessage()) == ("realtime_ticket", "3 disconnects")


def test_a_filter_that_raises_is_passed_over() -> None:
    """Mutants: log-filters-stop-everything."""
    with failing_filter():
        logger.error("nothing")
