"""Chromium, the real Django and a real realtime server: reconnecting, and the demo."""

from __future__ import annotations

import email.utils
import os
import re
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import pytest

from tests import servers
from tests.browser.support import (
    FAST,
    IS_WAITING,
    NOTE_ONLINE,
    ROOT,
    Bench,
    Realtime,
    be_refused,
    launch,
    log_in,
    log_out,
    wait_until,
    window,
)
from tests.processes import PATIENCE, free_ports

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright, Route, StorageState

IMAGES = ROOT / "docs" / "images"
UNBUFFERED = "PYTHONUNBUFFERED"


# The first connection


@pytest.mark.parametrize("carrier", ["subprotocol", "query"])
def test_the_first_connection(bench: Bench, realtime: Realtime, carrier: str) -> None:
    """One ticket, one connection, and the server knows who is there."""
    bench.connect(carrier=carrier)

    (message,) = bench.wait_for("message")
    assert message["data"] == "Hello, alice!"
    assert [event["type"] for event in bench.heard()] == [
        "connecting",
        "open",
        "message",
    ]
    assert len(bench.requests) == 1
    protocol = bench.page.evaluate("connections[0].protocol")
    assert protocol == ("realtime-ticket.v1" if carrier == "subprotocol" else "")
    realtime.check(connections=1)


def test_nobody_is_let_in_without_a_login(
    chromium: Browser, site: str, realtime: Realtime
) -> None:
    """A visitor is refused by Django. The realtime server hears of nobody."""
    with window(chromium) as page:
        page.goto(f"{site}/bench/")
        bench = Bench(page, site)
        bench.connect()

        (refused,) = bench.wait_for("refused")
        assert (refused["status"], refused["permanent"]) == (401, True)
        bench.pause(1)
        assert len(bench.requests) == 1
    realtime.check(connections=0)


# Losses


def come_back_after(
    bench: Bench, realtime: Realtime, loss: Callable[[Realtime], None]
) -> None:
    bench.connect(**FAST)
    bench.wait_for("message")
    loss(realtime)
    bench.wait_for("message", 2)
    realtime.check(connections=2)


def kill_and_start(realtime: Realtime) -> None:
    realtime.kill()
    realtime.start()


@pytest.mark.parametrize(
    ("code", "loss"),
    [
        pytest.param(1006, kill_and_start, id="kill"),
        *(
            pytest.param(code, lambda realtime, code=code: realtime.control(close=code))
            for code in (1001, 1011, 1012, 4401)
        ),
    ],
)
def test_it_comes_back_with_a_new_ticket(
    bench: Bench,
    realtime: Realtime,
    code: int,
    loss: Callable[[Realtime], None],
) -> None:
    """After a crash of the server, and after each code that says: come again."""
    come_back_after(bench, realtime, loss)

    lost = bench.heard("close")[0]
    assert (lost["code"], lost["willReconnect"]) == (code, True)


@pytest.mark.parametrize("code", [4403, 4500])
def test_it_stays_away_when_it_is_told_to(
    bench: Bench, realtime: Realtime, code: int
) -> None:
    """After 4403 and 4500 to 4999 there is no further request, to nobody."""
    bench.connect(**FAST)
    bench.wait_for("message")
    realtime.control(close=code)

    bench.wait_for("refused")
    (lost,) = bench.heard("close")
    assert (lost["code"], lost["willReconnect"]) == (code, False)
    bench.pause(1)
    assert len(bench.requests) == 1
    realtime.check(connections=1)


def test_it_comes_back_with_the_network(bench: Bench, realtime: Realtime) -> None:
    """Offline, it tries now and then. Online, it connects at once."""
    bench.connect(minDelay=50, maxDelay=60_000)
    bench.wait_for("message")
    bench.page.context.set_offline(True)
    realtime.control(close=1012)  # Chromium leaves open sockets alone
    bench.wait_for("ticketerror", 5)

    bench.page.evaluate(NOTE_ONLINE)
    bench.page.wait_for_function(IS_WAITING)
    bench.page.context.set_offline(False)
    bench.wait_for("message", 2)
    online = bench.page.evaluate("online")
    assert bench.heard("connecting")[-1]["at"] - online < 1000
    realtime.check(connections=2)


PING = {"interval": 500, "timeout": 1500, "message": "ping"}


def notice_a_dead_line(bench: Bench, realtime: Realtime) -> None:
    with realtime.line() as line:
        bench.connect(port=line.port, ping=PING, queue=5, **FAST)
        # A greeting, and the answer to a ping
        bench.wait_for("message", 2, seconds=15)
        line.cut()
        bench.pause(0.3)
        send = "(connections[0].send('meanwhile'), [connections[0].readyState])"
        sent = bench.page.wait_for_function(f"() => connections[0]._silent && {send}")
        assert sent.json_value() == [1]
        line.mend()
        bench.wait_for("open", 2)
        lost_at = bench.heard("close")[0]["at"]
        heard_at = [e["at"] for e in bench.heard("message") if e["at"] < lost_at]
        assert lost_at - heard_at[-1] < 500 + 1500 + 2000

        wait_until(lambda: bool(said(realtime, "meanwhile")), 10)
        bench.pause(0.2)
        assert len(said(realtime, "meanwhile")) == 1
    realtime.check(connections=2)


def said(realtime: Realtime, text: str) -> list[dict[str, Any]]:
    return [line for line in realtime.record("said") if line["said"] == text]


def test_a_dead_line_is_noticed(bench: Bench, realtime: Realtime) -> None:
    """No FIN ever comes. A message that was sent meanwhile arrives once."""
    notice_a_dead_line(bench, realtime)


def test_a_login_that_ends_is_confirmed(
    chromium: Browser, site: str, realtime: Realtime
) -> None:
    """The server says when to ask again, and a first 401 is not believed."""
    with window(chromium) as page:
        log_in(page, site)
        bench = Bench(page, site)
        bench.connect()
        bench.wait_for("message")
        log_out(page, site)
        realtime.control(close=4401, reason="disconnected kind=user retry=0.3")

        waiting = bench.wait_for("waiting")[0]
        assert waiting["delay"] == 300
        bench.wait_for("refused")
        statuses = [event["status"] for event in bench.heard("ticketerror", "refused")]
        assert statuses == [401, 401]
        assert len(bench.requests) == 3
        _, first, second = bench.heard("connecting")
        assert second["at"] - first["at"] >= 2900
    realtime.check(connections=1)


@pytest.mark.parametrize(
    ("kind", "path"),
    [("RealtimeSocket", "/login/ws"), ("RealtimeEventSource", "/login/events")],
)
def test_a_user_who_is_disconnected_comes_back_or_is_refused(
    chromium: Browser, site: str, realtime: Realtime, kind: str, path: str
) -> None:
    """Django decides: first while alice is logged in, and then after her logout."""
    with window(chromium) as page:
        log_in(page, site)
        alice = page.context.request.get(f"{site}/whoami/").json()["id"]
        bench = Bench(page, site)
        bench.connect(kind, path, **FAST)
        bench.wait_for("message")
        bench.pause(0.1)
        realtime.control(disconnect=alice)
        bench.wait_for("open", 2)
        log_out(page, site)
        realtime.control(disconnect=alice)

        (refused,) = bench.wait_for("refused")
        assert (refused["status"], refused["permanent"]) == (401, True)
        codes = {event["code"] for event in bench.heard("close")}
        assert codes == {4401 if kind == "RealtimeSocket" else 1006}
    realtime.check()


def test_a_stale_cookie_does_not_beat_the_page(
    bench: Bench, realtime: Realtime
) -> None:
    """After Django's 403, the field of the page is tried."""
    bench.page.evaluate("document.cookie = 'stale=' + 'x'.repeat(32)")
    bench.connect(csrfCookie="stale")
    bench.wait_for("message")
    assert len(bench.requests) == 2
    realtime.check(connections=1)


def test_a_page_of_another_origin(
    chromium: Browser, site: str, realtime: Realtime, session: StorageState
) -> None:
    """An application that rendered no template of Django's gets tickets by CORS."""
    with window(chromium, storage_state=session) as page:
        page.goto(f"http://127.0.0.1:{realtime.port}/application/")
        page.wait_for_function("() => heard.length")
        assert page.evaluate("heard") == ["Hello, alice!"]
    realtime.check(connections=1)


def test_a_page_from_the_back_forward_cache_connects_again(
    playwright: Playwright, site: str, realtime: Realtime, session: StorageState
) -> None:
    """The page hangs up when it is left, and comes back with a new ticket."""
    browser = launch(playwright, ignore_default_args=["--disable-back-forward-cache"])
    with window(browser, storage_state=session) as page:
        page.goto(f"{site}/bench/")
        bench = Bench(page, site)
        bench.connect()
        bench.wait_for("message")
        page.evaluate(
            "addEventListener('pageshow', ({ persisted }) => (window.back = persisted))"
        )

        page.goto(f"{site}/login/")
        assert wait_until(lambda: realtime.record("left") == [{"left": 1000}])
        page.go_back(wait_until="commit")
        page.wait_for_function("() => window.back")

        bench.wait_for("message", 2)
        realtime.check(connections=2)
    browser.close()


# The ticket in the page


def test_the_ticket_in_the_page_is_used_once(
    bench: Bench, realtime: Realtime, site: str
) -> None:
    """The template variable saves the first request, and only the first."""
    bench.page.goto(f"{site}/first/")
    bench.ready()
    ticket = bench.page.evaluate("document.body.dataset.firstTicket")
    bench.connect(firstTicket=ticket, firstTicketLifetime=10_000, **FAST)
    bench.wait_for("message")
    assert bench.requests == []

    realtime.control(close=1012)
    bench.wait_for("message", 2)
    assert len(bench.requests) == 1
    assert realtime.record()[0]["shown"] == ticket
    realtime.check(connections=2)


def test_a_spent_ticket_in_a_restored_page_is_replaced(
    bench: Bench, realtime: Realtime, site: str
) -> None:
    """A cache that ignores no-store brings back the page, and the ticket in it."""
    bench.page.goto(f"{site}/first/")
    bench.ready()
    ticket = bench.page.evaluate("document.body.dataset.firstTicket")
    for _ in range(2):  # two pages, to which the ticket is equally new
        bench.connect(firstTicket=ticket, firstTicketLifetime=10_000, **FAST)
        bench.wait_for("message")
        bench.page.reload()
        bench.ready()

    shown = realtime.record()
    outcomes = [(line["shown"] == ticket, line["outcome"]) for line in shown]
    assert outcomes == [(True, "consumed"), (True, "refused"), (False, "consumed")]
    realtime.forget()


def test_an_old_ticket_in_the_page_is_not_tried(
    bench: Bench, realtime: Realtime, site: str
) -> None:
    """On a page that is as old as its ticket's life, a new one is fetched at once."""
    bench.page.goto(f"{site}/first/")
    bench.ready()
    ticket = bench.page.evaluate("document.body.dataset.firstTicket")
    bench.pause(1)
    bench.connect(firstTicket=ticket, firstTicketLifetime=1000)
    bench.wait_for("message")
    assert len(bench.requests) == 1
    realtime.check(connections=1)


# What Django says


def test_it_ends_when_the_user_has_logged_out(
    chromium: Browser, site: str, realtime: Realtime
) -> None:
    """The open connection stays. The next one is refused, and there is none after."""
    with window(chromium) as page:
        log_in(page, site)
        bench = Bench(page, site)
        bench.connect(**FAST)
        bench.wait_for("message")
        log_out(page, site)
        realtime.control(close=1012)

        (refused,) = bench.wait_for("refused")
        assert (refused["status"], refused["permanent"]) == (401, True)
        assert page.evaluate("connections[0].readyState") == 3
        bench.pause(1.5)
        assert len(bench.requests) == 2
    realtime.check(connections=1)


def wait_as_told(bench: Bench, status: int, retry_after: Callable[[], str]) -> None:
    """Answer once with a status and Retry-After: 2, by seconds or by the clock."""
    answered: list[int] = []

    def busy(route: Route) -> None:
        if answered:
            return route.continue_()
        answered.append(status)
        route.fulfill(status=status, headers={"Retry-After": retry_after()})

    bench.page.route("**/ticket/", busy)
    bench.connect(**FAST)
    bench.wait_for("message")
    (error,) = bench.heard("ticketerror")
    assert (error["status"], error["permanent"]) == (status, False)
    first, second = bench.requests
    # A date has whole seconds, so it may be up to one nearer than it was meant to be.
    assert second - first >= 1
    (waiting,) = bench.heard("waiting")
    assert waiting["delay"] <= 2600


@pytest.mark.parametrize(
    ("status", "retry_after"),
    [
        (429, lambda: "2"),
        (503, lambda: "2"),
        (503, lambda: email.utils.formatdate(time.time() + 2.5, usegmt=True)),
    ],
    ids=["429", "503", "503-date"],
)
def test_retry_after_is_honoured(
    bench: Bench, realtime: Realtime, status: int, retry_after: Callable[[], str]
) -> None:
    wait_as_told(bench, status, retry_after)
    realtime.check(connections=1)


# A server in trouble


def back_off(bench: Bench, realtime: Realtime) -> None:
    realtime.control(mode="hang up")
    bench.connect(**FAST | {"maxDelay": 5000})
    waits = bench.wait_for("waiting", 5)[:5]
    assert [wait["attempt"] for wait in waits] == [2, 3, 4, 5, 6]
    # Each is drawn from a range that doubles, above minDelay.
    for doublings, wait in enumerate(waits):
        assert 50 <= wait["delay"] <= 50 + 50 * 2**doublings
    assert len(bench.requests) <= len(bench.heard("connecting"))


def test_a_server_that_hangs_up_is_not_hammered(
    bench: Bench, realtime: Realtime
) -> None:
    """To be accepted is not to be welcome: the pauses grow nevertheless."""
    back_off(bench, realtime)


def test_a_server_that_refuses_is_asked_with_a_new_ticket_each_time(
    bench: Bench, realtime: Realtime
) -> None:
    """The page cannot see why, so it tries again, later and later."""
    be_refused(bench, realtime, times=3)


def test_fifty_clients_come_back_one_by_one(bench: Bench, realtime: Realtime) -> None:
    """The server dies under fifty connections. Fifty new tickets bring them back."""
    for _ in range(50):
        bench.connect(minDelay=2000, timeout=60_000)
    bench.wait_for("message", 50)
    assert len(bench.requests) == 50
    kill_and_start(realtime)
    bench.wait_for("message", 100)

    realtime.check(connections=100)
    connecting = bench.heard("connecting")
    assert len(bench.requests) == len(connecting) >= 100
    # A busy server may also lose a client that has come back: the first time counts.
    lost = {e["number"]: e["at"] for e in reversed(bench.heard("close"))}
    pauses = sorted(
        min(e["at"] - at for e in connecting if e["number"] == number and e["at"] >= at)
        for number, at in lost.items()
    )
    # Each waits from 2 to 4 seconds. In each quarter of this time come some: that they
    # all miss one is a chance of 2 in a million.
    quarters = Counter(min(3, int((pause - 2000) / 500)) for pause in pauses)
    assert set(quarters) == {0, 1, 2, 3}, pauses
    assert max(quarters.values()) < 30


# Server-sent events


def test_events_go_on_where_they_stopped(bench: Bench, realtime: Realtime) -> None:
    """After a crash the server is told the last event that was heard, and no gap is."""
    bench.connect("RealtimeEventSource", "/events", **FAST)
    bench.wait_for("price", 3)
    kill_and_start(realtime)
    heard = len(bench.heard("price"))
    bench.wait_for("price", heard + 3)

    first, second = [line["resumed"] for line in realtime.record("resumed")]
    assert first == "0" and int(second) >= 3
    ids = [int(event["lastEventId"]) for event in bench.heard("price")]
    assert ids == list(range(1, len(ids) + 1))
    realtime.check(connections=2)


# The documentation


@pytest.mark.parametrize(
    ("page_of_docs", "contains", "printed"),
    [
        ("docs/browser-client.md", "RealtimeSocket(", ["Hello, alice!"]),
        (
            "docs/browser-client.md",
            "queue: 10",
            ["connected", "Hello, alice!", "hello"],
        ),
        ("docs/browser-client.md", "RealtimeEventSource(", ["1 10", "2 20"]),
        ("docs/browser-client.md", "await fetchTicket(", []),
    ],
)
def test_the_documentation_connects(
    chromium: Browser,
    site: str,
    realtime: Realtime,
    session: StorageState,
    page_of_docs: str,
    contains: str,
    printed: list[str],
) -> None:
    """Its blocks run as they stand, under the strict policy."""
    heard: list[str] = []
    with window(chromium, storage_state=session) as page:
        page.on("console", lambda message: heard.append(message.text))
        query = urlencode({"page": page_of_docs, "contains": contains})
        page.goto(f"{site}/snippet/?{query}")
        deadline = time.monotonic() + 60
        while not (set(printed) <= set(heard) and realtime.record()):
            assert time.monotonic() < deadline, heard
            page.wait_for_timeout(20)
    realtime.check(connections=1)


# The policy


def test_the_policy_is_strict_and_violations_are_seen(
    chromium: Browser, site: str
) -> None:
    """Guards the check after each test against seeing nothing."""
    expected = pytest.raises(AssertionError, match="script-src-elem inline")
    with expected, window(chromium) as page:
        response = page.goto(f"{site}/bench/")
        assert response
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'nonce-")
        assert "unsafe" not in policy and "*" not in policy
        page.evaluate(
            "document.body.append(Object.assign("
            "document.createElement('script'), { textContent: 'alert(1)' }))"
        )
        page.wait_for_function("() => violations.length")


# The demo


@pytest.fixture(scope="module")
def demo(home: Path) -> Iterator[str]:
    with running_demo() as address:
        yield address


@pytest.fixture(scope="module")
def demo_on_redis(home: Path) -> Iterator[str]:
    servers.require("redis")
    with running_demo(f"unix://{servers.REDIS}?db=6") as address:
        yield address


@contextmanager
def running_demo(redis_url: str = "") -> Iterator[str]:
    """Run ``python -m examples.demo``, and give its address."""
    # What it prints must come through the pipe at once, and not by our settings.
    environment = {key: os.environ[key] for key in os.environ.keys() - {UNBUFFERED}}
    django, realtime = map(str, free_ports())
    environment |= {
        "DEMO_DJANGO_PORT": django,
        "DEMO_REALTIME_PORT": realtime,
        "REDIS_URL": redis_url,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        printed = ""
        while (address := re.search(r"open (http://\S+)/", printed)) is None:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield address[1]
    finally:
        process.terminate()
        rest = process.stdout.read()
        process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert rest.endswith("Bye.\n")


@contextmanager
def chatting(browser: Browser, demo: str, name: str, **options: Any) -> Iterator[Page]:
    with window(browser, **options) as page:
        page.goto(f"{demo}/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(name)
        page.get_by_role("button", name="Log in").click()
        connected(page)
        yield page


def connected(page: Page) -> None:
    page.wait_for_selector("[data-state=connected]")


def say(page: Page, text: str, *others: Page) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()
    for each in (page, *others):
        each.get_by_role("log").get_by_text(text).wait_for()


def press(page: Page, name: str, outcome: str) -> None:
    page.get_by_role("button", name=name).click()
    page.locator("#outcome").get_by_text(outcome).wait_for()


NOTE = """(wanted) => {
  const state = document.querySelector(".state");
  window.noted = null;
  new MutationObserver((_, observer) => {
    if (state.dataset.state !== wanted) return;
    window.noted = { text: state.innerText, at: Date.now() };
    observer.disconnect();
  }).observe(state, { attributes: true });
}"""


def note(page: Page, state: str) -> None:
    """Let the page note what it says when its connection comes into this state.

    Some states are over before a test on a busy machine has looked.
    """
    page.evaluate(NOTE, state)


def noted(page: Page) -> dict[str, Any]:
    """Return what the page has noted, and when, as soon as it has."""
    note: dict[str, Any] = page.wait_for_function("() => noted").json_value()
    return note


def lives(page: Page) -> dict[str, list[str]]:
    """Return what the page shows of its tickets, the first one first."""
    items = page.eval_on_selector_all(
        ".ticket",
        "items => items.map((item) => [item.querySelector('code').textContent,"
        " [...item.querySelectorAll('.life li')].map((step) => step.dataset.step)])",
    )
    assert len(dict(items)) == len(items)
    return dict(reversed(items))


def test_two_users_chat(chromium: Browser, demo: str) -> None:
    with (
        chatting(chromium, demo, "alice") as alice,
        chatting(chromium, demo, "bob") as bob,
    ):
        say(alice, "Are you there?", bob)
        say(bob, "I <b>am</b>: & so on", alice)
        lines = alice.get_by_role("log").locator("p").all_inner_texts()
        assert lines == [
            "Hello, alice!",
            "alice\nAre you there?",
            "bob\nI <b>am</b>: & so on",
        ]
        for page in (alice, bob):
            assert list(lives(page).values()) == [["issued", "shown", "consumed"]]


def test_the_buttons_do_what_they_say(chromium: Browser, demo: str) -> None:
    """Each ends with a new connection, or with a ticket that is refused."""
    used = ["issued", "shown", "consumed"]
    with chatting(chromium, demo, "alice") as page:
        press(page, "Replay the spent ticket", "Refused: a ticket works once.")
        assert list(lives(page).values()) == [[*used, "shown", "refused"]]
        # Its connection goes on.
        assert page.locator(".ticket").get_attribute("data-state") == "consumed"

        press(page, "Let one expire", "Refused: a ticket lives for seconds.")
        assert list(lives(page).values())[1:] == [
            ["issued", "expired", "shown", "refused"]
        ]

        note(page, "waiting")
        press(page, "Drop the connection", "Dropped.")
        said = noted(page)["text"]
        assert re.fullmatch(r"waiting to connect again, \d\.\d s", said)
        connected(page)
        assert list(lives(page).values())[2:] == [used]

        note(page, "waiting")
        press(page, "Restart the server", "The server is restarted.")
        noted(page)
        connected(page)
        assert list(lives(page).values())[-1] == used
        say(page, "I am back")


def test_a_message_waits_for_a_connection(chromium: Browser, demo: str) -> None:
    with chatting(chromium, demo, "alice") as page:
        page.route("**/ticket/", lambda route: route.abort())
        press(page, "Drop the connection", "Dropped.")
        page.wait_for_selector("[data-state=waiting]")
        press(page, "Drop the connection", "There was no connection to drop.")
        page.get_by_label("Message").fill("I was away")
        press(page, "Send", "There is no connection now.")
        page.unroute("**/ticket/")
        page.get_by_role("log").get_by_text("I was away").wait_for()
        assert page.locator("#outcome").inner_text() == ""


def test_a_page_without_a_login_says_why_nothing_happens(
    chromium: Browser, demo: str
) -> None:
    """Mutant: fetch() follows the redirect to the login page, which answers 200."""
    refused = "You are logged out. Log in, and try again."
    with chatting(chromium, demo, "alice") as page:
        log_out(page, demo)
        page.get_by_role("status").get_by_role("link", name="log in").wait_for()
        names = ["Restart the server", "Log out elsewhere", "Let one expire"]
        for name in [*names, "Drop the connection"]:
            press(page, name, refused)
            press(page, "Replay the spent ticket", "Refused: a ticket works once.")
        page.get_by_label("Message").fill("Is anybody there?")
        press(page, "Send", refused)

        other = page.context.new_page()
        other.goto(f"{demo}/")
        other.get_by_label("Username").fill("alice")
        other.get_by_label("Password").fill("alice")
        other.get_by_role("button", name="Log in").click()
        connected(other)
        press(page, "Restart the server", "You have logged in again")
        assert "restarted" not in page.locator("#outcome").inner_text()
        connected(other)


@pytest.mark.parametrize("storage", ["demo", "demo_on_redis"])
def test_a_logout_ends_the_other_tab(
    chromium: Browser, storage: str, request: pytest.FixtureRequest
) -> None:
    """By itself, and it hears nobody any more. Other devices stay."""
    demo: str = request.getfixturevalue(storage)
    with (
        chatting(chromium, demo, "alice") as tab,
        chatting(chromium, demo, "alice") as phone,
        chatting(chromium, demo, "bob") as bob,
    ):
        other = tab.context.new_page()
        other.goto(f"{demo}/")
        connected(other)
        for page in (tab, other):
            note(page, "refused")
        log_out(tab, demo)
        logged_out = time.time()
        for page in (tab, other):
            page.get_by_role("status").get_by_role("link", name="log in").wait_for()
            assert noted(page)["at"] / 1000 - logged_out < 10
        say(phone, "I am still here", bob)
        assert "I am still here" not in other.get_by_role("log").inner_text()
        other.get_by_role("status").get_by_role("link", name="log in").click()
        other.get_by_label("Username").wait_for()


def test_log_out_elsewhere_leaves_this_page(chromium: Browser, demo: str) -> None:
    """It comes back by itself; the user's other pages do not. Nobody else notices."""
    with (
        chatting(chromium, demo, "alice") as here,
        chatting(chromium, demo, "alice") as there,
        chatting(chromium, demo, "bob") as bob,
    ):
        press(here, "Log out elsewhere", "You are logged out elsewhere.")
        there.get_by_role("status").get_by_role("link", name="log in").wait_for()
        connected(here)
        say(here, "I am back", bob)
        assert len(lives(here)) > 1
        assert len(lives(bob)) == 1


AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which examines a page for accessibility."""
    if not AXE.exists():
        if servers.REQUIRED:
            pytest.fail("axe-core is not installed", pytrace=False)
        pytest.skip("axe-core is not installed")
    return AXE.read_text("utf-8")


def examine(page: Page, axe: str) -> Iterator[tuple[str, str]]:
    """Yield what axe-core finds: each rule that is broken, and by which element."""
    page.evaluate(axe)
    for scheme, width in product(("light", "dark"), (360, 1120)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 740})
        result = page.evaluate("axe.run()")
        assert {"color-contrast", "list"} <= {rule["id"] for rule in result["passes"]}
        for rule in result["violations"]:
            for node in rule["nodes"]:
                yield f"{rule['id']}, {scheme}, {width} wide", node["html"]


def test_every_page_of_the_demo_is_accessible(
    chromium: Browser, demo: str, axe: str
) -> None:
    """Each in all its states, light and dark, on a phone and on a desktop."""
    with window(chromium) as page:
        page.goto(f"{demo}/login/")
        page.get_by_label("Username").fill("alice")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.locator(".errorlist").wait_for()
        assert list(examine(page, axe)) == []
    with chatting(chromium, demo, "alice") as page:
        assert list(examine(page, axe)) == []
        say(page, "A message without any blank in it: " + "x" * 200)
        press(page, "Replay the spent ticket", "Refused")
        assert list(examine(page, axe)) == []
        page.route("**/ticket/", lambda route: route.abort())
        press(page, "Drop the connection", "Dropped")
        page.wait_for_selector("[data-state=waiting]")
        assert list(examine(page, axe)) == []
        page.unroute("**/ticket/")
        log_out(page, demo)
        page.get_by_role("status").get_by_role("link", name="log in").wait_for()
        assert list(examine(page, axe)) == []


def test_axe_finds_faults(chromium: Browser, demo: str, axe: str) -> None:
    """Guards the test above: these two faults were once in the demo."""
    log = "<ol id=log role=log aria-label=Chat><li>Hello</li></ol>"
    with chatting(chromium, demo, "alice") as page:
        page.eval_on_selector("#log", "(log, html) => log.outerHTML = html", log)
        found = {rule.partition(",")[0] for rule, _ in examine(page, axe)}
        assert found == {"aria-allowed-role", "listitem"}


def test_the_demo_is_for_everybody(chromium: Browser, demo: str) -> None:
    """Focus, no motion for users who want none, and a small phone."""
    options: dict[str, Any] = {
        "viewport": {"width": 360, "height": 740},
        "reduced_motion": "reduce",
    }
    with chatting(chromium, demo, "alice", **options) as page:
        say(page, "A message without any blank in it: " + "x" * 200)
        press(page, "Replay the spent ticket", "Refused")

        page.keyboard.press("Tab")
        focus = "(({ id, textContent: text }, { outlineStyle, outlineWidth }) =>"
        focus += " [id || text, outlineStyle, outlineWidth])"
        focus += "(document.activeElement, getComputedStyle(document.activeElement))"
        page.locator("header button").focus()
        order = []
        for _ in range(9):
            name, *outline = page.evaluate(focus)
            order.append(name)
            assert outline == ["solid", "3px"], name
            page.keyboard.press("Tab")
        assert order == [
            *("Log out", "log", "text", "Send"),
            *("replay", "expire", "drop", "Log out elsewhere", "Restart the server"),
        ]

        assert page.evaluate("document.getAnimations().length") == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_pictures_show_the_demo(chromium: Browser, demo: str) -> None:
    """Written with REALTIME_TICKET_SCREENSHOTS=1; otherwise they must fit the page."""
    desktop: dict[str, Any] = {"viewport": {"width": 1120, "height": 760}}
    with (
        chatting(chromium, demo, "alice", **desktop) as alice,
        chatting(chromium, demo, "bob") as bob,
    ):
        say(alice, "Morning, Bob! Did your ticket arrive?", bob)
        say(bob, "It did, and it is spent already. Each of us had our own.", alice)
        say(alice, "So if someone finds mine in a log…", bob)
        say(bob, "…they are three seconds late, and it has been used.", alice)
        press(alice, "Let one expire", "Refused")
        note(alice, "waiting")
        press(alice, "Drop the connection", "Dropped")
        noted(alice)
        connected(alice)
        say(alice, "Here I am again, with a new ticket.", bob)
        press(alice, "Replay the spent ticket", "Refused")
        alice.mouse.move(0, 0)
        for scheme in ("light", "dark"):
            alice.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            taken = alice.screenshot(animations="disabled", caret="hide")
            picture = IMAGES / f"demo-{scheme}.png"
            if os.environ.get("REALTIME_TICKET_SCREENSHOTS") == "1":
                picture.parent.mkdir(exist_ok=True)
                picture.write_bytes(taken)
            kept = picture.read_bytes()
            assert size_of_png(kept) == size_of_png(taken) == (1120, 760)
            assert len(kept) < 150_000


def size_of_png(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


# Mutants: the client with one line replaced must fail its test.


def show_each_ticket_once(bench: Bench, realtime: Realtime) -> None:
    bench.connect(**FAST)
    bench.wait_for("message")
    realtime.control(close=1012)
    assert wait_until(lambda: len(realtime.record()) >= 2)
    realtime.check()


def wait_for_a_busy_django(bench: Bench, realtime: Realtime) -> None:
    wait_as_told(bench, 503, lambda: "2")


class Mutant(NamedTuple):
    pattern: str
    replacement: str
    scenario: Callable[[Bench, Realtime], None]
    failure: str


MUTANTS = {
    "notices no dead line": Mutant(
        r"\bif \(rest <= 0\) \{",
        r"if (false) {",
        notice_a_dead_line,
        r"no 2 x (open|message)",
    ),
    "trusts a silent line": Mutant(
        r" && !\(this\._silent && this\.#queue\)",
        r"",
        notice_a_dead_line,
        r"assert 0 == 1",
    ),
    "reuses its ticket": Mutant(
        r"\breturn data\.message;",
        r"return (globalThis.kept ??= data.message);",
        show_each_ticket_once,
        r"assert not \['rt_",
    ),
    "counts again when it is accepted": Mutant(
        r"_opened\(\) \{",
        r"_opened() { this.#failures = 0;",
        back_off,
        r"assert \[2, 2, 2, 2, 2\] == \[2, 3, 4, 5, 6\]",
    ),
    "does not hear Retry-After": Mutant(
        r"retryAfter: parseRetryAfter\(.*?\)\),",
        r"retryAfter: null,",
        wait_for_a_busy_django,
        r"assert \(.* - .*\) >= 1",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_fail(
    chromium: Browser, site: str, realtime: Realtime, session: StorageState, name: str
) -> None:
    """A ticket kept for the next attempt, a counter reset at open, no Retry-After."""
    mutant = MUTANTS[name]

    def patch(route: Route) -> None:
        response = route.fetch()
        text, count = re.subn(mutant.pattern, mutant.replacement, response.text())
        patched.append(count)
        route.fulfill(response=response, body=text)

    patched: list[int] = []
    with window(chromium, storage_state=session) as page:
        page.route("**/realtime-ticket*.js", patch)
        page.goto(f"{site}/bench/")
        bench = Bench(page, site)
        assert patched and set(patched) == {1}, "the client has no such line any more"
        with pytest.raises(AssertionError, match=mutant.failure):
            mutant.scenario(bench, realtime)
    realtime.forget()
