"""The demo's URLs, and a page that does only what its test says."""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import include, path
from django.utils.decorators import decorator_from_middleware
from django.views.decorators.csrf import ensure_csrf_cookie

from realtime_ticket import RealtimeTicketMiddleware

ROOT = Path(__file__).parents[2]
PLAIN_HTMX = """<meta name="htmx-config" content='{"includeIndicatorStyles": false}'>"""
"""Without styles, which the policy forbids."""


def bench(request: HttpRequest) -> HttpResponse:
    context = {"realtime_port": settings.REALTIME_PORT}
    return TemplateResponse(request, "bench.html", context)


def snippet(request: HttpRequest) -> HttpResponse:
    """Run a block of the documentation, with our realtime server in place of its.

    ``scripts`` names bundles that are loaded first, and ``body`` is added to the page.
    """
    text = (ROOT / request.GET["page"]).read_text("utf-8")
    blocks = re.findall(r"^```(html|js)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    language, code = next(b for b in blocks if request.GET["contains"] in b[1])
    if language == "js":
        code = (
            "{% load realtime_ticket %}{% realtime_ticket_script %}{% csrf_token %}"
            f'<script type="module">{code}</script>'
        )
    code = re.sub(r"wss?://[\w.:]+/", f"{settings.REALTIME_ORIGIN}/", code)
    code = code.replace('connect="/ws"', f'connect="{settings.REALTIME_ORIGIN}/html"')
    code = code.replace(
        '"/events"', f'"http://127.0.0.1:{settings.REALTIME_PORT}/events"'
    )
    code = code.replace(
        '<script type="module">',
        '<script type="module" nonce="{{ request.csp_nonce }}">',
    )
    nonce = 'nonce="{{ request.csp_nonce }}"'
    scripts = "".join(
        f'<script src="/static/bundles/{name}" {nonce}></script>'
        for name in request.GET.getlist("scripts")
    )
    code = f"{PLAIN_HTMX}{scripts}{code}{request.GET.get('body', '')}"
    return HttpResponse(engines["django"].from_string(code).render({}, request))


def bundle(request: HttpRequest) -> HttpResponse:
    """Run the bundle of this name."""
    context = {"name": request.GET["name"], "realtime_port": settings.REALTIME_PORT}
    return TemplateResponse(request, "bundle.html", context)


def whoami(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"id": request.user.pk})


@ensure_csrf_cookie
def csrf(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"csrfToken": get_token(request)})


urlpatterns = [
    path("", include("examples.demo.urls")),
    path("bench/", bench),
    path("snippet/", snippet),
    path("bundle/", bundle),
    path("csrf/", csrf),
    path("whoami/", whoami),
    path("first/", decorator_from_middleware(RealtimeTicketMiddleware)(bench)),
]
