"""What the tests run with: ``python -m tests.tested_with`` writes it into the page.

A version stands here, and :mod:`tests.test_tested_with` asks the program or the package
itself. Of what pip always installs the newest of, that may be newer than the page.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from tests import servers
from tests.engines import packages
from tests.engines.packages import ENGINES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tested-with.md"
CI = ROOT / ".ci" / "run"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

ALL = "all tests of the storage"
SOME = "the [contract](write-a-backend.md), and a kill under load"
PROXY = "[Redis behind a proxy](redis-proxies.md)"
EXAMPLE = "its [example](servers/index.md)"
EXAMPLES = "[examples](servers/index.md)"
OTHER = "[Starlette's example](servers/starlette.md#on-another-server)"
LIVE = "`TicketMiddleware`, and how [connections end](live-connections.md)"


class Program(NamedTuple):
    """A server, the version that it says itself, its program, and what runs with it.

    ``program`` is on the path, or where Debian keeps servers, unless it is the name of
    one of the ENGINES.
    """

    name: str
    version: str
    program: str
    tests: str

    def said(self) -> str | None:
        """Return what the program says of its version, or None if it is not here."""
        if self.program in ENGINES:
            path = str(packages.find(self.program) or "")
        else:
            path = servers.find(self.program) or ""
        if not path:
            return None
        for word in ("--version", "-v", "version"):
            done = subprocess.run([path, word], capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout + done.stderr
        raise AssertionError(f"{path} does not say its version")


PROGRAMS = [
    Program("Redis", "7.0", "redis-server", f"{ALL}, Sentinel and Cluster"),
    Program("Redis", "8.2.3", "Redis", SOME),
    Program("Valkey", "9.1.2", "Valkey", SOME),
    Program("Memcached", "1.6", "memcached", ALL),
    Program("PostgreSQL", "15", "postgres", ALL),
    Program("PostgreSQL", "18.6", "PostgreSQL", f"{SOME}, PgBouncer before it or not"),
    Program("PgBouncer", "1.18", "pgbouncer", "a pool of transactions"),
    Program("MariaDB", "10.11", "mariadbd", ALL),
    Program("HAProxy", "2.6", "haproxy", f"{PROXY}, and {EXAMPLE}"),
    Program("Envoy", "1.40.0", "Envoy", PROXY),
    Program("twemproxy", "0.5", "nutcracker", PROXY),
    Program("nginx", "1.22", "nginx", EXAMPLE),
    Program("Caddy", "2.6", "caddy", EXAMPLE),
]


class Package(NamedTuple):
    """A Python package, its newest version that was tried, and what runs with it."""

    name: str
    version: str
    tests: str


DRIVERS = [
    Package("redis", "8.1", "Redis, Valkey"),
    Package("django-redis", "7.0", "Redis, as a Django cache"),
    Package("pymemcache", "4.0", "Memcached"),
    Package("psycopg", "3.3", "PostgreSQL"),
    Package("mysqlclient", "2.3", "MariaDB"),
]
SERVERS = [
    Package("uvicorn", "0.54", f"{LIVE}; {EXAMPLES}"),
    Package("hypercorn", "0.18", f"{LIVE}; {OTHER}, over HTTP/2 too"),
    Package("granian", "2.8", f"{LIVE}; {OTHER}"),
    Package("gunicorn", "27.0", f"its ASGI worker: {LIVE}; {OTHER}"),
    Package("daphne", "4.2", f"{LIVE}; {EXAMPLES}"),
    Package(
        "pyuwsgi",
        "2.0.30",
        "uWSGI: [Django's processes](deployment.md#djangos-processes)",
    ),
]


def lowest(name: str) -> str:
    """Return the lowest version that the project, or a group for tests, allows."""
    lists = [
        *PYPROJECT["project"]["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
    ]
    for line in (line for lines in lists for line in lines if isinstance(line, str)):
        requirement = Requirement(line)
        if requirement.name == name:
            (bound,) = [s for s in requirement.specifier if s.operator != "!="]
            return bound.version
    return ""


def rows_of_ci() -> Iterator[tuple[str, str, str]]:
    """Yield Python, Django, and other words for pip, of each row of ``.ci/run``."""
    (rows,) = re.findall(r"^ROWS=\(\n(.*?)^\)", CI.read_text(), re.M | re.S)
    for row in re.findall(r'"(.+)"', rows):
        python, django, *words = row.split(maxsplit=2)
        yield python, django, " ".join(words)


def tables() -> dict[str, str]:
    """Return the tables of the page by their names."""
    return {
        "python": table(
            ["Python", "Django", "other packages"],
            [
                [python, django, "the lowest allowed" if words else "the newest"]
                for python, django, words in rows_of_ci()
            ],
        ),
        "servers": table(
            ["", "version", "what runs with it"],
            [[each.name, each.version, each.tests] for each in PROGRAMS],
        ),
        "drivers": table(
            ["package", "lowest", "newest", "for"],
            [
                [each.name, lowest(each.name), each.version, each.tests]
                for each in DRIVERS
            ],
        ),
        "web": table(
            ["package", "version", "what runs with it"],
            [[each.name, each.version, each.tests] for each in SERVERS],
        ),
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write(page: Path = PAGE) -> None:
    """Put the tables into the page, each between two comments that name it."""
    text = page.read_text("utf-8")
    for name, lines in tables().items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(start)
        text = before + start + lines + end + rest.partition(end)[2]
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
