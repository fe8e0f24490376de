"""The code in the pages runs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.template import engines

from realtime_ticket import conf
from tests import servers
from tests.docs.pages import (
    BUILT,
    DJANGO_SETTINGS,
    FENCES,
    PAGES,
    SETTINGS_OF_OTHERS,
    Fence,
    each_fence,
    python_fences,
    read,
    run_page,
)
from tests.docs.programs import check_js, environment_of

DIRECTIVES = {"{eval-rst}", "{image}", "{include}", "{literalinclude}", "{toctree}"}
LANGUAGES = {"python", "html", "json", "js", "perl", "php", "ruby"}
LANGUAGES |= {"console", "sh", "text"}
LANGUAGES |= DIRECTIVES

BASE_SETTINGS = """\
from pathlib import Path
BASE_DIR = Path(__file__).parent
SECRET_KEY = "for tests only, and long enough that no check complains of its length"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
MIDDLEWARE = []
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
"""
BASE_SETTINGS_END = """
ROOT_URLCONF = "tests.urls"
def _ours(names):
    ours = ("django.", "realtime_ticket")
    return [name for name in names if name is not ... and name.startswith(ours)]
INSTALLED_APPS = _ours(INSTALLED_APPS)
MIDDLEWARE = _ours(MIDDLEWARE)
for app in ("contenttypes", "auth"):
    if f"django.contrib.{app}" not in INSTALLED_APPS:
        INSTALLED_APPS.insert(0, f"django.contrib.{app}")
if "realtime_ticket" not in INSTALLED_APPS:
    INSTALLED_APPS.append("realtime_ticket")
"""
# Of no database: Django 6.1 would connect to each, and theirs are made up.
CHECK = """
import django
from django.core.management import call_command
django.setup()
call_command("check", databases=[])
"""


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_has_a_language_that_is_tested(page: str) -> None:
    """A block that no test here knows is a block that nobody tests."""
    assert {fence.language for fence in FENCES[page]} <= LANGUAGES
    marks = re.findall(r"^ *(?:```|~~~)", read(page), re.MULTILINE)
    assert marks == ["```"] * (2 * len(FENCES[page])), "indented, or not closed"


def test_the_documentation_has_code_of_every_kind() -> None:
    """Guards the tests below against finding nothing to do."""
    languages = {fence.language for fences in FENCES.values() for fence in fences}
    assert languages >= {"python", "html", "json", "js", "console"}
    assert sum(fence.is_settings for fence in python_fences()) > 10


@pytest.mark.parametrize("page", {fence.page: None for fence in python_fences()})
def test_python_runs(page: str, project: Path) -> None:
    """All Python of a page but the settings, in order and in one namespace.

    Files of a page that makes up a project are compiled here, and run in it.
    """
    namespace = run_page(page, project)
    run = [
        fence
        for fence in FENCES[page]
        if fence.language == "python"
        and not fence.is_settings
        and not (page in BUILT and fence.file)
    ]
    defined = {
        node.name
        for fence in run
        for node in ast.parse(fence.text).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    assert defined <= namespace.keys()


@each_fence("python", where=lambda fence: fence.is_settings)
def test_settings_pass_the_system_checks(fence: Fence, tmp_path: Path) -> None:
    """Settings blocks hold settings, and manage.py check finds nothing wrong."""
    known = DJANGO_SETTINGS | {f"REALTIME_TICKET_{name}" for name in conf.DEFAULTS}
    known |= SETTINGS_OF_OTHERS
    assert set(fence.assigned) <= known
    if "django.db.backends.mysql" in fence.text:
        servers.need("mariadb")  # its driver, which is compiled
    for other in FENCES[fence.page]:
        if other.language == "python" and other.file and not other.is_settings:
            other.write(tmp_path)
    (tmp_path / "settings_of_docs.py").write_text(
        BASE_SETTINGS + fence.text + BASE_SETTINGS_END
    )
    result = subprocess.run(
        [sys.executable, "-c", CHECK],
        env=environment_of(tmp_path, DJANGO_SETTINGS_MODULE="settings_of_docs"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = set(re.findall(r"realtime_ticket\.[EW]\d+", result.stderr))
    if "LocMemBackend" in fence.text:
        found -= {"realtime_ticket.W001"}  # the block is about that
    assert result.returncode == 0 and not found, result.stderr


@each_fence("html")
def test_html_compiles_as_a_template(fence: Fence) -> None:
    template = engines["django"].from_string(fence.text)
    assert template.template.nodelist


@each_fence("html", where=lambda fence: "<script" in fence.text)
def test_scripts_in_html_parse(fence: Fence, tmp_path: Path) -> None:
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", fence.text, re.DOTALL)
    assert scripts
    for script in scripts:
        check_js(script, tmp_path)


@each_fence("json")
def test_json_parses(fence: Fence) -> None:
    assert isinstance(json.loads(fence.text), (dict, list))


@each_fence("js")
def test_js_parses(fence: Fence, tmp_path: Path) -> None:
    check_js(fence.text, tmp_path)
