"""Centrifugo's side of the contract: its configuration, and what its proxy reads.

Centrifugo itself is in no registry that the tests could install it from. The requests
and the schema of the answers are those of its version 6, from
https://centrifugal.dev/docs/server/proxy#connect-proxy and its ``proxy.proto``.
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import runpy
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from realtime_ticket import TicketService, get_service, get_user
from realtime_ticket.integrations.centrifugo import CentrifugoConnectView
from realtime_ticket.signals import user_disconnected
from realtime_ticket.tickets import Ticket
from tests.helpers import CLAIMS, GOOD, FailingBackend, hostile_values

ROOT = Path(__file__).parents[1]
CONFIG = json.loads(ROOT.joinpath("examples/centrifugo/config.json").read_text())
PROXY = CONFIG["client"]["proxy"]["connect"]
REFRESH = CONFIG["client"]["proxy"]["refresh"]
ENDPOINT = urlsplit(PROXY["endpoint"]).path
HEADERS: dict[str, str] = PROXY["http"]["static_headers"]
KEY = HEADERS["Authorization"].removeprefix("Bearer ")

REQUEST = {
    "client": "9336a229-2400-4ebc-8c50-0a643d22e8a0",
    "transport": "websocket",
    "protocol": "json",
    "encoding": "json",
}
"""What Centrifugo sends always. ``data``, ``name``, ``version`` and ``channels`` are
what the client gave."""

COMES_BACK = range(4000, 4500)
IS_FINAL = range(4500, 5000)
"""The codes for an application, and what Centrifugo's clients do after them."""


class OnlyUsersWhoExist(CentrifugoConnectView):
    """Greets with a user's present name, and refuses one who is gone."""

    def result(self, ticket: Ticket) -> dict[str, Any]:
        user = get_user(ticket)
        return {"user": str(user.pk), "info": {"username": user.get_username()}}


broken = TicketService(FailingBackend())
urlpatterns = [
    path("users/", OnlyUsersWhoExist.as_view()),
    path("audience/", CentrifugoConnectView.as_view(audience="chat")),
    path("an-hour/", CentrifugoConnectView.as_view(max_age=3600)),
    path("broken/", CentrifugoConnectView.as_view(service=broken)),
]


pytestmark = pytest.mark.urls("examples.demo.urls")


@pytest.fixture(autouse=True)
def service(settings: Any) -> Iterator[TicketService]:
    """Give the service, behind the service key of the configuration."""
    settings.REALTIME_TICKET_SERVICE_KEYS = [KEY]
    service = get_service()
    yield service
    service.close()


def connect(place: str = ENDPOINT, **fields: Any) -> HttpResponse:
    """Ask as Centrifugo does."""
    client = Client(enforce_csrf_checks=True, headers=HEADERS)
    return client.post(place, REQUEST | fields, content_type="application/json")


def result(response: HttpResponse) -> Any:
    """Return the ``result`` of an answer, in which every field is of its type."""
    assert response.status_code == 200
    answer = json.loads(response.content)
    assert answer.keys() == {"result"}
    fields = {
        "user": str,
        "expire_at": int,
        "info": dict,
        "data": dict,
        "channels": list,
        "meta": dict,
    }
    assert answer["result"].keys() <= fields.keys()
    for name, value in answer["result"].items():
        assert type(value) is fields[name], name
    assert answer["result"]["user"], "the empty string is Centrifugo's anonymous user"
    return answer["result"]


def disconnect(response: HttpResponse) -> int:
    """Return the code of an answer that disconnects, and that Centrifugo can send."""
    assert response.status_code == 200
    answer = json.loads(response.content)
    assert answer.keys() == {"disconnect"}
    assert answer["disconnect"].keys() == {"code", "reason"}
    code, reason = answer["disconnect"]["code"], answer["disconnect"]["reason"]
    assert type(code) is int
    assert 0 < len(reason) <= 32 and reason.isascii()
    return code


def test_the_configuration_is_complete() -> None:
    """Without a proxy that is enabled, or without origins, nobody could connect."""
    for proxy in (PROXY, REFRESH):
        assert proxy.keys() == {"enabled", "endpoint", "timeout", "http"}
        assert proxy["enabled"] is True
    assert {**PROXY, "endpoint": REFRESH["endpoint"]} == REFRESH
    assert CONFIG["client"].keys() == {"allowed_origins", "proxy"}
    assert CONFIG["client"]["allowed_origins"] == ["http://127.0.0.1:8000"]


def test_the_key_is_the_demo_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEMO_STATE", str(tmp_path))
    monkeypatch.setenv("DEMO_DJANGO_PORT", "8000")
    monkeypatch.setenv("DEMO_REALTIME_PORT", "8001")
    settings = runpy.run_module("examples.demo.settings")
    assert KEY in settings["REALTIME_TICKET_SERVICE_KEYS"]


def test_a_ticket_says_who_connects(service: TicketService) -> None:
    data = {"ticket": service.issue(CLAIMS).value}
    answer = result(connect(data=data, name="js", version="1.2", channels=["news"]))
    assert answer == {"user": "7", "info": {"username": "ada"}}


def test_the_data_may_come_in_base64(service: TicketService) -> None:
    """With Centrifugo's ``binary_encoding``, as ``b64data``."""

    def encoded(text: bytes) -> str:
        return base64.b64encode(text).decode()

    data = json.dumps({"ticket": service.issue(CLAIMS).value}).encode()
    assert result(connect(b64data=encoded(data)))["user"] == "7"
    assert disconnect(connect(b64data=encoded(data))) == 4401
    for text in (b"", b"[]", b"null", b"\xff", b"{", b"[" * 100_000):
        assert disconnect(connect(b64data=encoded(text))) == 4401
    for value in (None, 7, [], {}, "", "%", "e30", "\u00e9"):
        assert disconnect(connect(b64data=value)) == 4401


def test_another_key_opens_nothing(service: TicketService) -> None:
    """Centrifugo takes it for an internal error, and the client tries again."""
    ticket = service.issue(CLAIMS)
    body = REQUEST | {"data": {"ticket": ticket.value}}
    response = Client(headers={"Authorization": "Bearer wrong"}).post(
        ENDPOINT, body, content_type="application/json"
    )
    assert response.status_code == 401
    assert result(connect(data={"ticket": ticket.value}))


def test_after_a_spent_ticket_the_client_comes_back(service: TicketService) -> None:
    data = {"ticket": service.issue(CLAIMS).value}
    result(connect(data=data))
    assert disconnect(connect(data=data)) == 4401
    assert 4401 in COMES_BACK


@pytest.mark.parametrize(
    "fields",
    [{}]
    + [{"data": data} for data in (None, "", GOOD, 7, [GOOD], {}, {"Ticket": GOOD})]
    + [{"data": {"ticket": value}} for value in (None, "", 7, [GOOD], {}, GOOD)],
)
def test_without_a_good_ticket_the_client_comes_back(fields: dict[str, Any]) -> None:
    assert disconnect(connect(**fields)) == 4401


def test_hostile_tickets_are_refused() -> None:
    for value in hostile_values():
        try:
            json.dumps(value)
        except TypeError:
            continue  # it cannot come in a request
        assert disconnect(connect(data={"ticket": value})) == 4401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    response = Client(headers=HEADERS).post(
        ENDPOINT, body, content_type="application/json"
    )
    assert response.status_code == 400


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_a_user_who_is_gone_is_refused_for_good(service: TicketService) -> None:
    user = User.objects.create_user("ada")
    claims = {"id": user.pk, "username": "ada"}
    data = {"ticket": service.issue(claims).value}
    answer = result(connect("/users/", data=data))
    assert answer == {"user": str(user.pk), "info": {"username": "ada"}}

    User.objects.update(is_active=False)
    data = {"ticket": service.issue(claims).value}
    assert disconnect(connect("/users/", data=data)) == 4501
    assert 4501 in IS_FINAL
    assert disconnect(connect("/users/", data=data)) == 4401


@pytest.mark.urls(__name__)
def test_during_an_outage_the_client_comes_back() -> None:
    assert disconnect(connect("/broken/", data={"ticket": GOOD})) == 4013
    assert 4013 in COMES_BACK


@pytest.mark.urls(__name__)
def test_the_audience_is_the_view_s(service: TicketService) -> None:
    data = {"ticket": service.issue(CLAIMS).value}
    assert disconnect(connect("/audience/", data=data)) == 4401
    data = {"ticket": service.issue(CLAIMS, audience="chat").value}
    assert result(connect("/audience/", data=data))["user"] == "7"


def test_an_id_is_a_string_for_centrifugo(service: TicketService) -> None:
    for user_id in (7, "7", 2**63, "5c0f3c1e-8a35-4a9e-a6c3-0d4e6f7a8b9c"):
        data = {"ticket": service.issue(CLAIMS | {"id": user_id}).value}
        assert result(connect(data=data))["user"] == str(user_id)


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("view", "session", "seconds"),
    [
        (ENDPOINT, None, None),
        (ENDPOINT, 300, 300),
        (ENDPOINT, 0, 1),
        ("/an-hour/", None, 3600),
        ("/an-hour/", 300, 300),
        ("/an-hour/", 7200, 3600),
    ],
)
def test_a_connection_expires_with_its_session(
    service: TicketService,
    settings: Any,
    view: str,
    session: int | None,
    seconds: int | None,
) -> None:
    """Or with the age that the view allows. Centrifugo takes 0 for never.

    Mutants: centrifugo-s-connections-live-for-ever, centrifugo-s-zero-is-never.
    """
    if view == ENDPOINT:
        settings.ROOT_URLCONF = "examples.demo.urls"
    ticket = service.issue(CLAIMS, max_age=session)
    answer = result(connect(view, data={"ticket": ticket.value}))
    if seconds is None:
        assert "expire_at" not in answer
    else:
        assert abs(answer["expire_at"] - time.time() - seconds) <= 2


def test_a_session_lasts_from_when_the_ticket_was_issued(
    service: TicketService,
) -> None:
    """Mutants: centrifugo-s-session-begins-late."""
    issued = time.time() - 60
    ticket = service.issue(CLAIMS, max_age=300, authenticated_at=issued)
    answer = result(connect(ENDPOINT, data={"ticket": ticket.value}))
    assert abs(answer["expire_at"] - issued - 300) <= 2


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_a_result_of_ones_own_expires_too(service: TicketService) -> None:
    user = User.objects.create_user("ada")
    ticket = service.issue({"id": user.pk, "username": "ada"}, max_age=300)
    assert "expire_at" in result(connect("/users/", data={"ticket": ticket.value}))


def test_the_client_of_an_expired_connection_comes_back() -> None:
    """Centrifugo disconnects it with 3005, which is not final."""
    path = urlsplit(REFRESH["endpoint"]).path
    client = Client(enforce_csrf_checks=True, headers=HEADERS)
    response = client.post(
        path, REQUEST | {"user": "7"}, content_type="application/json"
    )
    assert response.status_code == 200
    assert json.loads(response.content) == {"result": {"expired": True}}
    assert client.get(path).status_code == 405
    assert Client().post(path).status_code == 401


@pytest.fixture
def centrifugo(tmp_path: Path) -> Iterator[tuple[str, list[Any]]]:
    """A server that takes the commands of Centrifugo's API, and its URL."""
    taken: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, self.headers["X-API-Key"], json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"result": {}}')

        def log_message(self, *args: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/disconnect", taken
        server.shutdown()
        thread.join()


def test_the_recipe_disconnects_users(
    service: TicketService,
    centrifugo: tuple[str, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All their connections, by Centrifugo's API. Their clients come back.

    An outage of Centrifugo disturbs nobody.
    """
    url, taken = centrifugo
    page = (ROOT / "docs" / "servers" / "centrifugo.md").read_text()
    (recipe,) = re.findall(r"```python\n# internal/receivers.py\n(.*?)```", page, re.S)
    monkeypatch.setenv("CENTRIFUGO_API_KEY", "secret")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    namespace: dict[str, Any] = {}
    assert "timeout=1)" in recipe
    exec(recipe.replace("timeout=1)", "timeout=30)"), namespace)
    try:
        namespace["URL"] = url
        service.disconnect(7, "ada", session="s1")
        namespace["URL"] = "http://127.0.0.1:1/"
        service.disconnect(8)
    finally:
        user_disconnected.disconnect(namespace["disconnect"])
    command = {"code": 4401, "reason": "disconnected"}
    assert taken == [
        ("/api/disconnect", "secret", {"user": user, "disconnect": command})
        for user in ("7", "ada")
    ]
    assert command["code"] in COMES_BACK
    assert "Centrifugo: " in caplog.text
