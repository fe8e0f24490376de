from __future__ import annotations

from django.apps import AppConfig


class RealtimeTicketConfig(AppConfig):
    name = "realtime_ticket"
    verbose_name = "Realtime tickets"

    def ready(self) -> None:
        from . import checks, receivers

        del checks  # its import registers them
        receivers.connect()
