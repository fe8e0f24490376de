"""The open connections of a process, and the disconnects that it has read."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import count
from typing import Final, Literal

from .exceptions import Cause, Revoked
from .logs import logger
from .revocations import Disconnect, user_key
from .tickets import Ticket

InDoubt = Literal["close", "keep"]

TOLERANCE: Final = 2
"""Seconds by which the clocks of Django's hosts may differ from each other."""

LATE_TOLERANCE: Final = 10
"""The same for a disconnect that is heard late, when closing too much is safe."""


class Watch:
    """A connection that ends with its login. ``close()`` it when it has ended."""

    __slots__ = ("_end", "_forget", "in_doubt", "issued_at", "session", "user")

    def __init__(
        self,
        ticket: Ticket,
        end: Callable[[Revoked], object],
        *,
        in_doubt: InDoubt,
        forget: Callable[[Watch], None],
    ) -> None:
        self.user = user_key(ticket.user_id)
        self.session = ticket.session
        self.issued_at = ticket.issued_at
        self.in_doubt = in_doubt
        self._end = end
        self._forget = forget

    def end(self, revoked: Revoked) -> None:
        """Tell the connection to end. What its callback raises is logged."""
        try:
            self._end(revoked)
        except BaseException:
            # It must not cost another connection its disconnect.
            logger.exception("The callback of a revoked connection failed.")

    def close(self) -> None:
        """Forget the connection. Calling it twice is fine."""
        self._forget(self)
        # The callback leads to the connection, which leads back here. Such a cycle is
        # garbage that only the collector finds, and a server has one for each client.
        self._end = _ended

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _ended(revoked: Revoked) -> None:
    """The callback of a connection that has ended: there is nothing left to end."""


class Watches:
    """All watches, and the disconnects that refuse new ones. Hold a lock around it."""

    def __init__(self) -> None:
        self._by_user: defaultdict[str, set[Watch]] = defaultdict(set)
        self._aging: list[tuple[float, int, Watch]] = []
        self._numbers = count()
        self._disconnects: defaultdict[str, list[Disconnect]] = defaultdict(list)
        self._heard: deque[tuple[float, Disconnect]] = deque()
        self._ids: set[str] = set()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, watch: Watch, end_at: float | None) -> None:
        """Add a watch, to be ended at that time, or never."""
        self._by_user[watch.user].add(watch)
        self._size += 1
        if end_at is not None:
            heapq.heappush(self._aging, (end_at, next(self._numbers), watch))

    def remove(self, watch: Watch) -> bool:
        """Forget a watch. Return whether it was there."""
        watches = self._by_user.get(watch.user, set())
        if watch not in watches:
            return False
        watches.remove(watch)
        self._size -= 1
        if not watches:
            del self._by_user[watch.user]
        return True

    def is_refused(self, watch: Watch) -> bool:
        """Tell whether a disconnect that was heard refuses this new watch."""
        return any(
            disconnect.refuses(watch.session, watch.issued_at, tolerance=TOLERANCE)
            for disconnect in self._disconnects.get(watch.user, ())
        )

    def hear(
        self, disconnect: Disconnect, *, late: bool, forget_at: float
    ) -> list[tuple[Watch, Cause]]:
        """Remember a disconnect. Remove and return the watches that it ends.

        Those that are open when it is news are older than it is, whatever the clocks
        say. If it is ``late``, its user may have logged in again since.
        """
        if disconnect.id in self._ids:
            return []
        self._ids.add(disconnect.id)
        self._heard.append((forget_at, disconnect))
        cause: Cause = "session" if disconnect.kind == "session" else "user"
        ended: list[tuple[Watch, Cause]] = []
        for user in disconnect.users:
            self._disconnects[user].append(disconnect)
            ended += [
                (watch, cause)
                for watch in self._by_user.get(user, ())
                if disconnect.refuses(
                    watch.session, watch.issued_at, tolerance=LATE_TOLERANCE
                )
                or (not late and disconnect.concerns(watch.session))
            ]
        return self._taken(ended)

    def take_doubtful(self) -> list[tuple[Watch, Cause]]:
        """Remove and return the watches that end in doubt."""
        return self._taken(
            [
                (watch, "doubt")
                for watches in self._by_user.values()
                for watch in watches
                if watch.in_doubt == "close"
            ]
        )

    def take_aged(self, now: float) -> list[tuple[Watch, Cause]]:
        """Remove and return the watches whose time is over."""
        aged: list[tuple[Watch, Cause]] = []
        while self._aging and self._aging[0][0] <= now:
            aged.append((heapq.heappop(self._aging)[2], "age"))
        if len(self._aging) > 2 * self._size:  # most of them are closed
            self._aging = [entry for entry in self._aging if self._has(entry[2])]
            heapq.heapify(self._aging)
        return self._taken(aged)

    def forget_disconnects(self, now: float) -> None:
        """Forget the disconnects whose time to be remembered is over."""
        while self._heard and self._heard[0][0] <= now:
            _, disconnect = self._heard.popleft()
            self._ids.remove(disconnect.id)
            for user in disconnect.users:
                self._disconnects[user].remove(disconnect)
                if not self._disconnects[user]:
                    del self._disconnects[user]

    def _has(self, watch: Watch) -> bool:
        return watch in self._by_user.get(watch.user, ())

    def _taken(self, ended: list[tuple[Watch, Cause]]) -> list[tuple[Watch, Cause]]:
        return [(watch, cause) for watch, cause in ended if self.remove(watch)]
