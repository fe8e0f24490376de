"""What the tests of pages run: Python, Node.js and Perl, with tickets to read."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from realtime_ticket import TicketService
from tests import servers
from tests.docs.pages import ROOT


def environment_of(folder: Path, **variables: str) -> dict[str, str]:
    """Return the variables of a Python that finds this folder, and no settings."""
    environment = dict(os.environ)
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return environment | {"PYTHONPATH": path} | variables


def check_js(text: str, folder: Path) -> None:
    path = folder / "script.mjs"
    path.write_text(text)
    run_node("--check", path)


def run_node(*arguments: str | Path) -> str:
    """Run Node.js and return what it prints. Skip the test when there is none."""
    node = servers.find("node")
    if node is None:
        if servers.REQUIRED:
            pytest.fail("node is not installed", pytrace=False)
        pytest.skip("node is not installed")
    result = subprocess.run(
        [node, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


FROM_CHECKOUT = ["--install-links", "--ignore-scripts"]
"""Options with which npm installs the package from a checkout, as from a registry."""

PERL = shutil.which("perl")
needs_perl = pytest.mark.skipif(
    PERL is None and not servers.REQUIRED, reason="perl is not installed"
)


def run_perl(*arguments: str | Path) -> str:
    result = subprocess.run(
        ["perl", "-w", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def issue(issuer: TicketService, audience: str = "") -> str:
    return issuer.issue(
        {"id": 7, "username": "ana"}, audience=audience, expire=60
    ).value
