"""The journal of disconnects in the ticket storage: written with ``add``, read often.

The journal has a bucket for each second, and numbered slots in it. A writer takes the
first free slot of the present second. A reader reads the last seconds again and again,
so entries that arrive late, or with a clock that differs, are read too. There is no
cursor that could skip one of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import Context
from typing import Final, NamedTuple

from . import revocations
from .backends.base import BaseBackend
from .exceptions import RealtimeTicketError, StorageError
from .revocations import Disconnect

EXPIRE: Final = 120
"""Seconds that an entry stays in the journal: a reader may be away for as long."""

MAX_EXPIRE: Final = 3600
"""Seconds. A reader's first reading asks for several keys of each."""

OVERLAP: Final = 10
"""Seconds before and after the present that each reading covers."""

_WRITER_AHEAD: Final = 8
"""Seconds after the present that a writer may use, fewer than readers look ahead."""

_WRITER_WAIT: Final = 2.0
"""Seconds after which a writer tries no further second."""

_WRITER_LATE: Final = 5.0
"""Seconds after which what was written may be where no reader looks any more."""

_READ_KEYS: Final = 500
"""The most keys in one call of ``read_many``."""

FIRST_SLOTS: Final = 4
"""Slots that a reading asks for beyond the last known one, and then twice as many."""


class Slot(NamedTuple):
    """A place in the journal: a second in Unix time, and a number in it."""

    second: int
    number: int


class Journal:
    """The journal of one storage and prefix, to write disconnects to and read them.

    ``expire`` is how long an entry stays, in seconds; writers and readers need the
    same. Safe to use from any thread. The backend is called without context variables:
    the writer's tenant in one would hide an entry from readers.
    """

    def __init__(self, backend: BaseBackend, *, prefix: str, expire: int) -> None:
        self.backend = backend
        self.prefix = prefix
        self.expire = expire
        self._last = Slot(0, 0)

    def write(self, text: str) -> None:
        """Put the text into the first free slot of this second.

        Where the server that holds the slot fails, another second's slot may be on one
        that works. Raise the last of the storage's errors when none of them takes it,
        and StorageError when that took too long: write it again.
        """
        started, second = time.monotonic(), int(time.time())
        last = second + _WRITER_AHEAD - 1
        while True:
            try:
                self._write(second, text)
                # A slow commit, or a process that was stopped.
                if time.monotonic() - started > _WRITER_LATE:
                    raise StorageError("The storage took a disconnect too late.")
                return
            except RealtimeTicketError:
                raise  # no outage, or too late
            except self.backend.storage_errors:
                if second == last or time.monotonic() - started > _WRITER_WAIT:
                    raise
            second += 1

    def _write(self, second: int, text: str) -> None:
        # The last slot of ours is taken, and so are those before it. Threads that race
        # here only try a taken slot more.
        number = self._last.number if self._last.second == second else 0
        while not self.add(Slot(second, number), text):
            number += 1
        self._last = Slot(second, number)

    def add(self, slot: Slot, text: str) -> bool:
        """Put the text into this slot. Return False where it is taken."""
        add = self.backend.add_durably
        return Context().run(add, self.key(slot), text, self.expire)

    def key(self, slot: Slot) -> str:
        """Return the slot's key in the storage."""
        return revocations.journal_key(self.prefix, *slot)

    def read(self, slots: Sequence[Slot]) -> list[str | Exception | None]:
        """Return what stands in these slots, at most 500. See read_many()."""
        keys = [self.key(slot) for slot in slots]
        return Context().run(self.backend.read_many, keys)

    def look(
        self, ranges: dict[int, range], slots: Sequence[Slot] = ()
    ) -> tuple[dict[Slot, str], set[Slot]]:
        """Return the texts that are there, and the slots that could not be read.

        ``ranges`` are slots of seconds. Where one of them is taken, more are read.
        Raise one of the storage's errors when nothing could be read.
        """
        texts: dict[Slot, str | Exception | None] = {}
        slots = list(slots)
        while ranges:
            slots += [Slot(second, n) for second, span in ranges.items() for n in span]
            for start in range(0, len(slots), _READ_KEYS):
                self._read(slots[start : start + _READ_KEYS], texts)
            # Not only up to the first empty slot: its writer may have failed.
            ranges = {
                second: range(span.stop, span.stop + 2 * len(span))
                for second, span in ranges.items()
                if _goes_on([texts[Slot(second, n)] for n in span])
            }
            slots = []
        found = {slot: text for slot, text in texts.items() if isinstance(text, str)}
        unread = {slot for slot, text in texts.items() if isinstance(text, Exception)}
        return found, unread

    def since(self, second: int) -> tuple[list[Disconnect], bool]:
        """Return the disconnects of that second and later, each once.

        Also return whether every server could be read. Raise one of the storage's
        errors when nothing could be.
        """
        now = int(time.time())
        first = max(second, now - self.expire - OVERLAP)
        seconds = range(first, now + OVERLAP + 1)
        found, unread = self.look({each: range(FIRST_SLOTS) for each in seconds})
        entries = (revocations.decode(found[slot]) for slot in sorted(found))
        by_id = {entry.id: entry for entry in entries if entry}
        return list(by_id.values()), not unread

    def _read(
        self, slots: list[Slot], texts: dict[Slot, str | Exception | None]
    ) -> None:
        """Add the texts of some slots. Raise only when nothing was read before."""
        try:
            found = self.read(slots)
        except self.backend.storage_errors as exc:
            # All of these may be on a server that is down, while others are not.
            if all(isinstance(text, Exception) for text in texts.values()):
                raise
            found = [exc] * len(slots)
        texts |= zip(slots, found, strict=True)


def _goes_on(texts: Sequence[str | Exception | None]) -> bool:
    """Tell whether there may be more behind these slots of one second.

    The first ones may all be on a server that is down, and the next ones not.
    """
    are_first = len(texts) == FIRST_SLOTS
    return any(isinstance(text, str) for text in texts) or (
        are_first and all(isinstance(text, Exception) for text in texts)
    )
