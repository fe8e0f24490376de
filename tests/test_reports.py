"""What Django mails to ADMINS: nothing in an outage, and never a ticket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core import mail
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from django.utils.decorators import decorator_from_middleware
from django.utils.log import AdminEmailHandler
from django.views.debug import (
    ExceptionReporter,
    SafeExceptionReporterFilter,
    get_default_exception_reporter_filter,
)

from realtime_ticket import (
    RealtimeTicketMiddleware,
    Ticket,
    get_service,
)
from realtime_ticket.backends.base import Item
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.integrations.centrifugo import CentrifugoConnectView
from realtime_ticket.integrations.http import AuthorizeView
from realtime_ticket.replies import Request
from realtime_ticket.reports import TicketReporterFilter, hide_tickets
from realtime_ticket.tickets import new_value
from realtime_ticket.views import AsyncRealtimeTicketView
from tests import servers
from tests.helpers import ADMINS, CLAIMS, GOOD
from tests.servers import free_port

KEY = "a-key-of-these-tests-that-is-long-enough"
REDIS = "realtime_ticket.backends.redis.RedisBackend"


SHOWN_NEXT: list[str] = []
"""What the next request consumes. No request carries it, so no report may show it."""


@decorator_from_middleware(RealtimeTicketMiddleware)
def page(request: HttpRequest) -> TemplateResponse:
    return TemplateResponse(request, "page.html")


def consuming(request: HttpRequest) -> HttpResponse:
    get_service().consume(SHOWN_NEXT.pop())
    return HttpResponse()


async def aconsuming(request: HttpRequest) -> HttpResponse:
    await get_service().aconsume(SHOWN_NEXT.pop())
    return HttpResponse()


class Failing(AuthorizeView):
    """Fail before the ticket is spent."""

    http_method_names = ["get", "post"]

    def consume(self, value: str, *, audience: str = "") -> Ticket:
        raise RuntimeError("Nothing to do.")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        assert self.read_json()
        self.consume(request.POST["x"])
        raise AssertionError


urlpatterns = [
    path("", include("realtime_ticket.urls")),
    path("", include("realtime_ticket.integrations.urls")),
    path("aticket/", AsyncRealtimeTicketView.as_view()),
    path("centrifugo/", CentrifugoConnectView.as_view()),
    path("failing/", Failing.as_view()),
    path("page/", page),
    path("consuming/", consuming),
    path("aconsuming/", aconsuming),
]
pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _site(settings: Any) -> Iterator[None]:
    settings.ADMINS = ADMINS
    settings.REALTIME_TICKET_SERVICE_KEYS = [KEY]
    (handler,) = (
        handler
        for handler in logging.getLogger("django").handlers
        if isinstance(handler, AdminEmailHandler)
    )
    handler.include_html = True
    yield
    handler.include_html = False
    get_default_exception_reporter_filter.cache_clear()


def mails() -> str:
    """Return all parts of all mails to the admins."""
    return "".join(
        f"{message.subject}\n{message.body}\n{message.alternatives}"
        for message in mail.outbox
    )


OURS = {"Authorization": f"Bearer {KEY}"}
SHOWN = {
    "X-Original-URI": f"/ws?ticket={GOOD}",
    "Sec-WebSocket-Protocol": f"ticket.{GOOD}",
}
BODY = json.dumps({"ticket": GOOD, "data": {"ticket": GOOD}})


def request(
    place: str, method: str = "POST", body: str = "", **headers: str
) -> Callable[..., Any]:
    def send(
        client: Client | AsyncClient, content_type: str = "application/json"
    ) -> Any:
        response = client.generic(method, place, body, content_type, headers=headers)

        async def wait() -> Any:
            return await response

        return async_to_sync(wait)() if asyncio.iscoroutine(response) else response

    return send


DOORS = {
    "/ticket/": (request("/ticket/"), 503),
    "/aticket/": (request("/aticket/"), 503),
    "/consume/": (request("/consume/", body=BODY, **OURS), 503),
    "/authorize/": (request("/authorize/", "GET", **OURS, **SHOWN), 503),
    "/centrifugo/": (request("/centrifugo/", body=BODY, **OURS), 200),
    "/page/": (request("/page/", "GET"), 200),
}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("door", DOORS)
def test_an_outage_is_one_record_and_no_mail(
    door: str, kind: type[Client | AsyncClient], settings: Any, caplog: Any
) -> None:
    """Fifty requests are answered, and the reason is logged once.

    Mutants: outage-in-a-mail, outage-told-each-time.
    """
    settings.REALTIME_TICKET_BACKEND = REDIS
    settings.REALTIME_TICKET_REDIS = {"port": (port := free_port())}
    client: Any = kind()
    user = User.objects.create_user("ada")
    client.force_login(user)
    send, status = DOORS[door]
    for _ in range(50):
        assert send(client).status_code == status
    assert mails() == ""
    ours = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert [record.name for record in ours] in (
        ["realtime_ticket"],
        2 * ["realtime_ticket"],
    )
    assert f"Redis at localhost:{port} refuses" in ours[0].getMessage()
    assert not any(hasattr(record, "request") for record in ours)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
class TestServices:
    """Views that are shown tickets of others, which may still be good."""

    @pytest.mark.parametrize(
        "content_type", ["application/json", "application/x-www-form-urlencoded"]
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_an_error_is_reported_without_the_ticket(
        self, kind: type[Client | AsyncClient], method: str, content_type: str
    ) -> None:
        """Neither from nginx's headers, nor from the body, in text and in HTML.

        Mutants: report-shows-who-is-to-be-let-in.
        """
        send = request("/failing/", method, BODY, **OURS, **SHOWN)
        assert (
            send(kind(raise_request_exception=False), content_type).status_code == 500
        )
        assert len(mail.outbox) == 1
        assert GOOD not in mails() and KEY not in mails()
        assert "X_ORIGINAL_URI" in mails()

    def test_the_page_of_debug_hides_headers(
        self, kind: type[Client | AsyncClient], settings: Any
    ) -> None:
        """And nothing else: it shows all variables, as the page about security says.

        Mutants: report-shows-who-is-to-be-let-in.
        """
        settings.DEBUG = True
        send = request("/failing/", "GET", **OURS, **SHOWN)
        page = send(kind(raise_request_exception=False)).content.decode()
        variables, marker, headers = page.partition('<div id="requestinfo">')
        assert marker and GOOD in variables
        assert "HTTP_X_ORIGINAL_URI" in headers and GOOD not in headers

    def test_a_wrong_setting_is_reported_without_the_ticket(
        self, kind: type[Client | AsyncClient], settings: Any
    ) -> None:
        """It is found before the ticket is spent.

        Mutants: report-shows-who-is-to-be-let-in.
        """
        settings.REALTIME_TICKET_SERVICE_KEYS = KEY
        send, _ = DOORS["/authorize/"]
        assert send(kind(raise_request_exception=False)).status_code == 500
        assert "REALTIME_TICKET_SERVICE_KEYS" in mails()
        assert GOOD not in mails()

    def test_what_the_project_hides_stays_hidden(
        self, kind: type[Client | AsyncClient], settings: Any
    ) -> None:
        """A filter of the project's own is still asked."""
        settings.DEFAULT_EXCEPTION_REPORTER_FILTER = f"{__name__}.HidesShoes"
        get_default_exception_reporter_filter.cache_clear()
        send = request("/failing/", "GET", **OURS, **SHOWN, Shoes="red", Coat="grey")
        send(kind(raise_request_exception=False))
        assert (
            "grey" in mails()
            and "red&#x27;" not in mails()
            and "= 'red'" not in mails()
        )
        assert GOOD not in mails()


class HidesShoes(SafeExceptionReporterFilter):
    def get_safe_request_meta(self, request: Any) -> dict[str, Any]:
        return super().get_safe_request_meta(request) | {"HTTP_SHOES": "***"}


@pytest.mark.parametrize("shown", [f"/?ticket={GOOD}", f"/?ticket=%72{GOOD[1:]}"])
def test_the_filter_for_the_whole_site(shown: str, settings: Any, rf: Any) -> None:
    """What fails before a view is called is reported too: a foreign host, for one.

    Mutants: report-shows-tickets-in-headers.
    """
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = (
        "realtime_ticket.reports.TicketReporterFilter"
    )
    get_default_exception_reporter_filter.cache_clear()
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    headers = {"Host": "foreign.example", "X-Forwarded-Uri": shown}
    assert Client().get("/authorize/", headers=headers).status_code == 400
    assert "foreign.example" in mails()
    assert GOOD[1:] not in mails()


def test_the_filter_of_a_site_is_good_for_services(settings: Any, rf: Any) -> None:
    """It is not put on top of itself, and a request may be missing."""
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = (
        "realtime_ticket.reports.TicketReporterFilter"
    )
    get_default_exception_reporter_filter.cache_clear()
    seen = rf.post("/", {"a": GOOD, GOOD: "b", "c": ["d", "e"]})
    hide_tickets(seen)
    assert type(seen.exception_reporter_filter) is TicketReporterFilter
    shown = seen.exception_reporter_filter.get_post_parameters(seen)
    assert shown.getlist("c") == ["d", "e"] and GOOD not in str(shown)
    settings.REALTIME_TICKET_PREFIX = "a prefix that is none"
    assert (
        TicketReporterFilter().get_safe_request_meta(seen)["REQUEST_METHOD"] == "POST"
    )
    text = ExceptionReporter(None, None, "nothing", None).get_traceback_text()
    assert "Request data not supplied" in text


def test_the_variables_of_a_batch(settings: Any) -> None:
    """A backend that cannot send a batch is an outage, reported without its tickets.

    Mutants: send-fails-untranslated, report-shows-what-is-sent.
    """
    settings.REALTIME_TICKET_BACKEND = f"{__name__}.CannotSend"
    value = new_value()
    SHOWN_NEXT.append(value)
    client = AsyncClient(raise_request_exception=False)
    assert request("/aconsuming/", "GET")(client).status_code == 500
    assert "StorageError" in mails() and "CannotSend" in mails()
    assert value not in mails()


class CannotSend(LocMemBackend):
    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        raise AssertionError(keys)

    def send(self, calls: Sequence[Item | str]) -> Request | None:
        raise OSError("no descriptor is left")


@pytest.mark.parametrize("place", ["/consuming/", "/aconsuming/"])
@pytest.mark.parametrize("spoil", [False, True], ids=["a line too long", "mismatch"])
def test_the_variables_of_our_functions(place: str, spoil: bool, settings: Any) -> None:
    """A view that lets InvalidTicket out is reported without them, async as sync.

    Mutants: report-shows-what-a-coroutine-calls.
    """
    servers.require("redis")
    settings.REALTIME_TICKET_BACKEND = REDIS
    settings.REALTIME_TICKET_REDIS = {"unix_socket_path": str(servers.REDIS)}
    service = get_service()
    value = service.issue(CLAIMS).value
    if spoil:
        service.backend.pop(value)
        service.backend.add(value, f'["{value}"]', 10)
    client = (AsyncClient if "/a" in place else Client)(raise_request_exception=False)
    SHOWN_NEXT.append(value if spoil else f"{value}\n")
    assert request(place, "GET")(client).status_code == 500
    assert "InvalidTicket" in mails()
    assert ("_open" if spoil else "_key") in mails()
    assert value not in mails()
