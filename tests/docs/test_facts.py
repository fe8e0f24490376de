"""What the pages say of settings, statuses, bounds and signatures is so."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import operator
import re
from typing import Any

import pytest

import realtime_ticket
from realtime_ticket import (
    StorageError,
    TicketService,
    batching,
    conf,
    signal_queue,
    views,
)
from realtime_ticket.integrations import asgi
from realtime_ticket.integrations import urls as integration_urls
from tests.docs.pages import ROOT, read


def test_settings_are_complete_and_their_defaults_true() -> None:
    found = re.findall(
        r"^## REALTIME_TICKET_(\w+)\n\nDefault: `(.*)`$",
        read("settings.md"),
        re.MULTILINE,
    )
    assert {name: ast.literal_eval(default) for name, default in found} == conf.DEFAULTS


def test_every_setting_says_what_a_wrong_value_gives() -> None:
    sections = re.split(r"^## REALTIME_TICKET_", read("settings.md"), flags=re.M)[1:]
    assert len(sections) == len(conf.DEFAULTS)
    for section in sections:
        assert re.search(r"^Wrong value: `realtime_ticket\.E\d{3}`", section, re.M)
        assert "```python" in section


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


def test_public_names_are_documented() -> None:
    text = read("python-api.md")
    undocumented = {
        name
        for name in realtime_ticket.__all__
        if not re.search(rf"`{name}\b", text) and f"## {name}" not in text
    }
    assert undocumented == set()


_SIGNATURE = re.compile(r"^### `([\w.]+)(\(.*\))`$", re.MULTILINE)

SIGNATURES = _SIGNATURE.findall(read("python-api.md"))


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


def test_the_changelog_page_skips_only_a_title() -> None:
    """The page includes the file without its first line."""
    first = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n")[0]
    assert first in ("", "# Changelog")
