"""The template variable ``realtime_ticket`` for single views."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.utils.cache import add_never_cache_headers
from django.utils.deprecation import MiddlewareMixin

from .lazy import LazyTicket


class RealtimeTicketMiddleware(MiddlewareMixin):
    """Add ``realtime_ticket`` to the context of a view's TemplateResponse.

    Turn it into a decorator with ``decorator_from_middleware`` for the views that need
    a ticket. In ``MIDDLEWARE`` it serves every TemplateResponse, and the pages of the
    context processor. A response that printed a ticket must not be cached, so it
    becomes ``no-store``.
    """

    def process_template_response(
        self, request: HttpRequest, response: SimpleTemplateResponse
    ) -> SimpleTemplateResponse:
        if not response.is_rendered:  # as one from a cache is
            context = response.context_data or {}
            variable = {"realtime_ticket": LazyTicket.of(request)}
            response.context_data = variable | context
        return response

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if LazyTicket.of(request).evaluated:
            add_never_cache_headers(response)
        return response
