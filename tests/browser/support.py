"""What the browser tests share: the realtime server, a private window, a page."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tests import servers
from tests.processes import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright, Request

ROOT = Path(__file__).parents[2]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
MODULES = ("playwright", "starlette", "uvicorn", "websockets")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # This replaces Playwright's own list, which is repeated after the first two. Those
    # are pages of the address bar, which each window loads although it shows none.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,"
    "AvoidUnnecessaryBeforeUnloadCheckSync,BoundaryEventDispatchTracksNodeRemoval,"
    "DestroyProfileOnBrowserClose,DialMediaRouteProvider,GlobalMediaControls,"
    "HttpsUpgrades,LensOverlay,MediaRouter,PaintHolding,ThirdPartyStoragePartitioning,"
    "Translate,AutoDeElevate,RenderDocument,OptimizationHints",
]
FAST = {"minDelay": 50, "maxDelay": 400}
"""Options of a connection that comes back soon."""

NETWORK = re.compile(
    r"Failed to load resource|WebSocket connection to '\S+' failed|net::ERR_|"
    r"has been blocked by CORS policy|^\[object Event\]$"
)
"""What the browser, or htmx, prints to the console while a server is away."""


def missing() -> str | None:
    """Return why there is no browser to test with, or None."""
    if not any(map(servers.find, CHROMIUM)):
        return "chromium is not installed"
    for name in MODULES:
        if importlib.util.find_spec(name) is None:
            return f"the Python module {name} is not installed"
    return None


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until the condition holds, if only for a moment. Return whether it did."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


class Line:
    """A TCP proxy whose connections can die without a FIN, as behind a NAT."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.alive = object()
        """Connections that began under another one are dead."""
        self.sockets: list[socket.socket] = []
        self.whole = True

    def cut(self) -> None:
        """Forward nothing from now on, and end nothing."""
        self.whole = False
        self.alive = object()

    def mend(self) -> None:
        """Forward new connections. Those from before stay dead."""
        self.alive = object()
        self.whole = True

    def __enter__(self) -> Line:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.listener, *self.sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                self.sockets.append(near)
                if self.whole:
                    far = socket.create_connection(("127.0.0.1", self.target))
                    self.sockets.append(far)
                    for pair in ((near, far), (far, near)):
                        threading.Thread(
                            target=self._forward, args=pair, daemon=True
                        ).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        alive = self.alive
        with suppress(OSError):
            while data := source.recv(65536):
                if alive is self.alive:
                    target.sendall(data)
            if alive is self.alive:
                target.shutdown(socket.SHUT_WR)


class Realtime:
    """The realtime server of this folder, and its record."""

    def __init__(self, port: int, folder: Path, environment: dict[str, str]) -> None:
        self.port = port
        self.folder = folder
        self.environment = environment
        self.file = folder / "record.jsonl"
        self.forget()
        self.process = ExitStack()

    def start(self) -> None:
        self.process.enter_context(
            running(
                *("-m", "tests.browser.realtime", str(self.file)),
                port=self.port,
                folder=self.folder,
                environment=self.environment,
            )
        )

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.close()

    def line(self) -> Line:
        """Return a way to it that can be cut."""
        return Line(int(self.environment["BROWSER_LINE_PORT"]), self.port)

    def control(self, **wishes: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/control", json.dumps(wishes).encode()
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def forget(self) -> None:
        self.file.write_text("")

    def record(self, kind: str = "shown") -> list[dict[str, Any]]:
        # The last line may be only half there.
        lines = map(json.loads, self.file.read_text().split("\n")[:-1])
        return [line for line in lines if kind in line]

    def check(self, connections: int | None = None) -> None:
        """Every connection had its own ticket, and no ticket was shown twice."""
        shown = self.record()
        counts = Counter(line["shown"] for line in shown)
        assert not [value for value, count in counts.items() if count > 1], shown
        assert {line["outcome"] for line in shown} <= {"consumed"}, shown
        if connections is not None:
            assert len(shown) == connections


def launch(playwright: Playwright, **options: Any) -> Browser:
    program = next(filter(None, map(servers.find, CHROMIUM)))
    return playwright.chromium.launch(executable_path=program, args=FLAGS, **options)


NOTE_ONLINE = """() => addEventListener("online", () => {
  window.online = performance.now();
})"""
"""Note when the network comes back, by the clock of what a page has heard."""

IS_WAITING = """() => {
  const last = heard.at(-1);
  return last.type === "waiting" && last.at + last.delay - performance.now() > 500;
}"""
"""Tell whether the client will be waiting for half a second before its next attempt.

It takes no notice of the network while an attempt is under way.
"""

IS_READY = "() => document.documentElement?.dataset.ready !== undefined"
"""Tell whether the script of a page has run, even while another page is loaded."""

WATCH = (
    "window.violations = [];"
    "document.addEventListener('securitypolicyviolation', (event) =>"
    " violations.push(`${event.violatedDirective} ${event.blockedURI}`));"
)
"""Note what the policy of a page forbids."""


@contextmanager
def window(browser: Browser, **options: Any) -> Iterator[Page]:
    """Open a private window. At its end, nothing was violated and nothing thrown."""
    with browser.new_context(**options) as context:
        context.set_default_timeout(60_000)
        context.add_init_script(WATCH)
        page = context.new_page()
        trouble: list[str] = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning")
                and not NETWORK.search(message.text)
                and trouble.append(message.text)
            ),
        )
        yield page
        assert page.evaluate("violations") == []
        assert trouble == []


def log_in(page: Page, site: str, name: str = "alice") -> None:
    page.goto(f"{site}/login/?next=/bench/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", name)
    page.click("main button")
    page.wait_for_load_state()


def log_out(page: Page, site: str) -> None:
    """As in another tab: this page does not hear of it."""
    token = page.locator("[name=csrfmiddlewaretoken]").first.input_value()
    form, headers = {"csrfmiddlewaretoken": token}, {"Origin": site}
    assert page.request.post(f"{site}/logout/", form=form, headers=headers).ok


class Bench:
    """A page that connects as its test says, and tells what it heard."""

    def __init__(self, page: Page, site: str) -> None:
        self.page = page
        self.site = site
        self.requests: list[float] = []
        """When the page asked Django for tickets."""
        page.on("request", self._count)
        self.ready()

    def _count(self, request: Request) -> None:
        if request.url == f"{self.site}/ticket/":
            self.requests.append(time.monotonic())

    def ready(self) -> None:
        self.page.wait_for_selector("[data-ready]", state="attached")

    def connect(
        self,
        kind: str = "RealtimeSocket",
        path: str = "/ws",
        port: int | None = None,
        **options: Any,
    ) -> None:
        scheme = "ws" if kind == "RealtimeSocket" else "http"
        port = port or self.page.evaluate("document.body.dataset.realtimePort")
        self.page.evaluate(
            "([kind, url, options]) => connect(kind, url, options)",
            [kind, f"{scheme}://127.0.0.1:{port}{path}", options],
        )

    def heard(self, *types: str) -> list[dict[str, Any]]:
        events = self.page.evaluate("heard")
        return [event for event in events if not types or event["type"] in types]

    def wait_for(
        self, type: str, count: int = 1, *, seconds: float = 60
    ) -> list[dict[str, Any]]:
        """Wait until this was heard so many times, and return these."""
        try:
            self.page.wait_for_function(
                "([type, count]) =>"
                " heard.filter((event) => event.type === type).length >= count",
                arg=[type, count],
                timeout=seconds * 1000,
                polling=20,
            )
        except Exception as exc:
            heard = [f"{event['type']} {event['at']:.0f}" for event in self.heard()]
            raise AssertionError(f"no {count} x {type}: {heard[:30]}") from exc
        return self.heard(type)

    def pause(self, seconds: float) -> None:
        self.page.wait_for_timeout(seconds * 1000)


class Client(Protocol):
    """A page of a browser with the client in it."""

    def connect(self, **options: Any) -> None: ...

    def wait_for(self, type: str, count: int = 1) -> object: ...


def be_refused(client: Client, realtime: Realtime, times: int) -> None:
    """Be refused some times, then let in, with another ticket each time."""
    realtime.control(mode="refuse")
    client.connect(**FAST)
    client.wait_for("close", times)
    realtime.control(mode="welcome")
    client.wait_for("message")

    shown = [line["shown"] for line in realtime.record()]
    assert len(set(shown)) == len(shown) > times
    realtime.forget()
