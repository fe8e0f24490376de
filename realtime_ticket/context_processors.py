"""The template variable ``realtime_ticket`` for every template."""

from __future__ import annotations

from django.http import HttpRequest

from .lazy import LazyTicket


def realtime_ticket(request: HttpRequest) -> dict[str, LazyTicket]:
    """Add ``realtime_ticket`` to the context of every template.

    List RealtimeTicketMiddleware in ``MIDDLEWARE`` as well: it keeps a page that
    printed a ticket out of caches.
    """
    return {"realtime_ticket": LazyTicket.of(request)}
