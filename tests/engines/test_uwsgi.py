"""Django under uWSGI, which does not tell Python when it forks."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.faults.site import Site
from tests.helpers import eventually, using
from tests.processes import PATIENCE, listens
from tests.servers import Node, free_port

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deployment.md"
WORKERS = 2
PROJECT = "tests.faults.programs.preloaded:application"

COMMAND = next(
    line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("uwsgi ")
)
MODES = {
    "of-the-page": COMMAND,
    "preloaded": COMMAND.replace(" --lazy-apps", ""),
    "preloaded-with-hooks": COMMAND.replace("lazy-apps", "py-call-uwsgi-fork-hooks"),
    "preloaded-with-threads": COMMAND.replace("--lazy-apps", "--threads 4"),
}


@pytest.fixture
def node() -> Iterator[Node]:
    servers.need("redis")
    servers.need_module("pyuwsgi")
    node = Node()
    yield node
    node.kill()


@contextmanager
def uwsgi(command: str, node: Node, folder: Path) -> Iterator[Site]:
    """Run a command of the page, until the block ends, with a project that makes calls
    when it is loaded."""
    port, log = free_port(), folder / "log"
    command = command.replace("8000", str(port)).replace("mysite.wsgi", PROJECT)
    command = command.replace("--processes 4", f"--processes {WORKERS}")
    loads = WORKERS if "--lazy-apps" in command else 1
    _, *words = shlex.split(command)
    program = Path(sys.executable).with_name("uwsgi")
    environment = os.environ | {
        "STORAGE": f"redis.RedisBackend - {node.port}",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *words, "--need-app"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while log.read_text().count(" ready in ") < loads or not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield Site(port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(site: Site, path: str, method: str = "GET") -> Any:
    client = HTTPConnection("127.0.0.1", site.port, timeout=20)
    headers = {"X-User": "7", "Cookie": f"csrftoken={'t' * 32}",
               "X-CSRFToken": "t" * 32}  # fmt: skip
    try:
        client.request(method, path, headers=headers)
        response = client.getresponse()
        assert response.status == 200
        return response.read()
    finally:
        client.close()


@pytest.mark.parametrize("mode", MODES)
def test_tickets_and_disconnects(mode: str, node: Node, tmp_path: Path) -> None:
    """Workers issue and consume, asynchronous views too, and none uses a connection of
    another's. A disconnect that the storage did not take is written when it is back,
    though no request comes.

    Mutants: redis-shares-connections-with-a-child.
    """
    with (
        uwsgi(MODES[mode], node, tmp_path) as site,
        using(RedisBackend(port=node.port)) as service,
    ):
        with site.load() as load:
            assert load.goes_on(100)
        assert (load.doubles, load.crossed, load.lost, load.outages) == (0, 0, 0, 0)
        value = json.loads(get(site, "/async-ticket/", "POST"))["message"]
        assert site.consume(value).user == 7
        since = int(time.time()) - 1
        node.kill()
        get(site, "/disconnect/7/")
        node.start()
        errors = service.backend.storage_errors
        assert eventually(lambda: is_disconnected(service, since), despite=errors)


def is_disconnected(service: TicketService, since: int) -> bool:
    disconnects, _ = service.journal.since(since)
    return any("7" in disconnect.users for disconnect in disconnects)
