"""The pages about realtime servers say what the examples do."""

from __future__ import annotations

import inspect
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

from examples.demo.__main__ import EXAMPLES as DEMOS
from examples.servers import EXAMPLES, SERVERS
from realtime_ticket.handshake import CARRIERS
from realtime_ticket.integrations import centrifugo
from tests import matrix
from tests.docs.pages import PAGES, read, section
from tests.docs.server_pages import (
    MATRIX,
    NEEDS,
    OURS,
    PROXIES,
    SERVER_PAGES,
    folder_of,
    requirements_of,
    rows_of,
)
from tests.matrix import ROWS

SHAPE = [
    "Install",
    "The server",
    "Run it",
    "Try it",
    "What a client sees",
    "Origin",
    "What goes wrong",
]


def test_every_example_is_a_server() -> None:
    """But for the demo, and for Centrifugo, which is configured and not written."""
    found = {path.parent for path in EXAMPLES.glob("[!_]*/*") if path.is_file()}
    servers = {server.directory for server in SERVERS.values()}
    assert found == servers | {EXAMPLES / "demo", EXAMPLES / "centrifugo"}


def test_every_server_has_a_page() -> None:
    folders = {server.directory for server in SERVERS.values()}
    assert {folder_of(page) for page in SERVER_PAGES} == {
        *folders,
        EXAMPLES / "centrifugo",
    }


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_of_servers_are_of_one_shape(page: str) -> None:
    headings = re.findall(r"^## (.*)$", read(page), re.M)
    optional = {"Run it"} if page == "servers/centrifugo.md" else set()
    expected = [each for each in SHAPE if each not in optional]
    assert [each for each in headings if each in SHAPE] == expected


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_show_the_files_of_the_example(page: str) -> None:
    """By their names, and all that the reader needs: what is run, and what that
    imports."""
    included = re.findall(r"^```\{literalinclude\} (.+)$", read(page), re.M)
    captions = re.findall(r"^:caption: (.+)$", read(page), re.M)
    assert captions == [Path(path).name for path in included]
    paths = {(PAGES[page].parent / path).resolve() for path in included}
    code = {
        path
        for path in folder_of(page).iterdir()
        if path.suffix in {".py", ".mjs", ".js", ".conf"} or path.name == "config.json"
    }
    if page in PROXIES:  # each shows its own, and not what starts it for the demo
        shown = {"nginx": ["nginx.conf"], "caddy": ["Caddyfile"]}
        shown |= {"haproxy": ["haproxy.cfg", "authorize.lua"]}
        names = [*shown[Path(page).stem], "upstream.py"]
        code = {folder_of(page) / name for name in names}
    assert paths == code


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_install_what_the_example_requires(page: str) -> None:
    lines = re.findall(r"^\$ (?:pip|npm) install (.*)$", section(page, "Install"), re.M)
    words = {word for line in lines for word in shlex.split(line)}
    assert words - {"--no-deps", OURS} == requirements_of(page)
    assert (OURS in words) is bool({*folder_of(page).glob("requirements.txt")})


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_try_the_example_in_the_demo(page: str) -> None:
    shown = set(re.findall(r"^\$ make demo SERVER=(.*)$", read(page), re.M))
    assert shown == {row.name for row in rows_of(page)} & set(DEMOS)


@pytest.mark.parametrize("page", sorted(SERVER_PAGES - {"servers/centrifugo.md"}))
def test_pages_say_what_a_client_sees(page: str) -> None:
    rows = rows_of(page)
    streams = {row.events for row in rows} - {None}
    expected = {
        "no good ticket": {row.refused for row in rows} | streams,
        "a page of another site": {row.foreign for row in rows} | (streams and {403}),
        "storage down": {row.down for row in rows} | (streams and {503}),
        "the user logs out": {row.revoked for row in rows if row.revoked == 4401},
    }
    table = re.findall(
        r"^\| ([a-z].*?) \| (.*) \|$", section(page, "What a client sees"), re.M
    )
    assert {
        name: set(map(int, re.findall(r"\b\d{3,4}\b", cells))) for name, cells in table
    } == expected


def test_the_page_of_centrifugo_has_the_codes_of_the_view() -> None:
    source = inspect.getsource(centrifugo.CentrifugoConnectView.post)
    table = re.findall(
        r"^\| .* \| (\d{4}) \| (.*) \|$",
        section("servers/centrifugo.md", "What a client sees"),
        re.M,
    )
    expired = {"3005"}  # Centrifugo's own
    ours = set(re.findall(r"\b4\d{3}\b", source))
    assert {code for code, _ in table} == ours | expired
    for code, effect in table:
        assert effect.startswith("comes back") is (int(code) < 4500)


def test_the_matrix_has_a_row_for_each_server() -> None:
    assert list(MATRIX) == list(NEEDS) == list(ROWS) == list(SERVERS)


@pytest.mark.parametrize("name", MATRIX)
def test_the_matrix_is_that_of_the_tests(name: str) -> None:
    page, (carriers, refused, foreign, down, events) = MATRIX[name]
    row = ROWS[name]
    everywhere = carriers == "all"
    assert tuple(CARRIERS if everywhere else carriers.split(", ")) == row.carriers
    assert [refused, foreign, down] == [
        f"**{status}**" if int(status) > 999 else str(status)
        for status in (row.refused, row.foreign, row.down)
    ]
    assert events == ("\N{EN DASH}" if row.events is None else str(row.events))
    assert folder_of(page) == SERVERS[name].directory
    files = [path for path in folder_of(page).iterdir() if path.is_file()]
    code = "".join(path.read_text("utf-8") for path in files)
    names = re.findall(r"`(.+?)`", NEEDS[name][0])
    assert names and all(each in code for each in names)


@pytest.mark.parametrize("page", {page: None for page, _ in MATRIX.values()})
def test_the_matrix_needs_what_the_example_requires(page: str) -> None:
    """All rows of a page together name each requirement and its version."""
    needs = [NEEDS[row.name][1] for row in rows_of(page)]
    required = {re.sub(r"\[.*\]", "", line) for line in requirements_of(page)}
    assert {each for cell in needs for each in cell.split(", ")} == {
        re.sub("@|>=|==", " ", line) for line in required
    }


@pytest.mark.parametrize(
    ("server", "name", "path", "option"),
    [
        ("starlette", "uvicorn", "uvicorn:Config.__init__", "ws_ping_interval"),
        ("channels-daphne", "daphne", "daphne.server:Server.__init__", "ping_interval"),
        ("sanic", "Sanic", "sanic.config:DEFAULT_CONFIG", "WEBSOCKET_PING_INTERVAL"),
        ("websockets", "websockets", "websockets.sync.server:serve", "ping_interval"),
        (
            "socketio",
            "Socket.IO",
            "engineio.base_server:BaseServer.__init__",
            "ping_interval",
        ),
    ],
)
def test_servers_ping_as_the_page_says(
    server: str, name: str, path: str, option: str
) -> None:
    """By themselves. Those that do not are tried in test_servers.py."""
    matrix.require(ROWS[server])
    found = pkgutil.resolve_name(path)
    if callable(found):
        found = {k: v.default for k, v in inspect.signature(found).parameters.items()}
    rows = re.findall(
        r"^\| (.*) \| by itself, every (\d+) seconds \|$",
        read("servers/index.md"),
        re.M,
    )
    assert [int(seconds) for names, seconds in rows if name in names] == [found[option]]
