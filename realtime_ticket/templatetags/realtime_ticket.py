"""The template tag that loads the client."""

from __future__ import annotations

import json
from typing import Any

from django import template
from django.template.context import Context
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_SCRIPT_ESCAPES = {ord(char): f"\\u{ord(char):04X}" for char in "<>&"}
"""What would end a script element, or begin a comment in it, as JSON may write it."""


@register.simple_tag(takes_context=True)
def realtime_ticket_script(context: Context, *, importmap: bool = True) -> SafeString:
    """Load the client, and name it for the modules of the page.

    They write ``import { RealtimeSocket } from "django-realtime-ticket"`` from then on.
    Turn the import map off for a page with its own, because many browsers use only the
    first one. With a Content Security Policy, the scripts have its nonce.
    """
    url = static("realtime_ticket/realtime-ticket.js")
    nonce = _nonce(context)
    module = _script({"type": "module", "src": url}, nonce)
    if not importmap:
        return module
    names = json.dumps({"imports": {"django-realtime-ticket": url}})
    body = mark_safe(names.translate(_SCRIPT_ESCAPES))
    return _script({"type": "importmap"}, nonce, body) + module


def _script(attributes: dict[str, str], nonce: Any, body: str = "") -> SafeString:
    if nonce is not None:
        attributes = {**attributes, "nonce": nonce}
    pairs = format_html_join("", ' {}="{}"', attributes.items())
    return format_html("<script{}>{}</script>", pairs, body)


def _nonce(context: Context) -> Any:
    """Return the nonce of Django 6 or of django-csp, or None."""
    # Compared with None, because Django's is false until it is used.
    nonce = context.get("csp_nonce")
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    return nonce
