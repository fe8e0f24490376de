"""The two functions of the page about exactly once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.pages import run_page


@pytest.mark.parametrize(
    ("name", "winners"), [("consume_twice", 2), ("consume_once", 1)]
)
def test_what_the_page_says_of_racing_callers(
    name: str, winners: int, project: Path
) -> None:
    """Two callers that both read before either deletes."""
    consume = run_page("exactly-once.md", project)[name]
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
