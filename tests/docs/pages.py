"""The pages, and the code in them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import global_settings

from tests import servers

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {"README.md": ROOT / "README.md"} | {
    page.relative_to(DOCS).as_posix(): page
    for page in sorted([*DOCS.glob("*.md"), *DOCS.glob("servers/*.md")])
}
PACKAGE = ROOT / "realtime_ticket"

VECTORS = json.loads((DOCS / "wire-format-vectors.json").read_text("utf-8"))
"""What the page about the wire format promises, for readers in every language."""

BUILT = {
    "README.md",
    "tutorial.md",
    "apis-and-mobile-apps.md",
    "from-channels-auth.md",
    "from-django-sesame.md",
    "limits-and-metrics.md",
    "single-page-app.md",
    "test-your-project.md",
}
"""Pages whose named files make up a project that is run, and not block by block."""

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
    r"(?:#|//|<\?php //|\{#|<!--) ([\w./-]+\.(?:py|html|js|mjs|pl|pm|php|rb))"
    r"(?:: .+)?(?: #\}| -->)?$"
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
            and all(name in DJANGO_SETTINGS or is_ours(name) for name in names)
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


def is_ours(name: str) -> bool:
    return name.startswith("REALTIME_TICKET_")


def read(page: str) -> str:
    return PAGES[page].read_text("utf-8")


def _fences_of(page: str) -> list[Fence]:
    text = read(page)
    return [
        Fence(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]


FENCES = {page: _fences_of(page) for page in PAGES}


def python_fences() -> list[Fence]:
    return [
        fence
        for fences in FENCES.values()
        for fence in fences
        if fence.language == "python"
    ]


def each_fence(
    *languages: str, where: Callable[[Fence], bool] = lambda fence: True
) -> Any:
    """Parametrize a test with the fences of these languages."""
    found = [
        pytest.param(fence, id=f"{page}:{fence.line}")
        for page, fences in FENCES.items()
        for fence in fences
        if fence.language in languages and where(fence)
    ]
    return pytest.mark.parametrize("fence", found)


def run_page(page: str, folder: Path) -> dict[str, Any]:
    """Run the Python of a page, with its files in the folder. Return its names."""
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


def write_files(page: str, folder: Path) -> dict[str, Path]:
    """Write the files of a page, and return where they are."""
    return {fence.file: fence.write(folder) for fence in FENCES[page] if fence.file}


def section(page: str, name: str) -> str:
    """Return what stands below this heading of the page."""
    sections = re.split(r"^## (.*)\n", read(page), flags=re.M)
    return sections[sections.index(name) + 1]
