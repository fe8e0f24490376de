"""One window for each engine, driven alike: Chromium, Firefox, and WebKit (GTK)."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tests import servers
from tests.browser.support import launch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

ENGINES = ("chromium", "firefox", "webkit")
PROGRAMS = {
    "chromium": [],  # see support.missing()
    "firefox": ["firefox-esr"],
    "webkit": ["WebKitWebDriver", "Xvfb"],
}
ORDINARY: Any = dict.fromkeys(
    ("color_scheme", "reduced_motion", "forced_colors", "contrast"), "null"
)
"""What Debian's Firefox cannot be told by Playwright."""


def missing(engine: str) -> str | None:
    """Return why this engine cannot be tested, or None."""
    for program in PROGRAMS[engine]:
        if not servers.find(program):
            return f"{program} is not installed"
    if engine == "webkit" and not mini_browser():
        return "MiniBrowser is not installed"
    if engine == "webkit" and importlib.util.find_spec("selenium") is None:
        return "the Python module selenium is not installed"
    return None


def mini_browser() -> str | None:
    """Return the path of the browser that comes with webkit2gtk-driver's library."""
    found = sorted(Path("/usr/lib").glob("*/webkit2gtk-4*/MiniBrowser"))
    return str(found[-1]) if found else None


class Window(Protocol):
    """A private window with one page."""

    def goto(self, url: str) -> None: ...

    def back(self) -> None: ...

    def evaluate(self, script: str, *arguments: Any) -> Any:
        """Return what a function of JavaScript returns for these arguments."""

    def offline(self, wanted: bool) -> None: ...


class PlaywrightWindow:
    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()

    def goto(self, url: str) -> None:
        self.page.goto(url)

    def back(self) -> None:
        # Not by go_back(), which does not return when the page was kept.
        self.page.evaluate("void setTimeout(() => history.back())")

    def evaluate(self, script: str, *arguments: Any) -> Any:
        return self.page.evaluate(f"(words) => ({script})(...words)", list(arguments))

    def offline(self, wanted: bool) -> None:
        self.context.set_offline(wanted)


class WebKitWindow:
    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def goto(self, url: str) -> None:
        self.driver.get(url)

    def back(self) -> None:
        self.driver.back()

    def evaluate(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(
            f"return ({script})(...arguments)", *arguments
        )

    def offline(self, wanted: bool) -> None:
        raise NotImplementedError("WebKitWebDriver cannot do this.")


@contextmanager
def window(engine: str, playwright: Playwright) -> Iterator[Window]:
    """Start the engine with one window, and end it."""
    if engine == "webkit":
        with display() as name, webkit(name) as driver:
            yield WebKitWindow(driver)
        return
    if engine == "chromium":
        options: Any = {}
        with_cache = ["--disable-back-forward-cache"]
        browser = launch(playwright, ignore_default_args=with_cache)
    else:
        options = ORDINARY
        browser = playwright.firefox.launch(
            channel="moz-firefox",
            executable_path=servers.find("firefox-esr"),
        )
    yield PlaywrightWindow(browser, **options)
    browser.close()


@contextmanager
def display() -> Iterator[str]:
    """Run a display without a screen, and return its name."""
    reader, writer = os.pipe()
    words = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "800x600x24"]
    process = subprocess.Popen(
        [*words, "-nolisten", "tcp"], pass_fds=[writer], stderr=subprocess.DEVNULL
    )
    os.close(writer)
    try:
        with open(reader) as answer:
            yield f":{answer.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def webkit(display: str) -> Iterator[Any]:
    from selenium.webdriver import Remote, WebKitGTKOptions
    from selenium.webdriver.remote.client_config import ClientConfig
    from selenium.webdriver.remote.remote_connection import RemoteConnection
    from selenium.webdriver.webkitgtk.service import Service

    environment = os.environ | {
        "DISPLAY": display,
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "NO_AT_BRIDGE": "1",
        "WEBKIT_DISABLE_COMPOSITING_MODE": "1",
    }
    options = WebKitGTKOptions()
    options.binary_location = mini_browser()
    options.add_argument("--automation")
    service = Service(servers.find("WebKitWebDriver"), env=environment)
    service.start()
    try:
        # Not by WebKitGTK(), which uses what selenium itself calls deprecated.
        config = ClientConfig(remote_server_addr=service.service_url)
        driver = Remote(RemoteConnection(client_config=config), options=options)
        try:
            yield driver
        finally:
            driver.quit()
    finally:
        service.stop()
