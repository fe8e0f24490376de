"""The page's recipes with the real libraries from npm, in Chromium and on a server.

Each library connects, is cut off, and comes back with a new ticket.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests import servers
from tests.browser.support import ROOT, Realtime, window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route, StorageState

PAGES = [
    f"docs/{name}.md"
    for name in ("browser-client", "reconnect", "react", "vue", "htmx")
]
MODULES = ROOT / "node_modules"
CLIENT = "./realtime_ticket/static/realtime_ticket/realtime-ticket.js"


def block(contains: str) -> str:
    """Return the script of a page with these words in it."""
    text = "".join((ROOT / page).read_text("utf-8") for page in PAGES)
    blocks = re.findall(r"^```js\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(next(code for code in blocks if contains in code))


def bundle(code: str, output: Path, *options: str) -> None:
    """Write this code and the libraries that it imports into one file."""
    esbuild = MODULES / ".bin" / "esbuild"
    if not esbuild.exists():
        reason = "esbuild is not installed: npm install --no-save --no-package-lock"
        if servers.REQUIRED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    subprocess.run(
        [
            *(esbuild, "--bundle", "--log-level=warning", f"--outfile={output}"),
            *('--define:process.env.NODE_ENV="production"', *options),
        ],
        input=code,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=60,
    )


@pytest.fixture
def page(chromium: Browser, session: StorageState) -> Any:
    with window(chromium, storage_state=session) as page:
        yield page


@pytest.fixture
def bundles(environment: dict[str, str]) -> Path:
    return Path(environment["BROWSER_BUNDLES"])


class Console:
    """What a page prints."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.lines: list[str] = []
        page.on("console", lambda message: self.lines.append(message.text))

    def wait_for(self, line: str, count: int) -> None:
        for _ in range(1000):
            if self.lines.count(line) >= count:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(self.lines)


def run(
    page: Page, site: str, realtime: Realtime, bundles: Path, name: str, code: str
) -> None:
    """Bundle this code for the browser, and open a page that runs it."""
    code = code.replace("wss://example.com/", f"ws://127.0.0.1:{realtime.port}/")
    code = code.replace("{ WebSocket }", "{ WebSocket, minReconnectionDelay: 50 }")
    external = "--external:django-realtime-ticket"
    bundle(code, bundles / f"{name}.js", "--format=esm", external)
    page.goto(f"{site}/bundle/?name={name}")


@pytest.mark.parametrize(
    ("name", "contains", "greeting"),
    [
        ("rxjs", 'from "rxjs/webSocket"', "Hello, alice!"),
        ("graphql-ws", 'from "graphql-ws"', "Hello, alice!"),
        ("y-websocket", 'from "y-websocket"', "connected"),
        ("partysocket", 'from "partysocket"', "Hello, alice!"),
        ("reconnecting", 'from "reconnecting-websocket"', "Hello, alice!"),
    ],
)
def test_a_library_comes_back(
    page: Page,
    site: str,
    realtime: Realtime,
    bundles: Path,
    name: str,
    contains: str,
    greeting: str,
) -> None:
    """After its login ended and began again, and after a crash of the server."""
    console = Console(page)
    run(page, site, realtime, bundles, name, block(contains))
    console.wait_for(greeting, 1)
    realtime.control(close=4401, reason="expired kind=age retry=0.0")
    console.wait_for(greeting, 2)
    realtime.kill()
    realtime.start()
    console.wait_for(greeting, 3)
    realtime.check(connections=3)


@pytest.mark.parametrize("library", ["partysocket", "reconnecting-websocket"])
def test_a_library_outlives_an_outage_and_ends_with_the_login(
    page: Page, site: str, realtime: Realtime, bundles: Path, library: str
) -> None:
    """Django answers 503 once, and later 401: then nobody asks again."""
    console, asked = Console(page), 0

    def answer(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            route.fulfill(status=503, headers={"Retry-After": "0"})
        else:
            route.continue_()

    page.route("**/ticket/", answer)
    code = block(f'from "{library}"') + "Object.assign(window, { socket });\n"
    run(page, site, realtime, bundles, "outage", code)
    console.wait_for("Hello, alice!", 1)
    page.context.clear_cookies(name="sessionid")
    realtime.control(close=4401, reason="disconnected kind=session")
    page.wait_for_function("() => socket.readyState === 3")
    page.wait_for_timeout(500)
    assert (console.lines.count("Hello, alice!"), asked) == (1, 3)


def test_yjs_syncs(
    page: Page, site: str, realtime: Realtime, bundles: Path, session: StorageState
) -> None:
    """Two documents become one, through binary messages of our sockets."""
    options = '"room", doc, {'
    code = block('from "y-websocket"').replace(options, f"{options} disableBc: true,")
    code += "doc.getText().observe(() => console.log(doc.getText().toString()));\n"
    code += "Object.assign(window, { doc, provider });\n"
    browser = page.context.browser
    assert browser
    with window(browser, storage_state=session) as other:
        for each in (page, other):
            console = Console(each)
            run(each, site, realtime, bundles, "yjs", code)
            console.wait_for("connected", 1)
        page.evaluate("doc.getText().insert(0, 'together')")
        console.wait_for("together", 1)
    realtime.check(connections=2)


def open_snippet(
    page: Page, site: str, bundles: Path, contains: str, scripts: list[str], **more: str
) -> None:
    for script in scripts:
        shutil.copy(MODULES / script, bundles / Path(script).name)
    names = [Path(script).name for script in scripts]
    query = {"page": "docs/htmx.md", "contains": contains, "scripts": names, **more}
    page.goto(f"{site}/snippet/?{urlencode(query, doseq=True)}")


HTMX_2 = ["htmx-2/dist/htmx.min.js", "htmx-ext-ws/ws.js", "htmx-ext-sse/sse.js"]
HTMX_4 = ["htmx.org/dist/htmx.js", "htmx.org/dist/ext/hx-ws.js"]


@pytest.mark.parametrize(
    ("contains", "scripts"),
    [("htmx.createWebSocket", HTMX_2), ("hx-ws:connect", HTMX_4)],
    ids=["2", "4"],
)
def test_htmx_comes_back(
    page: Page,
    site: str,
    realtime: Realtime,
    bundles: Path,
    contains: str,
    scripts: list[str],
) -> None:
    """It shows what it receives, sends what is typed, and reconnects by itself."""
    shows = "(text) => document.querySelector('#chat').textContent.includes(text)"
    open_snippet(page, site, bundles, contains, scripts)
    page.wait_for_function(shows, arg="Hello, alice!")
    page.fill("[name=text]", "it works")
    page.press("[name=text]", "Enter")
    page.wait_for_function(shows, arg="it works")
    realtime.control(close=4401, reason="expired kind=age")
    page.wait_for_function(shows, arg="Hello, alice!")
    realtime.check(connections=2)


def test_server_sent_events_of_htmx_2_come_back(
    page: Page, site: str, realtime: Realtime, bundles: Path
) -> None:
    url = f"http://127.0.0.1:{realtime.port}/events"
    body = f'<p id="price" hx-ext="sse" sse-connect="{url}" sse-swap="price"></p>'
    open_snippet(page, site, bundles, "htmx.createWebSocket", HTMX_2, body=body)
    price = "(least) => Number(document.querySelector('#price').textContent) > least"
    page.wait_for_function(price, arg=0)
    realtime.kill()
    heard = int(page.text_content("#price") or 0)
    realtime.start()
    page.wait_for_function(price, arg=heard)


def test_htmx_4_swaps_our_events(
    page: Page, site: str, realtime: Realtime, bundles: Path
) -> None:
    body = '<div id="news"></div>'
    open_snippet(page, site, bundles, "htmx.swap", HTMX_4[:1], body=body)
    page.wait_for_selector("#news b")
    realtime.check(connections=1)


# React and Vue

ADDRESS = 'const URL = "wss://example.com/ws";'
COMPONENTS = {
    "react": """
import { StrictMode, createElement } from "react";
import { createRoot } from "react-dom/client";
function Chat() {
  const { state, send } = useRealtime(URL, console.log);
  window.send ??= send;
  return createElement("p", { id: "state" }, state);
}
const root = createRoot(document.querySelector("#app"));
root.render(createElement(StrictMode, null, createElement(Chat)));
window.unmount = () => root.unmount();
""",
    "vue": """
import { createApp, h } from "vue";
const app = createApp({
  setup() {
    const { state, send } = useRealtime(URL, console.log);
    window.send = send;
    return () => h("p", { id: "state" }, state.value);
  },
});
app.mount("#app");
window.unmount = () => app.unmount();
""",
}
RENDERED = {
    "react": """
import { createElement } from "react";
import { renderToString } from "react-dom/server";
function Chat() {
  const { state, send } = useRealtime(URL, console.log);
  report.early.push(send("early"));
  return createElement("p", null, state);
}
for (let n = 0; n < 20; n++) report.html.push(renderToString(createElement(Chat)));
""",
    "vue": """
import { createSSRApp, h } from "vue";
import { renderToString } from "vue/server-renderer";
const Chat = {
  setup() {
    const { state, send } = useRealtime(URL, console.log);
    report.early.push(send("early"));
    return () => h("p", state.value);
  },
};
for (let n = 0; n < 20; n++)
  renderToString(createSSRApp(Chat)).then((html) => report.html.push(html));
""",
}
REPORT = """
globalThis.report = { html: [], early: [], opened: 0, asked: 0 };
globalThis.WebSocket = class { constructor() { report.opened++; } };
globalThis.fetch = async () => { report.asked++; throw new Error("offline"); };
setTimeout(() => console.log(JSON.stringify(report)), 200).ref();
setTimeout(() => process.exit(), 300);
"""


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_connects(
    page: Page, site: str, realtime: Realtime, bundles: Path, name: str
) -> None:
    """One ticket for each mount. It sends, comes back, and ends with its component."""
    console = Console(page)
    code = block(f'from "{name}"') + ADDRESS + COMPONENTS[name]
    run(page, site, realtime, bundles, name, code)
    console.wait_for("Hello, alice!", 1)
    page.wait_for_selector("#state:text('open')")
    assert page.evaluate("send('it works')") is True
    console.wait_for("it works", 1)
    realtime.control(close=1012)
    console.wait_for("Hello, alice!", 2)

    page.evaluate("unmount()")
    assert page.evaluate("send('too late')") is False
    for _ in range(500):
        if realtime.control()["open"] == 0:
            break
        page.wait_for_timeout(20)
    assert realtime.control()["open"] == 0
    realtime.check(connections=2)


@pytest.mark.parametrize("name", RENDERED)
def test_a_component_that_is_rendered_on_a_server_opens_nothing(
    tmp_path: Path, name: str
) -> None:
    """Twenty times it asks for no ticket, opens no socket, and takes no message."""
    output = tmp_path / "server.cjs"
    code = block(f'from "{name}"') + ADDRESS + RENDERED[name]
    options = ("--platform=node", f"--alias:django-realtime-ticket={CLIENT}")
    bundle(code, output, *options)
    output.write_text(REPORT + output.read_text())
    result = subprocess.run(
        ["node", output], capture_output=True, text=True, timeout=60, check=True
    )
    report = json.loads(result.stdout)
    assert report["html"] == ["<p>connecting</p>"] * 20
    assert report["early"] == [False] * 20
    assert (report["opened"], report["asked"]) == (0, 0)


# Workers

SERVICE_WORKER = """
import { RealtimeSocket } from "django-realtime-ticket";
onmessage = ({ data: csrfToken, source }) => {
  const socket = new RealtimeSocket("/ws", { csrfToken });
  socket.addEventListener("message", ({ data }) => source.postMessage(data));
};
"""
ASK = {
    "shared": """(token) => new Promise((resolve) => {
      const { port } = new SharedWorker("/static/bundles/shared.js");
      port.onmessage = ({ data }) => resolve(data);
      port.postMessage(token);
    })""",
    "service": """async (token) => {
      const answer = new Promise((resolve) => {
        navigator.serviceWorker.onmessage = ({ data }) => resolve(data);
      });
      await navigator.serviceWorker.register("/static/bundles/service.js");
      const { active } = await new Promise((resolve) => {
        const look = async () => {
          const scope = "/static/bundles/";
          const found = await navigator.serviceWorker.getRegistration(scope);
          if (found?.active) resolve(found);
          else setTimeout(look, 20);
        };
        look();
      });
      active.postMessage(token);
      return answer;
    }""",
}


@pytest.mark.parametrize("kind", ASK)
def test_a_worker_connects(
    chromium: Browser,
    session: StorageState,
    site: str,
    realtime: Realtime,
    bundles: Path,
    kind: str,
) -> None:
    """With the token that its page hands over. (The policy here forbids workers.)"""
    code = block("onconnect") if kind == "shared" else SERVICE_WORKER
    code = code.replace('"/ws"', f'"ws://127.0.0.1:{realtime.port}/ws"')
    bundle(code, bundles / f"{kind}.js", f"--alias:django-realtime-ticket={CLIENT}")
    with window(chromium, storage_state=session, bypass_csp=True) as page:
        page.goto(f"{site}/bench/")
        token = page.input_value("[name=csrfmiddlewaretoken]")
        assert page.evaluate(ASK[kind], token) == "Hello, alice!"
    realtime.check(connections=1)
