"""What Django's logs and error reports may show of a request with a ticket."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any, TypeVar
from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.log import log_response
from django.views.debug import (
    SafeExceptionReporterFilter,
    get_default_exception_reporter_filter,
)

from . import conf, tickets
from .logs import logger

Response = TypeVar("Response", bound=HttpResponse)


def logged_by_us(response: Response, request: HttpRequest) -> Response:
    """Keep Django from logging a 503 as an error, which sends ADMINS a mail each time.

    The service has logged the outage, once for many requests. The record does not hold
    the request, whose headers may hold a ticket.
    """
    said = "Answered 503: %s", request.path
    log_response(*said, response=response, logger=logger.logger, level="debug")
    return response


class TicketReporterFilter(SafeExceptionReporterFilter):
    """Keep tickets that a request carries out of error reports.

    For ``DEFAULT_EXCEPTION_REPORTER_FILTER``. It hides every header, variable of the
    server and POST parameter with a ticket in it. The views that your own servers call
    use it without any setting.
    """

    def get_safe_request_meta(self, request: Any) -> dict[str, Any]:
        meta = super().get_safe_request_meta(request)
        return {name: self._without_ticket(value) for name, value in meta.items()}

    def get_post_parameters(self, request: Any) -> Any:
        parameters = super().get_post_parameters(request)
        shown = QueryDict(mutable=True)
        for name, values in getattr(parameters, "lists", dict)():
            shown.setlist(self._without_ticket(name), map(self._without_ticket, values))
        return shown

    def _without_ticket(self, value: Any) -> Any:
        with suppress(conf.WrongSetting):  # then there are no tickets
            ticket = tickets.value_format(conf.prefix())
            if isinstance(value, str) and ticket.search(unquote(value)):
                return self.cleansed_substitute
        return value


def hide_tickets(request: HttpRequest) -> None:
    """Hide tickets in reports about this request, beside what they hid before."""
    default = get_default_exception_reporter_filter()
    vars(request)["exception_reporter_filter"] = _filter_of(type(default))  # type: ignore[arg-type]


@cache
def _filter_of(default: type[SafeExceptionReporterFilter]) -> TicketReporterFilter:
    if issubclass(default, TicketReporterFilter):
        return default()
    bases = (TicketReporterFilter, default)
    made: TicketReporterFilter = type("ServiceReporterFilter", bases, {})()
    return made
