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
