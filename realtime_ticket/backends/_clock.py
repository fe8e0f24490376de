"""What ``manage.py ticket_doctor`` reports about the clock of a storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import time as now

from django.core import checks

from realtime_ticket.journal import OVERLAP
from realtime_ticket.watches import TOLERANCE


def compare(
    read: Callable[[], float], *, fast: float = 0.0, slow: float = 0.0
) -> Iterator[checks.CheckMessage]:
    """Yield a finding if the clocks of this machine and the storage differ.

    ``read`` returns the storage's time in Unix seconds, which may be up to ``fast``
    seconds ahead of its machine's, and up to ``slow`` seconds behind. Disconnects have
    the time of the machine that wrote them.
    """
    before = now()
    theirs = read()
    after = now()
    ahead = (before + after) / 2 - theirs - (slow - fast) / 2
    certain = abs(ahead) - (after - before) / 2 - (slow + fast) / 2
    if certain <= TOLERANCE:
        return
    message = (
        f"The clock of this machine is {abs(ahead):.1f} seconds "
        f"{'ahead of' if ahead > 0 else 'behind'} that of the storage."
    )
    if certain > OVERLAP:
        yield checks.Error(
            f"{message} Realtime servers may miss disconnects.",
            hint="Synchronise the clocks of all machines, with NTP for example.",
            id="realtime_ticket.E019",
        )
    else:
        yield checks.Warning(
            f"{message} Connections may stay open for as long after a disconnect.",
            hint="Synchronise the clocks of all machines, with NTP for example.",
            id="realtime_ticket.W024",
        )
