"""The documentation is true: its code runs, and its facts are those of the package."""

from __future__ import annotations

import ast
import asyncio
import http.cookiejar
import importlib
import importlib.util
import inspect
import json
import operator
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import wsgiref.simple_server
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import global_settings
from django.core import checks as django_checks
from django.core.cache.backends.locmem import LocMemCache
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import get_commands, load_command_class
from django.db import connections
from django.template import engines
from django.test import Client, override_settings
from django.urls import Resolver404, resolve

import realtime_ticket
from examples.demo.__main__ import EXAMPLES as DEMOS
from examples.servers import EXAMPLES, SERVERS, Server
from realtime_ticket import (
    InvalidTicket,
    StorageError,
    TicketService,
    batching,
    checks,
    conf,
    get_service,
    revocations,
    signal_queue,
    signals,
    tickets,
    views,
)
from realtime_ticket.backends._database_checks import check_database
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import CARRIERS
from realtime_ticket.integrations import asgi, centrifugo
from realtime_ticket.integrations import urls as integration_urls
from realtime_ticket.watches import LATE_TOLERANCE, TOLERANCE
from tests import matrix, servers
from tests.matrix import ROWS, Row
from tests.processes import free_ports, running

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {"README.md": ROOT / "README.md"} | {
    page.relative_to(DOCS).as_posix(): page
    for page in sorted([*DOCS.glob("*.md"), *DOCS.glob("servers/*.md")])
}
PACKAGE = ROOT / "realtime_ticket"

BUILT = {
    "README.md",
    "tutorial.md",
    "apis-and-mobile-apps.md",
    "from-channels-auth.md",
    "from-django-sesame.md",
    "limits-and-metrics.md",
    "single-page-app.md",
}
"""Pages whose named files make up a project that is run, and not block by block."""

DIRECTIVES = {"{include}", "{literalinclude}", "{toctree}"}
LANGUAGES = {"python", "html", "json", "js", "perl", "console", "sh", "text"}
LANGUAGES |= DIRECTIVES

BASE_SETTINGS = """\
SECRET_KEY = "for tests only, and long enough that no check complains of its length"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
MIDDLEWARE = []
TEMPLATES = []
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
DJANGO_SETTINGS = {name for name in dir(global_settings) if name.isupper()}
DJANGO_SETTINGS |= {"BASE_DIR", "ROOT_URLCONF", "WSGI_APPLICATION"}
SETTINGS_OF_OTHERS = {
    "CORS_ALLOWED_ORIGINS",
    "CORS_ALLOW_CREDENTIALS",
    "CORS_EXPOSE_HEADERS",
    "REST_FRAMEWORK",
    "SESAME_MAX_AGE",
}
"""Settings of packages that the recipes are for. Their tests show what they do."""

_FENCE = re.compile(r"^```([^\s`]*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE_NAME = re.compile(
    r"(?:#|//|\{#|<!--) ([\w./-]+\.(?:py|html|js|mjs|pl|pm))(?:: .+)?(?: #\}| -->)?$"
)


@dataclass(frozen=True)
class Fence:
    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that the first comment line names, or nothing."""
        match = _FILE_NAME.match(self.text.partition("\n")[0])
        return match[1] if match else ""

    @property
    def assigned(self) -> list[str]:
        """The names that the top level assigns to."""
        names = []
        for statement in ast.parse(self.text).body:
            if isinstance(statement, ast.Assign):
                targets = statement.targets
            elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
                targets = [statement.target]
            else:
                continue
            names += [target.id for target in targets if isinstance(target, ast.Name)]
        return names

    @property
    def is_settings(self) -> bool:
        """Whether this belongs in a settings module, by its name or by its looks."""
        if self.file:
            return Path(self.file).name == "settings.py"
        names = self.assigned
        plain = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Import, ast.ImportFrom)
        return (
            bool(names)
            and all(name in DJANGO_SETTINGS or _is_ours(name) for name in names)
            and all(isinstance(node, plain) for node in ast.parse(self.text).body)
        )

    def run(self, namespace: dict[str, Any], text: str = "") -> None:
        """Execute it. A traceback shows the line of the page."""
        code = "\n" * self.line + (text or self.text)
        exec(compile(code, str(PAGES[self.page]), "exec"), namespace)

    def write(self, folder: Path, ports: Mapping[str, int] | None = None) -> Path:
        text = self.text
        for port, free_port in (ports or {}).items():
            text = text.replace(port, str(free_port))
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def _is_ours(name: str) -> bool:
    return name.startswith("REALTIME_TICKET_")


def _read(page: str) -> str:
    return PAGES[page].read_text("utf-8")


def _fences_of(page: str) -> list[Fence]:
    text = _read(page)
    return [
        Fence(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]


FENCES = {page: _fences_of(page) for page in PAGES}


def _python() -> list[Fence]:
    return [
        fence
        for fences in FENCES.values()
        for fence in fences
        if fence.language == "python"
    ]


def each(*languages: str, where: Callable[[Fence], bool] = lambda fence: True) -> Any:
    """Parametrize a test with the fences of these languages."""
    found = [
        pytest.param(fence, id=f"{page}:{fence.line}")
        for page, fences in FENCES.items()
        for fence in fences
        if fence.language in languages and where(fence)
    ]
    return pytest.mark.parametrize("fence", found)


# The code in the pages


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_has_a_language_that_is_tested(page: str) -> None:
    """A block that no test here knows is a block that nobody tests."""
    assert {fence.language for fence in FENCES[page]} <= LANGUAGES
    marks = re.findall(r"^ *(?:```|~~~)", _read(page), re.MULTILINE)
    assert marks == ["```"] * (2 * len(FENCES[page])), "indented, or not closed"


def test_the_documentation_has_code_of_every_kind() -> None:
    """Guards the tests below against finding nothing to do."""
    languages = {fence.language for fences in FENCES.values() for fence in fences}
    assert languages >= {"python", "html", "json", "js", "console"}
    assert sum(fence.is_settings for fence in _python()) > 10


@pytest.mark.parametrize("page", {fence.page: None for fence in _python()})
def test_python_runs(page: str, project: Path) -> None:
    """All Python of a page but the settings, in order and in one namespace.

    Files of a page that makes up a project are compiled here, and run in it.
    """
    namespace = _run_page(page, project)
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where files of pages go, on the import path until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modules = set(sys.modules)
    all_signals = [
        signals.ticket_issued,
        signals.ticket_consumed,
        signals.ticket_rejected,
        signals.user_disconnected,
    ]
    receivers = [list(signal.receivers) for signal in all_signals]
    yield tmp_path
    for signal, before in zip(all_signals, receivers, strict=True):
        signal.receivers = before
        signal.sender_receivers_cache.clear()
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def _run_page(page: str, folder: Path) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "docs"}
    fences = [fence for fence in FENCES[page] if fence.language == "python"]
    for fence in fences:
        if fence.file:
            fence.write(folder)
    for fence in fences:
        if fence.is_settings:
            continue
        if page in BUILT and fence.file:
            _check_names(fence)
        else:
            fence.run(namespace, _on_private_redis(fence.text))
    return namespace


def _on_private_redis(text: str) -> str:
    """Return the code with the Redis of these tests in the place of localhost's."""
    return text.replace('host="localhost"', f'unix_socket_path="{servers.REDIS}"')


def _check_names(fence: Fence) -> None:
    """Compile the file, and find all that it imports from this package."""
    tree = ast.parse(fence.text)
    compile(tree, fence.file, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(
            "realtime_ticket"
        ):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                submodule = f"{module.__name__}.{alias.name}"
                if not hasattr(module, alias.name):
                    assert importlib.util.find_spec(submodule), submodule


@each("python", where=lambda fence: fence.is_settings)
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
        env=_environment(tmp_path, DJANGO_SETTINGS_MODULE="settings_of_docs"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = set(re.findall(r"realtime_ticket\.[EW]\d+", result.stderr))
    if "LocMemBackend" in fence.text:
        found -= {"realtime_ticket.W001"}  # the block is about that
    assert result.returncode == 0 and not found, result.stderr


def _environment(folder: Path, **variables: str) -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return environment | {"PYTHONPATH": path} | variables


@each("html")
def test_html_compiles_as_a_template(fence: Fence) -> None:
    template = engines["django"].from_string(fence.text)
    assert template.template.nodelist


@each("html", where=lambda fence: "<script" in fence.text)
def test_scripts_in_html_parse(fence: Fence, tmp_path: Path) -> None:
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", fence.text, re.DOTALL)
    assert scripts
    for script in scripts:
        _check_js(script, tmp_path)


@each("json")
def test_json_parses(fence: Fence) -> None:
    assert isinstance(json.loads(fence.text), (dict, list))


@each("js")
def test_js_parses(fence: Fence, tmp_path: Path) -> None:
    _check_js(fence.text, tmp_path)


def _check_js(text: str, folder: Path) -> None:
    path = folder / "script.mjs"
    path.write_text(text)
    _node("--check", path)


def _node(*arguments: str | Path) -> str:
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


# Commands

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
NPM = json.loads((ROOT / "package.json").read_text("utf-8"))
PACKAGES = {
    "django-realtime-ticket": set(PYPROJECT["project"]["optional-dependencies"]),
    "websockets": set(),
}
"""What the pages install, and its extras."""


@each("console", "sh")
def test_commands_exist(fence: Fence) -> None:
    """Pages name only commands, options and files that there are."""
    lines = fence.text.splitlines()
    if lines[0].startswith("$ "):  # and what has no prompt is what the command prints
        commands = [line[2:] for line in lines if line.startswith("$ ")]
    else:
        commands = [line for line in lines if line and not line.startswith("#")]
    assert commands
    for command in commands:
        _check_command(shlex.split(command), fence.page)


def _check_command(words: list[str], page: str) -> None:
    match words:
        case ["pip" | "npm", "install", *requirements] if page in SERVER_PAGES:
            assert set(requirements) <= {"--no-deps", OURS, *_requirements(page)}
        case ["sudo", "apt", "install", program]:
            assert page == f"servers/{program}.md" and page in PROXIES
        case ["daphne" | "gunicorn" | "uvicorn", *_]:
            command = f"-m {shlex.join(words)}".replace("8001", "$PORT")
            assert command in {s.command[-1].partition('" ')[2] for s in _servers(page)}
        case ["npm", "install", *packages]:
            known = {"django-realtime-ticket", *NPM["devDependencies"]}
            assert set(packages) - {"--save-dev"} <= known
        case ["centrifugo", "-c", file]:
            assert (ROOT / file).is_file() and ":8001/" in _example(page, "client.js")
        case ["make", "demo", variable]:
            assert variable.removeprefix("SERVER=") in DEMOS
        case ["make", "test", variable]:
            file, *options = shlex.split(variable.removeprefix("ARGS="))
            assert (ROOT / file).is_file()
            assert not options or (options[0] == "-k" and options[1] in ROWS)
        case ["python", "-m", "venv", ".venv"] | [".", ".venv/bin/activate"]:
            pass
        case ["pip", "install", *requirements] | [
            "python",
            "-m",
            "pip",
            "install",
            *requirements,
        ]:
            for requirement in requirements:
                parts = re.fullmatch(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement)
                assert parts, requirement
                extras = set(parts[2].split(",")) if parts[2] else set()
                assert extras <= PACKAGES[parts[1]], requirement
        case ["python", "manage.py", name, *arguments]:
            _check_management_command(name, arguments)
        case ["python", "-m", "pytest", *files]:
            assert all(_exists(file, page) for file in files)
        case ["python", "-m", "unittest", module]:
            assert _exists(f"{module}.py", page)
        case ["python", "-c", code]:
            exec(compile(code, page, "exec"), {})
        case ["python", "server.py", proxy] if page in PROXIES:
            assert SERVERS[proxy].command[1:] == ("server.py", proxy)
        case ["python" | "node" | "perl", file, *files]:
            assert _exists(file, page)
            assert all(_exists(file.removeprefix("./"), page) for file in files)
        case ["curl", *_, url] if url.startswith("http://localhost:8000/internal/"):
            path = urllib.parse.urlsplit(url).path.removeprefix("/internal")
            assert resolve(path, integration_urls)
        case ["make", target]:
            makefile = (ROOT / "Makefile").read_text("utf-8")
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)
        case _:
            raise AssertionError(f"an unknown command: {shlex.join(words)}")


def _check_management_command(name: str, arguments: list[str]) -> None:
    app = get_commands()[name]
    command = load_command_class(app, name) if isinstance(app, str) else app
    known = command.create_parser("manage.py", name)._option_string_actions
    options = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    assert set(options) <= set(known)


def _exists(file: str, page: str) -> bool:
    named = {fence.file for fence in FENCES[page]}
    folders = [_folder(page)] if page in SERVER_PAGES else [DOCS, ROOT]
    return file in named or any((folder / file).is_file() for folder in folders)


def test_commands_that_do_not_exist_are_found() -> None:
    for command in (
        "python manage.py ticket_polish",
        "python manage.py migrate --no-such-option",
        "python nowhere.py",
        "pip install 'django-realtime-ticket[nonsense]'",
        "curl localhost",
        "curl http://localhost:8000/internal/nowhere/",
        "python -c 'import nowhere'",
        "make demo SERVER=nowhere",
        "make test ARGS=tests/test_nowhere.py",
    ):
        with pytest.raises((AssertionError, KeyError, Resolver404, ImportError)):
            _check_command(shlex.split(command), "tutorial.md")


# Facts


def test_settings_are_complete_and_their_defaults_true() -> None:
    found = re.findall(
        r"^## REALTIME_TICKET_(\w+)\n\nDefault: `(.*)`$",
        _read("settings.md"),
        re.MULTILINE,
    )
    assert {name: ast.literal_eval(default) for name, default in found} == conf.DEFAULTS


def test_settings_in_the_readme_are_complete_and_their_defaults_true() -> None:
    found = re.findall(
        r"^\| `REALTIME_TICKET_(\w+)` \| `(.*?)` \|", _read("README.md"), re.MULTILINE
    )
    assert {name: ast.literal_eval(default) for name, default in found} == conf.DEFAULTS


def test_every_setting_says_what_a_wrong_value_gives() -> None:
    sections = re.split(r"^## REALTIME_TICKET_", _read("settings.md"), flags=re.M)[1:]
    assert len(sections) == len(conf.DEFAULTS)
    for section in sections:
        assert re.search(r"^Wrong value: `realtime_ticket\.E\d{3}`", section, re.M)
        assert "```python" in section


def test_bounds_are_those_of_the_code() -> None:
    text = _read("async-and-threads.md")
    assert f"| `MAX_BATCH` | {batching.MAX_BATCH:,} calls |" in text
    assert f"| `MAX_WAITING` | {batching.MAX_WAITING:,} calls in a lane |" in text
    assert f"| `MAX_WAIT` | {batching.MAX_WAIT:g} seconds that" in text
    assert signal_queue.MAX_WAIT == 0.5
    assert "for half a second (`MAX_WAIT`" in text
    assert f"{signal_queue.MAX_WAITING:,} signals of one kind may wait" in text


def test_statuses_are_those_of_the_endpoint() -> None:
    documented = re.findall(r"^\| (\d{3}) \|", _read("python-api.md"), re.MULTILINE)
    refusals = {status for _, status, _ in views._REFUSALS}
    assert set(map(int, documented)) == {200, 403, 405} | refusals


def test_refusals_are_those_of_the_middleware() -> None:
    documented = re.findall(
        r"^\| .+ \| (\d{3})(?:, `(.*): (.*)`)? \| (\d{4}|\N{EN DASH}) \|$",
        _read("python-api.md"),
        re.MULTILINE,
    )
    assert sorted((int(http), close) for http, _, _, close in documented) == sorted(
        (refusal.status, str(refusal.close_code or "\N{EN DASH}"))
        for refusal in asgi._REFUSALS.values()
    )
    ((_, name, seconds, _),) = [row for row in documented if row[1]]
    header = asgi._REFUSALS[StorageError].header
    assert header == (name.lower().encode(), seconds.encode())


def test_views_for_servers_have_the_documented_urls() -> None:
    documented = re.findall(
        r"^\| `(\w+View)` \| `(\w+)` \| `(.*)`, `(.*)` \|$",
        _read("python-api.md"),
        re.MULTILINE,
    )
    assert documented == [
        (view.__name__, view.__module__.rpartition(".")[2], str(url.pattern), url.name)
        for url in integration_urls.urlpatterns
        for view in [url.callback.view_class]
    ]


def test_public_names_are_documented() -> None:
    text = _read("python-api.md")
    undocumented = {
        name
        for name in realtime_ticket.__all__
        if not re.search(rf"`{name}\b", text) and f"## {name}" not in text
    }
    assert undocumented == set()


_SIGNATURE = re.compile(r"^### `([\w.]+)(\(.*\))`$", re.MULTILINE)


SIGNATURES = _SIGNATURE.findall(_read("python-api.md"))


@pytest.mark.parametrize(("name", "signature"), SIGNATURES)
def test_signatures_are_those_of_the_code(name: str, signature: str) -> None:
    path, _, last = name.rpartition(".")
    if path.split(".")[0] in ("backends", "handshake", "integrations"):
        found: Any = getattr(importlib.import_module(f"realtime_ticket.{path}"), last)
    elif path.split(".")[0] == "live":
        found = operator.attrgetter(name)(realtime_ticket)
    else:
        owner = getattr(realtime_ticket, path) if path else realtime_ticket
        found = getattr(owner, last)
    actual = inspect.signature(found)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in actual.parameters.values()
        if parameter.name != "self"
    ]
    bare = inspect.Signature(parameters)
    assert _dump(signature) == _dump(str(bare))


def _dump(signature: str) -> str:
    return ast.dump(ast.parse(f"def f{signature}: pass"))


def test_every_method_of_the_service_is_documented() -> None:
    documented = {
        name.partition(".")[2]
        for name, _ in SIGNATURES
        if name.startswith("TicketService.")
    }
    public = {name for name in vars(TicketService) if not name.startswith("_")}
    assert documented == public


# System checks


def _documented_checks(page: str = "system-checks.md") -> dict[str, str]:
    found = re.findall(
        r"^## realtime_ticket\.([EIW]\d{3})\n\n> (.*)\n\nWhy: .*(?:\n.+)*\n\nFix: ",
        _read(page),
        re.MULTILINE,
    )
    return dict(found)


def test_check_ids_are_those_of_the_source() -> None:
    source = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    used = set(re.findall(r'id="(?:realtime_ticket\.)?([EIW]\d{3})"', source))
    assert len(used) > 20
    of_doctor = set(_documented_checks("ticket-doctor.md"))
    assert {*_documented_checks(), *of_doctor} == used
    assert _documented_checks().keys().isdisjoint(of_doctor)
    every_page = "".join(map(_read, PAGES))
    assert set(re.findall(r"\b[EIW]0\d\d\b", every_page)) <= used


_CACHE = {"REALTIME_TICKET_BACKEND": "realtime_ticket.backends.cache.CacheBackend"}
_DJANGO_CACHES = "django.core.cache.backends"
_PROCESSOR = "realtime_ticket.context_processors.realtime_ticket"


def _cache(backend: str, **options: Any) -> dict[str, Any]:
    return _CACHE | {"CACHES": {"default": {"BACKEND": backend, "OPTIONS": options}}}


class MyBackend(LocMemBackend):
    """A backend of somebody's own, for tickets only."""

    read_many = BaseBackend.read_many


class OwnDelete(LocMemCache):
    def delete(self, key: str, version: int | None = None) -> bool:
        raise NotImplementedError


TRIGGERS: dict[str, dict[str, Any]] = {
    "E001": {"REALTIME_TICKET_BACKEND": "no.such.Backend"},
    "E002": {"REALTIME_TICKET_BACKEND": "decimal.Decimal"},
    "E003": {"REALTIME_TICKET_EXPIRE": 0},
    "E005": {
        "REALTIME_TICKET_BACKEND": "realtime_ticket.backends.redis.RedisBackend",
        "REALTIME_TICKET_REDIS": {"hots": "localhost"},
    },
    "E006": {"REALTIME_TICKET_PREFIX": "rt:"},
    "E007": {"REALTIME_TICKET_AUDIENCES": "chat"},
    "E008": {"REALTIME_TICKET_CLAIMS": "no.such.function"},
    "E009": {"REALTIME_TICKET_HASH_KEYS": "yes"},
    "E010": _CACHE | {"REALTIME_TICKET_CACHE": "nowhere"},
    "E011": _cache(
        "django_redis.cache.RedisCache",
        IGNORE_EXCEPTIONS=True,
        CONNECTION_POOL_KWARGS={},
    ),
    "E015": _cache(
        "django_redis.cache.RedisCache",
        CLIENT_CLASS="django_redis.client.herd.HerdClient",
        CONNECTION_POOL_KWARGS={},
    ),
    "E016": _cache("django_bmemcached.memcached.BMemcached"),
    "E013": {"REALTIME_TICKET_SERVICE_KEYS": "a-single-key-that-is-long-enough"},
    "E017": {"REALTIME_TICKET_DISCONNECT": "no"},
    "E018": {"REALTIME_TICKET_JOURNAL_EXPIRE": 10},
    "I007": {
        "DEBUG": True,
        "REALTIME_TICKET_BACKEND": "realtime_ticket.backends.locmem.LocMemBackend",
    },
    "W001": {
        "REALTIME_TICKET_BACKEND": "realtime_ticket.backends.locmem.LocMemBackend"
    },
    "W002": {"REALTIME_TICKET_EXPIRE": 3600},
    "W003": _cache(f"{_DJANGO_CACHES}.locmem.LocMemCache"),
    "W004": _cache(f"{_DJANGO_CACHES}.redis.RedisCache"),
    "W008": {"MIDDLEWARE": ["realtime_ticket.middleware.RealtimeTicketMiddleware"]},
    "W009": {
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"context_processors": [_PROCESSOR]},
            }
        ]
    },
    "W010": _cache(f"{_DJANGO_CACHES}.dummy.DummyCache"),
    "W011": {"REALTIME_TICKET_TIMEOUT": 10},
    "W012": _cache(f"{_DJANGO_CACHES}.memcached.PyMemcacheCache"),
    "W021": _cache(f"{__name__}.OwnDelete"),
    "W025": _cache(f"{_DJANGO_CACHES}.filebased.FileBasedCache"),
    "W026": _CACHE
    | {
        "CACHES": {
            "default": {
                "BACKEND": f"{_DJANGO_CACHES}.redis.RedisCache",
                "LOCATION": ["redis://a.invalid", "redis://b.invalid"],
            }
        }
    },
    "W022": {"REALTIME_TICKET_BACKEND": f"{__name__}.MyBackend"},
    "W023": {"REALTIME_TICKET_EXPIRE": 3600},
}


@pytest.mark.parametrize("id", TRIGGERS)
def test_check_messages_are_as_documented(id: str) -> None:
    with override_settings(**TRIGGERS[id]):
        found = [
            *checks.check_settings(),
            *checks.check_template_variable(),
            *checks.check_backend(),
        ]
    assert _documented_checks()[id] in _messages(found, id)


def test_the_message_about_a_missing_driver_is_as_documented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = "realtime_ticket.backends.redis"
    monkeypatch.delitem(sys.modules, path)
    monkeypatch.setitem(sys.modules, "redis", None)
    with override_settings(REALTIME_TICKET_BACKEND=f"{path}.RedisBackend"):
        found = checks.check_settings()
    assert _documented_checks()["E004"] in _messages(found, "E004")


def test_messages_about_a_database_are_as_documented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documented = _documented_checks()
    connection: Any = connections["default"]
    monkeypatch.setattr(connection, "is_in_memory_db", lambda: False)
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    monkeypatch.setattr(connection.introspection, "table_names", list)
    found = check_database("default", may_query=True)
    for id in ("W005", "W006", "W007"):
        assert documented[id] in _messages(found, id)
    monkeypatch.setattr(connection, "vendor", "oracle")
    found = check_database("default", may_query=True)
    assert documented["E012"] in _messages(found, "E012")


def test_the_message_about_an_outage_is_as_documented() -> None:
    port = servers.free_port()
    with override_settings(
        REALTIME_TICKET_BACKEND="realtime_ticket.backends.redis.RedisBackend",
        REALTIME_TICKET_REDIS={"port": port},
    ):
        (found,) = checks.check_storage(databases=["default"])
    said = str(found.msg).replace(str(port), "6380")
    assert (found.id, said) == ("realtime_ticket.W020", _documented_checks()["W020"])


def test_every_check_is_triggered_here() -> None:
    elsewhere = {"E004", "E012", "W005", "W006", "W007", "W020"}
    assert TRIGGERS.keys() | elsewhere == _documented_checks().keys()


def _messages(found: list[django_checks.CheckMessage], id: str) -> list[str]:
    return [str(check.msg) for check in found if check.id == f"realtime_ticket.{id}"]


# The realtime servers

SERVER_PAGES = {
    page for page in PAGES if page.startswith("servers/") and page != "servers/index.md"
}
PROXIES = {"servers/caddy.md", "servers/haproxy.md", "servers/nginx.md"}
FOLDERS = {"servers/nodejs.md": "node-ws", **dict.fromkeys(PROXIES, "proxies")}
"""Pages whose example is not called like them."""

OURS = "django-realtime-ticket[redis]"

MATRIX = {
    name: (f"servers/{page}.md", cells.split(" | "))
    for name, page, cells in re.findall(
        r"^\| \[([\w-]+)\]\((\w+)\.md\) \| (.*) \|$", _read("servers/index.md"), re.M
    )
}
"""The table: each server's page, and the cells after its name."""

NEEDS = {
    name: (origin, needs)
    for name, origin, needs in re.findall(
        r"^\| ([\w-]+) \| (.*`.*) \| (.*) \|$", _read("servers/index.md"), re.M
    )
}
"""The second table: where each server judges the origin, and what it needs."""

SHAPE = [
    "Install",
    "The server",
    "Run it",
    "Try it",
    "What a client sees",
    "Origin",
    "What goes wrong",
]


def _folder(page: str) -> Path:
    return EXAMPLES / FOLDERS.get(page, Path(page).stem)


def _example(page: str, file: str) -> str:
    return (_folder(page) / file).read_text("utf-8")


def _servers(page: str) -> list[Server]:
    return [SERVERS[name] for name in MATRIX if MATRIX[name][0] == page]


def _rows(page: str) -> list[Row]:
    return [ROWS[name] for name in SERVERS if SERVERS[name] in _servers(page)]


def _requirements(page: str) -> set[str]:
    """What to install for the example of this page, as pip and npm write it."""
    found = set()
    for path in _folder(page).glob("requirements*.txt"):
        lines = path.read_text("utf-8").splitlines()
        found |= {line for line in lines if not line.startswith("#")}
    for path in _folder(page).glob("package.json"):
        versions = json.loads(path.read_text("utf-8"))["dependencies"]
        found |= {f"{name}@{version}" for name, version in versions.items()}
    return found or {"centrifuge"}


def _section(page: str, name: str) -> str:
    sections = re.split(r"^## (.*)\n", _read(page), flags=re.M)
    return sections[sections.index(name) + 1]


def test_every_server_has_a_page() -> None:
    folders = {server.directory for server in SERVERS.values()}
    assert {_folder(page) for page in SERVER_PAGES} == {
        *folders,
        EXAMPLES / "centrifugo",
    }


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_of_servers_are_of_one_shape(page: str) -> None:
    headings = re.findall(r"^## (.*)$", _read(page), re.M)
    optional = {"Run it"} if page == "servers/centrifugo.md" else set()
    expected = [each for each in SHAPE if each not in optional]
    assert [each for each in headings if each in SHAPE] == expected


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_show_the_files_of_the_example(page: str) -> None:
    """And all that the reader needs: what is run, and what that imports."""
    included = re.findall(r"^```\{literalinclude\} (.+)$", _read(page), re.M)
    paths = {(PAGES[page].parent / path).resolve() for path in included}
    code = {
        path
        for path in _folder(page).iterdir()
        if path.suffix in {".py", ".mjs", ".js", ".conf"} or path.name == "config.json"
    }
    if page in PROXIES:  # each shows its own, and not what starts it for the demo
        shown = {"nginx": ["nginx.conf"], "caddy": ["Caddyfile"]}
        shown |= {"haproxy": ["haproxy.cfg", "authorize.lua"]}
        names = [*shown[Path(page).stem], "upstream.py"]
        code = {_folder(page) / name for name in names}
    assert paths == code


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_install_what_the_example_requires(page: str) -> None:
    lines = re.findall(
        r"^\$ (?:pip|npm) install (.*)$", _section(page, "Install"), re.M
    )
    words = {word for line in lines for word in shlex.split(line)}
    assert words - {"--no-deps", OURS} == _requirements(page)
    assert (OURS in words) is bool({*_folder(page).glob("requirements.txt")})


@pytest.mark.parametrize("page", sorted(SERVER_PAGES))
def test_pages_try_the_example_in_the_demo(page: str) -> None:
    shown = set(re.findall(r"^\$ make demo SERVER=(.*)$", _read(page), re.M))
    assert shown == {row.name for row in _rows(page)} & set(DEMOS)


@pytest.mark.parametrize("page", sorted(SERVER_PAGES - {"servers/centrifugo.md"}))
def test_pages_say_what_a_client_sees(page: str) -> None:
    rows = _rows(page)
    streams = {row.events for row in rows} - {None}
    expected = {
        "no good ticket": {row.refused for row in rows} | streams,
        "a page of another site": {row.foreign for row in rows} | (streams and {403}),
        "storage down": {row.down for row in rows} | (streams and {503}),
        "the user logs out": {row.revoked for row in rows if row.revoked == 4401},
    }
    table = re.findall(
        r"^\| ([a-z].*?) \| (.*) \|$", _section(page, "What a client sees"), re.M
    )
    assert {
        name: set(map(int, re.findall(r"\b\d{3,4}\b", cells))) for name, cells in table
    } == expected


def test_the_page_of_centrifugo_has_the_codes_of_the_view() -> None:
    source = inspect.getsource(centrifugo.CentrifugoConnectView.post)
    table = re.findall(
        r"^\| .* \| (\d{4}) \| (.*) \|$",
        _section("servers/centrifugo.md", "What a client sees"),
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
    assert _folder(page) == SERVERS[name].directory
    files = [path for path in _folder(page).iterdir() if path.is_file()]
    code = "".join(path.read_text("utf-8") for path in files)
    names = re.findall(r"`(.+?)`", NEEDS[name][0])
    assert names and all(each in code for each in names)


@pytest.mark.parametrize("page", {page: None for page, _ in MATRIX.values()})
def test_the_matrix_needs_what_the_example_requires(page: str) -> None:
    """All rows of a page together name each requirement and its version."""
    needs = [NEEDS[row.name][1] for row in _rows(page)]
    required = {re.sub(r"\[.*\]", "", line) for line in _requirements(page)}
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
        _read("servers/index.md"),
        re.M,
    )
    assert [int(seconds) for names, seconds in rows if name in names] == [found[option]]


# The wire format

VECTORS = json.loads((DOCS / "wire-format-vectors.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", VECTORS["tickets"], ids=lambda each: each["name"])
def test_vectors_are_what_the_package_does(vector: dict[str, Any]) -> None:
    value, audience, prefix = vector["value"], vector["audience"], vector["prefix"]
    assert tickets.value_format(prefix).fullmatch(value)
    key = tickets.storage_key(
        value, audience, prefix=prefix, hashed=vector["hash_keys"]
    )
    assert key == vector["key"]
    data = tickets.encode(
        vector["claims"],
        audience=audience,
        issued_at=vector["iat"],
        expires_at=vector["exp"],
    )
    assert data == vector["data"]
    ticket = tickets.decode(data, value=value, audience=audience)
    assert ticket.claims == vector["claims"]
    assert (ticket.issued_at, ticket.expires_at) == (vector["iat"], vector["exp"])


def test_a_big_id_is_stored_as_the_vector_says() -> None:
    vector = next(v for v in VECTORS["tickets"] if "would round" in v["name"])
    claims = vector["claims"] | {"id": int(vector["claims"]["id"])}
    data = tickets.encode(
        claims, audience="", issued_at=vector["iat"], expires_at=vector["exp"]
    )
    assert data == vector["data"]


@pytest.mark.parametrize("value", VECTORS["malformed"], ids=repr)
def test_malformed_vectors_are_refused(value: Any) -> None:
    service = TicketService(RedisBackend(unix_socket_path="/nonexistent/socket"))
    with pytest.raises(InvalidTicket) as caught:
        service.consume(value)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda each: each["name"])
def test_accepted_vectors_are_accepted(vector: dict[str, Any]) -> None:
    ticket = tickets.decode(vector["data"], value="", audience=vector["audience"])
    assert (ticket.user_id, ticket.username) == (vector["id"], vector["username"])
    assert type(ticket.user_id) is type(vector["id"])


@pytest.mark.parametrize("data", VECTORS["refused"], ids=lambda data: data[:60])
def test_refused_vectors_are_refused(data: str) -> None:
    with pytest.raises(InvalidTicket) as caught:
        tickets.decode(data, value="", audience="")
    assert caught.value.reason == "mismatch"


JOURNAL = json.loads((DOCS / "journal-vectors.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", JOURNAL["entries"], ids=lambda each: each["name"])
def test_disconnects_are_what_the_package_does(vector: dict[str, Any]) -> None:
    place = vector["prefix"], vector["second"], vector["slot"]
    assert revocations.journal_key(*place) == vector["key"]
    entry = revocations.decode(vector["text"])
    assert entry is not None
    for ticket in vector["tickets"]:
        session, issued_at = ticket["sid"], ticket["iat"]
        is_named = revocations.user_key(ticket["id"]) in entry.users
        found = {
            "ends": entry.concerns(session),
            "ends_late": entry.refuses(session, issued_at, tolerance=LATE_TOLERANCE),
            "refused": entry.refuses(session, issued_at, tolerance=TOLERANCE),
        }
        assert {name: is_named and is_so for name, is_so in found.items()} == {
            name: ticket[name] for name in found
        }, ticket


@pytest.mark.parametrize("text", JOURNAL["refused"])
def test_what_is_no_disconnect_is_refused(text: str) -> None:
    assert revocations.decode(text) is None


def test_the_example_in_node_agrees_with_the_disconnects(tmp_path: Path) -> None:
    """Mutants: ids are compared as they are; a session ends for a time only."""
    matrix.require(ROWS["node-ws-redis"])
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ strict as assert }} from "node:assert";
        import {{ readFileSync }} from "node:fs";
        import {{ concerns, decode }} from "{EXAMPLES}/node-ws/disconnects.mjs";
        const vectors = JSON.parse(readFileSync("{DOCS}/journal-vectors.json"));
        for (const {{ text, tickets }} of vectors.entries) {{
          const entry = decode(text);
          for (const {{ id, sid, iat, ...expected }} of tickets) {{
            const ends = concerns(entry, id, sid, -Infinity, 0);
            const ends_late = concerns(entry, id, sid, iat, 10);
            const refused = concerns(entry, id, sid, iat, 2);
            assert.deepEqual({{ ends, ends_late, refused }}, expected);
          }}
        }}
        for (const text of vectors.refused) assert.equal(decode(text), null, text);
        console.log("ok");
        """
    )
    assert _node(script) == "ok\n"


@pytest.fixture
def modules(tmp_path: Path) -> None:
    """The example's packages, for a script in ``tmp_path``."""
    matrix.require(ROWS["node-ws-redis"])
    (tmp_path / "node_modules").symlink_to(ROOT / matrix.NODE)


def _write_files(page: str, folder: Path) -> dict[str, Path]:
    return {fence.file: fence.write(folder) for fence in FENCES[page] if fence.file}


@pytest.mark.usefixtures("modules")
def test_the_consumer_in_node_agrees_with_the_vectors(tmp_path: Path) -> None:
    reader = _write_files("write-a-consumer.md", tmp_path)["consumer.mjs"]
    vectors = DOCS / "wire-format-vectors.json"
    printed = _node(DOCS / "check-vectors.mjs", vectors, reader)
    count = sum(len(VECTORS[name]) for name in VECTORS if name != "version")
    assert printed == f"{count} vectors agree.\n"
    assert printed in {fence.text for fence in FENCES["write-a-consumer.md"]}


def test_the_example_in_node_agrees_with_the_vectors(tmp_path: Path) -> None:
    """It lets in whom the data names, and refuses what is no ticket's with 401.

    Mutant: the claims are whatever JSON.parse() returns.
    """
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ readFileSync }} from "node:fs";
        import {{ judge }} from "{EXAMPLES}/node-ws/handshake.mjs";
        import {{ open }} from "{EXAMPLES}/node-ws/ticket.mjs";
        const vectors = JSON.parse(readFileSync("{DOCS}/wire-format-vectors.json"));
        const [{{ value }}] = vectors.tickets;
        const url = `/ws?ticket=${{value}}`;
        const request = {{ method: "GET", headers: {{}}, url }};
        const data = [...vectors.accepted, ...vectors.tickets];
        const opened = data.map((each) => {{
          const ticket = open(each.data, each.audience);
          return [ticket?.id, ticket?.username];
        }});
        const judged = [];
        // It ends connections with their login, and so it reads the login's name.
        const plain = vectors.tickets[0].data.slice(0, -1);
        const sids = ["5", "null", "[]"].map((sid) => `${{plain}},"sid":${{sid}}}}`);
        for (const each of [null, ...sids, ...vectors.refused]) {{
          judged.push(await judge(request, async () => each));
        }}
        console.log(JSON.stringify([opened, judged]));
        """
    )
    opened, judged = json.loads(_node(script))
    expected = [[each["id"], each["username"]] for each in VECTORS["accepted"]]
    for each in VECTORS["tickets"]:
        expected.append([each["claims"]["id"], each["claims"]["username"]])
    assert opened == expected
    assert judged == [{"status": 401}] * (4 + len(VECTORS["refused"]))


@pytest.mark.usefixtures("modules")
def test_the_consumer_in_node_reads_redis(tmp_path: Path) -> None:
    """A good ticket, once; with a script; and what an outage looks like."""
    storage = matrix.Redis(tmp_path)
    try:
        path = _write_files("write-a-consumer.md", tmp_path)["server.mjs"]
        text = path.read_text()
        assert text.count("redis://localhost:6379/0") == 1
        path.write_text(text.replace("redis://localhost:6379/0", storage.url))
        service = TicketService(RedisBackend(url=storage.url))
        value, other = _issue(service, "chat"), _issue(service)
        service.close()
        script = tmp_path / "script.mjs"
        script.write_text(
            f"""
            import {{ connect }} from "./consumer.mjs";
            import {{ judge }} from "./server.mjs";
            import {{ take }} from "./take.mjs";
            console.log((await judge("{value}")).claims.username);
            console.log((await judge("{value}")).status);
            console.log((await judge("{other}")).status);
            const client = await connect("{storage.url}");
            console.log(JSON.parse(await take(client, "{other}")).id);
            console.log(await take(client, "{other}"));
            process.kill({storage.process.pid}, "SIGKILL");
            console.log((await judge("{value}")).status);
            process.exit();
            """
        )
        printed = _node(script)
    finally:
        storage.kill()
    assert printed.split() == ["ana", "401", "401", "7", "null", "503"]


PERL = shutil.which("perl")
needs_perl = pytest.mark.skipif(
    PERL is None and not servers.REQUIRED, reason="perl is not installed"
)


def _perl(*arguments: str | Path) -> str:
    result = subprocess.run(
        ["perl", "-w", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@needs_perl
def test_the_consumer_in_perl_agrees_with_the_vectors(tmp_path: Path) -> None:
    reader = _write_files("write-a-consumer.md", tmp_path)["Ticket.pm"]
    vectors = DOCS / "wire-format-vectors.json"
    printed = _perl(DOCS / "check-vectors.pl", vectors, reader)
    assert printed in {fence.text for fence in FENCES["write-a-consumer.md"]}


@needs_perl
def test_the_server_in_perl_tells_an_outage_from_a_bad_ticket(tmp_path: Path) -> None:
    """With a stand-in for the module Redis, which is not among Perl's own."""
    _write_files("write-a-consumer.md", tmp_path)
    vector = next(v for v in VECTORS["tickets"] if v["name"] == "audience")
    (tmp_path / "Redis.pm").write_text(
        f"""
        package Redis;
        our $down = 0;
        sub new {{ return bless {{ '{vector["key"]}' => '{vector["data"]}' }} }}
        sub getdel {{ die 'down' if $down; return delete $_[0]{{$_[1]}} }}
        1;
        """
    )
    script = tmp_path / "script.pl"
    script.write_text(
        f"""
        no warnings 'once';
        require '{tmp_path}/server.pl';
        print judge('{vector["value"]}')->{{claims}}{{username}}, ' ';
        print judge('{vector["value"]}')->{{status}}, ' ';
        $Redis::down = 1;
        print judge('{vector["value"]}')->{{status}};
        """
    )
    assert _perl(f"-I{tmp_path}", script) == "ana 401 503"


# Readers, on a real Redis


@pytest.fixture
def issuer() -> Iterator[TicketService]:
    servers.require("redis")
    service = TicketService(RedisBackend(unix_socket_path=str(servers.REDIS)))
    yield service
    service.close()


def _issue(issuer: TicketService, audience: str = "") -> str:
    return issuer.issue({"id": 7, "username": "ana"}, audience=audience).value


def test_the_reader_without_the_package_works(
    issuer: TicketService, project: Path
) -> None:
    page = _run_page("wire-format.md", project)
    consume, client = page["consume"], page["client"]
    value = _issue(issuer)
    assert consume(value)["username"] == "ana"
    assert consume(value) is None
    value = _issue(issuer, "chat")
    assert consume(value) is None
    assert consume(value, "chat")["id"] == 7
    client.set("session:1", "secret")
    assert consume("session:1") is None
    assert client.getdel("session:1") == b"secret"
    client.close()


def test_the_reader_without_the_package_agrees_with_the_vectors(project: Path) -> None:
    page = _run_page("wire-format.md", project)
    page["client"] = None  # malformed values must not reach it
    for vector in VECTORS["tickets"]:
        page["PREFIX"] = vector["prefix"]
        value, audience = vector["value"], vector["audience"]
        key = page["storage_key"](value, audience, vector["hash_keys"])
        assert key == vector["key"]
        fields = page["open_data"](vector["data"].encode(), audience)
        assert vector["claims"].items() <= fields.items()
    for vector in VECTORS["accepted"]:
        fields = page["open_data"](vector["data"].encode(), vector["audience"])
        assert fields["id"] == vector["id"]
        assert type(fields["id"]) is type(vector["id"])
        assert fields["username"] == vector["username"]
    for value in VECTORS["malformed"]:
        assert page["consume"](value) is None
    for data in VECTORS["refused"]:
        assert page["open_data"](data.encode()) is None, data


def test_the_reader_of_the_migration_works(
    issuer: TicketService, project: Path
) -> None:
    page = _run_page("migrate-from-2012.md", project)
    value = _issue(issuer)
    assert page["user_of"](value)["username"] == "ana"
    assert page["user_of"](value) is None
    page["client"].close()


def test_the_reader_with_the_package_works(
    issuer: TicketService, project: Path
) -> None:
    page = _run_page("choose-a-backend.md", project)
    value = _issue(issuer)
    ticket, status = asyncio.run(page["log_in"](value))
    assert (ticket.username, status) == ("ana", None)
    assert asyncio.run(page["log_in"](value)) == (None, 401)
    page["service"].close()


def test_the_four_steps_of_the_servers_work(
    issuer: TicketService, project: Path
) -> None:
    page = _run_page("servers/index.md", project)

    def judge(
        *values: str,
        origin: str | None = "https://example.com",
        query: str = "",
        method: str = "GET",
    ) -> Any:
        offered = ", ".join(["realtime-ticket.v1", *(f"ticket.{v}" for v in values)])
        headers = {"Sec-WebSocket-Protocol": offered}
        if origin:
            headers["Origin"] = origin
        return asyncio.run(page["judge"](method, headers, query))

    value = _issue(issuer)
    for origin in ("https://evil.example", None):
        assert judge(value, origin=origin) == (403, None, None)
    assert judge(value, method="OPTIONS") == (405, None, None)
    assert judge(value, query=f"ticket={_issue(issuer)}") == (401, None, None)
    status, ticket, subprotocol = judge(value)
    assert (status, ticket.username) == (None, "ana")
    assert subprotocol == "realtime-ticket.v1"
    assert judge(value) == judge() == (401, None, None)
    page["tickets"].close()


def test_the_reader_of_the_first_page_works(
    issuer: TicketService, project: Path
) -> None:
    page = _run_page("index.md", project)
    value = _issue(issuer)
    assert asyncio.run(page["name_of"](value)) == "ana"
    assert asyncio.run(page["name_of"](value)) is None
    page["service"].close()


# Consuming over HTTP, from a server that is one

SERVICE_KEY = "a-key-of-these-tests-that-is-long-enough"


class _QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def internal(
    settings: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of the view, in a Django that listens and has the page's URLs."""
    _run_page("consume-over-http.md", project)
    settings.ROOT_URLCONF = "urls"
    settings.REALTIME_TICKET_SERVICE_KEYS = [SERVICE_KEY]
    monkeypatch.setenv("TICKET_KEY", SERVICE_KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with wsgiref.simple_server.make_server(
        "127.0.0.1", 0, WSGIHandler(), handler_class=_QuietHandler
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/internal/consume/"
        server.shutdown()
        thread.join()


def test_the_consumer_in_python_works(internal: str, project: Path) -> None:
    consume = _run_page("consume-over-http.md", project)["consume"]
    _set_globals(consume, URL=internal, KEY=SERVICE_KEY)
    value = _issue(get_service(), "chat")
    assert consume(value) is None
    assert consume(value, "chat") == {"id": 7, "username": "ana"}
    assert consume(value, "chat") is None
    _set_globals(consume, KEY="wrong")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        consume(value)
    _set_globals(consume, URL="http://127.0.0.1:1/")
    with pytest.raises(urllib.error.URLError):
        consume(value)


def _set_globals(function: Any, **values: str) -> None:
    function.__globals__.update(values)


def test_the_consumer_in_node_works(internal: str, tmp_path: Path) -> None:
    (fence,) = [f for f in FENCES["consume-over-http.md"] if f.file == "consumer.mjs"]
    path = fence.write(tmp_path)
    text = path.read_text()
    assert text.count("http://localhost:8000/internal/consume/") == 1
    path.write_text(text.replace("http://localhost:8000/internal/consume/", internal))
    value = _issue(get_service(), "chat")
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ consume }} from "{path}";
        console.log(await consume("{value}"));
        console.log((await consume("{value}", "chat")).username);
        console.log(await consume("{value}", "chat"));
        process.env.TICKET_KEY = "wrong";
        await consume("{value}").catch((error) => console.log(error.message));
        """
    )
    printed = _node(script).splitlines()
    assert printed == ["null", "ana", "null", "Django answers 401"]


def test_the_listener_in_node_works(internal: str, tmp_path: Path) -> None:
    """It tells each disconnect once, of which connections, and what came before."""
    (fence,) = [
        f for f in FENCES["consume-over-http.md"] if f.file == "disconnects.mjs"
    ]
    path = fence.write(tmp_path)
    url = internal.replace("consume", "disconnects")
    text = path.read_text().replace("http://localhost:8000/internal/disconnects/", url)
    path.write_text(text.replace("setTimeout(resolve, 500)", "setTimeout(resolve, 50)"))
    service = get_service()
    service.disconnect(7, session="s1")
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ concerns, hasEnded, listen }} from "{path}";
        const of = (id, session, issued_at) =>
          ({{ claims: {{ id }}, session, issued_at }});
        const now = Date.now() / 1000;
        listen((each) => {{
          const those = [of(7, "s1"), of("7", ""), of(7, "s2"), of(8, "s1")];
          console.log(each.kind, ...those.map((answer) => concerns(each, answer)));
          if (each.kind === "user") {{
            console.log(hasEnded(of(7, "s1", now + 60)), hasEnded(of(7, "s2", now - 1)),
                        hasEnded(of(7, "s2", now + 60)), hasEnded(of(8, "s1", now)));
            setTimeout(process.exit, 200);
          }}
        }}, () => console.log("in doubt"));
        """
    )
    timer = threading.Timer(0.5, lambda: service.disconnect(7))
    timer.start()
    printed = _node(script).splitlines()
    timer.join()
    assert printed == [
        "session true false false false",
        "user true true true false",
        "true true false false",
    ]


def test_the_listener_in_node_asks_again_after_an_error(
    internal: str, settings: Any, tmp_path: Path
) -> None:
    """And is in doubt when it was away for as long as disconnects are kept."""
    (fence,) = [
        f for f in FENCES["consume-over-http.md"] if f.file == "disconnects.mjs"
    ]
    path = fence.write(tmp_path)
    text = path.read_text().replace(
        "http://localhost:8000/internal/disconnects/",
        internal.replace("consume", "disconnects"),
    )
    path.write_text(text.replace("setTimeout(resolve, 500)", "setTimeout(resolve, 20)"))
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ listen }} from "{path}";
        const now = performance.now.bind(performance);
        let away = 0;
        performance.now = () => now() + away;
        const key = process.env.TICKET_KEY;
        process.env.TICKET_KEY = "wrong";
        setTimeout(() => {{ process.env.TICKET_KEY = key; away = 111_000; }}, 300);
        console.error = (text) => console.log(text);
        listen(() => console.log("heard"), () => {{ console.log("in doubt"); }});
        setTimeout(process.exit, 900);
        """
    )
    printed = _node(script).splitlines()
    assert printed[0] == "Django answers 401"
    assert [line for line in printed if "401" not in line] == ["in doubt"]


def test_curl_prints_what_the_page_says_of_disconnects(internal: str) -> None:
    if servers.find("curl") is None:
        pytest.skip("curl is not installed")
    get_service().disconnect(7)
    (block,) = [f for f in FENCES["consume-over-http.md"] if "since" in f.text[:200]
                and f.language == "console"]  # fmt: skip
    command, documented = block.text.removeprefix("$ ").splitlines()
    command = command.replace(
        "http://localhost:8000/internal/disconnects/",
        internal.replace("consume", "disconnects"),
    )
    printed = subprocess.run(
        ["sh", "-c", f"{command} --silent"], capture_output=True, timeout=60, check=True
    )
    answer, expected = json.loads(printed.stdout), json.loads(documented)
    for each in (answer, expected):
        (entry,) = each["disconnects"]
        assert 0 <= each.pop("now") - entry.pop("at") <= 2
        assert len(entry.pop("id")) == 16
    assert answer == expected


def test_curl_prints_what_the_page_says(internal: str) -> None:
    if servers.find("curl") is None:
        pytest.skip("curl is not installed")
    (block,) = [f for f in FENCES["consume-over-http.md"] if "rt_…" in f.text]
    command, documented = block.text.removeprefix("$ ").splitlines()
    command = command.replace("http://localhost:8000/internal/consume/", internal)
    command = command.replace("rt_…", _issue(get_service()))
    printed = subprocess.run(
        ["sh", "-c", f"{command} --silent"], capture_output=True, timeout=60, check=True
    )
    answer, expected = json.loads(printed.stdout), json.loads(documented)
    assert answer["expires_at"] - answer["issued_at"] == 10
    for each in (answer, expected):
        del each["issued_at"], each["expires_at"]
    assert answer == expected


@pytest.mark.urls("tests.test_http_consume")
def test_answers_are_those_of_the_view(settings: Any) -> None:
    rows = re.findall(
        r"^\| (\d{3}) \| (.*?) \| .* \| .* \|$", _read("consume-over-http.md"), re.M
    )
    documented = {int(status): body for status, body in rows}
    settings.REALTIME_TICKET_SERVICE_KEYS = [SERVICE_KEY]
    settings.REALTIME_TICKET_EXPIRE = 60  # the first request loads the URLs
    good = {"ticket": _issue(get_service())}

    def post(
        body: Any, path: str = "/internal/consume/", key: str = SERVICE_KEY
    ) -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        return Client().post(path, body, "application/json", headers=headers)

    answers = [
        post(good),
        post(good),
        post([]),
        post(good, key="wrong"),
        post(good, "/down/"),
        post(good, "/closed/"),
        Client().get(
            "/internal/consume/", headers={"Authorization": f"Bearer {SERVICE_KEY}"}
        ),
    ]
    assert sorted(answer.status_code for answer in answers) == sorted(documented)
    for answer in answers:
        body = documented[answer.status_code]
        is_json = answer.headers["Content-Type"] == "application/json"
        assert is_json is ("Django's page" not in body)
        if is_json:
            assert f'`"status": "{answer.json()["status"]}"`' in body
        seconds = answer.headers.get("Retry-After")
        assert ("Retry-After" in body) is (seconds is not None)
        assert seconds is None or f"`Retry-After: {seconds}`" in body


# The two functions of the page about exactly once


@pytest.mark.parametrize(
    ("name", "winners"), [("consume_twice", 2), ("consume_once", 1)]
)
def test_what_the_page_says_of_racing_callers(
    name: str, winners: int, project: Path
) -> None:
    """Two callers that both read before either deletes."""
    consume = _run_page("exactly-once.md", project)[name]
    both_have_read = threading.Barrier(2)
    kept = {"key": "text"}

    class Cache:
        def get(self, key: str) -> str | None:
            text = kept.get(key)
            both_have_read.wait(30)
            return text

        def delete(self, key: str) -> bool:
            return kept.pop(key, None) is not None

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(consume, [Cache()] * 2, ["key"] * 2))
    assert results.count("text") == winners


# The backend of the page about backends


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["-m", "pytest", "-q", "test_directory.py"], r"\b5\d passed"),
        (["-m", "unittest", "test_directory_unittest"], r"\nOK \(skipped=2\)"),
    ],
    ids=["pytest", "unittest"],
)
def test_the_example_backend_keeps_the_contract(
    command: list[str], expected: str, tmp_path: Path
) -> None:
    for fence in FENCES["write-a-backend.md"]:
        if fence.file:
            fence.write(tmp_path)
    environment = _environment(tmp_path, TMPDIR=str(tmp_path))
    result = subprocess.run(
        [sys.executable, *command],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert re.search(expected, output), output


# The tutorial


def test_the_tutorial_ends_as_it_says(tmp_path: Path) -> None:
    """Build the project, start both processes, and do what the reader does."""
    from websockets.exceptions import InvalidStatus

    web, realtime = free_ports()
    written = set()
    for fence in FENCES["tutorial.md"]:
        if fence.file:
            fence.write(tmp_path, {"8000": web, "8001": realtime})
            written.add(fence.file)
    assert "The project has six files." in _read("tutorial.md") and len(written) == 6
    environment = _environment(tmp_path, DJANGO_SUPERUSER_PASSWORD="a pass phrase")

    def manage(*arguments: str) -> None:
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr

    manage("migrate")
    manage("check", "--fail-level", "WARNING", "--database", "default")
    name = ["--username", "ana", "--email", "ana@example.com"]
    manage("createsuperuser", "--noinput", *name)

    address = f"127.0.0.1:{web}"
    here = {"folder": tmp_path, "environment": environment}
    runserver = ("manage.py", "runserver", "--noreload", address)
    with (
        running(*runserver, port=web, **here),
        running("realtime.py", port=realtime, **here),
    ):
        browser = Browser(f"http://{address}")
        page = browser.get("/")
        assert page.url.endswith("/login/?next=/")
        status, answer = browser.post_ticket(page)
        assert (status, answer["status"]) == (401, "error")

        page = browser.log_in(page, "ana", "a pass phrase")
        assert "you are ana" in page.text
        status, answer = browser.post_ticket(page)
        assert (status, answer["status"], answer["expires_in"]) == (200, "ok", 10)
        ticket = answer["message"]

        talk = ["Hello, ana.", "ana: hi"]
        assert _talk(realtime, ticket, browser.origin) == talk
        for shown in (ticket, "", "nonsense"):
            with pytest.raises(InvalidStatus) as refused:
                _talk(realtime, shown, browser.origin)
            assert refused.value.response.status_code == 401

        status, answer = browser.post_ticket(page)
        with pytest.raises(InvalidStatus) as refused:
            _talk(realtime, answer["message"], "http://elsewhere.example")
        assert refused.value.response.status_code == 403
        status, answer = browser.post_ticket(page)
        assert _talk(realtime, answer["message"], browser.origin) == talk


def _talk(port: int, ticket: str, origin: str) -> list[str]:
    from websockets.sync.client import connect
    from websockets.typing import Origin, Subprotocol

    with connect(
        f"ws://127.0.0.1:{port}/",
        subprotocols=[
            Subprotocol("realtime-ticket.v1"),
            Subprotocol(f"ticket.{ticket}"),
        ],
        origin=Origin(origin),
        open_timeout=30,
        proxy=None,
    ) as connection:
        assert connection.subprotocol == "realtime-ticket.v1"
        heard = [str(connection.recv(timeout=30))]
        connection.send("hi")
        return [*heard, str(connection.recv(timeout=30))]


@dataclass(frozen=True)
class Page:
    url: str
    text: str

    @property
    def csrf_token(self) -> str:
        match = re.search(r"\b\w{64}\b", self.text)
        assert match, self.text
        return match[0]


class Browser:
    def __init__(self, origin: str) -> None:
        self.origin = origin
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        no_proxy = urllib.request.ProxyHandler({})
        self._opener = urllib.request.build_opener(cookies, no_proxy)

    def get(self, path: str, data: dict[str, str] | None = None) -> Page:
        body = urllib.parse.urlencode(data).encode() if data else None
        with self._opener.open(self.origin + path, body, timeout=30) as response:
            return Page(response.url, response.read().decode())

    def log_in(self, page: Page, username: str, password: str) -> Page:
        data = {"username": username, "password": password}
        path = page.url.removeprefix(self.origin)
        return self.get(path, data | {"csrfmiddlewaretoken": page.csrf_token})

    def post_ticket(self, page: Page) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"{self.origin}/ticket/",
            method="POST",
            headers={"X-CSRFToken": page.csrf_token},
        )
        try:
            with self._opener.open(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def test_the_changelog_page_skips_only_a_title() -> None:
    """The page includes the file without its first line."""
    first = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n")[0]
    assert first in ("", "# Changelog")
