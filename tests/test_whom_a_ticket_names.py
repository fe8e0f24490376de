"""Whom a ticket names: ``request.user``, as the last one to set it left it.

Tried with the packages and middlewares that set it: Django REST framework, adrf,
django-ninja, impersonation, a second factor; under WSGI and ASGI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import adrf.views
import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth import alogin, alogout
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.utils.decorators import decorator_from_middleware, sync_and_async_middleware
from django.utils.functional import SimpleLazyObject
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.security import HttpBearer
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView

from realtime_ticket import (
    AsyncRealtimeTicketView,
    NotAuthenticated,
    RealtimeTicketMiddleware,
    RealtimeTicketView,
    aissue_ticket,
    get_service,
    issue_ticket,
)


class ByName(TokenAuthentication):
    """Django REST framework's tokens, each the name of its user."""

    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        return User.objects.get(username=key), key


class FromDRF(APIView):
    authentication_classes = (ByName, SessionAuthentication)

    def post(self, request: Any) -> Response:
        return Response({"message": issue_ticket(request).value})


class FromSyncADRF(adrf.views.APIView):
    authentication_classes = (ByName, SessionAuthentication)

    def post(self, request: Any) -> Response:
        return Response({"message": issue_ticket(request).value})


class FromAsyncADRF(adrf.views.APIView):
    authentication_classes = (ByName, SessionAuthentication)

    async def post(self, request: Any) -> Response:
        return Response({"message": (await aissue_ticket(request)).value})


class Bearer(HttpBearer):
    """The recipe of the docs for django-ninja: set request.user."""

    def authenticate(self, request: HttpRequest, token: str) -> User:
        request.user = User.objects.get(username=token)
        return request.user


class AsyncBearer(HttpBearer):
    async def authenticate(self, request: HttpRequest, token: str) -> User:
        request.user = await User.objects.aget(username=token)
        return request.user


class AsyncSession:
    """Django's session, for the async views of django-ninja."""

    async def __call__(self, request: HttpRequest) -> User | None:
        user = await request.auser()
        return user if user.is_authenticated else None


api = NinjaAPI(docs_url=None, openapi_url=None)


@api.post("sync", auth=[Bearer(), lambda request: request.user.is_authenticated])
def from_ninja(request: HttpRequest) -> dict[str, str]:
    return {"message": issue_ticket(request).value}


@api.post("async", auth=[AsyncBearer(), AsyncSession()])
async def from_async_ninja(request: HttpRequest) -> dict[str, str]:
    return {"message": (await aissue_ticket(request)).value}


@csrf_exempt
async def logs_in(request: HttpRequest) -> JsonResponse:
    """Django's alogin() and alogout() set request.user, and leave auser() as it is."""
    name = request.headers["X-Name"]
    await request.auser()
    if name:
        await alogin(request, await User.objects.aget(username=name))
    else:
        await alogout(request)
    try:
        return JsonResponse({"message": (await aissue_ticket(request)).value})
    except NotAuthenticated:
        return JsonResponse({}, status=401)


def renders(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "page.html")


urlpatterns = [
    path("sync/", RealtimeTicketView.as_view()),
    path("async/", AsyncRealtimeTicketView.as_view()),
    path("drf/", FromDRF.as_view()),
    path("adrf-sync/", FromSyncADRF.as_view()),
    path("adrf-async/", FromAsyncADRF.as_view()),
    path("logs-in/", logs_in),
    path("page/", decorator_from_middleware(RealtimeTicketMiddleware)(renders)),
    path("ninja/", api.urls),
]


def choose(request: HttpRequest) -> None:
    """Set request.user as a middleware does that is told whom to set."""
    name = request.headers.get("X-Name")
    if name == "nobody":
        request.user = AnonymousUser()
    elif name == "lazily-bob":
        request.user = SimpleLazyObject(lambda: User.objects.get(username="bob"))
    elif name:
        request.user = User.objects.get(username=name)


@sync_and_async_middleware
def impersonation(get_response: Any) -> Any:
    """A middleware that comes after Django's, of either kind."""

    async def aimpersonate(request: HttpRequest) -> HttpResponse:
        await sync_to_async(choose)(request)
        return await get_response(request)

    def impersonate(request: HttpRequest) -> HttpResponse:
        choose(request)
        return get_response(request)

    return aimpersonate if iscoroutinefunction(get_response) else impersonate


pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@pytest.fixture(params=[Client, AsyncClient], ids=["wsgi", "asgi"])
def client(request: pytest.FixtureRequest) -> Client | AsyncClient:
    """A browser with ana's session. The token that it may send is bob's."""
    User.objects.create_user("bob")
    client: Client | AsyncClient = request.param()
    client.force_login(User.objects.create_user("ana"))
    return client


@pytest.fixture
def named(client: Any) -> Callable[..., str]:
    """Ask a URL for a ticket, and return the username in it, or the status."""
    post = (
        async_to_sync(client.post) if isinstance(client, AsyncClient) else client.post
    )

    def named(url: str, **headers: str) -> str:
        response = post(
            url, headers={name.replace("_", "-"): headers[name] for name in headers}
        )
        if response.status_code != 200:
            return str(response.status_code)
        return get_service().consume(response.json()["message"]).username

    return named


@pytest.fixture
def _impersonation(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.impersonation"]


API = ["drf", "adrf-sync", "adrf-async", "ninja/sync", "ninja/async"]
VIEWS = ["sync", "async"]


@pytest.mark.parametrize("view", API)
def test_a_token_of_bob_and_a_session_of_ana_give_a_ticket_of_bob(
    named: Callable[..., str], view: str
) -> None:
    """The token is what the API looked at. Without one, it is the session.

    Mutants: ticket-of-the-session-whatever-the-token.
    """
    url = f"/{view}" if "/" in view else f"/{view}/"
    assert (
        named(url, Authorization=f"{'Bearer' if 'ninja' in view else 'Token'} bob")
        == "bob"
    )
    assert named(url) == "ana"


@pytest.mark.usefixtures("_impersonation")
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [("bob", "bob"), ("lazily-bob", "bob"), ("nobody", "401"), ("", "ana")],
)
def test_a_middleware_that_sets_the_user_is_obeyed(
    named: Callable[..., str], view: str, name: str, expected: str
) -> None:
    """Impersonation names the impersonated; a login without its second factor nobody.

    Mutants: ticket-of-the-session-whatever-the-token.
    """
    assert named(f"/{view}/", X_Name=name) == expected


@pytest.mark.usefixtures("_impersonation")
def test_the_template_variable_obeys_too(client: Any) -> None:
    """It names whom the middleware has set, and nobody where it has set nobody."""
    get = async_to_sync(client.get) if isinstance(client, AsyncClient) else client.get
    (value,) = get("/page/", headers={"X-Name": "bob"}).text[3:-4].split()
    assert get_service().consume(value).username == "bob"
    assert "is None" in get("/page/", headers={"X-Name": "nobody"}).text


@pytest.mark.parametrize(("name", "expected"), [("bob", "bob"), ("", "401")])
def test_who_logs_in_or_out_in_the_same_request_is_named_at_once(
    named: Callable[..., str], name: str, expected: str
) -> None:
    """alogin() leaves ana in request.auser().

    Mutants: ticket-of-the-session-whatever-the-token.
    """
    assert named("/logs-in/", X_Name=name) == expected


@pytest.fixture(params=["sync", "async"])
def issue(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return issue_ticket if request.param == "sync" else async_to_sync(aissue_ticket)


def test_a_request_of_a_test_needs_no_auser(issue: Callable[..., Any]) -> None:
    """RequestFactory gives a request without a user; a test sets request.user."""
    request = RequestFactory().post("/")
    request.user = User(pk=7, username="ada")
    assert issue(request).username == "ada"


def test_an_api_without_anonymous_users_refuses(issue: Callable[..., Any]) -> None:
    """With UNAUTHENTICATED_USER = None, Django REST framework sets None.

    Mutants: user-that-is-none-is-asked.
    """
    request: Any = RequestFactory().post("/")
    request.user = None
    with pytest.raises(NotAuthenticated):
        issue(request)


@pytest.mark.parametrize("name", [None, ""])
def test_a_user_without_a_name_is_not_called_none(
    issue: Callable[..., Any], name: str | None
) -> None:
    """A nullable USERNAME_FIELD gives an empty username, not the text None.

    Mutants: username-that-is-none-is-a-text.
    """
    request: Any = RequestFactory().post("/")
    request.user = User(pk=7, username=name)
    assert issue(request).username == ""
