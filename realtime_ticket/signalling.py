"""The service that Django uses: it sends signals, and keeps tickets secret."""

from __future__ import annotations

from typing import Any, Final

from django.views.decorators.debug import sensitive_variables

from . import signals
from .backends.base import BaseBackend
from .service import TicketService
from .signal_queue import SignalQueue

_SIGNALS: Final = {
    "issued": signals.ticket_issued,
    "consumed": signals.ticket_consumed,
    "rejected": signals.ticket_rejected,
    "disconnected": signals.user_disconnected,
}


class SignallingService(TicketService):
    """A service that sends Django's signals, and keeps tickets out of error reports."""

    issue = sensitive_variables()(TicketService.issue)
    aissue = sensitive_variables()(TicketService.aissue)
    consume = sensitive_variables()(TicketService.consume)
    aconsume = sensitive_variables()(TicketService.aconsume)
    revoke = sensitive_variables()(TicketService.revoke)
    arevoke = sensitive_variables()(TicketService.arevoke)
    # In the thread of a batch, none of the above is among the callers.
    _send = sensitive_variables()(TicketService._send)
    _commit = sensitive_variables()(TicketService._commit)
    # A coroutine does not protect what it calls: a frame does not know that caller.
    _prepare = sensitive_variables()(TicketService._prepare)
    _key = sensitive_variables()(TicketService._key)
    _open = sensitive_variables()(TicketService._open)
    _rejection = sensitive_variables()(TicketService._rejection)
    _submit = sensitive_variables()(TicketService._submit)

    def __init__(self, backend: BaseBackend, **options: Any) -> None:
        super().__init__(backend, **options)
        self._signals = SignalQueue()

    def notify(self, event: str, **details: Any) -> None:
        super().notify(event, **details)
        _SIGNALS[event].send_robust(type(self), **details)

    async def anotify(self, event: str, **details: Any) -> None:
        super().notify(event, **details)
        signal = _SIGNALS[event]
        await self._signals.send(f"ticket_{event}", signal, type(self), **details)
