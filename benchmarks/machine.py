"""Say on what, and with which versions, the benchmarks ran."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from importlib import metadata, util
from pathlib import Path
from typing import Final

import django

from tests import servers

from .tables import MARIADB

_DRIVERS: Final = (
    "redis", "coredis", "valkey-glide", "pymemcache", "psycopg", "mysqlclient",
    "django-redis",
)  # fmt: skip
_SERVERS: Final = ("redis-server", "memcached", "postgres", "mariadbd")


def describe() -> dict[str, str]:
    """Return what a reader has to know to make sense of the figures.

    Call it first: it says how busy the machine is.
    """
    parser = "with hiredis" if util.find_spec("hiredis") else "without hiredis"
    return {
        "date": datetime.date.today().isoformat(),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "system": platform.system(),
        "load before": f"{os.getloadavg()[0]:.1f} processes",
        "Python": platform.python_version(),
        "Django": django.get_version(),
        "drivers": ", ".join(f"{name} {metadata.version(name)}" for name in _DRIVERS)
        + f"; redis {parser}",
        "servers": ", ".join(f"{name} {_version(name)}" for name in _SERVERS)
        + "; on Unix sockets, PostgreSQL with fsync=off and MariaDB with "
        f"innodb-flush-log-at-trx-commit=0, {' and '.join(MARIADB)} 512 MB",
    }


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _version(program: str) -> str:
    command = [str(servers.find(program)), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", said)
    return found[0] if found else said.strip()
