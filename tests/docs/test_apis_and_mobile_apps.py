"""The page about APIs and mobile apps, as one project with the real packages.

Its users log in by e-mail and have a UUID. A realtime server of the examples, another
process, lets an app in and ends its connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from examples.servers import EXAMPLES
from realtime_ticket import Ticket, TicketService
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.docs.projects import Project, client
from tests.matrix import ROWS
from tests.processes import free_ports, running

PAGE = "apis-and-mobile-apps.md"
SETTINGS = """
INSTALLED_APPS += ["accounts"]
AUTH_USER_MODEL = "accounts.User"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
SIMPLE_JWT = {"SIGNING_KEY": "for tests only, and as long as the algorithm asks for"}
"""
ACCOUNTS = """
import uuid
from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractBaseUser, PermissionsMixin
from django.db import models

class User(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)
    objects = BaseUserManager()
    USERNAME_FIELD = EMAIL_FIELD = "email"

    class Meta:
        app_label = "accounts"
"""
CREATE = """
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token
for name in ("ana", "bob", "dan", "eve", "fay"):
    user = get_user_model()(email=f"{name}@example.com", is_active=name != "eve")
    user.set_password("a pass phrase")
    user.save()
    token = "none" if name == "fay" else Token.objects.create(user=user)
    print(user.pk, token)
"""
ANA = {"email": "ana@example.com", "password": "a pass phrase"}


class Person(NamedTuple):
    id: str
    token: str


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("apis")
    files = {"accounts/__init__": "", "accounts/models": ACCOUNTS}
    return Project.of_page(PAGE, folder, SETTINGS, **files)


@pytest.fixture(scope="module")
def people(project: Project) -> dict[str, Person]:
    """Ana and bob, dan whose token is deleted, eve who is deactivated, and fay who has
    no token."""
    lines = project.run(CREATE).splitlines()
    people = (Person(*line.split()) for line in lines)
    return dict(zip(("ana", "bob", "dan", "eve", "fay"), people, strict=True))


@pytest.fixture(scope="module")
def site(project: Project, people: dict[str, Person]) -> Iterator[str]:
    with project.serving() as origin:
        yield origin


@pytest.fixture
def http(site: str) -> Iterator[httpx.Client]:
    with client(site) as http:
        yield http


@pytest.fixture(scope="module")
def tickets() -> Iterator[TicketService]:
    """The storage, as a realtime server sees it."""
    service = TicketService(RedisBackend(url=f"unix://{servers.REDIS}?db=9"))
    yield service
    service.close()


@pytest.fixture(scope="module")
def realtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a realtime server that never loads Django."""
    servers.require("redis")
    port, _ = free_ports()
    project = Project(tmp_path_factory.mktemp("realtime"))
    environment = project.environment | {"PORT": str(port)}
    environment |= {"REDIS_URL": f"unix://{servers.REDIS}?db=9"}
    script = str(EXAMPLES / "websockets/server.py")
    with running(script, port=port, folder=project.folder, environment=environment):
        yield f"ws://127.0.0.1:{port}/ws"


def ask(
    http: httpx.Client, path: str, tickets: TicketService, **headers: str
) -> Ticket:
    """Ask for a ticket, and consume it."""
    answer = http.post(path, headers={k.replace("_", "-"): headers[k] for k in headers})
    assert answer.status_code == 200, answer.text
    return tickets.consume(answer.json()["message"])


def connected(url: str, value: str) -> ClientConnection:
    """Connect as an app does: with a header, and without an origin."""
    headers = {"Authorization": f"Ticket {value}"}
    return connect(url, additional_headers=headers, proxy=None)


TOKEN_URLS = {
    "/api/ticket/": "Token",
    "/ninja/ticket": "Bearer",
    "/ninja/async-ticket": "Bearer",
}
APP_URLS = {"/app/ticket/": 403, "/app/ninja/ticket": 401}
"""Where an app that logs in through allauth asks, and the status of a refusal."""


@pytest.mark.parametrize("path", TOKEN_URLS)
def test_a_token_gets_a_ticket_of_its_user(
    http: httpx.Client, tickets: TicketService, people: dict[str, Person], path: str
) -> None:
    """Also beside a session of somebody else. A deactivated user gets none."""
    http.post("/_allauth/browser/v1/auth/login", json=ANA, headers=csrf(http))
    for url in ("/ticket/", "/api/ticket/"):
        ticket = ask(http, url, tickets, **csrf(http))
        assert ticket.username == "ana@example.com"
        assert ticket.session, "a logout ends what comes of it"
    scheme = TOKEN_URLS[path]
    ticket = ask(http, path, tickets, Authorization=f"{scheme} {people['bob'].token}")
    assert (ticket.user_id, ticket.username) == (people["bob"].id, "bob@example.com")
    assert UUID(str(ticket.user_id))
    assert ticket.session == ""
    for token in ("wrong", people["eve"].token):
        answer = http.post(path, headers={"Authorization": f"{scheme} {token}"})
        assert answer.status_code == 401, answer.text


def csrf(http: httpx.Client) -> dict[str, str]:
    """Return the header with the token of the client's cookie."""
    if "csrftoken" not in http.cookies:
        http.get("/_allauth/browser/v1/config")
    return {"X-CSRFToken": http.cookies["csrftoken"]}


def test_simple_jwt_gets_a_ticket(http: httpx.Client, tickets: TicketService) -> None:
    access = http.post("/api/login/jwt/", json=ANA).json()["access"]
    ticket = ask(http, "/api/ticket/", tickets, Authorization=f"Bearer {access}")
    assert ticket.username == "ana@example.com"
    wrong = {"Authorization": f"Bearer {access[:-2]}"}
    assert http.post("/api/ticket/", headers=wrong).status_code == 401


@pytest.mark.parametrize(("path", "refusal"), APP_URLS.items())
def test_a_logout_in_an_app_of_allauth_ends_its_connection(
    http: httpx.Client, tickets: TicketService, realtime: str, path: str, refusal: int
) -> None:
    """By the session that X-Session-Token stands for, and no other."""
    logged_in = []
    for _ in range(2):
        answer = http.post("/_allauth/app/v1/auth/login", json=ANA).json()
        logged_in.append({"X-Session-Token": answer["meta"]["session_token"]})
    one, two = (
        connected(realtime, http.post(path, headers=headers).json()["message"])
        for headers in logged_in
    )
    with one, two:
        assert one.recv() == two.recv() == "Hello, ana@example.com!"
        http.delete("/_allauth/app/v1/auth/session", headers=logged_in[0])
        assert ended(one) == (4401, "disconnected kind=session")
        assert http.post(path, headers=logged_in[0]).status_code == refusal
        two.send("still here")
        assert two.recv() == "ana@example.com: still here"


def test_a_logout_between_the_login_and_the_ticket(
    project: Project, people: dict[str, Person]
) -> None:
    """The ticket names the session that was read before it, so that it ends, too."""
    code = f"""
import app_ninja_api, tickets_api
from django.contrib.auth import get_user_model
from django.test import Client
from realtime_ticket import get_service, issue_ticket
def logged_out(request):
    page.session.flush()
    return issue_ticket(request)
app_ninja_api.issue_ticket = tickets_api.issue_ticket = logged_out
ana = get_user_model().objects.get(email="ana@example.com")
for path in {APP_URLS}:
    (page := Client()).force_login(ana)
    headers = {{"X-Session-Token": page.session.session_key}}
    answer = Client().post(path, headers=headers)
    ticket = get_service().consume(answer.json()["message"])
    status = Client().post(path, headers=headers).status_code
    print(ticket.username, bool(ticket.session), status)
"""
    expected = [f"ana@example.com True {status}" for status in APP_URLS.values()]
    assert project.run(code).splitlines() == expected


def ended(connection: ClientConnection) -> tuple[Any, Any]:
    """Wait until the server ends this connection, and return how."""
    with suppress(ConnectionClosed):
        connection.recv(timeout=10)
    return connection.close_code, connection.close_reason


def test_servers_read_the_header() -> None:
    """All but the proxies, and Socket.IO, whose clients are its own."""
    without = {n for n, row in ROWS.items() if "authorization" not in row.carriers}
    assert without == {"caddy", "haproxy", "nginx", "socketio"}


def test_a_token_that_is_deleted_ends_its_connections(
    http: httpx.Client, tickets: TicketService, people: dict[str, Person], realtime: str
) -> None:
    """Those of a session stay."""
    token = {"Authorization": f"Token {people['dan'].token}"}
    dan = ANA | {"email": "dan@example.com"}
    session = http.post("/_allauth/app/v1/auth/login", json=dan).json()["meta"]
    header = {"X-Session-Token": session["session_token"]}
    with (
        connected(
            realtime, http.post("/api/ticket/", headers=token).json()["message"]
        ) as app,
        connected(
            realtime, http.post("/app/ticket/", headers=header).json()["message"]
        ) as page,
    ):
        assert app.recv() == page.recv() == "Hello, dan@example.com!"
        assert http.post("/api/logout/", headers=token).status_code == 204
        assert ended(app)[0] == 4401
        page.send("still here")
        assert page.recv() == "dan@example.com: still here"
    assert http.post("/api/ticket/", headers=token).status_code == 401


def test_a_logout_of_a_user_without_a_token_ends_their_connections(
    http: httpx.Client, people: dict[str, Person], realtime: str
) -> None:
    """One that logs in by Simple JWT only."""
    fay = ANA | {"email": "fay@example.com"}
    access = http.post("/api/login/jwt/", json=fay).json()["access"]
    header = {"Authorization": f"Bearer {access}"}
    value = http.post("/api/ticket/", headers=header).json()["message"]
    with connected(realtime, value) as app:
        assert app.recv() == "Hello, fay@example.com!"
        assert http.post("/api/logout/", headers=header).status_code == 204
        assert ended(app)[0] == 4401


def test_an_outage_is_a_503_and_users_are_found_again(
    project: Project, people: dict[str, Person]
) -> None:
    """The 503 says when to ask again. A logout succeeds, and its token is gone.

    A UUID in a ticket is the key of a row.
    """
    ana, bob, fay = people["ana"], people["bob"], people["fay"]
    code = f"""
from django.test import Client, override_settings
from rest_framework.authtoken.models import Token
from realtime_ticket import get_service, get_user
service = get_service()
claims = {{"id": "{ana.id}", "username": "ana@example.com"}}
user = get_user(service.consume(service.issue(claims).value))
print(user.pk, user.email)
with override_settings(REALTIME_TICKET_REDIS="redis://127.0.0.1:1"):
    for path, scheme in {TOKEN_URLS}.items():
        headers = {{"Authorization": f"{{scheme}} {bob.token}"}}
        answer = Client().post(path, headers=headers)
        print(answer.status_code, answer["Retry-After"])
    (page := Client()).force_login(user)
    headers = {{"X-Session-Token": page.session.session_key}}
    for path in {APP_URLS}:
        answer = Client().post(path, headers=headers)
        print(answer.status_code, answer["Retry-After"])
    headers = {{"Authorization": f"Token {{Token.objects.create(user_id='{fay.id}')}}"}}
    for path in ("/api/logout/", "/api/logout/"):
        print(Client().post(path, headers=headers).status_code)
"""
    outages = ["503 1"] * (len(TOKEN_URLS) + len(APP_URLS))
    printed = [f"{ana.id} ana@example.com", *outages, "204", "401"]
    assert project.run(code).splitlines() == printed
