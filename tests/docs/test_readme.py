"""A newcomer's project: ``startproject``, then what the README says, word for word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from docs import flow
from examples.demo.walk import Browser, fetch_ticket
from tests import servers
from tests.browser.support import launch, missing, window
from tests.processes import free_ports, running

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
FILE = re.compile(
    r"```(?:python|html)\n(?:# |\{# )([\w./]+)(?:: (\w+))?(?: #\})?\n(.*?)```",
    re.DOTALL,
)
FILES = {(name, remark): code for name, remark, code in FILE.findall(README)}
"""The README's files, by their name and remark."""
COMMANDS = "".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL)).splitlines()
SHOWN = re.findall(r"\*\*(.+?)\*\*", README.partition("Open `http://")[2])[:4]
"""What is to be seen at the end: the greeting, a refusal, an outage, a logout."""
PROGRAMS = {
    "python3": [sys.executable],
    "django-admin": [sys.executable, "-m", "django"],
}


class Project:
    """A project made by the README's commands and files, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self.realtime_port = free_ports()
        self.folder = folder
        self.run(command("django-admin startproject mysite"))
        assert command("cd mysite")
        self.folder = folder / "mysite"
        self.run(command("mkdir templates"))
        self.append("mysite/settings.py", FILES["mysite/settings.py", ""])
        for name in ("mysite/urls.py", "templates/hello.html", "realtime.py"):
            self.write(name, FILES[name, ""])

    def write(self, name: str, code: str) -> None:
        """Write a file whose ports are ours."""
        for port, ours in ((8000, self.port), (8001, self.realtime_port)):
            code = code.replace(f":{port}", f":{ours}")
            code = code.replace(f"port={port}", f"port={ours}")
        (self.folder / name).write_text(code)

    def append(self, name: str, code: str) -> None:
        self.write(name, f"{(self.folder / name).read_text()}\n{code}")

    def run(self, line: str) -> str:
        """Run a line as a shell does, with this Python."""
        environment, (program, *words) = self.environment, shlex.split(line)
        while "=" in program:
            name, _, environment[name] = program.partition("=")
            program, *words = words
        process = subprocess.run(
            [*PROGRAMS.get(program, [program]), *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout + process.stderr

    @property
    def environment(self) -> dict[str, str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        return environment

    @contextmanager
    def django(self) -> Iterator[str]:
        """Prepare the database, and run Django. Give its address."""
        for start in ("python3 manage.py migrate", "DJANGO_SUPERUSER_PASSWORD="):
            assert "WARNING" not in self.run(command(start))
        assert "no issues" in self.run("python3 manage.py check")
        assert command("python3 manage.py runserver")
        address = f"127.0.0.1:{self.port}"
        words = ("manage.py", "runserver", "--noreload", address)
        with running(
            *words, port=self.port, folder=self.folder, environment=self.environment
        ):
            yield f"http://{address}"

    @contextmanager
    def realtime(self) -> Iterator[Path]:
        """Run the realtime server, and give the file that it prints to."""
        assert command("python3 realtime.py")
        port = self.realtime_port
        with running(
            "realtime.py", port=port, folder=self.folder, environment=self.environment
        ):
            yield self.folder / f"{port}.log"


def command(start: str) -> str:
    """Return the README's one command that starts so."""
    (line,) = [line for line in COMMANDS if line.startswith(start)]
    return line


@pytest.fixture
def new_project(tmp_path: Path) -> Project:
    servers.need_module("starlette")
    servers.need_module("uvicorn")
    return Project(tmp_path)


def test_the_readme_ends_in_hello_alice(new_project: Project) -> None:
    """In a browser, and with what it shows of a server that is down and of a logout."""
    if reason := missing():
        servers.do_without(reason)
    from playwright.sync_api import sync_playwright

    greeting, refusal, outage, logout = SHOWN
    with (
        new_project.django() as site,
        sync_playwright() as playwright,
        window(launch(playwright)) as page,
    ):
        with new_project.realtime() as log:
            page.goto(site)
            page.get_by_label("Username").fill("alice")
            page.get_by_label("Password").fill("secret")
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("heading", name=greeting).wait_for()
            address = f"http://127.0.0.1:{new_project.realtime_port}"
            assert address in log.read_text()
            with pytest.raises(urllib.error.HTTPError, match="401") as caught:
                urllib.request.urlopen(address)
            assert refusal in caught.value.read().decode()
        page.get_by_role("heading", name=outage).wait_for()
        with new_project.realtime():
            page.get_by_role("heading", name=greeting).wait_for()
            page.get_by_role("button", name="Log out in another tab").click()
            page.get_by_role("heading", name=logout).wait_for()


def test_with_redis_the_realtime_server_loads_no_django(new_project: Project) -> None:
    """The README's lines for Redis, in place of those that they replace."""
    servers.require("redis")
    url = f"unix://{servers.REDIS}?db=6"
    there = '{"host": "localhost", "port": 6379}'
    settings = FILES["mysite/settings.py", "Redis"]
    assert there in settings
    new_project.append("mysite/settings.py", settings.replace(there, repr(url)))

    there = 'host="localhost", port=6379'
    lines = FILES["realtime.py", "Redis"]
    assert there in lines
    code = FILES["realtime.py", ""].replace("import django\n", "")
    for pattern, new in (
        (r"os\.environ\..*django\.setup\(\)\n", ""),
        (r"tickets = Middleware\(.*?\n\)\n", lines.replace(there, f"{url=}")),
        (r"uvicorn\.run", "assert 'django' not in sys.modules; uvicorn.run"),
    ):
        code, count = re.subn(pattern, new, code, flags=re.DOTALL)
        assert count == 1, pattern
    new_project.write("realtime.py", f"import sys\n{code}")

    with new_project.django() as site, new_project.realtime():
        browser = Browser(site)
        browser.get("/admin/login/")
        browser.post(
            "/admin/login/", username="alice", password="secret", next="/admin/"
        )
        ticket, expires_in = fetch_ticket(browser)
        assert expires_in == 10
        assert greeting(new_project, ticket) == "Hello, alice!"
        for bad in (ticket, "", "rt_nonsense"):
            with pytest.raises(InvalidStatus, match="401"):
                greeting(new_project, bad)


def greeting(project: Project, ticket: str) -> str:
    """Offer the ticket as the README's JavaScript does."""
    protocols = ["realtime-ticket.v1"] + ([f"ticket.{ticket}"] if ticket else [])
    url = f"ws://127.0.0.1:{project.realtime_port}/"
    with connect(url, subprotocols=protocols, proxy=None) as connection:  # type: ignore[arg-type]
        return str(connection.recv(timeout=10))


def test_the_two_commands_exist() -> None:
    """The README's first commands are targets of the Makefile."""
    commands = re.findall(r"^make (\S+)$", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)

    assert commands == ["demo", "test"]
    assert set(commands) <= set(targets)


@pytest.mark.parametrize("scheme", flow.SCHEMES)
def test_the_picture_is_drawn_from_its_text(scheme: str) -> None:
    """If this fails: python docs/flow.py, and look at what it has drawn."""
    picture = ROOT / "docs" / "images" / f"flow-{scheme}.svg"
    assert picture.read_text("utf-8") == flow.draw(flow.SCHEMES[scheme])
    labels = [line.rpartition(": ")[2] for line in flow.FLOW.splitlines()]
    assert max(map(len, labels)) <= 30  # what fits between two columns
