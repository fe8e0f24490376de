"""The management commands."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection

from realtime_ticket import get_service
from realtime_ticket.models import StoredTicket
from tests.accounts.models import Person
from tests.disconnects import FAILING, Heard

pytestmark = pytest.mark.usefixtures("empty_storage")

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


def disconnect_user(*usernames: str) -> str:
    output = StringIO()
    call_command("disconnect_user", *usernames, stdout=output)
    return output.getvalue()


@pytest.mark.django_db(transaction=True)
class TestDisconnectUser:
    def test_disconnects_those_named(self, heard: Heard) -> None:
        """In one go, and each once."""
        ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
        assert disconnect_user("ada", "bob", "ada") == (
            "ada is disconnected.\nbob is disconnected.\n"
        )
        assert heard == [((ada.pk, bob.pk), None)]

    def test_says_who_is_unknown(self, heard: Heard) -> None:
        """The others are disconnected, and the exit status is 1.

        Mutants: unknown-username-stops-the-command.
        """
        ada = User.objects.create_user("ada")
        with pytest.raises(CommandError, match=r"^There is no user 'Eve', 'x'\.$") as e:
            disconnect_user("Eve", "ada", "x")
        assert e.value.returncode == 1
        assert heard == [((ada.pk,), None)]

    def test_says_that_the_storage_failed(self, settings: Any) -> None:
        """Without a traceback, and with the exit status 1."""
        User.objects.create_user("ada")
        settings.REALTIME_TICKET_BACKEND = FAILING
        with pytest.raises(CommandError, match="run the command again"):
            disconnect_user("ada", "eve")

    def test_knows_users_by_their_username_field(
        self, settings: Any, heard: Heard
    ) -> None:
        settings.AUTH_USER_MODEL = "accounts.Person"
        person = Person.objects.create(email="ada@example.com")
        disconnect_user("ada@example.com")
        assert heard == [((str(person.pk),), None)]

    def test_needs_a_name(self) -> None:
        with pytest.raises(CommandError, match="USERNAME"):
            disconnect_user()
