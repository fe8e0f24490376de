"""What the pages say of settings, statuses, bounds and signatures is so."""

from __future__ import annotations

import re

import pytest
from django.utils.module_loading import import_string

import realtime_ticket
from realtime_ticket import (
    StorageError,
    TicketService,
    batching,
    signal_queue,
    views,
)
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.integrations import asgi
from realtime_ticket.integrations import urls as integration_urls
from realtime_ticket.live import LiveTickets
from tests.docs.pages import PAGES, ROOT, read


def test_bounds_are_those_of_the_code() -> None:
    text = read("async-and-threads.md")
    assert f"| `MAX_BATCH` | {batching.MAX_BATCH:,} calls |" in text
    assert f"| `MAX_WAITING` | {batching.MAX_WAITING:,} calls in a queue |" in text
    assert f"| `MAX_WAIT` | {batching.MAX_WAIT:g} seconds that" in text
    assert signal_queue.MAX_WAIT == 0.5
    assert "for half a second (`MAX_WAIT`" in text
    assert f"{signal_queue.MAX_WAITING:,} signals of one kind may wait" in text


def test_statuses_are_those_of_the_endpoint() -> None:
    documented = re.findall(r"^\| (\d{3}) \|", read("python-api.md"), re.MULTILINE)
    refusals = {status for _, status, _ in views._REFUSALS}
    assert set(map(int, documented)) == {200, 403, 405} | refusals


def test_refusals_are_those_of_the_middleware() -> None:
    documented = re.findall(
        r"^\| .+ \| (\d{3})(?:, `(.*): (.*)`)? \| (\d{4}|\N{EN DASH}) \|$",
        read("python-api.md"),
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
        read("python-api.md"),
        re.MULTILINE,
    )
    assert documented == [
        (view.__name__, view.__module__.rpartition(".")[2], str(url.pattern), url.name)
        for url in integration_urls.urlpatterns
        for view in [url.callback.view_class]
    ]


_GENERATED = re.compile(
    r"^\.\. auto(?:class|exception|function):: ([\w.]+)", re.MULTILINE
)
"""What Sphinx writes from a docstring. It fails for what cannot be imported."""


def test_public_names_are_documented() -> None:
    text = read("python-api.md")
    generated = {f"realtime_ticket.{name}" for name in realtime_ticket.__all__}
    missing = generated - set(_GENERATED.findall(text))
    assert {
        name for name in missing if f"`{name.partition('.')[2]}`" not in text
    } == set()


@pytest.mark.parametrize(
    "path", [path for page in PAGES for path in _GENERATED.findall(read(page))]
)
def test_what_is_generated_has_a_docstring(path: str) -> None:
    assert import_string(path).__doc__


@pytest.mark.parametrize("cls", [TicketService, LiveTickets, BaseBackend])
def test_every_method_has_a_docstring(cls: type) -> None:
    """Sphinx leaves out those that have none."""
    methods = [name for name in vars(cls) if not name.startswith("_")]
    assert [
        name
        for name in methods
        if callable(getattr(cls, name)) and not getattr(cls, name).__doc__
    ] == []


def test_the_changelog_page_skips_only_a_title() -> None:
    """The page includes the file without its first line."""
    first = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n")[0]
    assert first in ("", "# Changelog")
