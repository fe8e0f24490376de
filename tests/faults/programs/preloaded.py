"""A Django project whose connections are open before a server forks its workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests import settings as tests_settings

KEY = "k" * 40
BACKEND, OPTION, PLACE = os.environ["STORAGE"].split()


def from_header(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Believe every user who claims to be logged in."""

    def middleware(request: HttpRequest) -> HttpResponse:
        number = request.headers.get("X-User", "0")
        request.user = User(pk=int(number), username=f"user {number}")
        return get_response(request)

    return middleware


DATABASES = tests_settings.DATABASES
for database in DATABASES.values():
    if database["ENGINE"].endswith(OPTION):
        database |= {"HOST": "127.0.0.1", "PORT": PLACE}

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES=DATABASES,
    INSTALLED_APPS=tests_settings.INSTALLED_APPS,
    MIDDLEWARE=[f"{__name__}.from_header"],
    REALTIME_TICKET_BACKEND=f"realtime_ticket.backends.{BACKEND}",
    REALTIME_TICKET_DATABASE=OPTION,
    REALTIME_TICKET_EXPIRE=60,
    REALTIME_TICKET_MEMCACHED=f"127.0.0.1:{PLACE}",
    REALTIME_TICKET_REDIS={"port": PLACE},
    REALTIME_TICKET_SERVICE_KEYS=[KEY],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only",
)

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()

from django.contrib.auth.models import User  # noqa: E402

from realtime_ticket import StorageError, disconnect, get_service  # noqa: E402
from realtime_ticket.views import AsyncRealtimeTicketView  # noqa: E402


def end_connections(request: HttpRequest, user_id: int) -> HttpResponse:
    """Disconnect a user, by and by if the storage is down."""
    with suppress(StorageError):
        disconnect(user_id)
    return HttpResponse()


urlpatterns = [
    path("async-ticket/", AsyncRealtimeTicketView.as_view()),
    path("disconnect/<int:user_id>/", end_connections),
    path("", include("realtime_ticket.urls")),
    path("", include("realtime_ticket.integrations.urls")),
]


async def pair() -> None:
    ticket = await get_service().aissue({"id": 0, "username": "nobody"})
    assert await get_service().aconsume(ticket.value) == ticket


first = get_service().issue({"id": 0, "username": "nobody"})
assert get_service().consume(first.value) == first
asyncio.run(pair())
