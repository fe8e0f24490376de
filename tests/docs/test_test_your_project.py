"""The tests on the page about testing pass, in the project of another page."""

from __future__ import annotations

import re
from pathlib import Path

from tests import matrix, servers
from tests.docs.pages import write_files
from tests.docs.projects import Project

INI = """\
[pytest]
DJANGO_SETTINGS_MODULE = settings
pythonpath = .
"""


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    """All of them, on a copy of the project that has a consumer of Channels."""
    matrix.require(matrix.ROWS["channels-uvicorn"])
    servers.need_module("starlette")
    project = Project.of_page("from-channels-auth.md", tmp_path)
    files = write_files("test-your-project.md", tmp_path)
    (tmp_path / "pytest.ini").write_text(INI)
    tests = [name for name in files if name.startswith("test_")]
    said = project.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    written = sum(path.read_text().count("def test_") for path in files.values())
    assert re.search(rf"^{written} passed", said, re.MULTILINE), said
