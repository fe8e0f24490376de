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
    ROOT,
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
CHECK = """
import json, os, sys, traceback
import django, django.core.management, django.db.models, django.template  # for all

def check(folder):
    reader, writer = os.pipe()
    if not os.fork():
        os.close(reader)
        os.dup2(writer, sys.stderr.fileno())
        os.chdir(folder)
        sys.path.insert(0, folder)
        try:
            django.setup()
            # Of no database: Django 6.1 would connect to each, and theirs are made up.
            django.core.management.call_command("check", databases=[])
            status = 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    os.close(writer)
    with open(reader) as end:
        said = end.read()
    return os.wait()[1], said

output = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what the checks print
os.write(output, json.dumps(list(map(check, sys.argv[1:]))).encode())
"""
"""Check the settings in folders, each in a fork, and print how it ended and said."""

SETTINGS = [fence for fence in python_fences() if fence.is_settings]


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_has_a_language_that_is_tested(page: str) -> None:
    """A block that no test here knows is a block that nobody tests."""
    assert {fence.language for fence in FENCES[page]} <= LANGUAGES
    assert not re.search(r"^(<{7}|>{7}) ", read(page), re.MULTILINE), "half a merge"
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


def check(*folders: Path) -> list[tuple[int, str]]:
    """Return how ``check`` of the settings in each folder ended, and what it said."""
    result = subprocess.run(
        [sys.executable, "-c", CHECK, *map(str, folders)],
        env=environment_of(ROOT, DJANGO_SETTINGS_MODULE="settings_of_docs"),
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    return [(status, said) for status, said in json.loads(result.stdout)]


def write_settings(folder: Path, text: str) -> None:
    code = BASE_SETTINGS + text + BASE_SETTINGS_END
    (folder / "settings_of_docs.py").write_text(code)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[Fence, tuple[int, str]]:
    """Give what ``check`` of all settings of the pages found, in one process."""
    folders = {}
    for fence in SETTINGS:
        folder = folders[fence] = tmp_path_factory.mktemp("settings")
        for other in FENCES[fence.page]:
            if other.language == "python" and other.file and not other.is_settings:
                other.write(folder)
        write_settings(folder, fence.text)
    return dict(zip(folders, check(*folders.values()), strict=True))


def test_wrong_settings_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the helper of the test below: an error, a warning, and an exception."""
    texts = ["REALTIME_TICKET_EXPIRE = 0", "REALTIME_TICKET_EXPIRE = 3600", "0 / 0"]
    folders = [tmp_path_factory.mktemp("settings") for _ in texts]
    for folder, text in zip(folders, texts, strict=True):
        write_settings(folder, text)
    (error, said), (warning, warned), (exception, raised) = check(*folders)
    assert error and "realtime_ticket.E003" in said
    assert not warning and "realtime_ticket.W002" in warned
    assert exception and "ZeroDivisionError" in raised


@each_fence("python", where=lambda fence: fence.is_settings)
def test_settings_pass_the_system_checks(
    fence: Fence, checked: dict[Fence, tuple[int, str]]
) -> None:
    """Settings blocks hold settings, and manage.py check finds nothing wrong."""
    known = DJANGO_SETTINGS | {f"REALTIME_TICKET_{name}" for name in conf.DEFAULTS}
    known |= SETTINGS_OF_OTHERS
    assert set(fence.assigned) <= known
    if "django.db.backends.mysql" in fence.text:
        servers.need("mariadb")  # its driver, which is compiled
    status, said = checked[fence]
    found = set(re.findall(r"realtime_ticket\.[EW]\d+", said))
    if "LocMemBackend" in fence.text:
        found -= {"realtime_ticket.W001"}  # the block is about that
    assert status == 0 and not found, said


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
