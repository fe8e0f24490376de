"""POST /ticket/: the answers of the synchronous and the asynchronous view."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth.models import User
from django.core.handlers.wsgi import LimitedStream
from django.db import connections
from django.db.backends.base.base import NO_DB_ALIAS
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.urls import include, path, reverse
from django.utils.decorators import sync_and_async_middleware

from realtime_ticket import (
    AsyncRealtimeTicketView,
    InvalidAudience,
    InvalidClaims,
    InvalidTicket,
    RealtimeTicketView,
    StorageError,
    conf,
    get_service,
)
from tests import servers
from tests.helpers import (
    NOWHERE,
    FailingBackend,
    hostile_audiences,
    shown,
    silent_server,
    within,
)

urlpatterns = [
    path("", include("realtime_ticket.urls")),
    path("sync/", RealtimeTicketView.as_view()),
    path("sync/chat/", RealtimeTicketView.as_view(audience="chat")),
    path("sync/none/", RealtimeTicketView.as_view(audience="")),
    path("async/", AsyncRealtimeTicketView.as_view()),
    path("async/chat/", AsyncRealtimeTicketView.as_view(audience="chat")),
    path("async/none/", AsyncRealtimeTicketView.as_view(audience="")),
    path("sync/page/", lambda request: HttpResponse()),
    path("async/page/", lambda request: HttpResponse()),
]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

REDIS = "realtime_ticket.backends.redis.RedisBackend"
MEMCACHED = "realtime_ticket.backends.memcached.MemcachedBackend"
DATABASE = "realtime_ticket.backends.database.DatabaseBackend"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
UNCLEAR = "Send the audience once, as text, in a form or in a JSON object."
TOKEN = "a" * 32
"""A CSRF token; Django's own is 32 characters too."""


MULTIPART = "multipart/form-data; boundary=limit"
BODIES = {
    "text/plain": '{"audience": "chat"}',
    "application/json": '{"audience": "chat"}',
    "application/x-www-form-urlencoded": "audience=chat",
    MULTIPART: "--limit\r\nContent-Disposition: form-data; "
    'name="audience"\r\n\r\nchat\r\n--limit--\r\n',
}
"""Bodies that name an audience, by their types."""


def answer(
    user: Any,
    body: str,
    content_type: str,
    *,
    is_async: bool,
    is_read: bool = False,
    **meta: str | None,
) -> HttpResponse:
    """Return the view's answer to a request that says this of its body, or nothing."""
    factory = AsyncRequestFactory() if is_async else RequestFactory()
    request = factory.post("/", body, content_type=content_type)
    request.META |= meta
    for name in [name for name, value in meta.items() if value is None]:
        del request.META[name]
    if not is_async:  # as a server that gives the application no more than it says
        request._stream = LimitedStream(io.BytesIO(body.encode()), 0)
    if is_read:
        request.read()
    request.user, request.csrf_processing_done = user, True
    view = AsyncRealtimeTicketView if is_async else RealtimeTicketView
    handle: Any = view.as_view()
    return async_to_sync(handle)(request) if is_async else handle(request)


@sync_and_async_middleware
def reads_the_body(get_response: Any) -> Any:
    """A middleware that reads the stream of the request, as parsers of APIs do."""

    async def aread(request: HttpRequest) -> HttpResponse:
        request.read()
        answer: HttpResponse = await get_response(request)
        return answer

    def read(request: HttpRequest) -> HttpResponse:
        request.read()
        answer: HttpResponse = get_response(request)
        return answer

    return aread if iscoroutinefunction(get_response) else read


class Browser:
    """A test client of either kind, for the URLs of either view."""

    def __init__(self, client: Client | AsyncClient, view: str) -> None:
        self.client = client
        self.view = view

    def post(self, place: str = "", data: Any = None, **options: Any) -> HttpResponse:
        return self.request("post", place, data=data or {}, **options)

    def request(self, method: str, place: str = "", **options: Any) -> HttpResponse:
        send: Callable[..., Any] = getattr(self.client, method)
        if isinstance(self.client, AsyncClient):
            send = async_to_sync(send)
        response: HttpResponse = send(f"/{self.view}/{place}", **options)
        return response

    def strict(self) -> Browser:
        """Return a browser whose requests are checked for CSRF, with the same login."""
        client = type(self.client)(enforce_csrf_checks=True)
        client.cookies = self.client.cookies
        return Browser(client, self.view)


@pytest.fixture(params=["sync", "async"])
def view(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[Client, AsyncClient], ids=["wsgi", "asgi"])
def anonymous(request: pytest.FixtureRequest, view: str) -> Browser:
    """A browser of somebody who is not logged in."""
    return Browser(request.param(), view)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def browser(anonymous: Browser, user: User) -> Browser:
    """A browser of somebody who is logged in."""
    anonymous.client.force_login(user)
    return anonymous


def is_refused(response: Any, status: int, message: str) -> bool:
    """Tell whether the answer is our JSON for an error, which no cache may keep."""
    assert response.headers["Content-Type"] == "application/json"
    assert "no-store" in response.headers["Cache-Control"]
    expected = {"status": "error", "message": message}
    return response.status_code == status and response.json() == expected


class TestGranting:
    def test_answers_with_a_ticket(self, browser: Browser, user: User) -> None:
        """200 and the JSON of 2012, with the lifetime; the ticket is the user's."""
        response: Any = browser.post()
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"
        body = response.json()
        assert body == {"status": "ok", "message": body["message"], "expires_in": 10}
        ticket = get_service().consume(body["message"])
        assert (ticket.user_id, ticket.username) == (user.pk, "ada")
        assert ticket.claims == {"id": user.pk, "username": "ada"}

    def test_must_not_be_cached(self, browser: Browser) -> None:
        """The answer is no-store."""
        assert "no-store" in browser.post().headers["Cache-Control"]

    def test_says_the_lifetime(self, browser: Browser, settings: Any) -> None:
        """expires_in is the setting's."""
        settings.REALTIME_TICKET_EXPIRE = 30
        response: Any = browser.post()
        assert response.json()["expires_in"] == 30

    def test_gives_a_new_ticket_each_time(self, browser: Browser) -> None:
        """Two requests, two tickets."""
        one: Any = browser.post()
        other: Any = browser.post()
        assert one.json()["message"] != other.json()["message"]

    def test_lives_at_the_documented_url(self, client: Client, user: User) -> None:
        """Including realtime_ticket.urls gives POST /ticket/, named realtime_ticket."""
        client.force_login(user)
        assert reverse("realtime_ticket") == "/ticket/"
        assert client.post("/ticket/").json()["status"] == "ok"

    def test_takes_any_body(self, browser: Browser) -> None:
        """A JSON body may name no audience."""
        response = browser.post(data="{}", content_type="application/json")
        assert response.status_code == 200


class TestRefusing:
    def test_the_anonymous(self, anonymous: Browser) -> None:
        """401 and JSON, no redirect to a login page."""
        assert is_refused(anonymous.post(), 401, "Log in first.")

    def test_the_anonymous_where_all_views_need_a_login(
        self, anonymous: Browser, settings: Any
    ) -> None:
        """LoginRequiredMiddleware leaves the answer to us: a script needs a 401."""
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
        assert anonymous.request("get", "page/").status_code == 302
        assert is_refused(anonymous.post(), 401, "Log in first.")

    def test_the_inactive(self, browser: Browser, user: User) -> None:
        """A user who was deactivated gets no more tickets."""
        user.is_active = False
        user.save()
        assert is_refused(browser.post(), 401, "Log in first.")

    @pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options"])
    def test_other_methods(self, browser: Browser, method: str) -> None:
        """405, JSON and Allow."""
        response = browser.request(method)
        assert is_refused(response, 405, "Use POST.")
        assert response.headers["Allow"] == "POST"

    def test_head(self, browser: Browser) -> None:
        """HEAD is no way to get a ticket either."""
        response = browser.request("head")
        assert response.status_code == 405
        assert response.headers["Allow"] == "POST"

    @pytest.mark.parametrize("middleware", [True, False], ids=["with", "without"])
    def test_a_form_without_its_token(
        self, browser: Browser, settings: Any, middleware: bool
    ) -> None:
        """403, whether or not the project lists CsrfViewMiddleware.

        Mutants: csrf-is-the-middlewares.
        """
        if not middleware:
            settings.MIDDLEWARE = [
                name for name in settings.MIDDLEWARE if "Csrf" not in name
            ]
        strict = browser.strict()
        assert strict.post().status_code == 403
        strict.client.cookies["csrftoken"] = TOKEN
        assert strict.post().status_code == 403
        assert strict.post(headers={"X-CSRFToken": "b" * 32}).status_code == 403
        assert strict.post(headers={"X-CSRFToken": TOKEN}).status_code == 200

    def test_another_site(self, browser: Browser) -> None:
        """403 for a foreign Origin, even with the token; our own is fine."""
        strict = browser.strict()
        strict.client.cookies["csrftoken"] = TOKEN

        def post_from(origin: str) -> int:
            headers = {"X-CSRFToken": TOKEN, "Origin": origin}
            return strict.post(headers=headers).status_code

        assert post_from("https://evil.example") == 403
        assert post_from("null") == 403
        assert post_from("http://testserver") == 200


class TestAudience:
    @pytest.fixture(autouse=True)
    def _audiences(self, settings: Any) -> None:
        settings.REALTIME_TICKET_AUDIENCES = ["chat", "news"]

    @pytest.mark.parametrize(
        ("place", "data", "audience"),
        [
            ("", {}, ""),
            ("", {"audience": ""}, ""),
            ("", {"audience": "chat"}, "chat"),
            ("", {"audience": "news"}, "news"),
            ("chat/", {}, "chat"),
            ("chat/", {"audience": "chat"}, "chat"),
            ("none/", {}, ""),
            ("none/", {"audience": ""}, ""),
        ],
    )
    def test_is_granted(
        self, browser: Browser, place: str, data: dict[str, str], audience: str
    ) -> None:
        """The ticket is for the audience of the URL, or one that clients may name."""
        response: Any = browser.post(place, data)
        value = response.json()["message"]
        with pytest.raises(InvalidTicket):
            get_service().consume(value, audience="elsewhere")
        assert get_service().consume(value, audience=audience).audience == audience

    @pytest.mark.parametrize(
        ("place", "audience"),
        [
            ("", "other"),
            ("", "Chat"),
            ("", "chat "),
            ("", "chat\0"),
            ("", "a:b"),
            ("", "x" * 10_000),
            ("chat/", "news"),
            ("chat/", ""),
            ("none/", "chat"),
        ],
        ids=ascii,
    )
    def test_is_refused(self, browser: Browser, place: str, audience: str) -> None:
        """400 for an audience that is unknown, malformed, or not the URL's."""
        response = browser.post(place, {"audience": audience})
        assert is_refused(response, 400, "No tickets for this audience.")

    @pytest.mark.parametrize(
        ("body", "audience"),
        [
            ('{"audience": "chat"}', "chat"),
            ('{"audience": ""}', ""),
            ('{"audience": "chat", "other": {"audience": "news"}}', "chat"),
            ('{"audience": "chat", "audience": "chat"}', "chat"),
            ("{}", ""),
            ("", ""),
        ],
    )
    @pytest.mark.parametrize(
        "content_type", ["application/json", "Application/JSON; charset=utf-8"]
    )
    def test_is_granted_to_who_posts_json(
        self, browser: Browser, body: str, audience: str, content_type: str
    ) -> None:
        """As axios and most clients of APIs do.

        Mutants: audience-in-json-is-dropped.
        """
        response: Any = browser.post(data=body, content_type=content_type)
        assert response.status_code == 200
        ticket = get_service().consume(response.json()["message"], audience=audience)
        assert ticket.audience == audience

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("application/json", '{"audience": "chat", "audience": "news"}'),
            ("application/json", '{"audience": 7}'),
            ("application/json", '{"audience": null}'),
            ("application/json", '{"audience": ["chat"]}'),
            ("application/json", '{"audience": {"audience": "chat"}}'),
            ("application/json", '{"audience": "chat"'),
            ("application/json", '"chat"'),
            ("application/json", '["chat"]'),
            ("application/json", "null"),
            ("application/json", "[" * 100_000),
            ("application/json", b"\xff"),
            ("text/plain", '{"audience": "chat"}'),
            ("text/plain;charset=UTF-8", "audience=chat"),
            ("application/vnd.api+json", '{"audience": "chat"}'),
            ("", "audience=chat"),
            ("application/x-www-form-urlencoded", "audience=chat&audience=news"),
            ("application/x-www-form-urlencoded", "audience=chat&audience="),
        ],
        ids=lambda value: ascii(value)[:50],
    )
    @pytest.mark.parametrize("place", ["", "chat/"])
    def test_that_would_be_ignored_is_refused(
        self, browser: Browser, place: str, content_type: str, body: str | bytes
    ) -> None:
        """400, and not a ticket that is good nowhere.

        Mutants: audience-in-json-is-dropped, audience-in-text-is-dropped,
        audience-is-the-last-of-two.
        """
        response = browser.post(place, body, content_type=content_type)
        assert is_refused(response, 400, UNCLEAR)

    @pytest.mark.parametrize("query", ["audience=chat", "audience=", "x=1&audience=x"])
    @pytest.mark.parametrize("place", ["", "chat/"])
    def test_in_the_url_is_refused(
        self, browser: Browser, place: str, query: str
    ) -> None:
        """Also if the body names the same. Mutants: audience-in-the-url-is-dropped."""
        for data in ({}, {"audience": "chat"}):
            response = browser.post(f"{place}?{query}", data)
            assert is_refused(response, 400, UNCLEAR)

    def test_as_a_file_is_refused(self, browser: Browser) -> None:
        """FormData.append("audience", blob) is no text."""
        response = browser.post(data={"audience": io.BytesIO(b"chat")})
        assert is_refused(response, 400, UNCLEAR)

    @pytest.mark.parametrize("content_type", BODIES)
    def test_in_a_body_that_somebody_else_has_read_is_refused(
        self, browser: Browser, settings: Any, content_type: str
    ) -> None:
        """A middleware that reads the stream leaves nothing to look at.

        Mutants: form-that-nobody-read-is-empty.
        """
        settings.MIDDLEWARE = [f"{__name__}.reads_the_body", *settings.MIDDLEWARE]
        response = browser.post(data=BODIES[content_type], content_type=content_type)
        assert is_refused(response, 400, UNCLEAR)

    @pytest.mark.parametrize("content_type", BODIES)
    @pytest.mark.parametrize("length", ["0", ""])
    @pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])
    def test_in_a_chunked_body_is_found_or_refused(
        self, django_user_model: Any, content_type: str, length: str, is_async: bool
    ) -> None:
        """Django reads no body without its length under WSGI, and no such form at all.

        Mutants: chunked-body-is-empty, chunked-form-is-empty.
        """
        response = answer(
            django_user_model(pk=7, username="ada"),
            BODIES[content_type],
            content_type,
            is_async=is_async,
            CONTENT_LENGTH=length,
            HTTP_TRANSFER_ENCODING="chunked",
        )
        if response.status_code == 200:
            value = json.loads(response.content)["message"]
            assert get_service().consume(value, audience="chat").audience == "chat"
        else:
            assert response.status_code == 400

    @pytest.mark.parametrize(("body", "status"), [(BODIES[MULTIPART], 400), ("", 200)])
    def test_in_a_form_of_unknown_length_is_refused(
        self, django_user_model: Any, body: str, status: int
    ) -> None:
        """As over HTTP/2: without the length Django parses no multipart form.

        Mutants: form-of-unknown-length-is-empty.
        """
        user = django_user_model(pk=7, username="ada")
        response = answer(user, body, MULTIPART, is_async=True, CONTENT_LENGTH=None)
        assert response.status_code == status

    def test_a_form_without_fields_names_none(self, browser: Browser) -> None:
        """An empty FormData is a body of one line: ``--boundary--``."""
        response = browser.post(data="--limit--\r\n", content_type=MULTIPART)
        assert response.status_code == 200

    @pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])
    def test_is_not_looked_for_where_there_is_no_body(
        self, django_user_model: Any, is_async: bool
    ) -> None:
        """So it does not matter who has read the stream of a request as our client's.

        Mutants: body-of-no-length-is-read.
        """
        response = answer(
            django_user_model(pk=7, username="ada"),
            "",
            "text/plain",
            is_async=is_async,
            is_read=True,
            CONTENT_LENGTH="0",
        )
        assert response.status_code == 200

    def test_is_not_looked_for_in_bodies_of_others(self, browser: Browser) -> None:
        """A body of an unknown kind that names none is none of our business."""
        for content_type in ("text/plain", "application/octet-stream", ""):
            response = browser.post(data="hello", content_type=content_type)
            assert response.status_code == 200

    def test_in_a_body_that_is_too_large(
        self, browser: Browser, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Django's own limit holds, with Django's own 400."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
        body = '{"audience": "chat", "x": "' + "y" * 1000 + '"}'
        response = browser.post(data=body, content_type="application/json")
        assert response.status_code == 400

    @pytest.mark.parametrize("name", ["chat", "news"])
    def test_needs_the_setting(
        self, browser: Browser, settings: Any, name: str
    ) -> None:
        """Without REALTIME_TICKET_AUDIENCES clients may name none."""
        del settings.REALTIME_TICKET_AUDIENCES
        assert browser.post("", {"audience": name}).status_code == 400

    @pytest.mark.parametrize(
        "audience",
        [value for value in hostile_audiences() if value is not None]
        + [False, [], b""],
        ids=shown,
    )
    @pytest.mark.parametrize("cls", [RealtimeTicketView, AsyncRealtimeTicketView])
    def test_of_a_url_is_checked_at_once(self, cls: Any, audience: object) -> None:
        """A malformed as_view(audience=...) fails when the URLs are loaded."""
        with pytest.raises(InvalidAudience):
            cls.as_view(audience=audience)

    def test_of_a_subclass_is_checked_at_once(self) -> None:
        """So does a malformed class attribute."""

        class Misspelt(RealtimeTicketView):
            audience = "a b"

        with pytest.raises(InvalidAudience):
            Misspelt.as_view()


@pytest.fixture
def down_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Return a function that makes the alias of a database that is not there."""

    def make(**options: Any) -> str:
        given = connections.settings["default"] | {"OPTIONS": {}} | options
        monkeypatch.setitem(connections.settings, NO_DB_ALIAS, given)
        return NO_DB_ALIAS  # the one that a TestCase lets pass without naming it

    yield make
    if hasattr(connections._connections, NO_DB_ALIAS):
        del connections[NO_DB_ALIAS]


def is_unavailable(browser: Browser) -> bool:
    """Tell whether the answer is 503 with Retry-After, within two seconds."""
    with within(2):
        response = browser.post()
    assert is_refused(response, 503, "No tickets at the moment. Try again.")
    return response.headers["Retry-After"] == "1"


class TestOutage:
    @pytest.mark.parametrize(
        ("backend", "options"),
        [
            (REDIS, {"REDIS": {"unix_socket_path": NOWHERE}}),
            (REDIS, {"REDIS": {"host": "127.0.0.1", "port": 1}}),
            (MEMCACHED, {"MEMCACHED": NOWHERE}),
            (MEMCACHED, {"MEMCACHED": "127.0.0.1:1"}),
        ],
    )
    def test_of_a_server_that_is_not_there(
        self, browser: Browser, settings: Any, backend: str, options: dict[str, Any]
    ) -> None:
        """503, JSON, Retry-After."""
        settings.REALTIME_TICKET_BACKEND = backend
        for name, value in options.items():
            setattr(settings, f"REALTIME_TICKET_{name}", value)
        assert is_unavailable(browser)

    @pytest.mark.parametrize("backend", [REDIS, MEMCACHED])
    def test_of_a_server_that_is_frozen(
        self, browser: Browser, settings: Any, backend: str, tmp_path: Path
    ) -> None:
        """A server that accepts and says nothing holds nobody up either."""
        settings.REALTIME_TICKET_BACKEND = backend
        with silent_server(tmp_path / "s") as socket:
            settings.REALTIME_TICKET_REDIS = f"unix://{socket}"
            settings.REALTIME_TICKET_MEMCACHED = socket
            assert is_unavailable(browser)

    def test_of_a_file(
        self, browser: Browser, settings: Any, down_database: Callable[..., str]
    ) -> None:
        """A SQLite file that cannot be opened."""
        settings.REALTIME_TICKET_DATABASE = down_database(NAME="/nonexistent/db")
        settings.REALTIME_TICKET_BACKEND = DATABASE
        assert is_unavailable(browser)

    @pytest.mark.parametrize("vendor", ["postgresql", "mariadb"])
    def test_of_a_database_server(
        self,
        browser: Browser,
        settings: Any,
        vendor: str,
        down_database: Callable[..., str],
    ) -> None:
        """A database server that is not there."""
        if reason := servers.missing(vendor):
            pytest.skip(reason)
        alias = down_database(
            ENGINE=connections[vendor].settings_dict["ENGINE"],
            HOST="/nonexistent",
            NAME="x",
        )
        settings.REALTIME_TICKET_DATABASE = alias
        settings.REALTIME_TICKET_BACKEND = DATABASE
        assert is_unavailable(browser)

    def test_of_a_kind_of_its_own(self, browser: Browser, settings: Any) -> None:
        """A backend may raise a subclass of StorageError itself."""
        settings.REALTIME_TICKET_BACKEND = f"{__name__}.SelfReporting"
        assert is_unavailable(browser)


class SelfReporting(FailingBackend):
    """A backend with an error that is a StorageError already."""

    def __init__(self) -> None:
        super().__init__(type("ClusterDown", (StorageError,), {})())


class TestAtomicRequests:
    @pytest.fixture(autouse=True)
    def _atomic(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for each in connections.settings.values():
            monkeypatch.setitem(each, "ATOMIC_REQUESTS", True)

    def test_make_no_difference(self, browser: Browser) -> None:
        """Django refuses async views under ATOMIC_REQUESTS, and with that every POST.

        Mutants: view-is-atomic.
        """
        response: Any = browser.post()
        assert response.status_code == 200
        assert get_service().consume(response.json()["message"]).username == "ada"

    def test_do_not_keep_expired_tickets(
        self, client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a transaction of the request, the database backend would not sweep.

        Mutants: view-is-atomic.
        """
        seen: list[bool] = []

        def look(request: Any) -> dict[str, Any]:
            seen.append(len(connections["default"].savepoint_ids) > 0)
            return {}

        monkeypatch.setattr(conf, "claims", lambda: look)
        client.force_login(User.objects.create_user("ada"))
        client.post("/sync/")
        assert seen == [False]


def rooms(request: Any) -> dict[str, Any]:
    return {"rooms": [request.user.username], "path": request.path}


def queries(request: Any) -> dict[str, Any]:
    """Ask the database, as no coroutine may."""
    return {"users": User.objects.count()}


def none(request: Any) -> None:
    return None


def pairs(request: Any) -> list[tuple[str, int]]:
    return [("a", 1)]


def impostor(request: Any) -> dict[str, Any]:
    return {"id": 1}


def renamed(request: Any) -> dict[str, Any]:
    return {"username": "admin"}


def immortal(request: Any) -> dict[str, Any]:
    return {"exp": 2**40}


def endless(request: Any) -> dict[str, Any]:
    return {"x": "y" * 5000}


def binary(request: Any) -> dict[str, Any]:
    return {"x": b"y"}


class TestClaims:
    @pytest.mark.parametrize("name", ["rooms", "queries"])
    def test_are_added(
        self, browser: Browser, settings: Any, name: str, user: User
    ) -> None:
        """What the function returns is part of the ticket; it may use the ORM."""
        settings.REALTIME_TICKET_CLAIMS = f"{__name__}.{name}"
        response: Any = browser.post()
        ticket = get_service().consume(response.json()["message"])
        expected = {
            "rooms": {"rooms": ["ada"], "path": f"/{browser.view}/"},
            "queries": {"users": 1},
        }[name]
        assert ticket.claims == {"id": user.pk, "username": "ada"} | expected

    @pytest.mark.parametrize(
        "name",
        ["none", "pairs", "impostor", "renamed", "immortal", "endless", "binary"],
    )
    def test_that_do_not_fit_are_a_bug(
        self, browser: Browser, settings: Any, name: str
    ) -> None:
        """A wrong return value raises InvalidClaims: the project's tests must see."""
        settings.REALTIME_TICKET_CLAIMS = f"{__name__}.{name}"
        with pytest.raises(InvalidClaims):
            browser.post()

    def test_are_not_asked_for_the_anonymous(
        self, anonymous: Browser, settings: Any
    ) -> None:
        """The function may rely on a user."""
        settings.REALTIME_TICKET_CLAIMS = f"{__name__}.none"
        assert anonymous.post().status_code == 401
