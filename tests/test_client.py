"""The browser client: its own tests, its types, its size, and its npm package."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import servers

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "realtime_ticket" / "static" / "realtime_ticket"
MODULE = STATIC / "realtime-ticket.js"
TYPES = STATIC / "realtime-ticket.d.ts"
TOOLS = ROOT / "node_modules" / ".bin"
PACKAGE: dict[str, Any] = json.loads((ROOT / "package.json").read_text())
NAMES = ["RealtimeEventSource", "RealtimeSocket", "TicketError", "fetchTicket"]
LIMIT = 4096
"""Bytes of the module that a page loads, minified and compressed."""


def missing(program: str) -> str | None:
    """Return why this program cannot be run, or None."""
    if program in ("node", "npm"):
        return None if shutil.which(program) else f"{program} is not installed"
    if not (TOOLS / program).exists():
        return f"{program} is not installed: npm install --no-save --no-package-lock"
    return None


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Run a program of Node.js. Skip the test, or fail it, when it is not here."""

    def run(program: str, *arguments: object, cwd: Path = ROOT) -> str:
        for name in ("node", program):
            if reason := missing(name):
                if servers.REQUIRED:
                    pytest.fail(reason, pytrace=False)
                pytest.skip(reason)
        path = TOOLS / program
        result = subprocess.run(
            [path if path.exists() else program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=os.environ | {"npm_config_cache": str(tmp_path / "npm-cache")},
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture
def installed(run: Callable[..., str], tmp_path: Path) -> Path:
    """A project of somebody who installed the npm package."""
    packed = json.loads(run("npm", "pack", "--json", "--pack-destination", tmp_path))
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"type": "module", "private": true}')
    tarball = tmp_path / packed[0]["filename"]
    offline = ["--offline", "--no-audit", "--no-fund", "--no-package-lock"]
    run("npm", "install", *offline, tarball, cwd=project)
    return project


def test_does_what_it_promises(run: Callable[..., str]) -> None:
    """The tests of its logic pass, without a browser."""
    run("node", "--test", *sorted(ROOT.glob("tests/js/*.test.mjs")))


def test_is_strictly_typed(run: Callable[..., str]) -> None:
    """tsc finds nothing in the module."""
    run("tsc", "--noEmit", "--project", ROOT)


def test_its_types_are_up_to_date(run: Callable[..., str], tmp_path: Path) -> None:
    """The declarations are what `npm run types` makes of the module."""
    run("tsc", "--project", ROOT, "--declarationDir", tmp_path)
    assert TYPES.read_text() == (tmp_path / TYPES.name).read_text()


def test_is_small(run: Callable[..., str]) -> None:
    """A page pays little for it."""
    minified = run("esbuild", "--minify", MODULE).encode()
    assert len(gzip.compress(minified, mtime=0)) < LIMIT


def test_imports_nothing() -> None:
    """Static files with a hash in their names could not find each other."""
    code = re.sub(r"/\*[\s\S]*?\*/|//.*", "", MODULE.read_text())
    assert not re.search(r"\bimport\b", code)


def test_the_versions_agree() -> None:
    """The npm package and the one of Python are released together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for key in ("name", "version", "license"):
        assert PACKAGE[key] == project[key]


def test_its_tools_are_pinned() -> None:
    """Other versions of the tools would write other declarations."""
    assert PACKAGE["devDependencies"].keys() == {"esbuild", "typescript"}
    assert all(version[0].isdigit() for version in PACKAGE["devDependencies"].values())
    assert "dependencies" not in PACKAGE


def test_the_package_holds_what_is_needed(
    run: Callable[..., str], tmp_path: Path
) -> None:
    """The module, its types, and three files about it."""
    (packed,) = json.loads(run("npm", "pack", "--json", "--pack-destination", tmp_path))
    with tarfile.open(tmp_path / packed["filename"]) as tarball:
        names = {name.removeprefix("package/") for name in tarball.getnames()}
    own = {str(path.relative_to(ROOT)) for path in (MODULE, TYPES)}
    assert names == own | {"LICENSE", "README.md", "package.json"}


def test_the_package_can_be_imported(run: Callable[..., str], installed: Path) -> None:
    """By the same line as in a page."""
    (installed / "main.js").write_text(
        f'import {{ {", ".join(NAMES)} }} from "django-realtime-ticket";\n'
        'import * as all from "django-realtime-ticket";\n'
        "console.log(JSON.stringify(Object.keys(all).sort()));\n"
    )
    assert json.loads(run("node", "main.js", cwd=installed)) == sorted(NAMES)


GOOD = """
import { RealtimeEventSource, RealtimeSocket, TicketError, fetchTicket }
  from "django-realtime-ticket";
import type { ConnectionOptions, SocketOptions } from "django-realtime-ticket";

const options: ConnectionOptions & SocketOptions = {
  csrfToken: () => document.querySelector("[name=csrfmiddlewaretoken]"),
  carrier: "query",
  queue: 10,
  reconnect: (event) => event.code !== 4404,
  getTicket: (signal) => fetchTicket({ url: "/t/", audience: "chat", signal }),
};
const socket = new RealtimeSocket("/ws", options);
socket.addEventListener("message", (event) => event.data.toUpperCase());
socket.addEventListener("close", ({ code, reason, willReconnect }) => {
  if (!willReconnect) console.log(code.toFixed(), reason.trim());
});
socket.addEventListener("waiting", (event) => event.delay.toFixed() + event.attempt);
socket.addEventListener("refused", ({ error }: { error: TicketError }) => error.status);
const onMessage = (event: MessageEvent<string>) => console.log(event.data);
socket.addEventListener("message", onMessage);
socket.removeEventListener("message", onMessage);
socket.binaryType = "arraybuffer";
socket.send(new Uint8Array(1));
const source = new RealtimeEventSource(new URL("https://x.example/"));
source.addEventListener("score", (event) => event.data.length);
source.addEventListener("ticketerror", (event) => event.error.retryAfter?.toFixed());
const ticket: string = await fetchTicket();
export { ticket };
"""
BAD = """
import { RealtimeSocket } from "django-realtime-ticket";
new RealtimeSocket("/ws", { carrier: "header" });
new RealtimeSocket("/ws").addEventListener("waiting", (event) => event.code);
new RealtimeSocket("/ws")._start;
"""


def test_the_package_has_types(run: Callable[..., str], installed: Path) -> None:
    """tsc knows the events by their names, and finds mistakes."""
    (installed / "good.ts").write_text(GOOD)
    bad = "".join(
        f"// @ts-expect-error\n{line}\n" if line.startswith("new") else f"{line}\n"
        for line in BAD.splitlines()
    )
    (installed / "bad.ts").write_text(bad)
    for resolution in ("nodenext", "bundler"):
        run(
            "tsc", "--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom",
            "--module", "nodenext" if resolution == "nodenext" else "esnext",
            "--moduleResolution", resolution, "good.ts", "bad.ts",
            cwd=installed,
        )  # fmt: skip
