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
    """The base of all errors below. Catch it to refuse, whatever the cause."""


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
    - ``user``: all connections of the user end, or all without a session. Their
      password was changed, they were deactivated or deleted, an API token was revoked,
      or somebody disconnected them.
    - ``doubt``: a disconnect may have been lost, so every client must show a new
      ticket.
    - ``age``: the connection reached its maximum age, or its session has expired.

    ``retry_after`` is how many seconds the client must wait before it asks for a new
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
    """The storage failed, so the state of the ticket is unknown. Refuse the connection.

    The client then asks for a new ticket. The text says what failed and where, and
    ``hint`` what to do about it; ``str()`` gives both. They hold no ticket, key or
    password, so you can log them; do not send them to clients. The driver's exception,
    which may hold a key, is the ``__cause__``.
    """

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.args[0]} {self.hint}".rstrip()


class OpenTransaction(RealtimeTicketError, RuntimeError):
    """A ticket was to be consumed, or a disconnect written, in a transaction.

    A rollback would make the ticket valid again, or lose the disconnect. Consume the
    ticket outside ``transaction.atomic()``.
    """


class UnsupportedBackend(RealtimeTicketError, NotImplementedError):
    """The backend lacks a method that this feature needs. The text names both.

    Write the method, or use another backend. It is never turned into a StorageError,
    because it is a mistake in the configuration and not an outage.
    """


class NotAuthenticated(RealtimeTicketError):
    """A request without a logged-in user asked for a ticket. Answer 401."""


class InvalidAudience(RealtimeTicketError, ValueError):
    """The audience is not 1 to 64 characters of ``[A-Za-z0-9._-]``, or not allowed.

    Answer 400.
    """


class InvalidClaims(RealtimeTicketError, ValueError):
    """The claims are not a JSON object of at most 4 KiB with ``id`` and ``username``.

    Or they use a reserved name. Correct the code that returned them.
    """
