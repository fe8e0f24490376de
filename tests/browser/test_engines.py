"""What a page goes through, in Chromium, Firefox and WebKit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests import servers
from tests.browser import engines
from tests.browser.support import (
    FAST,
    IS_READY,
    IS_WAITING,
    NOTE_ONLINE,
    Realtime,
    be_refused,
    wait_until,
)

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

WITHOUT_OFFLINE = "webkit"


class Page:
    """The page of one engine, in which alice is logged in."""

    def __init__(self, engine: str, window: engines.Window, site: str) -> None:
        self.engine = engine
        self.window = window
        self.site = site

    def log_in(self) -> None:
        self.window.goto(f"{self.site}/login/?next=/bench/")
        self.window.evaluate(
            """() => {
              for (const name of ["username", "password"])
                document.querySelector(`[name=${name}]`).value = "alice";
              document.querySelector("main button").click();
            }"""
        )
        self.wait("() => location.pathname === '/bench/'")

    def open(self) -> None:
        """Load the page, and log in first if a test before has logged out."""
        self.window.goto(f"{self.site}/bench/")
        self.wait(IS_READY)
        if not logged_in(self):
            self.log_in()
            self.wait(IS_READY)
        self.window.evaluate(
            """() => {
              window.violations = [];
              document.addEventListener("securitypolicyviolation", (event) =>
                violations.push(`${event.violatedDirective} ${event.blockedURI}`));
            }"""
        )

    def wait(self, condition: str, *arguments: Any, seconds: float = 30) -> None:
        def holds() -> bool:
            try:
                return bool(self.window.evaluate(condition, *arguments))
            except Exception as exc:  # while the page changes
                if "navigat" in str(exc) or "destroyed" in str(exc):
                    return False
                raise

        assert wait_until(holds, seconds), (condition, arguments, self.heard())

    def heard(self, *types: str) -> list[dict[str, Any]]:
        events = json.loads(self.window.evaluate("() => JSON.stringify(window.heard)"))
        return [event for event in events or () if not types or event["type"] in types]

    def connect(
        self,
        kind: str = "RealtimeSocket",
        path: str = "/ws",
        times: int = 1,
        **options: Any,
    ) -> None:
        scheme = "ws" if kind == "RealtimeSocket" else "http"
        self.window.evaluate(
            """(kind, scheme, path, times, options) => {
              const url = `${scheme}://127.0.0.1:${document.body.dataset.realtimePort}${path}`;
              while (times--) connect(kind, url, options);
            }""",
            *(kind, scheme, path, times, options),
        )

    def wait_for(self, type: str, count: int = 1, seconds: float = 30) -> None:
        many = "(type, count) => heard.filter((e) => e.type === type).length >= count"
        self.wait(many, type, count, seconds=seconds)


@pytest.fixture(scope="module", params=engines.ENGINES)
def loaded(
    request: pytest.FixtureRequest, playwright: Playwright, site: str
) -> Iterator[Page]:
    """One window of each engine, for all tests."""
    if reason := engines.missing(request.param):
        if servers.REQUIRED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with engines.window(request.param, playwright) as window:
        page = Page(request.param, window, site)
        page.log_in()
        yield page


@pytest.fixture
def page(loaded: Page, realtime: Realtime) -> Iterator[Page]:
    loaded.open()
    yield loaded
    assert loaded.window.evaluate("() => window.violations ?? []") == []
    loaded.window.goto("about:blank")  # it hangs up
    assert wait_until(lambda: realtime.control()["open"] == 0)


def test_it_connects(page: Page, realtime: Realtime) -> None:
    """With one ticket, under a strict Content-Security-Policy."""
    page.connect()
    page.wait_for("message")
    assert page.heard("message")[0]["data"] == "Hello, alice!"
    assert page.window.evaluate("() => connections[0].protocol") == "realtime-ticket.v1"
    realtime.check(connections=1)


def test_the_policy_is_strict(page: Page) -> None:
    """Each engine forbids what the policy does not allow, and says so."""
    page.window.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "alert(1)";
          document.body.append(script);
        }"""
    )
    page.wait("() => violations.some((text) => text.startsWith('script-src'))")
    page.window.evaluate("() => { violations = []; }")


def test_it_comes_back_after_a_crash(page: Page, realtime: Realtime) -> None:
    """The server is killed and started. The client comes back with a new ticket."""
    page.connect(**FAST)
    page.wait_for("message")
    realtime.kill()
    page.wait_for("close")
    assert page.heard("close")[0]["code"] == 1006
    realtime.start()
    page.wait_for("message", 2)
    realtime.check(connections=2)


def test_a_refused_ticket_is_replaced(page: Page, realtime: Realtime) -> None:
    be_refused(page, realtime, times=2)


def test_events_go_on_where_they_stopped(page: Page, realtime: Realtime) -> None:
    page.connect("RealtimeEventSource", "/events", **FAST)
    page.wait_for("price", 3)
    realtime.kill()
    page.wait_for("close")
    realtime.start()
    page.wait_for("price", len(page.heard("price")) + 3)
    ids = [int(event["lastEventId"]) for event in page.heard("price")]
    assert ids == list(range(1, len(ids) + 1))
    realtime.check(connections=2)


def test_fifty_clients_of_one_page(page: Page, realtime: Realtime) -> None:
    """All come back, each with a new ticket."""
    page.connect(times=50)
    page.wait_for("message", 50)
    realtime.control(close=1012)
    page.wait_for("message", 100)
    realtime.check(connections=100)


def leave_and_return(page: Page) -> None:
    """By a link, and the back button. The page must have been kept."""
    page.window.evaluate(
        "() => addEventListener('pageshow', ({ persisted }) => {"
        " window.back = persisted; })"
    )
    page.window.goto(f"{page.site}/login/")
    page.window.back()
    page.wait("() => window.back === true && location.pathname === '/bench/'")


def test_it_comes_back_from_the_back_forward_cache(
    page: Page, realtime: Realtime
) -> None:
    """Leaving the page hangs up, and coming back connects with a new ticket."""
    if page.engine == "firefox":
        pytest.skip("Firefox keeps no page that has a WebSocket, and loads it again")
    page.connect()
    page.wait_for("message")
    leave_and_return(page)
    page.wait_for("message", 2)
    assert wait_until(lambda: realtime.record("left") == [{"left": 1000}])
    realtime.check(connections=2)


def test_it_goes_on_in_a_page_that_was_kept_while_it_waited(page: Page) -> None:
    """Leaving the page stops the attempts, and coming back begins them again."""
    # For seconds: a browser keeps no page that is just fetching something.
    page.connect(minDelay=5_000, maxDelay=60_000, ticketUrl="/nowhere/")
    page.wait_for("waiting")
    leave_and_return(page)
    page.wait_for("connecting", len(page.heard("connecting")) + 1)


def test_it_comes_back_with_the_network(page: Page, realtime: Realtime) -> None:
    if page.engine == WITHOUT_OFFLINE:
        pytest.skip("WebKitWebDriver cannot take a page offline")
    page.connect(minDelay=50, maxDelay=60_000)
    page.wait_for("message")
    page.window.offline(True)
    try:
        realtime.control(close=1012)
        page.wait_for("ticketerror", 4)
        page.window.evaluate(NOTE_ONLINE)
        page.wait(IS_WAITING)
    finally:  # the window is of all tests
        page.window.offline(False)
    page.wait_for("message", 2)
    online = page.window.evaluate("() => window.online")
    assert page.heard("connecting")[-1]["at"] - online < 1000
    realtime.check(connections=2)


def test_it_ends_after_a_logout(page: Page, realtime: Realtime) -> None:
    """The server closes the connection, and Django refuses the next ticket."""
    page.connect(**FAST)
    page.wait_for("message")
    page.window.evaluate(
        """() => {
          const body = new FormData();
          const field = document.querySelector("[name=csrfmiddlewaretoken]");
          body.set(field.name, field.value);
          fetch("/logout/", { method: "POST", body });
        }"""
    )
    assert wait_until(lambda: not logged_in(page))
    realtime.control(close=1012)
    page.wait_for("refused")
    (refused,) = page.heard("refused")
    assert (refused["status"], refused["permanent"]) == (401, True)
    realtime.check(connections=1)


def logged_in(page: Page) -> bool:
    """Ask Django, which is told nothing by this."""
    page.window.evaluate(
        """() => {
          window.answer = "";
          fetch("/login/").then((response) => response.text()).then((text) => {
            window.answer = text;
          });
        }"""
    )
    page.wait("() => window.answer")
    return "logout" in page.window.evaluate("() => window.answer")
