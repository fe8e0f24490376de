"""Lists in the pages and docstrings name everything that there is, and nothing else."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from realtime_ticket import InvalidTicket, Revoked
from realtime_ticket.exceptions import Cause, Reason
from tests.backends import BACKENDS
from tests.docs.pages import PAGES, read

NAMES = {path.removeprefix("realtime_ticket.backends.") for path in BACKENDS}
"""Such as ``redis.RedisBackend``."""


def test_there_are_backends() -> None:
    """Guards the tests below against an empty list."""
    assert {"redis.RedisBackend", "cache.CacheBackend"} <= NAMES


@pytest.mark.parametrize("page", ["README.md", "choose-a-backend.md", "settings.md"])
def test_every_backend_is_named_where_one_is_chosen(page: str) -> None:
    """In a table, a setting, an import, or a sentence."""
    text = re.sub(r"(\w+) import (\w+Backend)", r"\1.\2", read(page))
    named = set(re.findall(r"[`.](\w+\.\w+Backend)\b", text))
    assert named - {"base.BaseBackend"} == NAMES


@pytest.mark.parametrize(
    ("error", "causes"), [(InvalidTicket, Reason), (Revoked, Cause)]
)
def test_every_cause_is_explained(error: type[Exception], causes: object) -> None:
    """The docstring has a line for each, and a page too if it lists them."""
    bullets = re.findall(r"^ *- ``(\w+)``: ", str(error.__doc__), re.MULTILINE)
    assert bullets == list(get_args(causes))


def test_reasons_in_the_pages_are_those_of_the_code() -> None:
    """Wherever a page names or lists the reasons of InvalidTicket."""
    named = set()
    for text in map(read, PAGES):
        for table in re.findall(r"^\| reason \|.*\n(?:\|.*\n)+", text, re.MULTILINE):
            listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
            assert set(listed) == set(get_args(Reason))
        named |= set(re.findall(r"\bthe reason `(\w+)`", text))
        named |= set(re.findall(r"\breason == \"(\w+)\"", text))
    assert named
    assert named <= set(get_args(Reason))
