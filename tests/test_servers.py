"""Every example server, end to end: real processes, a real Django site, real clients.

A test is a cell of a matrix, whose rows are in :mod:`tests.matrix`. It names mutants
that it has refused, which were tried by hand on copies of the examples.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL
from realtime_ticket.tickets import new_value
from tests import matrix
from tests.matrix import EVERY_ROW, PREFLIGHT, USERS, Row, Server, World, by, ticket

FOREIGN = "https://evil.example"
OUTAGE = 4
"""Seconds within which a client hears of an outage."""

LOGOUT = 3
"""Seconds within which a connection ends with its login: more than one, because the
machine has other work."""

RETURN_AFTER = 11
"""Seconds for which tickets are refused when disconnects may be lost, and a bit."""

STOP = 10
"""Seconds within which a server ends that is told to. Some wait for three of them."""


def each(which: Callable[[Row], object] = lambda row: True) -> pytest.MarkDecorator:
    """Run the cell on the servers whose row is like this."""
    names = [name for name, row in EVERY_ROW.items() if which(row)]
    return pytest.mark.parametrize("server", names, indirect=True, scope="module")


# A carrier with its row, because pytest brings together what has equal parameters, and
# that must be the servers.
each_carrier = pytest.mark.parametrize(
    ("server", "carrier"),
    [
        pytest.param(name, (name, carrier), id=f"{name}-{carrier}")
        for name, row in EVERY_ROW.items()
        for carrier in row.carriers
    ],
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Give an example server, started once for most of its cells."""
    row = EVERY_ROW[request.param]
    matrix.require(row)
    world = request.getfixturevalue("world")
    with matrix.serving(row, world, tmp_path_factory.mktemp(row.name)) as server:
        yield server


@pytest.fixture(scope="module")
def carrier(request: pytest.FixtureRequest) -> str:
    """Give the name of a carrier that the server reads."""
    name: str = request.param[1]
    return name


OWN_PING = [("PING = 30", "PING = 2")]
PINGS = {
    "aiohttp": [("heartbeat=30", "heartbeat=6")],
    "autobahn": [
        ("autoPingInterval=30", "autoPingInterval=2"),
        ("autoPingTimeout=30", "autoPingTimeout=2"),
    ],
    "cyclone": OWN_PING,
    "gevent": [('"ping_interval": 30', '"ping_interval": 2')],
    "gevent-gunicorn": [('"ping_interval": 30', '"ping_interval": 2')],
    "node-ws-redis": OWN_PING,
    "tornado": [("websocket_ping_interval=30", "websocket_ping_interval=2")],
    "twisted": OWN_PING,
}
"""The examples that are told to ping, and how they do it more often: no more than a
client of a busy machine can answer. aiohttp waits for half as long."""

HANDSHAKE = (
    "GET /ws?ticket={} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: {}\r\n"
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def is_guarded_by_us(row: Row) -> bool:
    """Tell whether the example uses TicketMiddleware."""
    files = row.example.directory.glob("*.py")
    return any("TicketMiddleware" in file.read_text() for file in files)


def test_the_page_says_what_clients_of_other_servers_see() -> None:
    page = Path(__file__).parents[1] / "docs" / "servers" / "starlette.md"
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (\d+) \| (\d+) \| (\d+) \|$",
                      page.read_text("utf-8"), re.M)  # fmt: skip
    assert rows == [
        (
            name.removeprefix("starlette-"),
            *map(str, (row.refused, row.foreign, row.down)),
        )
        for name, row in matrix.ON_OTHER_SERVERS.items()
    ]


@each_carrier
def test_a_ticket_lets_its_user_in(server: Server, carrier: str) -> None:
    """A ticket in any carrier lets in its user, and nobody else.

    Mutant: the greeting names another user.
    """
    assert server.visit((carrier, ticket(server))).name() == "ada"


@each(lambda row: "subprotocol" in row.carriers)
def test_the_answer_echoes_our_subprotocol(server: Server) -> None:
    """The answer names our subprotocol and never the ticket.

    Mutants: the server echoes the last subprotocol that is offered; it echoes none.
    """
    value = ticket(server)
    session = server.visit(("subprotocol", value)).session
    assert session is not None
    assert session.subprotocol == PROTOCOL
    assert value not in session.headers


@each_carrier
def test_a_ticket_works_once(server: Server, carrier: str) -> None:
    """A ticket that was used is refused, however it comes.

    Mutant: the server remembers the tickets that it has consumed.
    """
    value = ticket(server)
    assert server.visit((carrier, value)).name() == "ada"
    for again in server.row.carriers:
        assert server.visit((again, value)).refused == server.row.refused


@each_carrier
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("rt_" + "a" * 42, id="too-short"),
        pytest.param("rt_" + "a" * 4000, id="too-long"),
        pytest.param("session-abc", id="another-key"),
        pytest.param(new_value(), id="unknown"),
    ],
)
def test_a_bogus_ticket_is_refused(server: Server, carrier: str, value: str) -> None:
    """What is no ticket, or one that nobody issued, is refused.

    Mutant: a client with a malformed ticket is let in as a guest.
    """
    assert server.visit((carrier, value)).refused == server.row.refused


@each()
def test_no_ticket_is_refused(server: Server) -> None:
    """A client that shows no ticket is refused. Mutant: it is let in as a guest."""
    assert server.visit().refused == server.row.refused


@each(lambda row: {"subprotocol", "query"} & {*row.carriers})
def test_two_tickets_are_refused(server: Server) -> None:
    """A handshake with two different tickets is refused.

    Mutant: the server takes the first ticket that it finds.
    """
    carriers = server.row.carriers
    pairs = [*itertools.combinations(carriers, 2)]
    pairs += [(c, c) for c in ("subprotocol", "query") if c in carriers]
    for one, other in pairs:
        shown = (one, ticket(server)), (other, ticket(server))
        assert server.visit(*shown).refused == server.row.refused, (one, other)


@each(lambda row: row.carriers != ("auth",))
def test_a_preflight_spends_nothing(server: Server) -> None:
    """A browser that asks whether it may send a request with a ticket has not sent it.

    Mutants: the server judges requests of every method; TicketMiddleware does.
    """
    value = ticket(server)
    status = server.ask("OPTIONS", value, **PREFLIGHT)
    assert status in (400, 403, 405, 501), status
    assert server.visit(by(server, value)).name() == "ada"


@each(lambda row: row.carriers != ("auth",) and not is_guarded_by_us(row))
def test_head_spends_nothing(server: Server) -> None:
    """There is nothing that it could tell. TicketMiddleware is for any application, and
    takes one for a request like others: see test_asgi.py.

    Mutant: aiohttp's and Twisted's own HEAD, which is a GET.
    """
    value = ticket(server)
    assert server.ask("HEAD", value) in (400, 405)
    assert server.visit(by(server, value)).name() == "ada"


@each()
def test_an_expired_ticket_is_refused(server: Server) -> None:
    """A ticket that waited too long is refused.

    Mutant: the site issues tickets that live for a minute.
    """
    shown = by(server, server.world.expired())
    assert server.visit(shown).refused == server.row.refused


@each()
def test_a_ticket_for_another_server_is_refused_and_kept(server: Server) -> None:
    """A ticket for another audience is refused, and still works where it belongs.

    Mutants: the server tries the audience another-server too; it revokes such a
    ticket; it consumes for that audience alone.
    """
    value = ticket(server, audience="another-server")
    assert server.visit(by(server, value)).refused == server.row.refused
    spent = server.world.spend(f"{value}:another-server")
    assert spent is not None and '"ada"' in spent


@each_carrier
def test_a_foreign_page_is_refused_and_spends_nothing(
    server: Server, carrier: str
) -> None:
    """A page of another site is refused, and the ticket works afterwards.

    Mutants: the server does not look at the origin; it consumes first; it compares
    only how the origin begins.
    """
    value = ticket(server)
    lookalike = server.origin.replace("127.0.0.1", "127.0.0.1.evil.example")
    for origin in (FOREIGN, lookalike, "null"):
        visit = server.visit((carrier, value), origin=origin)
        assert visit.refused == server.row.foreign, origin
    assert server.visit((carrier, value)).name() == "ada"


@each()
def test_a_program_without_an_origin_is_let_in(server: Server) -> None:
    """The examples trust the ticket of a client that sends no origin."""
    assert server.visit(by(server, ticket(server)), origin=None).name() == "ada"


@pytest.mark.parametrize("name", EVERY_ROW)
def test_a_program_without_an_origin_may_be_refused(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With ``allow_missing=False`` it is refused, and spends nothing.

    Mutant: the server looks at the origin only when there is one.
    """
    row = EVERY_ROW[name]
    matrix.require(row)
    world = request.getfixturevalue("world")
    with matrix.serving(row, world, tmp_path, row.cautious) as server:
        shown = by(server, ticket(server))
        assert server.visit(shown, origin=None).refused == row.foreign
        assert server.visit(shown).name() == "ada"


@each(lambda row: row.events)
def test_a_stream_takes_a_ticket(server: Server) -> None:
    """A stream of events greets who shows a ticket, once, and its page may read it.

    Mutants: the streams are not guarded; the answer has no CORS header.
    """
    value = ticket(server)
    assert server.stream(value) == (200, "data: Hello, ada!")
    assert server.stream(value)[0] == server.row.events
    assert server.stream("")[0] == server.row.events


@pytest.mark.parametrize("name", PINGS)
def test_a_client_that_is_gone_is_noticed(
    name: str, world: World, tmp_path: Path
) -> None:
    """A server pings, drops who does not answer, and keeps who does.

    The examples say 30 seconds, and this one fewer. All others ping by themselves.
    Mutants: no pings; pings that need no answer.
    """

    async def listen(server: Server, shown: str) -> bytes:
        """Return what a client hears that never answers, until it is dropped."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HANDSHAKE.format(shown, server.origin).encode())
        heard = b""
        with suppress(ConnectionResetError):
            while data := await reader.read(4096):
                heard += data
        writer.close()
        return heard

    async def both(server: Server, one: str, other: str) -> tuple[bytes, str]:
        async with server.dial(by(server, one)) as session:
            return await listen(server, other), await session.say("Still here.")

    row = EVERY_ROW[name]
    matrix.require(row)
    with matrix.serving(row, world, tmp_path, *PINGS[name]) as server:
        visits = both(server, ticket(server), ticket(server))
        heard, answer = asyncio.run(asyncio.wait_for(visits, 30))
    head, _, frames = heard.partition(b"\r\n\r\n")
    assert b" 101 " in head
    assert b"Hello, ada!" in frames and b"\x89" in frames  # a ping
    assert answer == "ada: Still here."


@each(lambda row: row.events)
def test_a_stream_is_not_for_a_foreign_page(server: Server) -> None:
    """A stream refuses a page of another site, which spends nothing.

    Mutant: only the WebSocket looks at the origin.
    """
    value = ticket(server)
    assert server.stream(value, origin=FOREIGN)[0] == 403
    assert server.stream(value, origin=None) == (200, "data: Hello, ada!")


@each(lambda row: row.revoked)
def test_a_logout_ends_its_own_connections(server: Server) -> None:
    """Those of its session end within a second, and the user's others stay.

    A ticket that was issued before it is refused. Mutants: the server watches nobody;
    it closes all of the user's; it does not refuse the ticket.
    """
    row = server.row
    here, there = f"{row.name}-here", f"{row.name}-there"

    async def log_out(service: TicketService) -> None:
        def ticket(session: str) -> tuple[str, str]:
            claims = {"id": 1, "username": "ada"}
            return by(server, service.issue(claims, session=session).value)

        unused = ticket(here)
        async with (
            server.dial(ticket(here)) as mine,
            server.dial(ticket(there)) as other,
        ):
            with (
                server.listening(ticket(here)[1]) if row.events else nullcontext()
            ) as stream:
                service.disconnect(1, session=here)
                assert await asyncio.wait_for(mine.closed(), LOGOUT) == row.revoked
                if stream:
                    assert stream.status == 200
                    await asyncio.wait_for(asyncio.to_thread(stream.read), LOGOUT)
            assert await other.say("still here") == "ada: still here"
        refused = (await asyncio.to_thread(server.visit, unused)).refused
        assert refused == (row.ended or row.refused)

    redis = RedisBackend(url=server.world.redis.url)
    with closing(TicketService(redis, expire=60)) as service:
        asyncio.run(log_out(service))


@each()
def test_many_users_at_once(server: Server) -> None:
    """Two hundred clients connect at once, and each gets the name of its own user.

    Mutant: the server keeps the user in a global variable.
    """
    issued = {name: server.world.patient.ticket(name) for name in USERS}
    all_in = asyncio.Barrier(len(issued))

    async def visit(name: str) -> tuple[str, str]:
        try:
            async with server.dial(by(server, issued[name])) as session:
                await all_in.wait()
                return session.greeting, await session.say(f"I am {name}")
        except asyncio.BrokenBarrierError:
            return "let in", "before another was not"
        except Exception as exc:
            await all_in.abort()
            return "not let in", repr(exc)

    async def storm() -> list[tuple[str, str]]:
        async with asyncio.timeout(matrix.START):
            return await asyncio.gather(*map(visit, issued))

    due = {(f"Hello, {name}!", f"{name}: I am {name}") for name in issued}
    answers = asyncio.run(storm())
    assert not sorted({*answers} - due, reverse=True)
    assert len({*answers}) == len(due)


@each(lambda row: row.discreet)
def test_the_log_shows_no_ticket(server: Server) -> None:
    """The server's own log names the requests, and no ticket, used or not.

    Mutant: the middleware leaves the query string as it is.
    """
    shown = []
    for carrier in server.row.carriers:
        shown += [(carrier, ticket(server)), (carrier, ticket(server))]
        assert server.visit(shown[-1]).name() == "ada"
        assert server.visit(shown[-1]).refused == server.row.refused
        assert server.visit(shown[-2], origin=FOREIGN).refused == server.row.foreign
    if server.row.events:
        shown.append(("query", ticket(server)))
        assert server.stream(shown[-1][1])[0] == 200
    log = server.log.read_text()
    assert "/ws" in log, "it logs nothing, so this says nothing"
    assert not [value for _, value in shown if value in log]
    assert not re.search(r"rt_[\w-]{43}", log)


@each()
def test_an_outage_refuses_and_passes(server: Server) -> None:
    """Without its storage a server refuses soon, lives on, and recovers by itself.

    Mutants: the server lets in everyone; it waits for the storage; it exits; it
    refuses everyone from then on. The last cell of a server: for seconds after it, a
    server that knew of a disconnect refuses tickets, because another may be lost.
    """
    row, redis = server.row, server.world.redis
    shown = by(server, ticket(server))
    redis.kill()
    try:
        began = time.monotonic()
        assert server.visit(shown).refused == row.down
        if row.events:
            assert server.stream(shown[1])[0] == 503
        assert time.monotonic() - began < OUTAGE
        assert server.process.poll() is None, server.log.read_text()
    finally:
        redis.start()
        server.world.age()
    deadline = time.monotonic() + OUTAGE + RETURN_AFTER
    while (found := name_or_refusal(server)) != "ada":
        assert time.monotonic() < deadline, f"still refused with {found}"
        time.sleep(0.05)


def name_or_refusal(server: Server) -> object:
    """Return whom the server takes a new client for, or how it refuses it."""
    try:
        visit = server.visit(by(server, ticket(server)))
    except ConnectionClosed as exc:  # let in, and then the loss was noticed
        return exc
    return visit.refused or visit.name()


@each(lambda row: row.carriers != ("auth",))
def test_who_is_connected_comes_back_after_a_restart(
    server: Server, tmp_path: Path
) -> None:
    """A server that is told to stop does so soon, in spite of its clients, and tells
    none of them 1000: the page's client would take that for the end.

    Mutants: Sanic says 1000; uvicorn waits for the end of a stream.
    """

    async def last_words(other: Server) -> int:
        async with other.dial(by(other, ticket(other))) as session:
            other.process.terminate()
            try:
                async with asyncio.timeout(STOP):
                    while True:
                        await session.say("Are you still there?")
            except ConnectionClosed as exc:
                return exc.rcvd.code if exc.rcvd else 1006

    with (
        matrix.serving(server.row, server.world, tmp_path) as other,
        other.listening(ticket(other)) if other.row.events else nullcontext(),
    ):
        assert asyncio.run(last_words(other)) != 1000
        other.process.wait(STOP)
