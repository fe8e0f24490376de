"""Say what is still to be done before a tag is released: check_release.py v1.0.0"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNRELEASED = re.compile(r"Version \d+ is not (?:on (?:PyPI|npm)|released)")


def main(tag: str) -> None:
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    name = os.environ.get("GITHUB_REPOSITORY")
    if problems := list(check(ROOT, tag, f"{server}/{name}" if name else "")):
        raise SystemExit("\n".join(problems))


def check(root: Path, tag: str, repository: str) -> Iterator[str]:
    """Yield what is wrong. Without the repository's address, any will do."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    package = json.loads((root / "package.json").read_text("utf-8"))
    version = tag.removeprefix("v")
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        yield f"The tag is {tag}, not like v1.0.0."
    for file, found in (
        ("pyproject.toml", project["version"]),
        ("package.json", package["version"]),
    ):
        if found != version:
            yield f"The version in {file} is {found}, not {version}."
    if not re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$",
        (root / "CHANGELOG.md").read_text("utf-8"),
        re.MULTILINE,
    ):
        yield f"CHANGELOG.md has no heading '## [{version}] - YYYY-MM-DD'."
    # npm compares its field with the repository that publishes, and refuses others.
    for file, found in (
        ("[project.urls] of pyproject.toml", project.get("urls", {}).get("Repository")),
        ("repository of package.json", package.get("repository", {}).get("url")),
    ):
        if not found or repository not in found:
            yield f"The {file} is {found}, not {repository or 'the address of this'}."
    for page in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        if UNRELEASED.search(page.read_text("utf-8")):
            yield f"{page.relative_to(root)} says that there is no release yet."


if __name__ == "__main__":
    main(sys.argv[1])
