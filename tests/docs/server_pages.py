"""The pages about realtime servers, their tables and their examples."""

from __future__ import annotations

import json
import re
from pathlib import Path

from examples.servers import EXAMPLES, SERVERS, Server
from tests.docs.pages import PAGES, read
from tests.matrix import ROWS, Row

SERVER_PAGES = {
    page for page in PAGES if page.startswith("servers/") and page != "servers/index.md"
}
PROXIES = {"servers/caddy.md", "servers/haproxy.md", "servers/nginx.md"}
FOLDERS = {"servers/nodejs.md": "node-ws", **dict.fromkeys(PROXIES, "proxies")}
"""Pages whose example is not called like them."""

OURS = "django-realtime-ticket[redis]>=1"

MATRIX = {
    name: (f"servers/{page}.md", cells.split(" | "))
    for name, page, cells in re.findall(
        r"^\| \[([\w-]+)\]\((\w+)\.md\) \| (.*) \|$", read("servers/index.md"), re.M
    )
}
"""The table: each server's page, and the cells after its name."""

NEEDS = {
    name: (origin, needs)
    for name, origin, needs in re.findall(
        r"^\| ([\w-]+) \| (.*`.*) \| (.*) \|$", read("servers/index.md"), re.M
    )
}
"""The second table: where each server judges the origin, and what it needs."""


def folder_of(page: str) -> Path:
    return EXAMPLES / FOLDERS.get(page, Path(page).stem)


def read_example(page: str, file: str) -> str:
    return (folder_of(page) / file).read_text("utf-8")


def servers_of(page: str) -> list[Server]:
    return [SERVERS[name] for name in MATRIX if MATRIX[name][0] == page]


def rows_of(page: str) -> list[Row]:
    return [ROWS[name] for name in SERVERS if SERVERS[name] in servers_of(page)]


def requirements_of(page: str) -> set[str]:
    """What to install for the example of this page, as pip and npm write it."""
    found = set()
    for path in folder_of(page).glob("requirements*.txt"):
        lines = path.read_text("utf-8").splitlines()
        found |= {line for line in lines if not line.startswith("#")}
    for path in folder_of(page).glob("package.json"):
        versions = json.loads(path.read_text("utf-8"))["dependencies"]
        found |= {f"{name}@{version}" for name, version in versions.items()}
    return found or {"centrifuge"}
