"""The endpoint that a page asks for a ticket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views import View
from django.views.decorators.csrf import csrf_protect

from . import conf
from .exceptions import InvalidAudience, NotAuthenticated, StorageError
from .reports import logged_by_us
from .shortcuts import aissue_ticket, issue_ticket
from .tickets import Ticket, check_audience

_RETRY_AFTER = 1
"""Seconds after which a client may ask again."""

_REFUSALS = (
    (InvalidAudience, 400, "No tickets for this audience."),
    (NotAuthenticated, 401, "Log in first."),
    (StorageError, 503, "No tickets at the moment. Try again."),
)
_REFUSED = tuple(error for error, _, _ in _REFUSALS)


class BaseTicketView(View):
    """What both views share: everything but the call that waits for the storage."""

    http_method_names = ["post"]

    audience: str | None = None
    """The audience of all tickets from this URL. None: the client's POST parameter
    ``audience`` says, and must be in ``REALTIME_TICKET_AUDIENCES``."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        audience = initkwargs.get("audience", cls.audience)
        if audience is not None:
            check_audience(audience)
        # Here and not on dispatch(), because the decorator tells an async view by the
        # function, and dispatch() is none. Also for projects without the middleware.
        view = csrf_protect(super().as_view(**initkwargs))
        # LoginRequiredMiddleware would redirect to a page where a script needs a 401.
        return login_not_required(view)

    def get_audience(self) -> str:
        """Return the audience to issue for. Raise InvalidAudience."""
        wanted = self.request.POST.get("audience")
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


def _not_stored(response: JsonResponse) -> JsonResponse:
    """Keep the response out of every cache (RFC 9111, section 5.2.2.5).

    Not with never_cache(), which takes longer than to make a ticket.
    """
    response.headers["Cache-Control"] = "no-store"
    return response
