"""The template tag that loads the client."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import django
import pytest
from django import shortcuts
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.template import Context, RequestContext, TemplateSyntaxError, engines
from django.urls import path

TAG = "{% load realtime_ticket %}{% realtime_ticket_script %}"
WITHOUT_MAP = TAG.replace("script %}", "script importmap=False %}")
FILE = "realtime_ticket/realtime-ticket.js"
URL = f"/static/{FILE}"


SIGNATURE = '?a=1&b="</script><!--<script>'


class SigningStorage(StaticFilesStorage):
    """A storage of files that are not public."""

    def url(self, name: str | None) -> str:
        return super().url(name) + SIGNATURE


def tag_page(request: HttpRequest) -> HttpResponse:
    return shortcuts.render(request, "tag.html")


urlpatterns = [path("tag", tag_page)]


@pytest.fixture(autouse=True)
def _static(settings: Any) -> None:
    settings.STATIC_URL = "/static/"


class Scripts(HTMLParser):
    """Collect the script elements of a page, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "script"
        self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        attributes, text = self.scripts[-1]
        self.scripts[-1] = attributes, text + data


def render(context: Any = None, source: str = TAG) -> str:
    """Render the tag by Django's own engine, in this context."""
    template: Any = engines["django"].from_string(source)
    rendered: str = template.template.render(context or Context())
    return rendered


def scripts(html: str) -> list[tuple[dict[str, str | None], str]]:
    return Scripts(html).scripts


def nonces(html: str) -> list[str | None]:
    return [attributes.get("nonce") for attributes, _ in scripts(html)]


def test_names_the_client_and_loads_it() -> None:
    """An import map for the page's modules, and the module itself."""
    assert render() == (
        '<script type="importmap">{"imports": {"django-realtime-ticket":'
        f' "{URL}"}}}}</script><script type="module" src="{URL}"></script>'
    )


def test_leaves_the_import_map_to_the_page() -> None:
    """With importmap=False it is the module alone."""
    assert render(source=WITHOUT_MAP) == f'<script type="module" src="{URL}"></script>'


def test_takes_the_option_by_name_only() -> None:
    """{% realtime_ticket_script False %} would not say what is false."""
    with pytest.raises(TemplateSyntaxError):
        render(source=TAG.replace("script %}", "script False %}"))


def test_assigns_to_a_variable() -> None:
    """The tag is a simple tag, so a template may keep what it says."""
    source = TAG.replace("script %}", "script as it %}") + "<{{ it }}>"
    assert render(source=source) == f"<{render()}>"


def test_escapes_what_a_storage_may_say(settings: Any) -> None:
    """A signed URL has ampersands; no URL can leave its script element."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    storage = {"BACKEND": f"{__name__}.SigningStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": storage}
    (_, body), (attributes, nothing) = scripts(render())
    assert not re.search("[<>&]", body)
    assert json.loads(body)["imports"]["django-realtime-ticket"] == attributes["src"]
    assert attributes["src"] == URL + SIGNATURE
    assert nothing == ""


def test_has_no_nonce_without_a_policy(rf: Any) -> None:
    """A project without CSP gets no empty attribute, whatever the context is."""
    request = rf.get("/")
    for context in (Context(), RequestContext(request), Context({"request": request})):
        assert nonces(render(context)) == [None, None]


@pytest.mark.parametrize("source", [TAG, WITHOUT_MAP], ids=["map", "no-map"])
def test_carries_the_nonce_of_the_context(source: str) -> None:
    """As django.template.context_processors.csp gives it."""
    html = render(Context({"csp_nonce": 'a&"b'}), source)
    assert set(nonces(html)) == {'a&"b'}


def test_carries_the_nonce_of_the_request() -> None:
    """As django-csp gives it; that of the context comes first."""
    request = HttpRequest()
    request.csp_nonce = "abc"  # type: ignore[attr-defined]
    assert nonces(render(Context({"request": request}))) == ["abc", "abc"]
    context = Context({"request": request, "csp_nonce": "xyz"})
    assert nonces(render(context)) == ["xyz", "xyz"]


class LazilyFalse:
    """A nonce like Django's: false until somebody used it."""

    def __init__(self) -> None:
        self.used = False

    def __bool__(self) -> bool:
        return self.used

    def __str__(self) -> str:
        self.used = True
        return "abc"


@pytest.mark.parametrize("place", ["context", "request"])
def test_uses_a_nonce_that_is_false_until_used(place: str) -> None:
    """The tag may well be the first to use it."""
    nonce = LazilyFalse()
    request = HttpRequest()
    context: dict[str, Any] = {"request": request}
    if place == "context":
        context["csp_nonce"] = nonce
    else:
        request.csp_nonce = nonce  # type: ignore[attr-defined]
    assert nonces(render(Context(context))) == ["abc", "abc"]
    assert nonce


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 6.0 brought CSP")
def test_satisfies_djangos_own_policy(client: Any, settings: Any) -> None:
    """The nonce of the scripts is the one in the header of that response."""
    from django.utils.csp import CSP

    settings.MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware"]
    settings.SECURE_CSP = {"script-src": [CSP.NONCE]}
    settings.ROOT_URLCONF = __name__
    (templates,) = settings.TEMPLATES
    loader, pages = templates["OPTIONS"]["loaders"][0]
    settings.TEMPLATES = [
        templates
        | {
            "OPTIONS": {
                "loaders": [(loader, pages | {"tag.html": TAG})],
                "context_processors": ["django.template.context_processors.csp"],
            }
        }
    ]
    response = client.get("/tag")
    (nonce,) = re.findall("'nonce-(.+?)'", response["Content-Security-Policy"])
    assert nonces(response.text) == [nonce, nonce]


@pytest.fixture
def collected(settings: Any, tmp_path: Path) -> Path:
    """A project that collected its files under names with a hash."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    settings.STATIC_ROOT = tmp_path
    storage = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": storage}}
    call_command("collectstatic", interactive=False, verbosity=0)
    return tmp_path


def test_works_with_hashed_names(collected: Path) -> None:
    """The page names the file that collectstatic made, which is the client."""
    (_, body), (attributes, _) = scripts(render())
    url = attributes["src"]
    assert url is not None
    assert re.fullmatch(
        r"/static/realtime_ticket/realtime-ticket\.[0-9a-f]{12}\.js", url
    )
    assert json.loads(body)["imports"]["django-realtime-ticket"] == url
    client = Path(__file__).parent.parent / "realtime_ticket/static" / FILE
    file = collected / url.removeprefix("/static/")
    assert file.read_bytes() == client.read_bytes()
