"""Every exception that this package raises on purpose."""

from __future__ import annotations

from typing import Final, Literal

Reason = Literal["malformed", "unknown", "mismatch", "user", "revoked"]
Cause = Literal["session", "user", "doubt", "age"]

_WORDS: Final[dict[Cause, str]] = {
    "session": "disconnected",
    "user": "disconnected",
    "doubt": "reconnect",
    "age": "expired",
}


class RealtimeTicketError(Exception):
    """Base of all errors below: catch it to answer "no ticket, whatever the cause"."""


class InvalidTicket(RealtimeTicketError):
    """The ticket does not let anyone in. Refuse the connection.

    ``reason`` is for your logs; never send it to the client.

    - ``malformed``: not in the format of a ticket. The storage was not asked.
    - ``unknown``: never issued, already used, expired, or shown for another audience.
      The storage cannot tell these apart.
    - ``mismatch``: the stored text is not what this ticket's text should be.
    - ``user``: the ticket was good, but its user no longer exists, is inactive, or has
      another username.
    - ``revoked``: the ticket was good, but its login has ended since it was issued, or
      may have: it is older than what the journal of disconnects remembers.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason

    def __str__(self) -> str:
        return f"The ticket is not valid ({self.reason})."


class Revoked(RealtimeTicketError):
    """An open connection must end. Its client may come back with a new ticket.

    ``cause`` says why:

    - ``session``: the user logged out of the session that the ticket came from.
    - ``user``: all connections of the user end. Their password was changed, they were
      deactivated or deleted, or somebody disconnected them.
    - ``doubt``: a disconnect may have been lost, so every connection proves itself
      again with a new ticket.
    - ``age``: the connection reached its greatest age, or its session has expired.

    ``retry_after`` is how many seconds the client is to wait before it asks for a new
    ticket. ``close_code`` (4401) and ``close_reason`` are for a WebSocket's close frame
    (RFC 6455, sections 7.4.2 and 5.5.1: private use, and at most 123 bytes).
    """

    close_code: Final = 4401

    def __init__(self, cause: Cause, *, retry_after: float = 0.0) -> None:
        super().__init__(cause, retry_after)
        self.cause: Cause = cause
        self.retry_after = retry_after

    @property
    def close_reason(self) -> str:
        """Return what the close frame says, such as ``disconnected kind=session``."""
        retry = f" retry={self.retry_after:.1f}" if self.retry_after >= 0.1 else ""
        return f"{_WORDS[self.cause]} kind={self.cause}{retry}"

    def __str__(self) -> str:
        return f"The connection must end ({self.cause})."


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
    """A ticket was to be consumed, or a disconnect written, in a transaction.

    Its rollback would make the ticket valid again, or lose the disconnect.
    """


class UnsupportedBackend(RealtimeTicketError, NotImplementedError):
    """The backend lacks a method that this feature needs. Its text names both.

    A mistake in the configuration, not an outage: never turned into StorageError.
    """


class NotAuthenticated(RealtimeTicketError):
    """A ticket was asked for by a request without a logged-in user."""


class InvalidAudience(RealtimeTicketError, ValueError):
    """The audience is not 1 to 64 characters of ``[A-Za-z0-9._-]``, or not allowed."""


class InvalidClaims(RealtimeTicketError, ValueError):
    """The claims are no JSON object of at most 4 KiB with ``id`` and ``username``."""
