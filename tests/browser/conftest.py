"""The servers and Chromium, started once for all tests of this folder.

After each test, every ticket that the realtime server was shown must have been consumed
once, and the page's strict Content-Security-Policy never violated.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import servers
from tests.processes import free_ports, running

pytest.register_assert_rewrite("tests.browser.support")

from tests.browser.support import (  # noqa: E402
    ROOT,
    Bench,
    Realtime,
    launch,
    log_in,
    missing,
    wait_until,
    window,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright, StorageState


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := missing():
        if servers.REQUIRED:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="package")
def environment(home: Path) -> dict[str, str]:
    (django, realtime), (line, _) = free_ports(), free_ports()
    (home / "bundles").mkdir()
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.browser.settings",
        "DEMO_STATE": str(home),
        "DEMO_DJANGO_PORT": str(django),
        "DEMO_REALTIME_PORT": str(realtime),
        "BROWSER_LINE_PORT": str(line),
        "BROWSER_BUNDLES": str(home / "bundles"),
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("REDIS_URL", None)
    return environment


@pytest.fixture(scope="package")
def site(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """Django's origin."""
    create = "from examples.demo.__main__ import create_users; create_users()"
    subprocess.run([sys.executable, "-c", create], env=environment, check=True)
    port = int(environment["DEMO_DJANGO_PORT"])
    with running(
        *("-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"),
        port=port,
        folder=home,
        environment=environment,
    ):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="package")
def server(home: Path, environment: dict[str, str], site: str) -> Iterator[Realtime]:
    server = Realtime(int(environment["DEMO_REALTIME_PORT"]), home, environment)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def realtime(server: Realtime) -> Iterator[Realtime]:
    # The page of the test before may have come once more, or not have left yet.
    assert wait_until(lambda: server.control(mode="welcome")["open"] == 0)
    server.forget()
    yield server
    server.check()


@pytest.fixture(scope="package")
def playwright(home: Path) -> Iterator[Playwright]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = launch(playwright)
    yield browser
    browser.close()


@pytest.fixture(scope="package")
def session(chromium: Browser, site: str) -> StorageState:
    """The cookies of alice, who has logged in."""
    with window(chromium) as page:
        log_in(page, site)
        return page.context.storage_state()


@pytest.fixture
def bench(
    chromium: Browser, site: str, realtime: Realtime, session: StorageState
) -> Iterator[Bench]:
    """A page of alice's."""
    with window(chromium, storage_state=session) as page:
        page.goto(f"{site}/bench/")
        yield Bench(page, site)
