"""Words that people search for lead to a page, by the documentation's own search.

Sphinx finds the pages that hold every word of a query, each as the beginning of one of
theirs, and shows those first whose headings have them.
"""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES

FOUND = {
    "allauth": "apis-and-mobile-apps.md",
    "authmiddlewarestack": "from-channels-auth.md",
    "ban user": "end-connections.md",
    "channels session": "from-channels-auth.md",
    "checklist": "production-checklist.md",
    "cors": "single-page-app.md",
    "cross-origin": "single-page-app.md",
    "django-ratelimit": "limits-and-metrics.md",
    "docker": "production-checklist.md",
    "grafana": "limits-and-metrics.md",
    "jwt": "compare.md",
    "kubernetes": "production-checklist.md",
    "log out": "end-connections.md",
    "logout": "end-connections.md",
    "metrics": "limits-and-metrics.md",
    "mobile": "apis-and-mobile-apps.md",
    "native app": "apis-and-mobile-apps.md",
    "ninja": "apis-and-mobile-apps.md",
    "nginx websocket": "production-checklist.md",
    "opentelemetry": "limits-and-metrics.md",
    "php": "consumers-in-php-and-ruby.md",
    "pytest": "test-your-project.md",
    "testing": "test-your-project.md",
    "production": "production-checklist.md",
    "prometheus": "limits-and-metrics.md",
    "rate limit": "limits-and-metrics.md",
    "react": "browser-client.md",
    "reconnect": "reconnect.md",
    "replay": "limits-and-metrics.md",
    "rest framework": "apis-and-mobile-apps.md",
    "revoke": "end-connections.md",
    "ruby": "consumers-in-php-and-ruby.md",
    "sesame": "from-django-sesame.md",
    "simple jwt": "apis-and-mobile-apps.md",
    "single-page application": "single-page-app.md",
    "spa": "single-page-app.md",
    "systemd": "production-checklist.md",
    "throttle": "limits-and-metrics.md",
    "token authentication": "apis-and-mobile-apps.md",
    "vite": "single-page-app.md",
}


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9_]+", text.lower())


def holds(text: str, query: str) -> bool:
    found = words_of(text)
    return all(any(each.startswith(word) for each in found) for word in words_of(query))


@pytest.mark.parametrize("query", FOUND)
def test_a_query_finds_its_page(query: str) -> None:
    """Among the first: few other pages have all its words in headings."""
    pages = {name: path.read_text("utf-8") for name, path in PAGES.items()}
    del pages["README.md"]
    assert holds(pages[FOUND[query]], query)


HEADINGS = [
    "revoke",
    "logout",
    "metrics",
    "spa",
    "mobile",
    "cross-origin",
    "checklist",
    "reconnect",
    "jwt",
]
HEADINGS += ["rate limit", "rest framework"]


@pytest.mark.parametrize("query", HEADINGS)
def test_a_query_is_in_a_heading(query: str) -> None:
    text = PAGES[FOUND[query]].read_text("utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    assert any(holds(heading, query) for heading in headings)
