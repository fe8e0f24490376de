"""The recipes of docs/deployment.md: servers run with these very lines, and hold."""

from __future__ import annotations

import ast
import http.client
import re
import shlex
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args
from wsgiref.simple_server import make_server

import psycopg
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from pymemcache.client.base import Client

from realtime_ticket import StorageError, TicketService, exceptions
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from tests import matrix, servers
from tests.docs.pages import FENCES, Fence, read
from tests.faults.storages import storage
from tests.helpers import CLAIMS, using
from tests.nginx import nginx
from tests.processes import free_ports, listens

PAGE = "deployment.md"


def fence_of(words: str) -> Fence:
    """Return the one block of the page that holds these words."""
    (fence,) = [fence for fence in FENCES[PAGE] if words in fence.text]
    return fence


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Start Redis with the file of the page, on another port, and give that."""
    servers.need("redis")
    port = servers.free_port()
    lines = fence_of("# redis.conf").text
    assert lines.count("port 6379\n") == 1
    file = folder / "redis.conf"
    file.write_text(lines.replace("port 6379", f"port {port}"))
    process = servers.run(
        [servers.find("redis-server"), str(file), "--dir", str(folder)],
        folder,
        ready=lambda: listens(port),
    )
    yield port
    process.terminate()  # which saves, if it is told to
    process.wait(30)


@contextmanager
def memcached(folder: Path, megabytes: int = 64) -> Iterator[int]:
    """Run the command of the page, on another port, and give that."""
    servers.need("memcached")
    port = servers.free_port()
    line = fence_of("memcached ").text
    assert line.count(" -p 11211\n") == line.count(" -m 64 ") == 1
    line = line.replace("11211", str(port)).replace("-m 64", f"-m {megabytes}")
    program, *options = shlex.split(line)
    process = servers.run(
        [servers.find(program), *options, "-u", servers.USER],
        folder,
        ready=lambda: listens(port),
    )
    yield port
    servers.stop(process)


def warnings_of(backend: Any) -> list[str]:
    return [each.msg for each in backend.diagnose() if each.is_serious()]


def issue_until_full(service: TicketService) -> int:
    count = 0
    with pytest.raises(StorageError):
        while count < 50_000:
            service.issue(CLAIMS | {"text": "x" * 3000}, expire=60)
            count += 1
    return count


class TestRedis:
    def test_suits_tickets(self, tmp_path: Path) -> None:
        """The doctor has nothing to complain of, and nothing is written to disk."""
        with redis(tmp_path) as port, using(RedisBackend(port=port)) as service:
            service.issue(CLAIMS)
            assert warnings_of(service.backend) == []
        assert not [*tmp_path.rglob("*.rdb"), *tmp_path.rglob("*aof*")]

    def test_is_as_large_as_the_page_says(self, tmp_path: Path) -> None:
        """A ticket takes no more, and ten times the load of the page has room."""
        size = int(re.findall(r"up to (\d+) bytes", read(PAGE))[0])
        with redis(tmp_path) as port, closing(connect(port)) as client:
            before = client.info("memory")["used_memory"]
            with using(RedisBackend(port=port)) as service:
                for _ in range(2000):
                    service.issue(CLAIMS, expire=60)
                taken = client.info("memory")["used_memory"] - before
            limit = client.info("memory")["maxmemory"]
        assert 0.6 * size < taken / 2000 < size
        assert before + 10 * 1000 * 10 * size < limit

    def test_has_what_to_alert_on(self, tmp_path: Path) -> None:
        """Redis and Memcached give the figures by these names."""
        with redis(tmp_path) as port, closing(connect(port)) as client:
            for row in re.findall(r"^\| Redis `INFO`: (.*?) \|", read(PAGE), re.M):
                assert set(re.findall("`(.*?)`", row)) <= client.info().keys()


def connect(port: int) -> Any:
    import redis

    return redis.Redis(port=port)


class TestMemcached:
    def test_refuses_when_it_is_full(self, tmp_path: Path) -> None:
        """And evicts nothing, so the doctor has nothing to complain of."""
        with memcached(tmp_path, megabytes=2) as port:
            backend = MemcachedBackend(servers=f"127.0.0.1:{port}")
            with using(backend) as service, closing(Client(("127.0.0.1", port))) as one:
                assert issue_until_full(service) > 100
                assert one.stats()[b"evictions"] == 0
                assert warnings_of(backend) == []

    def test_runs_as_it_stands(self, tmp_path: Path) -> None:
        with memcached(tmp_path) as port, closing(Client(("127.0.0.1", port))) as one:
            assert one.stats("settings")[b"maxbytes"] == 64 * 1024 * 1024


@pytest.fixture
def unblocked(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


def settings_of(engine: str) -> dict[str, Any]:
    """Return how the page sets the database for tickets."""
    (assigned,) = [
        node.value
        for node in ast.parse(fence_of(engine).text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DATABASES"
    ]
    found: dict[str, Any] = ast.literal_eval(assigned)
    return found.get("tickets", found["default"])


@contextmanager
def on_database(settings: dict[str, Any]) -> Iterator[TicketService]:
    """Give a service on a database with these settings."""
    connections.settings["tickets"] = connections.settings["default"] | settings
    with using(DatabaseBackend(alias="tickets")) as service:
        yield service
    del connections["tickets"], connections.settings["tickets"]


@pytest.mark.usefixtures("unblocked")
class TestDatabases:
    @pytest.mark.parametrize("pooled", [False, True])
    def test_postgresql_waits_a_second_for_a_lock(self, pooled: bool) -> None:
        """By the options, or by what the page sets for the role."""
        servers.need("postgresql")
        port = storage("PostgreSQL").node.port
        place = {"HOST": "127.0.0.1", "PORT": port, "NAME": "postgres"}
        settings = settings_of("backends.postgresql") | place
        with psycopg.connect(
            host="127.0.0.1", port=port, user="postgres", autocommit=True
        ) as admin:
            admin.execute("CREATE ROLE shop SUPERUSER LOGIN")
            if pooled:
                del settings["OPTIONS"]["options"]
                admin.execute(fence_of("ALTER ROLE").text)
            with on_database(settings) as service:
                assert service.issue(CLAIMS)
                with admin.transaction():
                    admin.execute("LOCK TABLE realtime_ticket")
                    started = time.monotonic()
                    with pytest.raises(StorageError):
                        service.issue(CLAIMS)
                    assert 0.5 < time.monotonic() - started < 4
                assert service.issue(CLAIMS)
            admin.execute("DROP ROLE shop")

    def test_mariadb_is_waited_for(self) -> None:
        """Two seconds for a reply, and no longer."""
        servers.need("mariadb")
        node = storage("MariaDB").node
        place = {"HOST": "127.0.0.1", "PORT": node.port, "NAME": "test", "USER": "root"}
        with on_database(settings_of("backends.mysql") | place) as service:
            ticket = service.issue(CLAIMS, expire=60)
            node.freeze()
            started = time.monotonic()
            with pytest.raises(StorageError):
                service.consume(ticket.value)
            assert 1.5 < time.monotonic() - started < 5
            node.thaw()
            assert service.issue(CLAIMS)


class TestProcesses:
    def test_gunicorn_takes_the_command(self, tmp_path: Path) -> None:
        """It loads the project and finds its options right."""
        matrix.require(matrix.ROWS["gevent-gunicorn"])
        (tmp_path / "mysite").mkdir()
        (tmp_path / "mysite" / "wsgi.py").write_text("def application(): ...\n")
        command, *_ = fence_of("gunicorn").text.splitlines()
        result = subprocess.run(
            [sys.executable, "-m", *shlex.split(command), "--check-config"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr

    def test_uvicorn_takes_the_command(self) -> None:
        matrix.require(matrix.ROWS["starlette"])
        import uvicorn

        _, command, _ = fence_of("gunicorn").text.splitlines()
        _, *words = shlex.split(command)
        context = uvicorn.main.make_context("uvicorn", words)
        assert context.params["app"] == "mysite.asgi:application"
        assert context.params["workers"] == 4


class Upstream(BaseHTTPRequestHandler):
    """Answer as Django does."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


def test_nginx_limits_the_rate(tmp_path: Path) -> None:
    """A burst passes, and no more until time has passed. The rest is a 429."""
    matrix.require(matrix.ROWS["nginx"])
    site = fence_of("limit_req_zone").text
    burst, rate = (
        int(re.findall(pattern, site)[0]) for pattern in (r"burst=(\d+)", r"(\d+)r/s")
    )
    port, upstream = free_ports()
    assert site.count("127.0.0.1:80;") == site.count(":8000") == 1
    site = site.replace("127.0.0.1:80;", f"127.0.0.1:{port};")
    site = site.replace(":8000", f":{upstream}")
    with ThreadingHTTPServer(("127.0.0.1", upstream), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        with nginx(tmp_path, site, port):
            started = time.monotonic()
            statuses = [post(port) for _ in range(burst + 1)]
            # Several at once, or a busy machine would take too long for a 429.
            with ThreadPoolExecutor(5) as pool:
                statuses += pool.map(post, [port] * 4 * burst)
            passed = (time.monotonic() - started) * rate
        server.shutdown()
        thread.join(30)
    assert set(statuses) == {200, 429}
    assert burst < statuses.count(200) <= burst + passed + 2
    assert statuses[: burst + 1] == [200] * (burst + 1)


@pytest.fixture
def behind_tls(tmp_path: Path, settings: Any) -> Iterator[Callable[[str], int]]:
    """Give a way to ask for a ticket, through nginx with TLS, from a page's origin.

    Nobody is logged in, so the answer is 401, after the check of the origin.
    """
    matrix.require(matrix.ROWS["nginx"])
    settings.ALLOWED_HOSTS = ["example.com"]
    certificate, key = tmp_path / "example.com.pem", tmp_path / "example.com.key"
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes"
    subprocess.run(
        [*openssl.split(), "-subj", "/CN=example.com", "-out", certificate,
         "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    port, upstream = free_ports()
    site = fence_of("443 ssl").text.replace("/etc/ssl/", f"{tmp_path}/")
    site = site.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    site = site.replace(":8000", f":{upstream}")

    def ask(origin: str) -> int:
        server.set_app(WSGIHandler())  # which reads the settings of now
        secret = "a" * 32
        headers = {
            "Host": "example.com",
            "Origin": origin,
            "Cookie": f"csrftoken={secret}",
            "X-CSRFToken": secret,
        }
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False  # it is reached by its address
        client = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=30, context=context
        )
        with closing(client):
            client.request("POST", "/ticket/", headers=headers)
            return client.getresponse().status

    with make_server("127.0.0.1", upstream, WSGIHandler()) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        with nginx(tmp_path, site, port):
            yield ask
        server.shutdown()
        thread.join(30)


def test_a_page_behind_tls_gets_its_tickets(
    behind_tls: Callable[[str], int], settings: Any
) -> None:
    """With both settings of the page, each of which is needed."""
    assert behind_tls("https://example.com") == 403
    namespace: dict[str, Any] = {}
    exec(fence_of("SECURE_PROXY_SSL_HEADER").text, namespace)
    settings.SECURE_PROXY_SSL_HEADER = namespace["SECURE_PROXY_SSL_HEADER"]
    assert behind_tls("https://example.com") == 401
    assert behind_tls("https://www.example.com") == 403
    settings.CSRF_TRUSTED_ORIGINS = namespace["CSRF_TRUSTED_ORIGINS"]
    assert behind_tls("https://www.example.com") == 401
    assert behind_tls("https://evil.example") == 403


def post(port: int) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(client):
        client.request("POST", "/ticket/")
        return client.getresponse().status


def test_reasons_are_those_of_the_package() -> None:
    """The table of alerts names reasons that there are."""
    named = re.findall(r"`ticket_rejected` with the reason `(\w+)`", read(PAGE))
    assert len(named) == 2
    assert set(named) <= set(get_args(exceptions.Reason))
