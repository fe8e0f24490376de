"""The production checklist: its lines for proxies and for starting, with real ones."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from examples.servers import EXAMPLES
from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL
from tests import matrix, servers
from tests.docs.pages import FENCES, PAGES
from tests.docs.projects import Project, client
from tests.helpers import eventually
from tests.nginx import nginx
from tests.processes import free_ports, listens, running

PAGE = "production-checklist.md"


def fence(words: str) -> str:
    (found,) = [each.text for each in FENCES[PAGE] if words in each.text]
    return found


def environment(folder: Path, **more: str) -> dict[str, str]:
    servers.require("redis")
    url = f"unix://{servers.REDIS}?db=9"
    return Project(folder).environment | {"REDIS_URL": url, **more}


@pytest.fixture(scope="module")
def issue() -> Iterator[Callable[[], str]]:
    """Make a ticket of ana's."""
    servers.require("redis")
    service = TicketService(RedisBackend(url=f"unix://{servers.REDIS}?db=9"))
    yield lambda: service.issue({"id": 7, "username": "ana"}).value
    service.close()


@pytest.fixture(scope="module")
def realtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a realtime server that consumes tickets by itself."""
    folder = tmp_path_factory.mktemp("realtime")
    port, _ = free_ports()
    script = str(EXAMPLES / "websockets/server.py")
    place = {"folder": folder, "environment": environment(folder, PORT=str(port))}
    with running(script, port=port, **place):
        yield port


class Proxy(NamedTuple):
    port: int
    log: Path
    context: ssl.SSLContext | None

    def url(self, kind: str) -> str:
        return f"{kind}{'s' if self.context else ''}://127.0.0.1:{self.port}"

    def greets(self, path: str, *protocols: str) -> str:
        """Connect, and return what the realtime server says first."""
        with connect(
            self.url("ws") + path,
            subprotocols=[*map(Subprotocol, protocols)] or None,
            ssl=self.context,
            proxy=None,
        ) as connection:
            return str(connection.recv(timeout=10))

    def status(self, path: str, **headers: str) -> int:
        verify = self.context if self.context else True
        with client(self.url("http"), verify=verify) as http:
            return http.get(path, headers=headers).status_code


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    realtime: int,
) -> Iterator[Proxy]:
    """Give the realtime server behind a proxy. There is no Django behind it."""
    matrix.require(matrix.ROWS[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    port, nobody = free_ports()
    site = fence("listen 443" if request.param == "nginx" else "\treverse_proxy")
    for name, free in ((":8001", realtime), (":8000", nobody)):
        assert site.count(name) == 1
        site = site.replace(name, f":{free}")
    start = with_nginx if request.param == "nginx" else with_caddy
    with start(folder, site, port) as proxy:
        yield proxy


@contextmanager
def with_nginx(folder: Path, site: str, port: int) -> Iterator[Proxy]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "example.com.key")
    with (folder / "example.com.pem").open("wb") as file:
        file.writelines(each.bytes() for each in certificate.cert_chain_pems)
    site = re.sub("/etc/ssl/|/var/log/nginx/", f"{folder}/", site)
    site = site.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with nginx(folder, site, port):
        yield Proxy(port, folder / "realtime.log", context)


@contextmanager
def with_caddy(folder: Path, site: str, port: int) -> Iterator[Proxy]:
    assert site.startswith("example.com {\n")
    site = site.replace("example.com", f"http://127.0.0.1:{port}", 1)
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{site}")
    words = ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    command = [servers.find("caddy"), *words]
    process = servers.run(command, folder, ready=lambda: listens(port))
    yield Proxy(port, folder / "log", None)
    servers.stop(process)


def test_a_proxy_passes_websockets(proxy: Proxy, issue: Callable[[], str]) -> None:
    """With the ticket, whichever way it is carried, and none gets into the log."""
    values = issue(), issue()
    offered = PROTOCOL, f"ticket.{values[0]}"
    assert proxy.greets("/ws", *offered) == "Hello, ana!"
    assert proxy.greets(f"/ws?ticket={values[1]}") == "Hello, ana!"
    with pytest.raises(InvalidStatus, match="401"):
        proxy.greets("/ws", *offered)
    log = proxy.log.read_text()
    assert not [value for value in values if value in log]


def test_a_proxy_passes_nothing_else_there(proxy: Proxy) -> None:
    """No plain request, and no tunnel for HTTP/2. The rest is Django's, who is away."""
    assert proxy.status("/ws") == 426
    tunnel = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    assert proxy.status("/ws", **tunnel, **{"HTTP2-Settings": ""}) == 426
    assert proxy.status("/") == 502


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(fence("[Service]"))
    return parser["Service"]


def test_a_service_stops_in_time_and_says_why(
    tmp_path: Path, issue: Callable[[], str]
) -> None:
    """systemd's SIGTERM ends it, and clients are told to come back."""
    matrix.require(matrix.ROWS["starlette"])
    program, *words = shlex.split(unit()["ExecStart"])
    assert Path(program).name == "uvicorn"
    shutil.copy(EXAMPLES / "starlette/server.py", tmp_path)
    port, _ = free_ports()
    words[words.index("8001")] = str(port)
    assert unit()["Environment"].startswith("REDIS_URL=redis://")
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.DEVNULL,
    ) as process:
        assert eventually(lambda: listens(port), 60)
        url = f"ws://127.0.0.1:{port}/ws?ticket={issue()}"
        with connect(url, proxy=None) as connection:
            assert connection.recv() == "Hello, ana!"
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=10)
            assert connection.close_code == 1012
        process.wait(int(unit()["TimeoutStopSec"]))


def test_a_container_runs_the_same_command() -> None:
    """But listens to more than itself."""
    _, *words = shlex.split(unit()["ExecStart"])
    command = json.loads(fence('["uvicorn"'))
    assert command == ["uvicorn", "--host", "0.0.0.0", *words]


def test_every_line_can_be_ticked_and_says_where_to_read_more() -> None:
    lists = PAGES[PAGE].read_text("utf-8").partition("\n## nginx\n")[0]
    lines = re.findall(r"^- .*(?:\n  .*)*", lists, re.M)
    assert len(lines) > 20
    assert all(line.startswith("- [ ] ") for line in lines)
