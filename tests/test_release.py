"""What a maintainer is told before a release, and what the workflow does."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOME = "https://github.com/someone/django-realtime-ticket"
check = runpy.run_path(str(ROOT / ".ci" / "check_release.py"))["check"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """All that is looked at, ready for version 1.2.3."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nversion = "1.2.3"\n[project.urls]\nRepository = "{HOME}"\n'
    )
    package = {"version": "1.2.3", "repository": {"url": f"git+{HOME}.git"}}
    (tmp_path / "package.json").write_text(json.dumps(package))
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2026-12-01\n")
    (tmp_path / "README.md").write_text("Install it.\n")
    return tmp_path


@pytest.mark.parametrize("repository", [HOME, ""])
def test_a_checkout_that_is_ready(checkout: Path, repository: str) -> None:
    assert list(check(checkout, "v1.2.3", repository)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("pyproject.toml", "1.2.3", "1.2.2", "pyproject.toml is 1.2.2, not 1.2.3."),
        ("pyproject.toml", "someone", "else", "[project.urls] of pyproject.toml is"),
        ("package.json", "1.2.3", "1.2.4", "package.json is 1.2.4, not 1.2.3."),
        ("package.json", "someone", "else", "repository of package.json is"),
        ("CHANGELOG.md", "[1.2.3] - 2026", "[Unreleased]", "no heading '## [1.2.3] -"),
        ("README.md", "Install", "Version 1 is not on PyPI.", "README.md says that"),
    ],
)
def test_what_is_still_to_be_done(
    checkout: Path, file: str, old: str, new: str, told: str
) -> None:
    path = checkout / file
    path.write_text(path.read_text().replace(old, new))

    (problem,) = check(checkout, "v1.2.3", HOME)

    assert told in problem


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2", "v1.2.3rc1"])
def test_only_tags_of_versions_are_released(checkout: Path, tag: str) -> None:
    assert f"The tag is {tag}, not like v1.0.0." in check(checkout, tag, HOME)


def test_pages_that_say_that_there_is_no_release_are_found() -> None:
    """In the words that they use: each of them has a checkout in its place."""
    problems = "\n".join(check(ROOT, "v1.0.0", ""))
    told = set(re.findall(r"^(\S+) says that there is no release", problems, re.M))
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert told == {
        str(page.relative_to(ROOT))
        for page in pages
        if re.search(r"from a\s+checkout|in a\s+checkout of the", page.read_text())
    }


def test_the_workflow_publishes_what_has_been_tried() -> None:
    """It uploads only what ``.ci/release`` has built, and needs no secret."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()

    assert 'run: .ci/release "$GITHUB_REF_NAME"' in text
    assert text.count("needs: build") == text.count("id-token: write") == 2
    assert "secrets." not in text
