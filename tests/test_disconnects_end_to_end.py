"""From Django's own logout view to a connection that ends, on every storage."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth import logout, update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.auth.views import LogoutView
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

from realtime_ticket import InvalidTicket, TicketService, conf, disconnect
from realtime_ticket.live import LiveTickets, Revoked
from realtime_ticket.watches import Watch
from tests import servers
from tests.helpers import WAIT, eventually, within
from tests.servers import Node

BACKENDS = "realtime_ticket.backends."
DATABASE = {"BACKEND": f"{BACKENDS}database.DatabaseBackend"}


def change_password(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    user.set_password("bombe")
    user.save()
    update_session_auth_hash(request, user)
    return HttpResponse()


def log_out_and_fail(request: HttpRequest) -> HttpResponse:
    logout(request)
    raise ZeroDivisionError


def change_password_and_fail(request: HttpRequest) -> HttpResponse:
    change_password(request)
    raise ZeroDivisionError


urlpatterns = [
    path("", include("realtime_ticket.urls")),
    path("logout/", LogoutView.as_view(next_page="/")),
    path("password/", change_password),
    path("logout-fails/", log_out_and_fail),
    path("password-fails/", change_password_and_fail),
]
pytestmark = pytest.mark.urls(__name__)


class Connections:
    """Open connections to a realtime server, and which reading ended them."""

    def __init__(self, service: TicketService) -> None:
        self.service = service
        self.live = LiveTickets(service, in_doubt="keep")
        self.ended: dict[str, tuple[Revoked, float | None]] = {}
        """Why each ended, and when the last reading began that did not end it."""

    def open(self, name: str, browser: Client) -> Watch:
        """Get a ticket for the user of this browser, and connect with it."""
        value = browser.post("/ticket/").json()["message"]
        ticket = self.service.consume(value)

        def end(revoked: Revoked) -> None:
            self.ended[name] = revoked, self.live.last_read

        return self.live.watch(ticket, end)

    @contextmanager
    def ending(self, *names: str, cause: str = "session") -> Iterator[None]:
        """Demand that the block ends these connections, and no others.

        The first reading that begins after the block has to do it.
        """
        before = self.ended.keys() | names
        yield
        started = time.monotonic()
        assert eventually(lambda: self.ended.keys() >= before), self.ended.keys()
        assert self.ended.keys() == before
        for name in names:
            revoked, missed_at = self.ended[name]
            assert revoked.cause == cause
            assert missed_at is not None and missed_at <= started


@pytest.fixture
def configure(settings: Any) -> Iterator[Callable[..., Connections]]:
    """Let Django keep tickets somewhere, and a realtime server of its own read them."""
    opened: list[Connections] = []

    def configure(**values: Any) -> Connections:
        for name, value in values.items():
            setattr(settings, f"REALTIME_TICKET_{name}", value)
        opened.append(Connections(conf.new_service()))
        return opened[-1]

    yield configure
    for each in opened:
        each.service.close()


def a_browser(username: str) -> Client:
    """Return a browser whose user has logged in."""
    client = Client(raise_request_exception=False)
    user, _ = User.objects.get_or_create(username=username)
    client.force_login(user)
    return client


def on(*aliases: str) -> pytest.MarkDecorator:
    return pytest.mark.django_db(transaction=True, databases=["default", *aliases])


@pytest.mark.parametrize(
    ("server", "values"),
    [
        pytest.param(
            "redis",
            {
                "BACKEND": f"{BACKENDS}redis.RedisBackend",
                "REDIS": {"unix_socket_path": str(servers.REDIS), "db": 5},
            },
            marks=on(),
            id="redis",
        ),
        pytest.param(
            "memcached",
            {
                "BACKEND": f"{BACKENDS}memcached.MemcachedBackend",
                "MEMCACHED": {"servers": [str(path) for path in servers.MEMCACHED]},
            },
            marks=on(),
            id="memcached",
        ),
        pytest.param(
            "redis",
            {"BACKEND": f"{BACKENDS}cache.CacheBackend", "CACHE": "redis"},
            marks=on(),
            id="cache",
        ),
        pytest.param("", DATABASE, marks=on(), id="sqlite"),
        *(
            pytest.param(
                alias, DATABASE | {"DATABASE": alias}, marks=on(alias), id=alias
            )
            for alias in ("postgresql", "mariadb")
        ),
    ],
)
def test_connections_end_with_their_login(
    configure: Callable[..., Connections], server: str, values: dict[str, Any]
) -> None:
    """Through Django's views, with two devices of ada, and with bob's.

    Mutants: logout-of-every-session, password-changed-unheard,
    session-without-a-name.
    """
    if server:
        servers.require(server)
    realtime = configure(**values)
    laptop, phone, bob = a_browser("ada"), a_browser("ada"), a_browser("bob")
    realtime.open("laptop", laptop)
    realtime.open("phone", phone)
    realtime.open("bob", bob)
    late = laptop.post("/ticket/").json()["message"]

    with realtime.ending("laptop"):
        laptop.post("/logout/")
    assert laptop.post("/ticket/").status_code == 401
    ticket = realtime.service.consume(late)
    with pytest.raises(InvalidTicket, match="revoked"):
        realtime.live.watch(ticket, print)

    with realtime.ending("phone", cause="user"):
        phone.post("/password/")
    assert phone.post("/ticket/").status_code == 200  # it comes back

    tablet = a_browser("eve")
    realtime.open("tablet", tablet)
    with realtime.ending("tablet", cause="user"):
        eve = User.objects.get(username="eve")
        eve.is_active = False
        eve.save()
    with realtime.ending("bob", cause="user"):
        User.objects.get(username="bob").delete()


@on()
class TestATransactionOfTheRequest:
    """ATOMIC_REQUESTS, with the tickets in the same database."""

    @pytest.fixture(autouse=True)
    def atomic_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    def test_delays_nothing(self, configure: Callable[..., Connections]) -> None:
        """The commit is all that is awaited."""
        realtime = configure(**DATABASE)
        laptop, phone = a_browser("ada"), a_browser("ada")
        realtime.open("laptop", laptop)
        realtime.open("phone", phone)
        with realtime.ending("laptop"):
            assert laptop.post("/logout/").status_code == 302
        with realtime.ending("phone", cause="user"):
            phone.post("/password/")

    def test_that_is_rolled_back(self, configure: Callable[..., Connections]) -> None:
        """A logout is told, and a password that was not changed is not.

        Mutants: logout-in-the-storage-s-transaction.
        """
        realtime = configure(**DATABASE)
        laptop, phone = a_browser("ada"), a_browser("ada")
        realtime.open("laptop", laptop)
        realtime.open("phone", phone)
        assert phone.post("/password-fails/").status_code == 500
        with realtime.ending("laptop"):
            assert laptop.post("/logout-fails/").status_code == 500


@on()
def test_an_outage_during_a_storm_of_logouts_loses_none(
    configure: Callable[..., Connections],
) -> None:
    """Redis is frozen while 30 users log out, and 30 others stay.

    Nobody waits for it but the first, and all are gone soon after it is back.
    """
    servers.need("redis")
    node = Node()
    realtime = configure(
        BACKEND=f"{BACKENDS}redis.RedisBackend", REDIS={"port": node.port}
    )
    leave = {name: a_browser(name) for name in (f"leaves-{n}" for n in range(30))}
    stay = {name: a_browser(name) for name in (f"stays-{n}" for n in range(30))}
    for name, browser in (leave | stay).items():
        realtime.open(name, browser)
    node.freeze()
    try:
        with within(8):
            for browser in leave.values():
                assert browser.post("/logout/").status_code == 302
        assert realtime.ended == {}
    finally:
        node.thaw()
    assert eventually(lambda: realtime.ended.keys() >= leave.keys(), seconds=10)
    disconnect(User.objects.get(username="stays-0"))
    assert eventually(lambda: "stays-0" in realtime.ended)
    assert realtime.ended.keys() == {*leave, "stays-0"}
    node.kill()


PROCESS = """
import asyncio, sys
from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.live import LiveTickets, Revoked

async def main(path, value):
    service = TicketService(RedisBackend(unix_socket_path=path, db=5))
    ticket = await service.aconsume(value)
    try:
        async with LiveTickets(service).hold(ticket):
            print("connected", flush=True)
            await asyncio.sleep(60)
    except Revoked as exc:
        print(exc.cause, exc.close_code, "django" in sys.modules, flush=True)
    await service.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


@on()
def test_a_process_without_django_hears_of_it(settings: Any) -> None:
    servers.require("redis")
    settings.REALTIME_TICKET_BACKEND = f"{BACKENDS}redis.RedisBackend"
    settings.REALTIME_TICKET_REDIS = {"unix_socket_path": str(servers.REDIS), "db": 5}
    settings.REALTIME_TICKET_EXPIRE = 60  # until the other process has started
    browser = a_browser("ada")
    value = browser.post("/ticket/").json()["message"]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROCESS, str(servers.REDIS), value],
        stdout=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(30, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        with within(WAIT):
            browser.post("/logout/")
            assert process.stdout.readline() == "session 4401 False\n"
        assert process.wait() == 0
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
