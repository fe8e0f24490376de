"""A page with a ticket is for one user, whatever caches the project has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import decorator_from_middleware
from django.views.decorators.cache import cache_page
from rest_framework.renderers import TemplateHTMLRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from realtime_ticket import RealtimeTicketMiddleware

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
OURS = "realtime_ticket.RealtimeTicketMiddleware"
with_ticket = decorator_from_middleware(RealtimeTicketMiddleware)


def rendered(request: HttpRequest) -> HttpResponse:
    return render(request, "page.html")


def response(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "page.html")


def silent(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "silent.html")


class FromAnAPI(APIView):
    """What Django REST framework gives templates is no HttpRequest, but holds one."""

    renderer_classes = (TemplateHTMLRenderer,)
    template_name = "page.html"

    def get(self, request: Any) -> Response:
        return Response({})


urlpatterns = [
    path("rendered/", cache_page(60)(rendered)),
    path("response/", cache_page(60)(response)),
    path("silent/", cache_page(60)(silent)),
    path("inside/", cache_page(60)(with_ticket(response))),
    path("outside/", with_ticket(cache_page(60)(response))),
    path("plain/", rendered),
    path("api/", cache_page(60)(FromAnAPI.as_view())),
]


@pytest.fixture(autouse=True)
def _site(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*MIDDLEWARE, OURS]
    processors = ["realtime_ticket.context_processors.realtime_ticket"]
    engine = settings.TEMPLATES[0]
    options = engine["OPTIONS"] | {"context_processors": processors}
    settings.TEMPLATES = [engine | {"OPTIONS": options}]
    caches["default"].clear()
    yield
    caches["default"].clear()


@pytest.fixture
def clients(db: None) -> list[Client]:
    """Two users who are logged in."""
    made = []
    for name in ("alice", "bob"):
        client = Client()
        client.force_login(User.objects.create_user(name))
        made.append(client)
    return made


@pytest.mark.parametrize(
    "page", ["/rendered/", "/response/", "/inside/", "/outside/", "/plain/", "/api/"]
)
def test_every_request_gets_a_ticket_of_its_own(
    clients: list[Client], page: str
) -> None:
    """Django's page cache stores no page that printed a ticket.

    Mutants: page-with-a-ticket-can-be-cached, page-of-an-api-can-be-cached.
    """
    contents = [client.get(page).content for client in clients * 2]

    assert all(b"rt_" in content for content in contents)
    assert len(set(contents)) == 4


def test_pages_under_the_site_wide_cache_keep_their_tickets_apart(
    clients: list[Client], settings: Any
) -> None:
    """The same holds for Django's cache middleware, even as the outermost.

    Mutants: page-with-a-ticket-is-like-any-other.
    """
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]

    contents = [client.get("/plain/").content for client in clients * 2]

    assert len(set(contents)) == 4


def test_a_page_without_a_ticket_is_cached_as_before(clients: list[Client]) -> None:
    """A page that prints no ticket comes from the cache, and still works from there.

    Mutants: page-without-a-ticket-cannot-be-cached, page-from-a-cache-is-filled-in.
    """
    first = clients[0].get("/silent/")
    again = clients[0].get("/silent/")

    assert "max-age=60" in first["Cache-Control"]
    assert again.content == first.content
    assert again["Expires"] == first["Expires"]
