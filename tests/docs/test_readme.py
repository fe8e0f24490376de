"""A newcomer's project: ``startproject``, then what the README says, word for word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from examples.demo.walk import Browser, fetch_ticket
from tests import servers
from tests.processes import free_ports, running

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"```python\n# ([\w.]+)(?:: ([\w ]+))?\n(.*?)```", re.DOTALL)

# The README's servers listen on their usual ports. Ours do not.
OURS = {
    "Redis": f"REALTIME_TICKET_REDIS = 'unix://{servers.REDIS}?db=6'",
    "a cache": (
        "CACHES = {'default': {"
        "'BACKEND': 'django.core.cache.backends.redis.RedisCache', "
        f"'LOCATION': 'unix://{servers.REDIS}?db=7'}}}}"
    ),
    "Memcached": (
        f"REALTIME_TICKET_MEMCACHED = {{'servers': ['{servers.MEMCACHED[0]}']}}"
    ),
    "a database": "",
}
NEEDS = {"Redis": "redis", "a cache": "redis", "Memcached": "memcached"}

CONSUME = """
from consumer import tickets
import sys
from realtime_ticket import InvalidTicket
print(tickets.consume(sys.argv[1]).username)
try:
    tickets.consume(sys.argv[1])
except InvalidTicket:
    print("refused")
"""


def fences() -> dict[tuple[str, str], str]:
    """Return the README's Python, by the file it belongs to and its remark."""
    text = (ROOT / "README.md").read_text()
    return {(file, remark): code for file, remark, code in FENCE.findall(text)}


class Project:
    """A project made by ``django-admin startproject`` in a folder of its own."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder = folder
        self.port, self.realtime_port = free_ports()
        self.run("-m", "django", "startproject", "mysite", str(folder))
        code = fences()
        self.append("mysite/settings.py", code["settings.py", ""])
        if storage != "Redis":
            self.append("mysite/settings.py", code["settings.py", storage])
        self.append("mysite/settings.py", OURS[storage])
        self.append("mysite/urls.py", code["urls.py", ""])
        self.append("consumer.py", code["consumer.py", ""])
        realtime = code["realtime.py", ""].replace("8001", str(self.realtime_port))
        realtime = realtime.replace(
            'host="localhost", port=6379', f'url="unix://{servers.REDIS}?db=6"'
        )
        self.append("realtime.py", realtime)

    def append(self, name: str, code: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"\n{code}\n")

    def run(self, *command: str) -> str:
        process = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout + process.stderr

    @property
    def environment(self) -> dict[str, str]:
        own = {"DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": str(ROOT)}
        return os.environ | own | {"DJANGO_SUPERUSER_PASSWORD": "secret"}

    def running(self, port: int, *words: str) -> AbstractContextManager[None]:
        return running(
            *words, port=port, folder=self.folder, environment=self.environment
        )


@pytest.mark.parametrize("storage", list(OURS))
def test_the_readme_leads_to_a_working_project(storage: str, tmp_path: Path) -> None:
    """A user logs in and gets a ticket; another process consumes it exactly once."""
    if storage in NEEDS:
        servers.require(NEEDS[storage])
    project = Project(tmp_path, storage)
    project.run("manage.py", "migrate")
    project.run(
        "manage.py", "createsuperuser", "--noinput", "--username=ann", "--email="
    )
    assert "(0 silenced)" in project.run("manage.py", "check")

    address = f"127.0.0.1:{project.port}"
    with project.running(project.port, "manage.py", "runserver", "--noreload", address):
        browser = Browser(f"http://{address}")
        browser.get("/admin/login/")
        browser.post("/admin/login/", username="ann", password="secret", next="/admin/")
        ticket, expires_in = fetch_ticket(browser)

        assert expires_in == 10
        assert project.run("-c", CONSUME, ticket).split() == ["ann", "refused"]

        if storage == "Redis":
            with project.running(project.realtime_port, "realtime.py"):
                first = greeting(project, fetch_ticket(browser)[0])
                assert first == "Hello, ann!"
                for bad in (ticket, "", "rt_nonsense"):
                    with pytest.raises(InvalidStatus, match="401"):
                        greeting(project, bad)


def greeting(project: Project, ticket: str) -> str:
    """Offer the ticket as the README's JavaScript does."""
    protocols = ["realtime-ticket.v1"] + ([f"ticket.{ticket}"] if ticket else [])
    url = f"ws://localhost:{project.realtime_port}/"
    with connect(url, subprotocols=protocols, proxy=None) as connection:  # type: ignore[arg-type]
        return str(connection.recv(timeout=10))


def test_the_two_commands_exist() -> None:
    """The README's first commands are targets of the Makefile."""
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^make (\S+)$", text, re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert commands == ["demo", "test"]
    assert set(commands) <= set(targets)
