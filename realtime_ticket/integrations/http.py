"""Consume tickets and read disconnects over HTTP, from any language or proxy.

The views are for your own servers, which prove it with ``Authorization: Bearer KEY``,
one of ``REALTIME_TICKET_SERVICE_KEYS``. Without keys, the views answer 404.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict
from typing import Any, ClassVar
from urllib.parse import quote

from django.contrib.auth.decorators import login_not_required
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
)
from django.utils.crypto import constant_time_compare
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from realtime_ticket import conf
from realtime_ticket.exceptions import InvalidTicket, StorageError
from realtime_ticket.handshake import check_origins, find_ticket
from realtime_ticket.journal import OVERLAP
from realtime_ticket.reports import hide_tickets, logged_by_us
from realtime_ticket.revocations import Disconnect, user_key
from realtime_ticket.service import TicketService
from realtime_ticket.tickets import Ticket, check_audience
from realtime_ticket.views import outside_transactions
from realtime_ticket.watches import TOLERANCE


class BadRequest(Exception):
    """The request is wrong, and gets a 400. The text is for the client."""


class ServiceView(View):
    """A view for your own servers only.

    401 without a valid key, 404 where no key is configured, 405 for another method.
    """

    service: TicketService | None = None
    """The service to consume with. None: the one that the settings describe."""

    keys: Sequence[str] | None = None
    """The keys that open this view. None: ``REALTIME_TICKET_SERVICE_KEYS``."""

    wrong_key_status: ClassVar[int] = 401

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        # ConsumeView has none of its own: its callers say one.
        check_audience(initkwargs.get("audience", getattr(cls, "audience", "")))
        # Around Django's own function as well, which has the keys in a variable.
        view = sensitive_variables()(super().as_view(**initkwargs))
        view = never_cache(csrf_exempt(view))
        # Or a rollback of the request's transaction would revive the ticket.
        return login_not_required(outside_transactions(view))

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        hide_tickets(request)

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        keys = conf.service_keys(self.keys)
        if not keys:
            raise Http404("No service keys are configured.")
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        # Each key is compared, so that the time tells nothing about which one is near.
        matches = [constant_time_compare(key.strip(), known) for known in keys]
        if scheme.lower() != "bearer" or not any(matches):
            return _error(
                self.wrong_key_status,
                "Wrong service key.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        try:
            return super().dispatch(request, *args, **kwargs)
        except BadRequest as exc:
            return _error(400, str(exc))

    def get_service(self) -> TicketService:
        """Return the service to consume with."""
        return self.service or conf.get_service()

    def consume(self, value: str, *, audience: str = "") -> Ticket:
        """See TicketService.consume(). Refuse a ticket whose login has ended since."""
        service = self.get_service()
        ticket = service.consume(value, audience=audience)
        if service.backend.supports_read_many():
            self._refuse_ended(ticket)
        return ticket

    def read_journal(self, since: int) -> tuple[list[Disconnect], bool]:
        """Return the disconnects since this Unix second, and whether they are all.

        False if one of several servers of the storage did not answer. Raise
        StorageError when nothing could be read.
        """
        service = self.get_service()
        try:
            return service.journal.since(since)
        except service.backend.storage_errors as exc:
            raise _unread(service, exc) from exc

    def _refuse_ended(self, ticket: Ticket) -> None:
        """Raise InvalidTicket if a disconnect refuses the ticket, or may have."""
        user = user_key(ticket.user_id)
        disconnects, _ = self.read_journal(ticket.issued_at - OVERLAP)
        remembered_from = time.time() - self.get_service().journal.expire
        if ticket.issued_at < remembered_from or any(
            user in each.users
            and each.refuses(ticket.session, ticket.issued_at, tolerance=TOLERANCE)
            for each in disconnects
        ):
            self.get_service().notify(
                "rejected",
                reason="revoked",
                fingerprint=ticket.fingerprint,
                audience=ticket.audience,
            )
            raise InvalidTicket("revoked")

    def read_json(self) -> dict[str, Any]:
        """Return the JSON object in the request's body. Raise BadRequest."""
        try:
            fields = json.loads(self.request.body)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise BadRequest("Send a JSON object.")
        return fields

    def unavailable(
        self, message: str = "Try again with a new ticket."
    ) -> HttpResponse:
        """Return the answer when the storage failed."""
        response = _error(503, message, headers={"Retry-After": "1"})
        return logged_by_us(response, self.request)

    def http_method_not_allowed(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        allowed = ", ".join(name.upper() for name in self.http_method_names)
        return _error(405, f"Use {allowed}.", headers={"Allow": allowed})


class ConsumeView(ServiceView):
    """Answer ``POST {"ticket": TICKET, "audience": ""}`` with who showed the ticket.

    200 ``{"status": "ok", "claims": {"id": 7, "username": "ada"}, "audience": "",
    "issued_at": SECONDS, "expires_at": SECONDS, "session": "", "max_age": null}``; the
    last two as in Ticket. Otherwise ``"status": "error"`` and 400 for a body that is no
    such JSON object, 403 for a ticket that is not valid, 503 with ``Retry-After``
    when the storage failed. See also ServiceView.
    """

    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        fields = self.read_json()
        value, audience = fields.get("ticket"), fields.get("audience", "")
        if not isinstance(value, str) or not isinstance(audience, str):
            raise BadRequest("Send a 'ticket', and an 'audience' if it has one.")
        try:
            ticket = self.consume(value, audience=audience)
        except InvalidTicket:
            return _error(403, "No valid ticket.")
        except StorageError:
            return self.unavailable()
        return JsonResponse(
            {
                "status": "ok",
                "claims": ticket.claims,
                "audience": ticket.audience,
                "issued_at": ticket.issued_at,
                "expires_at": ticket.expires_at,
                "session": ticket.session,
                "max_age": ticket.max_age,
            }
        )


class DisconnectsView(ServiceView):
    """Answer ``POST {"since": SECOND}`` with whose connections must end.

    200 ``{"status": "ok", "disconnects": [{"id": "x", "at": SECOND, "expire": 120,
    "kind": "session", "users": ["7"], "session": "s"}], "now": SECOND, "expire": 120,
    "complete": true}``: those written in that Unix second or later, without ``since``
    all that are kept. ``complete`` is false where one of several servers of the storage
    did not answer. Otherwise ``"status": "error"`` and 400 for a ``since`` that is no
    integer, 501 for a backend without ``read_many()``, 503 with ``Retry-After`` when
    the storage failed. See also ServiceView.
    """

    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        since = self.read_json().get("since", 0) if request.body else 0
        if type(since) is not int:
            raise BadRequest("Send 'since' as a whole number of Unix seconds.")
        service, now = self.get_service(), int(time.time())
        if not service.backend.supports_read_many():
            return _error(501, "This storage backend does not tell of disconnects.")
        try:
            disconnects, is_complete = self.read_journal(since)
        except StorageError:
            return self.unavailable("Try again.")
        return JsonResponse(
            {
                "status": "ok",
                "disconnects": [asdict(disconnect) for disconnect in disconnects],
                "now": now,
                "expire": service.journal.expire,
                "complete": is_complete,
            }
        )


class AuthorizeView(ServiceView):
    """Answer a reverse proxy that asks: may this connection pass, and whose is it?

    nginx asks with ``auth_request``, Caddy with ``forward_auth``, Traefik with
    ``ForwardAuth``, HAProxy with a Lua script. The ticket is looked for in the
    subprotocols, and in the query of the header that ``uri_header`` names. 204 with
    ``X-Realtime-User``, the user's id, and ``X-Realtime-Username``, percent-encoded
    UTF-8; 401 for a ticket that is not valid; 403 for a foreign origin, and for a
    CORS preflight, which spends no ticket; 503 when the storage failed, and 400 for a
    wrong service key, both of which nginx makes a 500.
    """

    http_method_names = ["get"]

    # To nginx, a 401 is the client's fault. Any other status it logs, and answers 500.
    wrong_key_status: ClassVar[int] = 400

    audience: str = ""
    """The audience that a ticket must have."""

    origins: Container[str | None] | None = None
    """The origins whose pages may connect, mostly AllowedOrigins. None: all."""

    uri_header: str = "X-Original-URI"
    """The one header in which the proxy gives the URI that the client asked for.

    The proxy must set it on every request, in place of what the client sent under this
    name: otherwise the client writes it. nginx sets ``X-Original-URI`` if it is told
    to; Caddy and Traefik set ``X-Forwarded-Uri`` by themselves.
    """

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        check_origins(initkwargs.get("origins", cls.origins))
        return super().as_view(**initkwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        headers = request.headers
        if self.origins is not None and headers.get("Origin") not in self.origins:
            return _error(403, "This origin may not connect.")
        # The proxy asks with GET whatever the client's method is, but hands on this
        # header, which a browser sends with a preflight and never with a request.
        if "Access-Control-Request-Method" in headers:
            return _error(403, "A preflight needs no ticket.")
        try:
            value = find_ticket(
                subprotocols=headers.get("Sec-WebSocket-Protocol"),
                query=headers.get(self.uri_header, "").partition("?")[2],
            )
            ticket = self.consume(value, audience=self.audience)
        except InvalidTicket:
            return _error(
                401, "No valid ticket.", headers={"WWW-Authenticate": "Ticket"}
            )
        except StorageError:
            return self.unavailable()
        return HttpResponse(
            status=204,
            headers={
                "X-Realtime-User": quote(str(ticket.user_id), safe=""),
                "X-Realtime-Username": quote(ticket.username, safe=""),
            },
        )


def _unread(service: TicketService, error: Exception) -> StorageError:
    """Report that the journal could not be read. Return what says so."""
    message, hint = service.backend.explain(error)
    outage = StorageError(f"Disconnects cannot be read: {message}", hint)
    service.report(outage)
    return outage


def _error(
    status: int, message: str, *, headers: dict[str, str] | None = None
) -> HttpResponse:
    return JsonResponse(
        {"status": "error", "message": message}, status=status, headers=headers
    )
