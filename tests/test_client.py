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
NAMES = [
    "RealtimeEventSource",
    "RealtimeSocket",
    "TicketError",
    "createWebSocketClass",
    "fetchTicket",
]
LIMIT = 4096
"""Bytes of the module that a page loads, minified and compressed."""


def missing(program: str) -> str | None:
    """Return why this program cannot be run, or None."""
    if program in ("node", "npm"):
        return None if shutil.which(program) else f"{program} is not installed"
    if not (TOOLS / program).exists():
        return f"{program} is not installed: npm install --no-save --no-package-lock"
    return None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program of Node.js. Skip the test, or fail it, when it is not here."""
    cache = tmp_path_factory.mktemp("npm-cache")

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
            env=os.environ | {"npm_config_cache": str(cache)},
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module")
def tarball(run: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package, as it would be published."""
    folder = tmp_path_factory.mktemp("npm-package")
    packed = json.loads(run("npm", "pack", "--json", "--pack-destination", folder))
    return folder / str(packed[0]["filename"])


@pytest.fixture(scope="module")
def installed(
    run: Callable[..., str], tarball: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project of a user who installed the npm package, and tools beside it."""
    project = tmp_path_factory.mktemp("project")
    (project / "package.json").write_text('{"type": "module", "private": true}')
    offline = ["--offline", "--no-audit", "--no-fund", "--no-package-lock"]
    run("npm", "install", *offline, tarball, cwd=project)
    for name in ("mock-socket", "vitest"):
        (project / "node_modules" / name).symlink_to(ROOT / "node_modules" / name)
    return project


def compiler(version: str = "7") -> Path:
    """Return the path of a TypeScript compiler. All of them are called tsc."""
    name = "typescript" if version == "7" else f"typescript-{version}"
    return ROOT / "node_modules" / name / "bin" / "tsc"


def test_does_what_it_promises(run: Callable[..., str]) -> None:
    """The tests of its logic pass, without a browser."""
    run("node", "--test", *sorted(ROOT.glob("tests/js/*.test.mjs")))


def test_is_strictly_typed(run: Callable[..., str]) -> None:
    """tsc finds nothing in the module."""
    run("node", compiler(), "--noEmit", "--project", ROOT)


def test_its_types_are_up_to_date(run: Callable[..., str], tmp_path: Path) -> None:
    """The declarations are what `npm run types` makes of the module."""
    run("node", compiler(), "--project", ROOT, "--declarationDir", tmp_path)
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
    pinned = re.compile(r"(npm:[\w.-]+@)?\d+\.\d+\.\d+")
    assert all(map(pinned.fullmatch, PACKAGE["devDependencies"].values()))
    assert "dependencies" not in PACKAGE


def test_the_package_holds_what_is_needed(tarball: Path) -> None:
    """The module, its types, the same for CommonJS, and three files about it."""
    with tarfile.open(tarball) as content:
        names = {name.removeprefix("package/") for name in content.getnames()}
    own = {str(path.relative_to(ROOT)) for path in (MODULE, TYPES)}
    commonjs = {"cjs/realtime-ticket.cjs", "cjs/realtime-ticket.d.cts"}
    assert names == own | commonjs | {"LICENSE", "README.md", "package.json"}


def test_the_package_can_be_imported(run: Callable[..., str], installed: Path) -> None:
    """By the same line as in a page."""
    (installed / "main.js").write_text(
        f'import {{ {", ".join(NAMES)} }} from "django-realtime-ticket";\n'
        'import * as all from "django-realtime-ticket";\n'
        "console.log(JSON.stringify(Object.keys(all).sort()));\n"
    )
    assert json.loads(run("node", "main.js", cwd=installed)) == sorted(NAMES)


def test_the_package_can_be_required(run: Callable[..., str], installed: Path) -> None:
    """By CommonJS, which Jest and old bundlers use."""
    (installed / "main.cjs").write_text(
        'console.log(JSON.stringify(Object.keys(require("django-realtime-ticket"))))'
    )
    assert sorted(json.loads(run("node", "main.cjs", cwd=installed))) == sorted(NAMES)


@pytest.mark.parametrize("runner", ["vitest", "jest"])
def test_the_documented_tests_run(
    run: Callable[..., str], installed: Path, runner: str
) -> None:
    """The page's example passes under both runners, with what npm installs."""
    page = (ROOT / "docs" / "browser-client.md").read_text()
    section = page[page.index("## Test your own code") :]
    blocks = re.findall(r"^```js\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    code = blocks[("vitest", "jest").index(runner)]
    name = {"vitest": "chat.test.js", "jest": "chat.test.cjs"}[runner]
    (installed / name).write_text(code)
    if runner == "vitest":
        run("vitest", "run", "--root", installed, name, cwd=installed)
    else:
        run("jest", "--rootDir", installed, "--testMatch", f"**/{name}", cwd=installed)


GOOD = """
import { RealtimeEventSource, RealtimeSocket, TicketError, fetchTicket }
  from "django-realtime-ticket";
import { createWebSocketClass } from "django-realtime-ticket";
import type { ConnectionOptions, SocketOptions } from "django-realtime-ticket";

const options: ConnectionOptions & SocketOptions = {
  csrfToken: () => document.querySelector("[name=csrfmiddlewaretoken]"),
  ping: { interval: 10000, message: new Uint8Array(1) },
  carrier: "query",
  queue: 10,
  reconnect: (event) => event.code !== 4404,
  getTicket: ({ signal }) => fetchTicket({ url: "/t/", audience: "chat", signal }),
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
source.onmessage = (event) => event.data;
const polyfill: typeof WebSocket = createWebSocketClass({ reconnect: false });
new polyfill("/ws", ["one"]).send("hello");
const url = async () => new URL("https://x.example/");
new RealtimeSocket(url, { getTicket: fetchTicket });
const ticket: Promise<string> = fetchTicket({ credentials: "include" });
export { ticket };
"""
"""What a page does, in TypeScript."""

WORKER = """
import { RealtimeEventSource, RealtimeSocket, fetchTicket }
  from "django-realtime-ticket";
const socket = new RealtimeSocket("/ws", { csrfToken: "x", protocols: "chat" });
socket.onclose = ({ code, willReconnect }) => code.toFixed() + willReconnect;
new RealtimeEventSource("/events").addEventListener("price", ({ data }) => data);
fetchTicket({ csrfToken: async () => "x" });
"""
"""What a worker does. It has no elements."""

EXACT = """
import { RealtimeSocket, fetchTicket } from "django-realtime-ticket";
import type { ConnectionOptions, SocketOptions } from "django-realtime-ticket";
declare const maybe: Record<string, undefined>;
const options: ConnectionOptions & SocketOptions = {
  audience: maybe.a, queue: maybe.b, ping: maybe.c, reconnect: maybe.d,
  getTicket: maybe.e,
};
new RealtimeSocket("/ws", options);
fetchTicket({ url: undefined, signal: undefined, csrfToken: undefined });
"""
"""What is written under exactOptionalPropertyTypes."""

BAD = """
import { RealtimeSocket } from "django-realtime-ticket";
// @ts-expect-error
new RealtimeSocket("/ws", { carrier: "authorization" });
// @ts-expect-error
new RealtimeSocket("/ws").addEventListener("waiting", (event) => event.code);
// @ts-expect-error
new RealtimeSocket("/ws")._start;
// @ts-expect-error
new RealtimeSocket("/ws", { ping: 5000 });
"""


TYPESCRIPT = {
    "nodenext": (
        ["--module", "nodenext", "--lib", "es2022,dom", "--exactOptionalPropertyTypes"],
        {"good.ts": GOOD, "bad.ts": BAD, "required.cts": GOOD, "exact.ts": EXACT},
    ),
    "bundler": (
        ["--module", "esnext", "--lib", "es2022,webworker"],
        {"worker.ts": WORKER},
    ),
    "node10": (
        ["--module", "commonjs", "--lib", "es2022,dom"],
        {"good.ts": GOOD, "bad.ts": BAD},
    ),
}
"""How compilers resolve the package, with the options and files that go with it."""


@pytest.mark.parametrize(
    ("version", "resolution"),
    [
        (version, resolution)
        for version in ("7", "5.9", "5.0")
        for resolution in TYPESCRIPT
        if (version, resolution) != ("7", "node10")  # it is no longer there
    ],
)
def test_the_package_has_types(
    run: Callable[..., str], installed: Path, version: str, resolution: str
) -> None:
    """Each compiler knows the events by their names, and finds mistakes."""
    options, files = TYPESCRIPT[resolution]
    for name, code in files.items():
        (installed / name).write_text(code)
    strict = ["--noEmit", "--strict", "--target", "es2022", "--skipDefaultLibCheck"]
    how = [*strict, "--moduleResolution", resolution, *options]
    run("node", compiler(version), *how, *files, cwd=installed)
