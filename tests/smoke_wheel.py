"""Use the installed wheel as a project would. Run it where there is no checkout."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    SECRET_KEY="for this file",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "smoke.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    },
    INSTALLED_APPS=["django.contrib.staticfiles", "realtime_ticket"],
    STATIC_URL="static/",
    REALTIME_TICKET_BACKEND="realtime_ticket.backends.database.DatabaseBackend",
    USE_TZ=True,
)
django.setup()
call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0)
call_command("clear_expired_tickets")
call_command("ticket_doctor")

from django.contrib.staticfiles import finders  # noqa: E402

from realtime_ticket import InvalidTicket, get_service  # noqa: E402
from realtime_ticket.backends import cache, memcached, redis  # noqa: E402, F401

assert finders.find("realtime_ticket/realtime-ticket.js")
assert finders.find("realtime_ticket/realtime-ticket.d.ts")

service = get_service()
ticket = service.issue({"id": 1, "username": "alice"})
assert service.consume(ticket.value) == ticket
try:
    service.consume(ticket.value)
except InvalidTicket:
    pass
else:
    raise SystemExit("a ticket was consumed twice")
