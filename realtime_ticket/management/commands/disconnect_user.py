from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from realtime_ticket.disconnects import disconnect
from realtime_ticket.exceptions import StorageError


class Command(BaseCommand):
    help = (
        "End the open connections of users. They stay logged in, and their pages may "
        "connect again: deactivate a user to keep them out. With an unknown username "
        "the others are disconnected, and the exit status is 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("usernames", nargs="+", metavar="USERNAME")

    def handle(self, *args: Any, usernames: list[str], **options: Any) -> None:
        known = {name: user for name in usernames if (user := _find(name))}
        try:
            disconnect(known.values())
        except StorageError as exc:
            raise CommandError(
                f"{exc} Connections may still be open: run the command again."
            ) from exc
        for name in known:
            self.stdout.write(f"{name} is disconnected.")
        if unknown := [name for name in usernames if name not in known]:
            raise CommandError(f"There is no user {', '.join(map(repr, unknown))}.")


def _find(username: str) -> Any:
    """Return the user, or None."""
    model: Any = get_user_model()
    try:
        return model._default_manager.get(**{model.USERNAME_FIELD: username})
    except (model.DoesNotExist, ValueError, ValidationError):
        return None
