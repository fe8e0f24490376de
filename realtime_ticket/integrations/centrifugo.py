"""Centrifugo's proxies: it asks, for each client, who it is and how long it may stay.

Requests and answers as in https://centrifugal.dev/docs/server/proxy. The client sends
``{"ticket": TICKET}`` as its connection data, a new one each time. It arrives as
``data``, or in Base64 as ``b64data`` where the proxy's ``binary_encoding`` is on.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode
from contextlib import suppress
from typing import Any

from django.http import HttpRequest, JsonResponse

from realtime_ticket.exceptions import InvalidTicket, StorageError
from realtime_ticket.tickets import Ticket, seconds_left

from .http import ServiceView


class CentrifugoConnectView(ServiceView):
    """Answer Centrifugo's connect proxy. Override ``result()`` to say more.

    The status is 200 where Centrifugo could ask. A client without a good ticket is
    disconnected with 4401, and comes back with a new one. 4501 is final: the user no
    longer exists. 4013 says that the storage failed, and the client comes back.
    """

    http_method_names = ["post"]

    audience: str = ""
    """The audience that a ticket must have."""

    max_age: int | None = None
    """Seconds after which a connection ends; the client comes back with a new ticket.
    It ends sooner where the session does. None: with the session only."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        try:
            ticket = self.consume(self.shown(), audience=self.audience)
            return JsonResponse({"result": self._expiry(ticket) | self.result(ticket)})
        except InvalidTicket as exc:
            return _disconnect(4501 if exc.reason == "user" else 4401, "invalid ticket")
        except StorageError:
            return _disconnect(4013, "try again")

    def shown(self) -> str:
        """Return the ticket in the client's data, unchecked. Raise BadRequest."""
        fields = self.read_json()
        data = fields.get("data")
        if "b64data" in fields:
            with suppress(TypeError, ValueError, RecursionError):
                data = json.loads(b64decode(fields["b64data"], validate=True))
        return (data.get("ticket") if isinstance(data, dict) else None) or ""

    def result(self, ticket: Ticket) -> dict[str, Any]:
        """Return Centrifugo's ``result`` for the user of this ticket.

        Raise InvalidTicket to refuse a good ticket, as ``get_user()`` does for a user
        who is gone.
        """
        return {"user": str(ticket.user_id), "info": {"username": ticket.username}}

    def _expiry(self, ticket: Ticket) -> dict[str, Any]:
        now = int(time.time())
        ages = [self.max_age, seconds_left(ticket, now)]
        left = min((int(age) for age in ages if age is not None), default=None)
        # At least a second from now: Centrifugo takes 0 for never.
        return {} if left is None else {"expire_at": now + max(1, left)}


class CentrifugoRefreshView(ServiceView):
    """Answer Centrifugo's refresh proxy: the connection is over.

    Centrifugo asks when ``expire_at`` has come. The client is disconnected with 3005,
    and comes back with a new ticket, if Django gives it one.
    """

    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> JsonResponse:
        return JsonResponse({"result": {"expired": True}})


def _disconnect(code: int, reason: str) -> JsonResponse:
    # A client comes back after 4000 to 4499. 4500 to 4999 are final.
    return JsonResponse({"disconnect": {"code": code, "reason": reason}})
