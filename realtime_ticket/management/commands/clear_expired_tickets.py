from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from realtime_ticket.conf import get_service


class Command(BaseCommand):
    help = (
        "Remove expired tickets from the storage. Stores with an expiry of their own "
        "have nothing to do; the database backend also clears while issuing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        count = get_service().backend.clear_expired()
        self.stdout.write(f"{count} expired tickets removed.")
