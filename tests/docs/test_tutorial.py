"""The tutorial, built and tried."""

from __future__ import annotations

import http.cookiejar
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.browser.support import launch, missing, window
from tests.docs.pages import FENCES, read
from tests.docs.programs import environment_of
from tests.processes import free_ports, running


def test_the_tutorial_ends_as_it_says(tmp_path: Path) -> None:
    """Build the project, start both processes, and do what the reader does."""
    from websockets.exceptions import InvalidStatus

    web, realtime = free_ports()
    written = set()
    for fence in FENCES["tutorial.md"]:
        if fence.file:
            fence.write(tmp_path, {"8000": web, "8001": realtime})
            written.add(fence.file)
    assert "The project has six files." in read("tutorial.md") and len(written) == 6
    environment = environment_of(tmp_path, DJANGO_SUPERUSER_PASSWORD="a pass phrase")

    def manage(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    assert "WARNING" not in manage("migrate")
    manage("check", "--fail-level", "WARNING", "--database", "default")
    name = ["--username", "ana", "--email", "ana@example.com"]
    manage("createsuperuser", "--noinput", *name)

    address = f"127.0.0.1:{web}"
    here = {"folder": tmp_path, "environment": environment}
    runserver = ("manage.py", "runserver", "--noreload", address)
    with (
        running(*runserver, port=web, **here),
        running("realtime.py", port=realtime, **here),
    ):
        browser = Browser(f"http://{address}")
        page = browser.get("/")
        assert page.url.endswith("/login/?next=/")
        status, answer = browser.post_ticket(page)
        assert (status, answer["status"]) == (401, "error")

        page = browser.log_in(page, "ana", "a pass phrase")
        assert "you are ana" in page.text
        status, answer = browser.post_ticket(page)
        assert (status, answer["status"], answer["expires_in"]) == (200, "ok", 10)
        ticket = answer["message"]

        talk = ["Hello, ana.", "ana: hi"]
        assert _talk(realtime, ticket, browser.origin) == talk
        for shown in (ticket, "", "nonsense"):
            with pytest.raises(InvalidStatus) as refused:
                _talk(realtime, shown, browser.origin)
            assert refused.value.response.status_code == 401

        status, answer = browser.post_ticket(page)
        with pytest.raises(InvalidStatus) as refused:
            _talk(realtime, answer["message"], "http://elsewhere.example")
        assert refused.value.response.status_code == 403
        status, answer = browser.post_ticket(page)
        assert _talk(realtime, answer["message"], browser.origin) == talk

        if reason := missing():
            servers.do_without(reason)
        _press_the_buttons(browser.origin)


def _press_the_buttons(site: str) -> None:
    """As the page tells the reader, who sees what it says."""
    from playwright.sync_api import sync_playwright

    first, refused, ended = re.findall(r"```text\n(.+)\n```", read("tutorial.md"))
    with sync_playwright() as playwright, window(launch(playwright)) as page:
        page.goto(site)
        page.fill("[name=username]", "ana")
        page.fill("[name=password]", "a pass phrase")
        page.get_by_role("button", name="Log in").click()
        log = page.locator("#log")
        log.get_by_text(first).wait_for()
        page.get_by_role("button", name="Say hi").click()
        log.get_by_text("The server says: ana: hi").wait_for()
        page.get_by_role("button", name="Use the same ticket again").click()
        log.get_by_text(refused).wait_for()
        page.get_by_role("button", name="Log out in another tab").click()
        log.get_by_text(ended).wait_for()
        page.get_by_role("button", name="Use the same ticket again").click()
        log.get_by_text("Not connected.").wait_for()
        assert "got in" not in log.inner_text()


def _talk(port: int, ticket: str, origin: str) -> list[str]:
    from websockets.sync.client import connect
    from websockets.typing import Origin, Subprotocol

    with connect(
        f"ws://127.0.0.1:{port}/",
        subprotocols=[
            Subprotocol("realtime-ticket.v1"),
            Subprotocol(f"ticket.{ticket}"),
        ],
        origin=Origin(origin),
        open_timeout=30,
        proxy=None,
    ) as connection:
        assert connection.subprotocol == "realtime-ticket.v1"
        heard = [str(connection.recv(timeout=30))]
        connection.send("hi")
        return [*heard, str(connection.recv(timeout=30))]


@dataclass(frozen=True)
class Page:
    url: str
    text: str

    @property
    def csrf_token(self) -> str:
        match = re.search(r"\b\w{64}\b", self.text)
        assert match, self.text
        return match[0]


class Browser:
    def __init__(self, origin: str) -> None:
        self.origin = origin
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        no_proxy = urllib.request.ProxyHandler({})
        self._opener = urllib.request.build_opener(cookies, no_proxy)

    def get(self, path: str, data: dict[str, str] | None = None) -> Page:
        body = urllib.parse.urlencode(data).encode() if data else None
        with self._opener.open(self.origin + path, body, timeout=30) as response:
            return Page(response.url, response.read().decode())

    def log_in(self, page: Page, username: str, password: str) -> Page:
        data = {"username": username, "password": password}
        path = page.url.removeprefix(self.origin)
        return self.get(path, data | {"csrfmiddlewaretoken": page.csrf_token})

    def post_ticket(self, page: Page) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"{self.origin}/ticket/",
            method="POST",
            headers={"X-CSRFToken": page.csrf_token},
        )
        try:
            with self._opener.open(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
