"""Signals of the ticket's life. The sender is the class of the service.

If a receiver raises, Django logs it, and nothing else is affected: a broken counter
must not lose a spent ticket. Tickets consumed from another language send no signal. In
coroutines, receivers that are too slow are called later: see signal_queue.
"""

from __future__ import annotations

from django.dispatch import Signal

ticket_issued = Signal()
"""Sent with ``ticket`` when it is in the storage."""

ticket_consumed = Signal()
"""Sent with ``ticket`` when it was spent."""

ticket_rejected = Signal()
"""Sent with ``reason``, ``fingerprint`` and ``audience`` when InvalidTicket is raised:
by ``consume()``, or later because the ticket's login has ended (``revoked``).

``fingerprint`` is empty for a malformed value."""

user_disconnected = Signal()
"""Sent with ``user_ids`` and ``session`` when a disconnect is in the storage, or will
be tried again.

``user_ids`` is a tuple of what tickets have as ``id``. ``session`` is None if all
connections of these users end; otherwise it is the session whose connections end, and
empty for those without one. At a logout the signal is sent before the session is gone,
and in a transaction once more after the commit."""
