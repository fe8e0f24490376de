"""Signals of the ticket's life. The sender is the class of the service.

A receiver that raises is logged by Django and disturbs nobody: a spent ticket must not
be lost to a broken counter. Tickets consumed from another language send no signal. In
coroutines, receivers that are too slow are called later: see signal_queue.
"""

from __future__ import annotations

from django.dispatch import Signal

ticket_issued = Signal()
"""Sent with ``ticket``."""

ticket_consumed = Signal()
"""Sent with ``ticket``."""

ticket_rejected = Signal()
"""Sent with ``reason`` (of InvalidTicket), ``fingerprint`` and ``audience``."""

user_disconnected = Signal()
"""Sent with ``user_ids``, a tuple of what tickets have as ``id``, and ``session``: None
when all connections of these users end, and otherwise the session whose connections
end, which is empty for those without one. At a logout it is sent before the session is
gone, and in a transaction once more after its commit."""
