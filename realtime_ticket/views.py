"""The endpoint that a page asks for a ticket."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections
from django.db.transaction import non_atomic_requests
from django.http import (
    HttpRequest,
    HttpResponseBase,
    JsonResponse,
    RawPostDataException,
    UnreadablePostError,
)
from django.views import View
from django.views.decorators.csrf import csrf_protect

from . import conf
from .exceptions import InvalidAudience, NotAuthenticated, StorageError
from .reports import logged_by_us
from .shortcuts import aissue_ticket, issue_ticket
from .tickets import Ticket, check_audience

_RETRY_AFTER = 1
"""Seconds after which a client may ask again."""

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class _UnclearAudience(InvalidAudience):
    """The request seems to name an audience, in a way that would be ignored."""


_REFUSALS = (
    (
        _UnclearAudience,
        400,
        "Send the audience once, as text, in a form or in a JSON object.",
    ),
    (InvalidAudience, 400, "No tickets for this audience."),
    (NotAuthenticated, 401, "Log in first."),
    (StorageError, 503, "No tickets at the moment. Try again."),
)
_REFUSED = tuple(error for error, _, _ in _REFUSALS)


class BaseTicketView(View):
    """What both views share: everything except the call that waits for the storage."""

    http_method_names = ["post"]

    audience: str | None = None
    """The audience of all tickets from this URL. None: the client may name one of
    ``REALTIME_TICKET_AUDIENCES``, in a form field or in a JSON object."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        audience = initkwargs.get("audience", cls.audience)
        if audience is not None:
            check_audience(audience)
        view = _csrf_protected(super().as_view(**initkwargs))
        # Under ATOMIC_REQUESTS, Django refuses async views; and in a transaction, the
        # database backend does not sweep expired tickets.
        view = outside_transactions(view)
        # LoginRequiredMiddleware would redirect to a page where a script needs a 401.
        return login_not_required(view)

    def get_audience(self) -> str:
        """Return the audience to issue for. Raise InvalidAudience."""
        wanted = _named_audience(self.request)
        if self.audience is not None:
            allowed: tuple[str, ...] = (self.audience,)
        else:
            allowed = ("", *conf.audiences())
        if wanted is None:
            return allowed[0]
        if wanted not in allowed:
            raise InvalidAudience("The client asked for an audience it may not have.")
        return wanted

    def grant(self, ticket: Ticket) -> JsonResponse:
        """Return the answer that carries the ticket."""
        return JsonResponse(
            {
                "status": "ok",
                "message": ticket.value,
                "expires_in": ticket.expires_at - ticket.issued_at,
            }
        )

    def refuse(self, error: Exception) -> JsonResponse:
        """Return the answer to a request that gets no ticket."""
        status, message = next(
            (status, message)
            for kind, status, message in _REFUSALS
            if isinstance(error, kind)
        )
        response = JsonResponse({"status": "error", "message": message}, status=status)
        if status == 503:
            response["Retry-After"] = _RETRY_AFTER
            logged_by_us(response, self.request)
        return response

    def _method_not_allowed(self) -> JsonResponse:
        response = JsonResponse(
            {"status": "error", "message": "Use POST."},
            status=405,
            headers={"Allow": "POST"},
        )
        return _not_stored(response)


class RealtimeTicketView(BaseTicketView):
    """Answer ``POST`` with a ticket for the logged-in user.

    200 ``{"status": "ok", "message": TICKET, "expires_in": SECONDS}``. Otherwise
    ``"status": "error"`` and 400 for an audience that is not allowed, 401 without a
    login, 405 for another method, 503 with ``Retry-After`` when the storage is down;
    and Django's own 403 page without a CSRF token.
    """

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        try:
            response = self.grant(issue_ticket(request, audience=self.get_audience()))
        except _REFUSED as exc:
            response = self.refuse(exc)
        return _not_stored(response)

    def http_method_not_allowed(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> JsonResponse:
        return self._method_not_allowed()


class AsyncRealtimeTicketView(BaseTicketView):
    """See RealtimeTicketView. For projects that run under ASGI."""

    async def post(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> JsonResponse:
        try:
            ticket = await aissue_ticket(request, audience=self.get_audience())
            response = self.grant(ticket)
        except _REFUSED as exc:
            response = self.refuse(exc)
        return _not_stored(response)

    async def http_method_not_allowed(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> JsonResponse:
        return self._method_not_allowed()


def outside_transactions(
    view: Callable[..., HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """Return the view, to be run without the transactions of ``ATOMIC_REQUESTS``."""
    for alias in connections if settings.configured else ():
        view = non_atomic_requests(using=alias)(view)
    return view


def _csrf_protected(
    view: Callable[..., HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """Return the view with Django's check for CSRF, also where its middleware is not.

    Where it is, the decorator would only repeat the preparations for its check, which
    take longer than the storage does.
    """
    # Around as_view() and not dispatch(): the decorator has to see that it is async.
    protected = csrf_protect(view)

    @wraps(protected)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        is_checked = getattr(request, "csrf_processing_done", False)
        return (view if is_checked else protected)(request, *args, **kwargs)

    return checked


def _not_stored(response: JsonResponse) -> JsonResponse:
    """Keep the response out of every cache (RFC 9111, section 5.2.2.5).

    Not with never_cache(), which takes longer than issuing a ticket.
    """
    response.headers["Cache-Control"] = "no-store"
    return response


def _named_audience(request: HttpRequest) -> str | None:
    """Return the audience that the client names, or None.

    Raise _UnclearAudience for one that is named in a way that would be ignored: the
    client would get a ticket that its server does not accept.
    """
    if request.content_type in _FORMS:
        named: list[object] = [*request.POST.getlist("audience")]
        named += request.FILES.getlist("audience")
        if not request.POST and not request.FILES:
            _refuse_unread_form(request)
    else:
        named = _audiences_in(_body(request), request.content_type)
    if request.META.get("QUERY_STRING") and "audience" in request.GET:
        raise _UnclearAudience
    if any(each != named[0] for each in named):
        raise _UnclearAudience
    if not named:
        return None
    if not isinstance(named[0], str):
        raise _UnclearAudience
    return named[0]


def _refuse_unread_form(request: HttpRequest) -> None:
    """Raise _UnclearAudience for a form that has a body, but no field.

    Other code has read it, or it is multipart without a Content-Length.
    """
    length = request.META.get("CONTENT_LENGTH") or "0"
    # The end of a multipart form, "--boundary--\r\n"; or "audience", and no value.
    shortest = len((request.content_params or {}).get("boundary", "")) + 8
    if not length.isdigit() or int(length) > shortest or _is_hidden(request):
        raise _UnclearAudience
    has_length = "CONTENT_LENGTH" in request.META and not _is_chunked(request)
    if not has_length and request.read(1):
        raise _UnclearAudience


def _body(request: HttpRequest) -> bytes:
    if request.META.get("CONTENT_LENGTH") == "0" and not _is_chunked(request):
        return b""  # as from our client, and faster than to read nothing
    try:
        body = request.body
    except (RawPostDataException, UnreadablePostError):
        # Other code has read it, or the client has left.
        raise _UnclearAudience from None
    if not body and _is_hidden(request):
        raise _UnclearAudience
    return body


def _is_chunked(request: HttpRequest) -> bool:
    return "HTTP_TRANSFER_ENCODING" in request.META


def _is_hidden(request: HttpRequest) -> bool:
    """Return whether Django reads no body: under WSGI it reads none that is chunked."""
    return isinstance(request, WSGIRequest) and _is_chunked(request)


def _audiences_in(body: bytes, content_type: str | None) -> list[object]:
    """Return every audience that a body names. The body is not a form."""
    if content_type != "application/json":
        # The body cannot be read, but a client that forgot its type gets an error.
        return [None] if b"audience" in body else []
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs) if body else _Pairs()
    except (ValueError, RecursionError):
        raise _UnclearAudience from None
    if not isinstance(pairs, _Pairs):
        raise _UnclearAudience
    return [value for name, value in pairs if name == "audience"]


class _Pairs(list[tuple[str, object]]):
    """A JSON object with all its members, also those of one name."""
