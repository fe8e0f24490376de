"""The pages for those who come from django-sesame and from AuthMiddlewareStack.

What each page shows under "before" and "after" runs side by side, in one project.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests import matrix
from tests.docs.projects import Project, client
from tests.processes import free_ports, running

LOG_IN = """
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
user = get_user_model().objects.create_user("ana")
client = Client()
client.force_login(user)
"""
URLS = """
from django.contrib.auth.views import LogoutView
urlpatterns += [path("logout/", LogoutView.as_view(next_page="/"))]
"""
ORIGIN = Origin("https://example.com")


def first_word(port: int, said: str) -> tuple[str, int | None]:
    """Say this first, and return the answer, or the code that it closes with."""
    with connect(f"ws://127.0.0.1:{port}/", proxy=None) as connection:
        connection.send(said)
        with suppress(ConnectionClosed):
            return str(connection.recv(timeout=30)), None
        return "", connection.close_code


def test_the_servers_before_and_after_django_sesame(tmp_path: Path) -> None:
    """Both greet. The ticket works once, and the token as often as it is shown."""
    before, after = free_ports()
    settings = "REALTIME_TICKET_EXPIRE = 60\n"
    project = Project.of_page("from-django-sesame.md", tmp_path, settings)
    for name, port in (("authentication.py", before), ("realtime.py", after)):
        text = (tmp_path / name).read_text()
        assert text.count('"localhost", 8888') == 1
        text = text.replace('"localhost", 8888', f'"127.0.0.1", {port}')
        (tmp_path / name).write_text(text)
    code = f"{LOG_IN}from sesame.utils import get_token\nprint(get_token(user))\n"
    token, ticket = project.run(
        f"{code}print(client.post('/ticket/').json()['message'])"
    ).split()
    place: Any = {"folder": tmp_path, "environment": project.environment}
    blind = project.environment
    del blind["DJANGO_SETTINGS_MODULE"]
    with (
        running("authentication.py", port=before, **place),
        running("realtime.py", port=after, folder=tmp_path, environment=blind),
    ):
        for _ in range(2):
            assert first_word(before, token) == ("Hello ana!", None)
        assert first_word(after, ticket) == ("Hello ana!", None)
        assert first_word(after, ticket) == ("", 4401)
        assert first_word(before, "nonsense") == ("", 1011)
        assert first_word(after, "nonsense") == ("", 4401)


@pytest.fixture
def channels(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """The origins of the application before and after, and the cookie of a login."""
    matrix.require(matrix.ROWS["channels-uvicorn"])
    project = Project.of_page("from-channels-auth.md", tmp_path)
    with (tmp_path / "urls.py").open("a") as file:
        file.write(URLS)
    cookie = project.run(f'{LOG_IN}print(client.cookies["sessionid"].value)').strip()
    with (
        project.serving(application="asgi_before:application") as before,
        project.serving() as after,
    ):
        yield before, after, cookie


def opened(url: str, origin: Origin = ORIGIN, cookie: str = "") -> ClientConnection:
    headers = {"Cookie": f"sessionid={cookie}"} if cookie else None
    url = url.replace("http", "ws")
    return connect(url, origin=origin, additional_headers=headers, proxy=None)


def csrf(http: httpx.Client) -> dict[str, str]:
    """Set a CSRF token as its cookie, and return it as a header."""
    http.cookies.set("csrftoken", "a" * 32)
    return {"X-CSRFToken": "a" * 32}


def test_channels_before_and_after(channels: tuple[str, str, str]) -> None:
    """The same consumer greets. A logout ends only the connection of the ticket."""
    before, after, cookie = channels
    host = Origin(before)
    with (
        client(after, cookies={"sessionid": cookie}) as http,
        opened(f"{before}/ws", origin=host, cookie=cookie) as old,
    ):
        value = http.post("/ticket/", headers=csrf(http)).json()["message"]
        with opened(f"{after}/ws?ticket={value}") as new:
            assert old.recv() == new.recv() == "Hello, ana!"
            for refused in ("", f"?ticket={value}"):
                with pytest.raises(InvalidStatus, match="401"):
                    opened(f"{after}/ws{refused}")
            with pytest.raises(InvalidStatus, match="403"):
                opened(f"{after}/ws", origin=Origin("https://evil.example"))
            http.post("/logout/", headers=csrf(http))
            with pytest.raises(ConnectionClosed):
                new.recv(timeout=10)
            assert new.close_code == 4401
            assert old.ping().wait(10)
