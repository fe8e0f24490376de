"""The page about single-page apps: its Django, its files and real Vite, in Chromium.

Two apps, each with a Vite: one that leaves the Host alone, of which Django's settings
say nothing, and one that changes the Host, which the settings name.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from examples.servers import EXAMPLES
from tests import servers
from tests.browser.support import ROOT, window
from tests.docs.programs import FROM_CHECKOUT
from tests.docs.projects import Project, client
from tests.processes import free_ports, listens, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = "single-page-app.md"
MODULES = ROOT / "node_modules"
LOG_IN = """
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
client = Client()
client.force_login(get_user_model().objects.create_user("ana"))
print(client.cookies["sessionid"].value)
"""
HTML = '<!doctype html><body><script type="module" src="/{}.js"></script></body>'


class World(NamedTuple):
    app: str
    changed: str
    """The origin of the app for which Vite changes the Host."""
    session: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_vite()
    folder = tmp_path_factory.mktemp("app")
    (app, changed), (django, realtime) = free_ports(), free_ports()
    ports = {"5173": changed, "8000": django, "8001": realtime}
    project = Project.of_page(PAGE, folder, ports=ports)
    names = {
        "localhost": "127.0.0.1",
        "https://app.example.com": f"http://127.0.0.1:{changed}",
        "https://api.example.com": f"http://127.0.0.1:{django}",
        "wss://api.example.com": f"ws://127.0.0.1:{realtime}",
    }
    for path in [*folder.glob("*.js"), folder / "settings.py"]:
        text = path.read_text()
        for name, replacement in names.items():
            text = text.replace(name, replacement)
        path.write_text(text)
    install(folder)
    session = project.run(LOG_IN).strip()
    other = changes_the_host(folder, tmp_path_factory.mktemp("changed"))
    allowed = f"http://127.0.0.1:{app} http://127.0.0.1:{changed}"
    with (
        project.serving(django),
        realtime_server(folder, realtime, allowed),
        vite(folder, app),
        vite(other, changed),
    ):
        yield World(f"http://127.0.0.1:{app}", f"http://127.0.0.1:{changed}", session)


def need_vite() -> None:
    if servers.find("npm") and (MODULES / "vite").exists():
        return
    reason = "vite is not installed: npm install --no-save --no-package-lock"
    if servers.REQUIRED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def install(folder: Path) -> None:
    """Do what the page's commands do, and write pages for its scripts."""
    (folder / "package.json").write_text("{}")
    quiet = ["--offline", "--no-audit", "--no-fund", "--silent"]
    npm = ["npm", "install", *FROM_CHECKOUT, *quiet, str(ROOT)]
    subprocess.run(npm, cwd=folder, check=True, timeout=60)
    (folder / "node_modules/vite").symlink_to(MODULES / "vite")
    (folder / "index.html").write_text(HTML.format("main"))
    (folder / "cors.html").write_text(HTML.format("cors"))


def changes_the_host(app: Path, folder: Path) -> Path:
    """Copy an app, with the other value of changeOrigin."""
    shutil.copytree(app, folder, symlinks=True, dirs_exist_ok=True)
    config = folder / "vite.config.js"
    text = config.read_text()
    assert text.count("changeOrigin: false") == 2
    config.write_text(text.replace("changeOrigin: false", "changeOrigin: true"))
    return folder


@contextmanager
def vite(folder: Path, port: int) -> Iterator[None]:
    """Run Vite's development server."""
    script = str(MODULES / "vite/bin/vite.js")
    words = ["--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    command = [servers.find("node"), script, str(folder), *words]
    process = servers.run(command, folder, ready=lambda: listens(port))
    yield
    servers.stop(process)


@contextmanager
def realtime_server(folder: Path, port: int, origins: str) -> Iterator[None]:
    text = (EXAMPLES / "websockets/server.py").read_text("utf-8")
    assert text.count("AllowedOrigins([ORIGIN]") == 1
    text = text.replace("AllowedOrigins([ORIGIN]", "AllowedOrigins(ORIGIN.split()")
    (folder / "realtime.py").write_text(text)
    environment = Project(folder).environment | {
        "PORT": str(port),
        "ORIGIN": origins,
        "REDIS_URL": f"unix://{servers.REDIS}?db=9",
    }
    with running("realtime.py", port=port, folder=folder, environment=environment):
        yield


def greeting(chromium: Browser, url: str, session: str) -> str:
    """Open a page of an app, as the user who has logged in, and return what it says."""
    with window(chromium) as page:
        cookie = {"name": "sessionid", "value": session, "url": url}
        page.context.add_cookies([cookie])  # type: ignore[list-item]
        page.goto(url)
        page.wait_for_function("document.body.textContent.includes('Hello')")
        return page.text_content("body") or ""


def test_an_app_connects_through_vite(chromium: Browser, world: World) -> None:
    """With the page's own configuration, and nothing set in Django."""
    assert "Hello, ana!" in greeting(chromium, f"{world.app}/", world.session)


def test_an_app_connects_when_vite_changes_the_host(
    chromium: Browser, world: World
) -> None:
    """Because Django trusts its origin."""
    assert "Hello, ana!" in greeting(chromium, f"{world.changed}/", world.session)


def test_an_app_connects_from_another_origin(chromium: Browser, world: World) -> None:
    """It asks Django directly, and reads no cookie of Django's."""
    url = f"{world.changed}/cors.html"
    assert "Hello, ana!" in greeting(chromium, url, world.session)


def post_ticket(proxy: str, origin: str, session: str) -> tuple[int, str]:
    with client(proxy, cookies={"sessionid": session}) as http:
        token = http.get("/csrf/").json()["csrfToken"]
        headers = {"X-CSRFToken": token, "Origin": origin}
        answer = http.post("/ticket/", headers=headers)
        return answer.status_code, answer.text


def test_an_origin_that_is_not_trusted_gets_no_ticket(world: World) -> None:
    """What the page says of changeOrigin, and why it must be set."""
    app, changed, session = world
    status, text = post_ticket(app, app, session)
    assert (status, json.loads(text)["status"]) == (200, "ok")
    assert post_ticket(changed, changed, session)[0] == 200
    assert post_ticket(changed, app, session)[0] == 403


def test_the_realtime_server_sees_the_origin_of_the_app(world: World) -> None:
    """Whatever changeOrigin is. That of a foreign page it sees, too."""
    for proxy in (world.app, world.changed):
        url = f"{proxy.replace('http', 'ws')}/ws"
        for origin, status in ((world.app, 401), ("https://evil.example", 403)):
            with pytest.raises(InvalidStatus) as refused:
                connect(url, origin=Origin(origin), proxy=None)
            assert refused.value.response.status_code == status
