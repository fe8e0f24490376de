"""Reads the journal of disconnects again and again, and tells when some may be lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from . import revocations
from .journal import FIRST_SLOTS, OVERLAP, Journal, Slot
from .revocations import Disconnect

_WITNESSES: Final = 16
_WITNESS_MARGIN: Final = 25
"""The most recent entries are read again until this many seconds before they expire:
one that is gone shows that the storage lost its memory, and so does a hole. Clocks
differ by up to ten seconds, a writer may use a slot eight seconds ahead, and Memcached
drops an entry up to two seconds early."""

_LATE: Final = 5.0
"""Seconds without a reading after which what is read then counts as late."""

_HOLE: Final = 2.0
"""Seconds after which a slot that is empty before a taken one is a loss. Until then its
writer may be about to fill it."""

_CLOCK_STEP: Final = 5.0
"""Seconds by which the two clocks of a machine may disagree between two readings. More
means that someone set the time, or that the machine was suspended."""

_WRITERS_DIFFER: Final = 2
"""Seconds by which the clocks of writers may differ from each other."""

_AWAY: Final = "nothing was read for as long as an entry stays"
_CLOCK: Final = "the clock was set, or the machine was suspended"
_LOST: Final = "an entry that was read is gone: the storage lost its memory"
_HOLES: Final = "an entry is missing before another one"
_UNREAD: Final = "a server could not be read for as long as an entry stays"


class Witness(NamedTuple):
    """An entry that is read again, to see whether the storage keeps its memory."""

    slot: Slot
    text: str
    until: float
    """The Unix time until which it is certainly there."""


class Reading(NamedTuple):
    """What a reading found. It began at ``wall`` and ``monotonic``, in seconds."""

    wall: float
    monotonic: float
    found: dict[Slot, str]
    """The texts of the slots that were read."""
    unread: set[Slot]
    """Slots that could not be read, because one of several servers failed."""
    disconnects: list[Disconnect]
    """What is new."""
    unreadable: int
    """The number of new texts that are not disconnects."""
    late: bool
    """Whether the disconnects may be older than the connections that they name."""
    doubt: str
    """Why disconnects may have been lost, or the empty string."""


class JournalReader:
    """Reads a journal again and again, in one thread at a time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._complete_from = 0
        """The first second in which a hole was not reported yet."""
        self._forget()

    def _forget(self) -> None:
        """Let the next reading cover the journal's whole life."""
        self._last: Reading | None = None
        self._failing: Reading | None = None
        """The last reading before some server did not answer."""
        self._counts: dict[int, int] = {}
        """For each second, one more than the highest slot known."""
        self._holes: dict[Slot, float] = {}
        """Empty slots before a taken one, and since when by the monotonic clock."""
        self._witnesses: deque[Witness] = deque(maxlen=_WITNESSES)

    def read(self) -> Reading:
        """Return what is new in the journal. It stays new until remember() is called.

        Raise one of the storage's errors when nothing could be read.
        """
        wall, monotonic = time.time(), time.monotonic()
        found, unread = self._look(wall)
        known = {slot: text for slot, text, _ in self._witnesses}
        new = [text for slot, text in found.items() if known.get(slot) != text]
        disconnects = [entry for text in new if (entry := revocations.decode(text))]
        reading = Reading(
            wall,
            monotonic,
            found,
            unread,
            disconnects,
            unreadable=len(new) - len(disconnects),
            late=self._is_late(monotonic),
            doubt="",
        )
        return reading._replace(doubt=next(self._doubts(reading), ""))

    def remember(self, reading: Reading) -> None:
        """Take what was read as known. Call it when everything is delivered."""
        if reading.doubt:
            self._complete_from = int(reading.wall) + _WRITERS_DIFFER
        if reading.doubt in (_LOST, _CLOCK):
            return self._forget()
        if not reading.unread:
            self._failing = None
        elif self._failing is None:
            first = reading._replace(wall=reading.wall - self._journal.expire)
            self._failing = self._last or first
        slots = sorted(reading.found)
        for slot in slots:
            self._learn(slot, reading.monotonic)
        known = {witness.slot for witness in self._witnesses}
        for slot in [slot for slot in slots if slot not in known][-_WITNESSES:]:
            self._add_witness(slot, reading.found[slot])
        for slot in self._holes.keys() & reading.unread:
            self._holes[slot] = reading.monotonic  # it may not be empty
        self._last = reading
        self._drop_old(reading)

    def _look(self, wall: float) -> tuple[dict[Slot, str], set[Slot]]:
        """Return the texts that are there, and the slots that could not be read."""
        slots = [*self._holes, *(slot for slot, *_ in self._witnesses)]
        ranges = {
            second: range(count, count + FIRST_SLOTS)
            for second in self._seconds(wall)
            for count in [self._counts.get(second, 0)]
        }
        return self._journal.look(ranges, slots)

    def _seconds(self, wall: float) -> range:
        """Return the seconds to read: the last ones, and all that were missed."""
        first = wall - self._journal.expire
        if self._last is not None:
            missed = min((self._failing or self._last).wall, wall)
            first = max(first, missed)
        return range(int(first) - OVERLAP, int(wall) + OVERLAP + 1)

    def _is_late(self, monotonic: float) -> bool:
        """Tell whether a reading at that time finds what it could not find at once."""
        since = self._failing or self._last
        return since is None or monotonic - since.monotonic > _LATE

    def _doubts(self, reading: Reading) -> Iterator[str]:
        """Yield each reason to think that disconnects were lost."""
        wall, monotonic, found, unread, *_ = reading
        if self._last is not None:
            passed = monotonic - self._last.monotonic
            if passed > self._journal.expire - OVERLAP:
                yield _AWAY
            if abs(wall - self._last.wall - passed) > _CLOCK_STEP:
                yield _CLOCK
        for slot, text, until in self._witnesses:
            if wall < until and slot not in unread and found.get(slot) != text:
                yield _LOST
        trusted = wall - self._journal.expire + _WITNESS_MARGIN
        for slot, since in self._holes.items():
            is_old = monotonic - since > _HOLE
            # In an old second, a hole looks like an entry that has expired.
            is_loss = slot.second >= self._complete_from and slot.second > trusted
            if is_old and is_loss and slot not in unread and slot not in found:
                yield _HOLES
        if self._failing is not None and self._last is not None:
            limit = self._failing.monotonic + self._journal.expire - OVERLAP
            # Once while it lasts, and once when it is over: others may have written to
            # that server all the time.
            if limit < monotonic and (not unread or self._last.monotonic <= limit):
                yield _UNREAD

    def _learn(self, slot: Slot, monotonic: float) -> None:
        """Remember a slot that is taken, and the empty ones before it."""
        second, number = slot
        count = self._counts.get(second, 0)
        for earlier in range(count, number):
            self._holes[Slot(second, earlier)] = monotonic
        self._counts[second] = max(count, number + 1)
        self._holes.pop(slot, None)

    def _add_witness(self, slot: Slot, text: str) -> None:
        entry = revocations.decode(text)
        life = entry.expire if entry else 0  # of garbage nobody knows
        until = slot.second + life - _WITNESS_MARGIN
        self._witnesses.append(Witness(slot, text, until))

    def _drop_old(self, reading: Reading) -> None:
        """Forget what no reading will ask for again."""
        first = int(reading.wall) - self._journal.expire - OVERLAP
        for second in [second for second in self._counts if second < first]:
            del self._counts[second]
        for slot, since in list(self._holes.items()):
            if reading.monotonic - since > 3 * OVERLAP:
                del self._holes[slot]
