"""The template variable realtime_ticket: middleware, context processor, LazyTicket."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.template import engines
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import decorator_from_middleware, method_decorator
from django.views.decorators.cache import cache_page
from django.views.generic import TemplateView

from realtime_ticket import RealtimeTicketMiddleware, get_service
from realtime_ticket.lazy import LazyTicket
from tests.helpers import FailingBackend, RecordingBackend

with_ticket = decorator_from_middleware(RealtimeTicketMiddleware)

MIDDLEWARE = "realtime_ticket.middleware.RealtimeTicketMiddleware"
PROCESSOR = "realtime_ticket.context_processors.realtime_ticket"
PAGES = {
    "once.html": "<p>{{ realtime_ticket }}</p>",
    "thrice.html": "{{ realtime_ticket }} {{ realtime_ticket }} {{ realtime_ticket }}",
    "silent.html": "no ticket here",
    "none.html": "{% if realtime_ticket is None %}none{% else %}some{% endif %}",
    "false.html": "{% if realtime_ticket %}some{% else %}none{% endif %}",
    "default.html": "{{ realtime_ticket|default_if_none:'none' }}",
    "json.html": "{{ realtime_ticket|json_script:'t' }}",
    "with.html": "{% with t=realtime_ticket %}{{ t }}{% endwith %}",
    "include.html": "{% include 'once.html' %}{% include 'once.html' %}",
}


def page(request: Any, name: str) -> TemplateResponse:
    return TemplateResponse(request, name)


def plain(request: Any, name: str) -> HttpResponse:
    return render(request, name)


def own(request: Any) -> TemplateResponse:
    return TemplateResponse(request, "once.html", {"realtime_ticket": "mine"})


@with_ticket
def function_view(request: Any, name: str) -> TemplateResponse:
    return page(request, name)


@with_ticket
async def async_view(request: Any, name: str) -> TemplateResponse:
    return TemplateResponse(request, name)


@method_decorator(with_ticket, name="dispatch")
class ClassView(TemplateView):
    def get_template_names(self) -> list[str]:
        return [self.kwargs["name"]]


async def renders_async(request: Any, name: str) -> HttpResponse:
    return render(request, name, {"realtime_ticket": LazyTicket.of(request)})


def broken_claims(request: Any) -> None:
    return None


def raising_claims(request: Any) -> dict[str, Any]:
    raise KeyError("tenant")


@with_ticket
def other_answers(request: Any, name: str) -> Any:
    return {
        "http": HttpResponse("x"),
        "json": JsonResponse({"x": 1}),
        "stream": StreamingHttpResponse(iter([b"x"])),
        "simple": SimpleTemplateResponse("once.html"),
    }[name]


@with_ticket
def looks_twice(request: Any) -> HttpResponse:
    """A view that asks for the variable itself, before the template does."""
    value = LazyTicket.of(request)()
    return TemplateResponse(request, "once.html", {"value": value})


urlpatterns = [
    path("function/<name>", function_view),
    path("async/<name>", async_view),
    path("renders-async/<name>", renders_async),
    path("class/<name>", ClassView.as_view()),
    path("page/<name>", page),
    path("plain/<name>", plain),
    path("own", own),
    path("own-decorated", with_ticket(own)),
    path("other/<name>", other_answers),
    path("twice", looks_twice),
    path("cached/<name>", cache_page(60)(function_view)),
    path("cached-plain/<name>", cache_page(60)(plain)),
    path("cached-within/<name>", with_ticket(cache_page(60)(page))),
]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

every_way = pytest.mark.parametrize("way", ["function", "async", "class"])
TICKET = re.compile(r"rt_[A-Za-z0-9_-]{43}")


class Recording(RecordingBackend):
    """A storage whose calls the tests count."""


class Down(FailingBackend):
    """A storage that is down."""


class Missing(FailingBackend):
    """A storage whose driver has a bug."""

    def __init__(self) -> None:
        super().__init__(ZeroDivisionError())


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.REALTIME_TICKET_BACKEND = f"{__name__}.Recording"
    templates = copy.deepcopy(settings.TEMPLATES)
    templates[0]["OPTIONS"]["loaders"][0][1].update(PAGES)
    settings.TEMPLATES = templates


@pytest.fixture
def everywhere(settings: Any) -> None:
    """Set the variable up for the whole site."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    templates = copy.deepcopy(settings.TEMPLATES)
    templates[0]["OPTIONS"]["context_processors"] = [PROCESSOR]
    settings.TEMPLATES = templates


@pytest.fixture(params=["wsgi", "asgi"])
def anonymous(request: pytest.FixtureRequest) -> Any:
    """A test client; ``fetch`` gets a page by it."""
    return Client() if request.param == "wsgi" else AsyncClient()


@pytest.fixture
def fetch(anonymous: Any) -> Callable[[str], Any]:
    """Get a page as a user who is logged in."""
    anonymous.force_login(User.objects.create_user("ada"))
    return fetcher(anonymous)


def fetcher(client: Any) -> Callable[[str], Any]:
    return async_to_sync(client.get) if isinstance(client, AsyncClient) else client.get


def storage() -> Recording:
    backend = get_service().backend
    assert isinstance(backend, Recording)
    return backend


def is_cacheable(response: Any) -> bool:
    return "no-store" not in response.headers.get("Cache-Control", "")


class TestDecorator:
    @every_way
    def test_gives_the_template_a_ticket(self, fetch: Any, way: str) -> None:
        """The page has a ticket of the user, and no cache may keep it."""
        response = fetch(f"/{way}/once.html")
        (value,) = TICKET.findall(response.text)
        assert response.text == f"<p>{value}</p>"
        assert not is_cacheable(response)
        assert get_service().consume(value).username == "ada"

    @every_way
    @pytest.mark.parametrize("name", ["thrice.html", "include.html"])
    def test_gives_one_ticket_for_a_response(
        self, fetch: Any, way: str, name: str
    ) -> None:
        """However often it is printed, it is one ticket, and issued once."""
        response = fetch(f"/{way}/{name}")
        values = TICKET.findall(response.text)
        assert len(values) > 1 and len(set(values)) == 1
        assert storage().calls == [("add", (values[0],))]

    def test_gives_every_response_its_own(self, fetch: Any) -> None:
        """The next page has another ticket."""
        one, other = fetch("/function/once.html"), fetch("/function/once.html")
        assert one.text != other.text

    @every_way
    def test_costs_nothing_if_not_printed(self, fetch: Any, way: str) -> None:
        """A template that does not ask gets no ticket, and may be cached."""
        response = fetch(f"/{way}/silent.html")
        assert response.text == "no ticket here"
        assert is_cacheable(response)
        assert storage().calls == []

    @pytest.mark.parametrize("name", ["none.html", "false.html"])
    def test_can_be_tested_for(self, fetch: Any, name: str) -> None:
        """With a ticket the variable is neither None nor false."""
        assert fetch(f"/function/{name}").text == "some"

    @pytest.mark.parametrize("name", ["default.html", "with.html", "json.html"])
    def test_is_a_plain_string(self, fetch: Any, name: str) -> None:
        """Filters and tags see the ticket's string."""
        (value,) = TICKET.findall(fetch(f"/function/{name}").text)
        assert get_service().consume(value).username == "ada"

    @every_way
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("once.html", "<p>None</p>"),
            ("none.html", "none"),
            ("false.html", "none"),
            ("default.html", "none"),
            ("json.html", '<script id="t" type="application/json">null</script>'),
        ],
    )
    def test_is_none_for_the_anonymous(
        self, anonymous: Any, way: str, name: str, text: str
    ) -> None:
        """Without a login the variable really is None, and nothing fails."""
        assert fetcher(anonymous)(f"/{way}/{name}").text == text
        assert storage().calls == []

    @every_way
    @pytest.mark.parametrize("name", ["none.html", "default.html"])
    def test_is_none_when_the_storage_is_down(
        self,
        fetch: Any,
        settings: Any,
        way: str,
        name: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """An outage leaves the page alone; the log says why there is no ticket."""
        settings.REALTIME_TICKET_BACKEND = f"{__name__}.Down"
        with caplog.at_level(logging.WARNING, logger="realtime_ticket"):
            response = fetch(f"/{way}/{name}")
        assert response.text == "none"
        assert not is_cacheable(response)
        (record,) = [r for r in caplog.records if r.name == "realtime_ticket"]
        assert "storage failed" in record.getMessage()

    def test_tries_a_dead_storage_once(self, fetch: Any, settings: Any) -> None:
        """A page that prints None thrice has waited for the storage once."""
        settings.REALTIME_TICKET_BACKEND = f"{__name__}.Down"
        calls: list[Any] = []
        backend: Any = get_service().backend
        original = backend.add
        backend.add = lambda *item: calls.append(item) or original(*item)
        assert fetch("/function/thrice.html").text == "None None None"
        assert len(calls) == 1

    @pytest.mark.parametrize(
        ("setting", "value", "error"),
        [
            ("BACKEND", "nothing.Here", "WrongSetting"),
            ("BACKEND", f"{__name__}.Missing", "ZeroDivisionError"),
            ("CLAIMS", f"{__name__}.broken_claims", "InvalidClaims"),
            ("CLAIMS", f"{__name__}.raising_claims", "KeyError"),
        ],
    )
    @every_way
    def test_is_none_whatever_is_broken(
        self,
        fetch: Any,
        settings: Any,
        way: str,
        setting: str,
        value: str,
        error: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A page is not lost to a wrong setting or a bug; the log says which it is.

        Mutants: template-variable-raises.
        """
        setattr(settings, f"REALTIME_TICKET_{setting}", value)
        response = fetch(f"/{way}/none.html")
        assert response.text == "none"
        (record,) = [r for r in caplog.records if r.name == "realtime_ticket"]
        assert "gets no ticket" in record.getMessage()
        if error != "InvalidClaims":  # which says it all in its message
            assert record.levelname == "ERROR"
            assert record.exc_info and record.exc_info[0].__name__ == error

    def test_is_none_where_an_async_view_renders_by_itself(
        self, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        """render() in a coroutine may not ask the database who is logged in."""
        aclient = AsyncClient()
        aclient.force_login(User.objects.create_user("ada"))
        response = async_to_sync(aclient.get)("/renders-async/none.html")
        assert response.text == "none"
        (record,) = [r for r in caplog.records if r.name == "realtime_ticket"]
        assert record.exc_info[0].__name__ == "SynchronousOnlyOperation"

    @pytest.mark.parametrize("name", ["http", "json", "stream"])
    def test_leaves_other_responses_alone(self, fetch: Any, name: str) -> None:
        """A response without a template gets no ticket and no header."""
        response = fetch(f"/other/{name}")
        assert response.status_code == 200
        assert is_cacheable(response)
        assert storage().calls == []

    def test_serves_a_response_without_a_request(self, fetch: Any) -> None:
        """SimpleTemplateResponse has no context processors, but has the variable."""
        assert TICKET.search(fetch("/other/simple").text)

    def test_yields_to_the_view(self, fetch: Any) -> None:
        """A variable of that name in the view's own context wins."""
        response = fetch("/own-decorated")
        assert response.text == "<p>mine</p>"
        assert is_cacheable(response)

    def test_shares_the_ticket_of_the_request(self, fetch: Any) -> None:
        """Who asked before the template did asked for the same ticket."""
        response = fetch("/twice")
        assert response.text == f"<p>{response.context_data['value']}</p>"

    def test_keeps_tickets_out_of_the_cache(self, fetch: Any) -> None:
        """Django's own page cache does not keep a page with a ticket."""
        one, other = fetch("/cached/once.html"), fetch("/cached/once.html")
        assert one.text != other.text

    def test_leaves_a_cached_page_alone(self, fetch: Any) -> None:
        """A page without a ticket may come from the cache, within the decorator too."""
        one = fetch("/cached-within/silent.html")
        other = fetch("/cached-within/silent.html")
        assert one.text == other.text == "no ticket here"
        assert storage().calls == []

    def test_can_be_stacked(self, fetch: Any, settings: Any) -> None:
        """Decorated, and in MIDDLEWARE as well, it is still one ticket."""
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        values = TICKET.findall(fetch("/function/thrice.html").text)
        assert storage().calls == [("add", (values[0],))]


class TestMiddleware:
    @pytest.fixture(autouse=True)
    def _middleware(self, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]

    def test_serves_every_template_response(self, fetch: Any) -> None:
        """Without a decorator, and marks the page."""
        response = fetch("/page/once.html")
        assert TICKET.search(response.text)
        assert not is_cacheable(response)

    def test_does_not_reach_render(self, fetch: Any) -> None:
        """render() makes its text at once: that takes the context processor."""
        response = fetch("/plain/once.html")
        assert response.text == "<p></p>"
        assert is_cacheable(response)

    def test_costs_nothing_if_not_printed(self, fetch: Any) -> None:
        """Other pages stay as they are."""
        assert is_cacheable(fetch("/page/silent.html"))
        assert storage().calls == []

    def test_by_its_short_name(self, fetch: Any, settings: Any) -> None:
        """realtime_ticket.RealtimeTicketMiddleware is the same class."""
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE[:-1],
            "realtime_ticket.RealtimeTicketMiddleware",
        ]
        assert TICKET.search(fetch("/page/once.html").text)


@pytest.mark.usefixtures("everywhere")
class TestContextProcessor:
    @pytest.mark.parametrize("way", ["page", "plain", "function", "async", "class"])
    def test_serves_every_template(self, fetch: Any, way: str) -> None:
        """Also those of render(); one ticket, and no-store."""
        response = fetch(f"/{way}/thrice.html")
        values = TICKET.findall(response.text)
        assert storage().calls == [("add", (values[0],))]
        assert set(values) == {values[0]}
        assert not is_cacheable(response)

    @pytest.mark.parametrize("site", [True, False], ids=["site", "view"])
    def test_keeps_tickets_out_of_the_cache(
        self, fetch: Any, settings: Any, site: bool
    ) -> None:
        """Neither the cache of the site nor cache_page keeps a page with a ticket."""
        if site:
            settings.MIDDLEWARE = [
                "django.middleware.cache.UpdateCacheMiddleware",
                *settings.MIDDLEWARE,
                "django.middleware.cache.FetchFromCacheMiddleware",
            ]
        url = "/plain/once.html" if site else "/cached-plain/once.html"
        assert fetch(url).text != fetch(url).text

    @pytest.mark.parametrize("way", ["page", "plain"])
    def test_costs_nothing_if_not_printed(self, fetch: Any, way: str) -> None:
        """A site full of pages without tickets asks the storage for nothing."""
        assert is_cacheable(fetch(f"/{way}/silent.html"))
        assert storage().calls == []

    @pytest.mark.parametrize("name", ["none.html", "default.html", "false.html"])
    def test_is_none_for_the_anonymous(self, anonymous: Any, name: str) -> None:
        """The same None as the middleware's."""
        assert fetcher(anonymous)(f"/plain/{name}").text == "none"

    def test_yields_to_the_view(self, fetch: Any) -> None:
        """A variable of that name in the view's own context wins."""
        assert fetch("/own").text == "<p>mine</p>"


@pytest.mark.usefixtures("everywhere")
class TestErrorPages:
    """Templates of error pages extend the same base template as all others."""

    @pytest.fixture(autouse=True)
    def _pages(self, settings: Any) -> None:
        templates = copy.deepcopy(settings.TEMPLATES)
        pages = {f"{status}.html": PAGES["none.html"] for status in (400, 404, 500)}
        templates[0]["OPTIONS"]["loaders"][0][1].update(pages)
        settings.TEMPLATES = templates
        settings.MIDDLEWARE = [
            "django.middleware.common.CommonMiddleware",
            *settings.MIDDLEWARE,
        ]

    def test_of_a_foreign_host_stays_a_400(
        self, anonymous: Any, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is rendered before there is a user."""
        settings.ROOT_URLCONF = Errors
        response = fetcher(anonymous)(
            "/page/once.html", headers={"Host": "evil.example"}
        )
        assert (response.status_code, response.text) == (400, "none")
        records = [r for r in caplog.records if r.name == "realtime_ticket"]
        assert ["AuthenticationMiddleware" in r.getMessage() for r in records] == [True]

    def test_of_a_missing_page_has_a_ticket(self, client: Client) -> None:
        """404.html is rendered with the request and its user."""
        client.force_login(User.objects.create_user("ada"))
        response = client.get("/nowhere")
        assert (response.status_code, response.text) == (404, "some")
        assert not is_cacheable(response)


def bad_request(request: Any, exception: Exception) -> HttpResponse:
    """Django's own has no request in its template; projects write one that has."""
    return render(request, "400.html", status=400)


class Errors:
    """A URL configuration that handles errors with templates."""

    urlpatterns = urlpatterns
    handler400 = staticmethod(bad_request)


class TestLazyTicket:
    def test_is_one_for_a_request(self, rf: Any) -> None:
        """of() gives one and the same object for one request, and others for others."""
        request = rf.get("/")
        assert LazyTicket.of(request) is LazyTicket.of(request)
        assert LazyTicket.of(request) is not LazyTicket.of(rf.get("/"))

    def test_knows_whether_it_was_used(self, rf: Any) -> None:
        """evaluated is what makes the response no-store."""
        request = rf.get("/")
        request.user = User(pk=7, username="ada")
        lazy = LazyTicket.of(request)
        assert lazy.evaluated is False
        value = lazy()
        assert lazy.evaluated is True
        assert lazy() == value
        assert value is not None and TICKET.fullmatch(value)

    def test_hides_its_value(self, rf: Any) -> None:
        """Neither a debug page nor a log shows the ticket by the object's repr."""
        request = rf.get("/")
        request.user = User(pk=7, username="ada")
        lazy = LazyTicket.of(request)
        value = lazy()
        assert value is not None and value not in f"{lazy!r}{lazy!s}"

    @pytest.mark.parametrize(
        ("user", "text"),
        [(User(pk=7, username="ada"), TICKET), (AnonymousUser(), re.compile(""))],
        ids=["user", "anonymous"],
    )
    @pytest.mark.parametrize("name", ["realtime_ticket", "realtime_ticket()"])
    def test_in_jinja2(
        self, rf: Any, settings: Any, name: str, user: Any, text: re.Pattern[str]
    ) -> None:
        """There a template may print it, or call it."""
        pytest.importorskip("jinja2")
        settings.TEMPLATES = [
            {
                "BACKEND": "django.template.backends.jinja2.Jinja2",
                "OPTIONS": {"context_processors": [PROCESSOR]},
            }
        ]
        request = rf.get("/")
        request.user = user
        source = "{% if NAME is not none %}{{ NAME }}{% endif %}"
        template = engines["jinja2"].from_string(source.replace("NAME", name))
        assert text.fullmatch(template.render({}, request))
