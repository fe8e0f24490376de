"""What users read is in plain English: none of the words that readers stumbled over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

TEXTS = [
    *PAGES.values(),
    *ROOT.glob("*.md"),
    ROOT / "Makefile",
    *(
        path
        for folder in ("realtime_ticket", "examples", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".js", ".mjs", ".ts", ".html", ".toml"}
        if "node_modules" not in path.parts and path != Path(__file__)
    ),
]
ARCHAIC = re.compile(r"\b(?:anew|in vain|whoever|whomsoever|shall)\b", re.IGNORECASE)
HE = re.compile(r"\b(?:he|him|his|himself)\b", re.IGNORECASE)
"""A user or a caller is "they"."""

METAPHORS = re.compile(r"\b(?:doors?|lanes?|patients?)\b", re.IGNORECASE)
"""The field has nouns for these: calls, queues, services."""


def _found(words: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in paths
        for line in path.read_text("utf-8").splitlines()
        if words.search(line)
    ]


@pytest.mark.parametrize("words", [ARCHAIC, HE])
def test_words_are_plain(words: re.Pattern[str]) -> None:
    """Archaic ones need a second reading, above all from people who learnt English."""
    assert _found(words, TEXTS) == []


def test_calls_have_no_doors() -> None:
    """In the pages and in the package."""
    folders = {ROOT / name for name in ("examples", "benchmarks", "tests")}
    shown = [path for path in TEXTS if folders.isdisjoint(path.parents)]
    assert _found(METAPHORS, shown) == []


def test_the_words_are_found() -> None:
    """Guards the tests above against finding nothing to read."""
    assert len(TEXTS) > 300
    assert ARCHAIC.search("Whoever waits shall wait in vain.")
    assert HE.search("as often as he likes") and not HE.search("the others")
    assert METAPHORS.search("the async door") and not METAPHORS.search("AsyncDoor")
