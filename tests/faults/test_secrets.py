"""Nothing that the package says, writes or raises holds a ticket that is still good.

Every public door is driven through success, refusals and outages of every storage,
while all that is said is written down: log records of every logger from DEBUG on, SQL
included, warnings, exceptions with their chains, representations, error pages and mail.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core import mail
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from django.utils.log import AdminEmailHandler

from realtime_ticket import (
    RealtimeTicketError,
    StorageError,
    Ticket,
    TicketService,
    aissue_ticket,
    batching,
    get_service,
    issue_ticket,
    tickets,
)
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.cache import CacheBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.memcached import MemcachedBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.checks import check_settings
from realtime_ticket.integrations.asgi import TicketMiddleware
from realtime_ticket.integrations.centrifugo import CentrifugoConnectView
from realtime_ticket.lazy import LazyTicket
from tests import servers
from tests.asgi import App, Peer, showing
from tests.doors import Door, both_doors
from tests.faults.planted import OnCache, OnDatabase, OnMemcached, OnRedis
from tests.faults.requests import KEY, authorize, post
from tests.helpers import ADMINS, CLAIMS, NOWHERE, REMOTE, silent_server, using
from tests.servers import Node, free_port

REDIS = "realtime_ticket.backends.redis.RedisBackend"
OTHER_KEY = "another-key-of-these-tests-that-is-long-enough"


def view(request: HttpRequest) -> HttpResponse:
    """Fail with a ticket among the local variables."""
    ticket = issue_ticket(request)
    raise RuntimeError(f"Nothing to do for {ticket.username}.")


async def async_view(request: HttpRequest) -> HttpResponse:
    ticket = await aissue_ticket(request)
    raise RuntimeError(f"Nothing to do for {ticket.username}.")


def consuming(request: HttpRequest) -> HttpResponse:
    """Let out what consuming raises."""
    get_service().consume(tickets.new_value())
    return HttpResponse()


async def aconsuming(request: HttpRequest) -> HttpResponse:
    await get_service().aconsume(tickets.new_value())
    return HttpResponse()


class Failing(CentrifugoConnectView):
    def result(self, ticket: Ticket) -> dict[str, Any]:
        raise RuntimeError(f"Nothing to do for {ticket.username}.")


urlpatterns = [
    path("", include("realtime_ticket.urls")),
    path("failing/", Failing.as_view()),
    path("failing/with-keys/", Failing.as_view(keys=[KEY, OTHER_KEY])),
    path("", include("realtime_ticket.integrations.urls")),
    path("view/", view),
    path("async/", async_view),
    path("consuming/", consuming),
    path("aconsuming/", aconsuming),
]
pytestmark = pytest.mark.urls(__name__)


class Watch:
    """All that is said while a test runs, and every ticket that was made."""

    def __init__(self, caplog: pytest.LogCaptureFixture, warned: Any) -> None:
        self.values: list[str] = []
        self._caplog = caplog
        self._warned = warned
        self._said: list[str] = []

    def hear(self, *things: object) -> None:
        """Write down texts, and the chain and traceback of exceptions."""
        for thing in things:
            self._said += _told(thing)

    def said(self) -> list[str]:
        said = [*self._said, self._caplog.text]
        said += [repr(vars(record)) for record in self._caplog.records]
        return said + [str(warning.message) for warning in self._warned]

    def leaks(self, *texts: str) -> list[str]:
        """Return the surroundings of every part of a ticket that is told.

        In the texts, or else in all that was said.
        """
        assert self.values
        # Also a part of it: asyncio shortens the middle of what it says.
        parts = [part for v in self.values for part in (v[3:15], v[-12:])]
        return [
            text[max(0, text.index(part) - 200) :][:250]
            for text in texts or self.said()
            for part in parts
            if part in text
        ]


def _told(thing: object) -> list[str]:
    """Return all that can be read of a thing."""
    if not isinstance(thing, BaseException):
        return [thing if isinstance(thing, str) else repr(thing)]
    said = ["".join(traceback.format_exception(thing))]
    chain: list[BaseException] = [thing]
    for error in chain:  # which grows, and some drivers close the circle
        said += [str(error), repr(error), repr(error.args)]
        for other in (error.__cause__, error.__context__):
            if other and other not in chain:
                chain.append(other)
    return said


@pytest.fixture
def watch(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> Watch:
    watch = Watch(caplog, recwarn)
    new_value = tickets.new_value

    def noted(prefix: str = tickets.PREFIX) -> str:
        watch.values.append(new_value(prefix))
        return watch.values[-1]

    monkeypatch.setattr(tickets, "new_value", noted)
    for name in ("", *logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    for connection in connections.all():
        monkeypatch.setattr(connection, "force_debug_cursor", True)
    # asyncio then logs every callback, with its arguments, and says it was slow.
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    always = property(lambda loop: 0.0, lambda loop, seconds: None)
    loop = asyncio.BaseEventLoop
    monkeypatch.setattr(loop, "slow_callback_duration", always, raising=False)
    return watch


def in_a_log(value: str, watch: Watch) -> None:
    logging.getLogger("a.library").debug("got %s", value)


def in_a_field(value: str, watch: Watch) -> None:
    logging.getLogger("django.server").debug("got it", extra={"key": value})


def in_a_cause(value: str, watch: Watch) -> None:
    error = StorageError("down")
    error.__cause__ = OSError(value)
    watch.hear(error)


def in_a_note(value: str, watch: Watch) -> None:
    error = StorageError("down")
    error.add_note(value)
    watch.hear(error)


def in_a_repr(value: str, watch: Watch) -> None:
    watch.hear({"key": [value]})


def in_a_warning(value: str, watch: Watch) -> None:
    warnings.warn(value, stacklevel=1)


def in_sql(value: str, watch: Watch) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT %s", [value])


def in_a_callback(value: str, watch: Watch) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(str, value)
        await asyncio.sleep(0)

    asyncio.run(main())


class TestTheWatch:
    @pytest.mark.django_db
    @pytest.mark.parametrize(
        "leak",
        [in_a_log, in_a_field, in_a_cause, in_a_note, in_a_repr, in_a_warning, in_sql,
         in_a_callback],
    )  # fmt: skip
    def test_finds_what_leaks(self, leak: Any, watch: Watch) -> None:
        """Wherever somebody says it. Nothing of the package is under test here."""
        value = tickets.new_value()
        assert watch.leaks() == []
        leak(value, watch)
        assert watch.leaks()

    def test_finds_nothing_else(self, watch: Watch) -> None:
        """Fingerprints and hashes are for logs."""
        value = tickets.new_value()
        logging.info(tickets.fingerprint(value))
        watch.hear(tickets.storage_key(value, hashed=True))
        assert watch.leaks() == []


class Caller:
    """Makes calls, and lets the watch hear how each ends."""

    def __init__(self, door: Door, watch: Watch) -> None:
        self.door, self.watch = door, watch
        self.failures = 0

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        result = None
        try:
            result = getattr(self.door, name)(*args, **options)
        except StorageError as exc:
            self.failures += 1
            self.watch.hear(exc)
        except RealtimeTicketError as exc:
            self.watch.hear(exc)
        self.watch.hear(result)
        return result

    def value_of(self, ticket: Ticket | None) -> str:
        """Return the ticket's value, or another one where no ticket was issued."""
        return ticket.value if ticket else tickets.new_value()

    def call_all(self) -> None:
        """Call every method: with good tickets, bad ones, and wrong arguments."""
        value = self.value_of(self.call("issue", CLAIMS, audience="chat"))
        for shown, audience in (
            (value, ""), (value, "a b"), (f"{value}\n", "chat"), (value, "chat"),
            (value, "chat"),
        ):  # fmt: skip
            self.call("consume", shown, audience=audience)
        self.call("revoke", self.value_of(self.call("issue", CLAIMS)))
        self.call("issue", CLAIMS | {"x": object()})
        self.call("issue", CLAIMS, audience="a b")
        self.call("issue", CLAIMS)  # which stays good


def on_database(alias: str) -> Any:
    marks = pytest.mark.django_db(transaction=True, databases=[alias])
    return pytest.param(OnDatabase(alias), id=f"{alias} database", marks=marks)


STORAGES = [
    pytest.param(OnRedis(), id="redis"),
    pytest.param(OnMemcached(), id="memcached"),
    *map(on_database, ["default", *REMOTE]),
    *(pytest.param(OnCache(alias), id=f"{alias} cache")
      for alias in ("default", "file", "redis", "django-redis", "memcached")),
]  # fmt: skip

PASSWORD = "pass-word-of-the-storage"
NODES = [f"redis://:{PASSWORD}@10.0.0.1:6379"]
Outage = Callable[[Path], AbstractContextManager[BaseBackend]]


def dead_redis(folder: Path) -> AbstractContextManager[BaseBackend]:
    return nullcontext(RedisBackend(port=free_port(), password=PASSWORD))


def dead_memcached(folder: Path) -> AbstractContextManager[BaseBackend]:
    return nullcontext(MemcachedBackend(servers=NOWHERE))


@contextmanager
def frozen_redis(folder: Path) -> Iterator[BaseBackend]:
    with silent_server(folder / "s") as path:
        yield RedisBackend(url=f"unix://:{PASSWORD}@{path}", socket_timeout=0.1)


@contextmanager
def frozen_memcached(folder: Path) -> Iterator[BaseBackend]:
    with silent_server(folder / "s") as path:
        yield MemcachedBackend(servers=path, timeout=0.1)


@contextmanager
def full_redis(folder: Path) -> Iterator[BaseBackend]:
    """Give one that takes no more tickets."""
    servers.need("redis")
    node = Node("--maxmemory", "1")
    yield RedisBackend(port=node.port)
    node.kill()


@contextmanager
def rude_memcached(folder: Path) -> Iterator[BaseBackend]:
    """Give one that answers every request with an error."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen(16)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(b"SERVER_ERROR out of memory\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield MemcachedBackend(servers=str(folder / "s"))
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def dead_database(
    alias: str, nowhere: dict[str, Any], _: Path
) -> Iterator[BaseBackend]:
    connection = connections[alias]
    connection.close()
    there = connection.settings_dict
    connection.settings_dict = there | nowhere | {"PASSWORD": PASSWORD}
    yield DatabaseBackend(alias=alias)
    connection.close()
    connection.settings_dict = there


@contextmanager
def missing_table(alias: str, _: Path) -> Iterator[BaseBackend]:
    """Give a database that answers every statement with an error."""
    rename(alias, "realtime_ticket", "elsewhere")
    yield DatabaseBackend(alias=alias)
    rename(alias, "elsewhere", "realtime_ticket")


def rename(alias: str, old: str, new: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


def dead_cache(alias: str, _: Path) -> AbstractContextManager[BaseBackend]:
    return nullcontext(CacheBackend(alias=f"{alias}-down"))


LOST: dict[str, dict[str, Any]] = {
    "default": {"NAME": f"{NOWHERE}/db.sqlite3"},
    "postgresql": {"HOST": NOWHERE},
    "mariadb": {"OPTIONS": {"unix_socket": NOWHERE}},
}
OUTAGES = [
    dead_redis, frozen_redis, full_redis,
    dead_memcached, frozen_memcached, rude_memcached,
    *(pytest.param(partial(make, *args), id=f"{make.__name__}-{args[0]}",
                   marks=pytest.mark.django_db(transaction=True, databases=args[:1]))
      for alias in ("default", *REMOTE)
      for make, args in ((dead_database, (alias, LOST[alias])),
                         (missing_table, (alias,)))),
    *(pytest.param(partial(dead_cache, alias), id=f"dead_cache-{alias}")
      for alias in ("redis", "django-redis", "memcached")),
]  # fmt: skip


class TestDoors:
    @both_doors
    @pytest.mark.parametrize("storage", STORAGES)
    def test_of_a_storage_that_works(
        self, storage: OnRedis, door: type[Door], watch: Watch
    ) -> None:
        """Accepted, refused or spoilt, no ticket is told, nor its key.

        Mutants: ticket-in-its-repr, ticket-in-the-log, ticket-in-the-refusal,
        redis-logs-its-commands.
        """
        with using(storage.make()) as service:
            caller = Caller(door(service), watch)
            caller.call_all()
            spoilt = caller.call("issue", CLAIMS)
            service.backend.pop(key := service._key(spoilt.value, ""))
            service.backend.add(key, f"garbage of {tickets.fingerprint(key)}", 60)
            caller.call("consume", spoilt.value)
            watch.hear(service, service.backend)
        assert caller.failures == 0 and len(watch.values) == 5
        assert watch.leaks() == []

    @both_doors
    @pytest.mark.django_db
    @pytest.mark.parametrize("hash_keys", [False, True])
    def test_of_a_database_cache(
        self, door: type[Door], hash_keys: bool, watch: Watch
    ) -> None:
        """A limit: Django logs each statement in DEBUG, and a cache's keys are in it.

        With ``hash_keys``, as always in the backend for databases, they are of no use.

        Mutants: keys-are-never-hashed.
        """
        call_command("createcachetable", verbosity=0)
        with using(CacheBackend(alias="database"), hash_keys=hash_keys) as service:
            Caller(door(service), watch).call_all()
        assert bool(watch.leaks()) is not hash_keys

    @both_doors
    @pytest.mark.parametrize("outage", OUTAGES)
    def test_of_a_storage_that_fails(
        self, outage: Outage, door: type[Door], watch: Watch, tmp_path: Path
    ) -> None:
        """Dead, frozen, or full of errors, none tells a ticket, nor the password.

        Mutants: redis-logs-its-commands.
        """
        with outage(tmp_path) as backend, using(backend) as service:
            caller = Caller(door(service), watch)
            caller.call_all()
            watch.hear(service, backend)
        assert caller.failures >= 3
        assert watch.leaks() == []
        assert PASSWORD not in "".join(watch.said())

    @both_doors
    def test_of_a_redis_that_repeats_commands(
        self, door: type[Door], watch: Watch
    ) -> None:
        """A limit: one that knows neither GETDEL nor EVAL repeats 128 characters, the
        beginning of the key among them. They end before the key does.

        Mutants: outage-in-the-words-of-the-driver, redis-script-is-short.
        """
        servers.need("redis")
        node = Node("--rename-command", "GETDEL", "", "--rename-command", "EVAL", "")
        with using(RedisBackend(port=node.port)) as service:
            ticket = service.issue(CLAIMS)
            with pytest.raises(StorageError) as caught:
                door(service).consume(ticket.value)
        node.kill()
        assert ticket.value[:10] in str(caught.value.__cause__)
        assert ticket.value[-15:] not in "".join(_told(caught.value))
        assert watch.leaks(str(caught.value), repr(caught.value)) == []

    def test_over_the_network(self, watch: Watch, settings: Any) -> None:
        """Let in or refused, no log says by which ticket.

        Mutants: ticket-in-the-log, query-keeps-its-ticket.
        """
        servers.require("redis")
        settings.REALTIME_TICKET_SERVICE_KEYS = [KEY]
        settings.REALTIME_TICKET_BACKEND = REDIS
        for options in {"unix_socket_path": str(servers.REDIS)}, {"port": free_port()}:
            settings.REALTIME_TICKET_REDIS = options
            for show in DOORS:
                with suppress(StorageError):
                    get_service().issue(CLAIMS)
                for value in (watch.values[-1], watch.values[-1], tickets.new_value()):
                    watch.hear(show(value))
        assert watch.leaks() == []


def consume(value: str) -> str:
    """Return all that a server of one's own is answered."""
    body = json.dumps({"ticket": value}).encode()
    key = f"Bearer {KEY}"
    response = post(Client(), "/consume/", body, "application/json", Authorization=key)
    return f"{response.headers}{response.content}"


def connected(value: str, kind: str, carrier: str) -> str:
    """Return what the client is told, and what is left for the server to log."""
    scope = showing(value, kind, carrier)
    app = App()
    peer = Peer(scope).connect(TicketMiddleware(app, origins=None))
    admitted = app.scope if app.received else None
    return repr([peer.sent, scope["query_string"], admitted])


DOORS: list[Callable[[str], object]] = [
    consume,
    lambda value: authorize(X_Original_URI=f"/?ticket={value}"),
    *(partial(connected, kind=kind, carrier=carrier)
      for kind in ("websocket", "http")
      for carrier in ("subprotocol", "query", "authorization")),
]  # fmt: skip


class TestRepresentations:
    def test_of_what_is_public(self, watch: Watch, rf: Any) -> None:
        """Neither str() nor repr() gives a ticket away.

        Mutants: ticket-in-its-repr, lazy-ticket-in-a-log.
        """
        service = TicketService(LocMemBackend())
        ticket = service.issue(CLAIMS, audience="chat")
        request = rf.get("/")
        request.user = User(pk=7, username="ada")
        lazy = LazyTicket.of(request)
        assert lazy() == watch.values[-1]
        guard = TicketMiddleware(App(), origins=None, service=service)
        for thing in (ticket, service, service.backend, lazy, guard, [ticket]):
            watch.hear(repr(thing), str(thing), f"{thing}")
        assert ticket.fingerprint in "".join(watch.said())
        assert watch.leaks() == []

    def test_of_what_backends_get(self, watch: Watch) -> None:
        """Nor does that of an Item, which an author of a backend may well log.

        Mutants: item-in-its-repr.
        """
        item = Item(tickets.new_value(), json.dumps(CLAIMS), 10)
        watch.hear(repr(item), str(item), [item])
        assert watch.leaks() == []


class TestErrorPages:
    @pytest.fixture
    def get(self, settings: Any, db: None) -> Callable[..., str]:
        """Return how to get a page as a user who is logged in."""
        settings.ADMINS = ADMINS
        user = User.objects.create_user("ada")

        def get(place: str, **headers: str) -> str:
            client = (AsyncClient if "/a" in place else Client)(
                raise_request_exception=False
            )
            client.force_login(user)
            response = self.waited(client.get(place, headers=headers))
            assert response.status_code == 500
            return str(response.content.decode())

        return get

    @pytest.fixture
    def storage(self, settings: Any) -> Callable[[bool], None]:
        """Return how to choose a storage that is up, or one that is down."""

        def choose(up: bool) -> None:
            if not up:
                settings.REALTIME_TICKET_BACKEND = REDIS
                settings.REALTIME_TICKET_REDIS = {"port": free_port()}

        return choose

    @staticmethod
    def waited(response: Any) -> Any:
        async def wait() -> Any:
            return await response

        return async_to_sync(wait)() if asyncio.iscoroutine(response) else response

    @pytest.mark.parametrize("place", ["/view/", "/async/"])
    @pytest.mark.parametrize("accept", ["text/html", "text/plain"])
    def test_of_a_view_that_has_a_ticket(
        self, get: Any, watch: Watch, settings: Any, place: str, accept: str
    ) -> None:
        """The page of DEBUG shows local variables; a Ticket shows its fingerprint.

        Mutants: ticket-in-its-repr.
        """
        settings.DEBUG = True
        page = get(place, Accept=accept)
        assert "Nothing to do for ada." in page
        shown = tickets.fingerprint(watch.values[-1]) in page
        assert shown is (accept == "text/html")
        assert watch.leaks(page) == []

    @pytest.mark.parametrize("place", ["/view/", "/async/", "/consuming/"])
    @pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
    def test_in_a_mail_of_text(
        self, get: Any, watch: Watch, place: str, up: bool, storage: Any
    ) -> None:
        """The admins read of a failed view, of a refused ticket, and of an outage.

        Mutants: ticket-in-the-refusal.
        """
        storage(up)
        (text,) = mailed(get, place, include_html=False)
        assert watch.leaks(text) == []

    @pytest.mark.parametrize("place", ["/view/", "/async/"])
    def test_in_a_mail_of_html(self, get: Any, watch: Watch, place: str) -> None:
        """It shows local variables; a Ticket shows its fingerprint.

        Mutants: ticket-in-its-repr.
        """
        _, html = mailed(get, place, include_html=True)
        assert tickets.fingerprint(watch.values[-1]) in html
        assert watch.leaks(html) == []

    @pytest.mark.parametrize(
        ("place", "up"),
        [("/consuming/", True), *product(["/consuming/", "/aconsuming/", "/view/",
                                          "/async/"], [False])],
    )  # fmt: skip
    def test_in_a_mail_of_html_about_us(
        self, get: Any, watch: Watch, place: str, up: bool, storage: Any
    ) -> None:
        """The variables of our own functions, and of the driver's, are not shown.

        A limit: with DEBUG, Django's page shows all variables, whatever marks them.

        Mutants: report-shows-variables, report-shows-variables-of-the-batch.
        """
        storage(up)
        _, html = mailed(get, place, include_html=True)
        assert watch.leaks(html) == []

    def test_in_a_mail_about_who_may_not_wait(
        self, get: Any, watch: Watch, storage: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor is the ticket of someone who was turned away, which is still good.

        Mutants: report-shows-who-may-not-wait.
        """
        storage(False)
        monkeypatch.setattr(batching, "MAX_WAITING", 0)
        _, html = mailed(get, "/aconsuming/", include_html=True)
        assert "too many calls wait" in html
        assert watch.leaks(html) == []

    @pytest.mark.parametrize("keys", [[KEY, OTHER_KEY], [KEY, f"{OTHER_KEY} "]])
    @pytest.mark.parametrize("place", ["/failing/", "/failing/with-keys/"])
    @pytest.mark.usefixtures("get")
    def test_in_a_mail_about_a_service(
        self, watch: Watch, settings: Any, place: str, keys: list[str]
    ) -> None:
        """A key opens every ticket. It is the setting's, which may be wrong, or one
        view's own.

        Mutants: report-shows-service-keys.
        """
        settings.REALTIME_TICKET_SERVICE_KEYS = keys
        body = json.dumps({"data": {"ticket": get_service().issue(CLAIMS).value}})

        def connect(place: str) -> None:
            client, headers = Client(raise_request_exception=False), {}
            headers["Authorization"] = f"Bearer {KEY}"
            answer = post(client, place, body.encode(), "application/json", **headers)
            assert answer.status_code == 500

        _, html = mailed(connect, place, include_html=True)
        assert watch.leaks(html) == []
        assert KEY not in html and OTHER_KEY not in html

    def test_in_a_mail_about_a_wrong_setting(self, get: Any, settings: Any) -> None:
        """What stands beside the wrong option may be a password.

        Mutants: report-shows-options.
        """
        settings.REALTIME_TICKET_BACKEND = REDIS
        settings.REALTIME_TICKET_REDIS = {"hots": "redis", "password": PASSWORD}
        _, html = mailed(get, "/consuming/", include_html=True)
        assert "hots" in html and PASSWORD not in html


def mailed(get: Any, place: str, *, include_html: bool) -> list[str]:
    """Return the parts of the mail that the admins get about a page that fails."""
    (handler,) = (
        handler
        for handler in logging.getLogger("django").handlers
        if isinstance(handler, AdminEmailHandler)
    )
    before, handler.include_html = handler.include_html, include_html
    try:
        get(place)
    finally:
        handler.include_html = before
    (message,) = mail.outbox
    parts = [message.body, *(part for part, _ in message.alternatives)]
    return [f"{message.subject}\n{part}" for part in parts]


class TestCommands:
    @pytest.mark.parametrize("alive", [True, False])
    def test_ticket_doctor_and_check(
        self, watch: Watch, settings: Any, alive: bool
    ) -> None:
        """What they print names no ticket and no password.

        Mutants: doctor-names-its-probe.
        """
        servers.require("redis")
        settings.REALTIME_TICKET_BACKEND = REDIS
        place = {"unix_socket_path": str(servers.REDIS)} if alive else {"port": 1}
        settings.REALTIME_TICKET_REDIS = place | {"client_name": PASSWORD}
        for command in ["ticket_doctor"], ["check"]:
            said = StringIO()
            with suppress(CommandError):
                call_command(*command, stdout=said, stderr=said)
            watch.hear(said.getvalue())
            assert PASSWORD not in said.getvalue()
        assert watch.leaks() == []

    @pytest.mark.parametrize(
        ("backend", "options"),
        [
            ("redis_cluster.RedisClusterBackend", {"startup_nodes": NODES}),
            (
                "redis_sentinel.RedisSentinelBackend",
                {"sentinels": NODES, "service_name": "tickets"},
            ),
        ],
    )
    def test_check_of_urls_for_nodes(
        self, settings: Any, backend: str, options: dict[str, Any]
    ) -> None:
        """Neither are those in URLs where addresses belong.

        Mutants: nodes-repeat-a-wrong-url.
        """
        settings.REALTIME_TICKET_BACKEND = f"realtime_ticket.backends.{backend}"
        settings.REALTIME_TICKET_REDIS = options
        (finding,) = check_settings()
        assert finding.id == "realtime_ticket.E005"
        assert PASSWORD not in f"{finding}{finding.hint}"

    def test_check_of_a_url_that_is_none(self, settings: Any) -> None:
        """A password that breaks its URL is not repeated.

        Mutants: redis-repeats-a-wrong-url.
        """
        settings.REALTIME_TICKET_BACKEND = REDIS
        settings.REALTIME_TICKET_REDIS = f"redis://:{PASSWORD}#1@localhost:6379/0"
        (finding,) = check_settings()
        assert finding.id == "realtime_ticket.E005"
        assert PASSWORD not in f"{finding}{finding.hint}"
