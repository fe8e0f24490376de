"""The management commands."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection

from realtime_ticket import get_service
from realtime_ticket.models import StoredTicket

DATABASE = "realtime_ticket.backends.database.DatabaseBackend"


def clear() -> str:
    output = StringIO()
    call_command("clear_expired_tickets", stdout=output)
    return output.getvalue()


class TestClearExpiredTickets:
    @pytest.mark.django_db
    def test_clears_the_table(self, settings: Any) -> None:
        """It removes what expired, keeps what did not, and says how many."""
        settings.REALTIME_TICKET_BACKEND = DATABASE
        backend = get_service().backend
        backend.add("alive", "{}", 60)
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO realtime_ticket VALUES (%s, '{}', '2001-01-01 00:00:00')",
                [(f"k{n}",) for n in range(3)],
            )
        assert clear() == "3 expired tickets removed.\n"
        assert clear() == "0 expired tickets removed.\n"
        assert StoredTicket.objects.get().ticket_key == "alive"

    def test_has_nothing_to_do_elsewhere(self) -> None:
        """Any backend takes the command."""
        assert clear() == "0 expired tickets removed.\n"

    def test_refuses_a_wrong_setting(self, settings: Any) -> None:
        """In a misconfigured project it clears nothing."""
        settings.REALTIME_TICKET_EXPIRE = 0
        with pytest.raises(ImproperlyConfigured, match="REALTIME_TICKET_EXPIRE"):
            clear()

    def test_has_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        """--help says what it is for."""
        with pytest.raises(SystemExit):
            call_command("clear_expired_tickets", "--help")
        assert "Remove expired tickets" in capsys.readouterr().out
