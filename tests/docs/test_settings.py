"""A setting is whole: a default, a section on the page, and a check of its value."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from realtime_ticket import checks, conf
from tests.backends import BACKENDS
from tests.docs.pages import read

SECTIONS = dict(
    re.findall(
        r"^## REALTIME_TICKET_(\w+)\n(.*?)(?=^## |\Z)",
        read("settings.md"),
        re.MULTILINE | re.DOTALL,
    )
)
READERS = {cls.setting: path for path, cls in BACKENDS.items()}
"""The backend that reads a setting, for those that only one kind of backend reads."""


def test_the_page_has_every_setting_and_no_other() -> None:
    assert SECTIONS.keys() == conf.DEFAULTS.keys()


@pytest.mark.parametrize("name", conf.DEFAULTS)
def test_a_setting_is_whole(name: str, settings: Any) -> None:
    """What a new setting brings along: see CONTRIBUTING.md.

    Its section says the default and the type, shows it, and names the errors that a
    wrong value gives. The checks find that value.
    """
    section = SECTIONS[name]
    default = re.search(r"^Default: `(.*)`$", section, re.M)
    assert default and ast.literal_eval(default[1]) == conf.DEFAULTS[name]
    assert re.search(r"^Type: .", section, re.M)
    assert re.search(rf"^```python\n(?:.*\n)*?REALTIME_TICKET_{name} = ", section, re.M)
    wrong = re.search(r"^Wrong value: (.*?)(?:\n\n|\Z)", section, re.M | re.S)
    assert wrong

    if name in READERS:
        settings.REALTIME_TICKET_BACKEND = READERS[name]
    setattr(settings, f"REALTIME_TICKET_{name}", object())
    found = {str(each.id).removeprefix("realtime_ticket.") for each in errors()}
    assert len(found) == 1
    assert found <= set(re.findall(r"E\d{3}", wrong[1]))


def errors() -> list[Any]:
    return [each for each in checks.check_settings() if each.is_serious()]
