from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings

from tests import servers

pytest.register_assert_rewrite("realtime_ticket.testing")


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Start the database servers before Django makes its test databases on them."""
    for alias in settings.DATABASES.keys() & servers.PROGRAMS.keys():
        servers.start(alias)
    yield
