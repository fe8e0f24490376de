"""Every exception that this package raises on purpose."""

from __future__ import annotations

from typing import Literal

Reason = Literal["malformed", "unknown", "mismatch", "user"]


class RealtimeTicketError(Exception):
    """Base of all errors below: catch it to answer "no ticket, whatever the cause"."""


class InvalidTicket(RealtimeTicketError):
    """The ticket does not let anyone in. Refuse the connection.

    ``reason`` is for your logs; never send it to the client.

    - ``malformed``: not in the format of a ticket. The storage was not asked.
    - ``unknown``: never issued, already used, expired, or shown for another audience.
      The storage cannot tell these apart.
    - ``mismatch``: the stored text is not what this ticket's text should be.
    - ``user``: the ticket was good, but its user no longer exists or is inactive.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason

    def __str__(self) -> str:
        return f"The ticket is not valid ({self.reason})."


class StorageError(RealtimeTicketError):
    """The storage failed, so the state of the ticket is unknown. Ask for a new one.

    The text says what failed and where, and ``hint`` what to do about it; ``str()``
    says both. They hold no ticket, key or password, so they are for your logs; do not
    send them to clients. The driver's exception, which may hold a key, is the
    ``__cause__``.
    """

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.args[0]} {self.hint}".rstrip()


class OpenTransaction(RealtimeTicketError, RuntimeError):
    """A ticket was to be consumed in a transaction whose rollback would revive it."""


class NotAuthenticated(RealtimeTicketError):
    """A ticket was asked for by a request without a logged-in user."""


class InvalidAudience(RealtimeTicketError, ValueError):
    """The audience is not 1 to 64 characters of ``[A-Za-z0-9._-]``, or not allowed."""


class InvalidClaims(RealtimeTicketError, ValueError):
    """The claims are no JSON object of at most 4 KiB with ``id`` and ``username``."""
