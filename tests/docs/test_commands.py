"""The commands in the pages exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
import urllib.error
import urllib.parse
import urllib.request

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import Resolver404, resolve

from examples.demo.__main__ import EXAMPLES as DEMOS
from examples.servers import SERVERS
from realtime_ticket.integrations import urls as integration_urls
from tests.docs.pages import DOCS, FENCES, ROOT, Fence, each_fence
from tests.docs.programs import FROM_CHECKOUT
from tests.docs.server_pages import (
    OURS,
    PROXIES,
    SERVER_PAGES,
    folder_of,
    read_example,
    requirements_of,
    servers_of,
)
from tests.matrix import ON_OTHER_SERVERS, ROWS

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CHECKOUT = "path/to/django-realtime-ticket"
NPM = json.loads((ROOT / "package.json").read_text("utf-8"))
PACKAGES = {
    "django-realtime-ticket": set(PYPROJECT["project"]["optional-dependencies"]),
    "starlette": set(),
    "uvicorn": {"standard"},
    "websockets": set(),
}
"""What the pages install, and its extras."""

REQUIREMENT = re.compile(
    r"(?:\./(?=django-realtime-ticket)|(?!django-realtime-ticket(?!.*>=1)))"
    r"([\w-]+)(?:\[([\w,-]+)\])?(?:>=1)?"
)
"""Ours says >=1: with less, a resolver may choose 0.1.0, the package of 2012."""


@each_fence("console", "sh")
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
            assert set(requirements) <= {"--no-deps", OURS, *requirements_of(page)}
        case ["sudo", "apt", "install", program]:
            assert page == f"servers/{program}.md" and page in PROXIES
        case ["daphne" | "granian" | "gunicorn" | "hypercorn" | "uvicorn", *_]:
            command = f"-m {shlex.join(words)}".replace("8001", "$PORT")
            commands = {s.command[-1].partition('" ')[2] for s in servers_of(page)}
            commands |= {row.command for row in ON_OTHER_SERVERS.values()}
            assert command in commands
        case ["npm", "install", *words] if words == [*FROM_CHECKOUT, CHECKOUT]:
            assert (ROOT / "package.json").is_file()
        case ["npm", "install", *packages]:
            known = {"django-realtime-ticket", *NPM["devDependencies"]}
            assert set(packages) - {"--save-dev"} <= known
        case ["centrifugo", "-c", file]:
            assert (ROOT / file).is_file() and ":8001/" in read_example(
                page, "client.js"
            )
        case ["make", "demo", variable]:
            assert variable.removeprefix("SERVER=") in DEMOS
        case ["make", "test", variable]:
            file, *options = shlex.split(variable.removeprefix("ARGS="))
            assert (ROOT / file).is_file()
            assert not options or (options[0] == "-k" and options[1] in ROWS)
        case ["python3", "-m", "venv", folder] | [".", folder]:
            assert folder.removesuffix("/bin/activate") in {".venv", "env"}
        case ["django-admin", "startproject", name] | ["cd", name]:
            assert any(fence.file == f"{name}/settings.py" for fence in FENCES[page])
        case ["mkdir", folder]:
            assert any(fence.file.startswith(f"{folder}/") for fence in FENCES[page])
        case [variable, "python3", *words] if "=" in variable:
            assert variable.partition("=")[0] == "DJANGO_SUPERUSER_PASSWORD"
            _check_command(["python3", *words], page)
        case ["python3", *words]:
            _check_command(["python", *words], page)
        case ["pip", "install", *requirements] | [
            "python",
            "-m",
            "pip",
            "install",
            *requirements,
        ]:
            for requirement in requirements:
                parts = re.fullmatch(REQUIREMENT, requirement)
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
        case ["python" | "node" | "perl" | "php" | "ruby", file, *files]:
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
    folders = [folder_of(page)] if page in SERVER_PAGES else [DOCS, ROOT]
    return file in named or any((folder / file).is_file() for folder in folders)


def test_commands_that_do_not_exist_are_found() -> None:
    for command in (
        "python manage.py ticket_polish",
        "python manage.py migrate --no-such-option",
        "python nowhere.py",
        "pip install 'django-realtime-ticket[nonsense]>=1'",
        "pip install 'django-realtime-ticket[redis]'",
        "curl localhost",
        "curl http://localhost:8000/internal/nowhere/",
        "python -c 'import nowhere'",
        "make demo SERVER=nowhere",
        "make test ARGS=tests/test_nowhere.py",
    ):
        with pytest.raises((AssertionError, KeyError, Resolver404, ImportError)):
            _check_command(shlex.split(command), "tutorial.md")
