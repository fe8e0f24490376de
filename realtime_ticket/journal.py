"""The journal of disconnects in the ticket storage: written with ``add``, read often.

The journal has a bucket for each second, and numbered slots in it. A writer takes the
first free slot of the present second. A reader reads the last seconds again and again,
so entries that arrive late, or with a clock that differs, are read too. There is no
cursor that could skip one of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
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

_FIRST_SLOTS: Final = 4
"""Slots that a reading asks for beyond the last known one, and then twice as many."""

_WITNESSES: Final = 16
_WITNESS_MARGIN: Final = 25
"""The most recent entries are read again until this many seconds before they expire:
one that is gone shows that the storage lost its memory, and so does a hole. Clocks
differ by up to ten seconds, a writer may use a slot eight seconds ahead, and Memcached
drops an entry up to two seconds early."""

_LATE: Final = 5.0
"""Seconds without a reading after which what is read then is not news."""

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


class Slot(NamedTuple):
    """A place in the journal: a second in Unix time, and a number in it."""

    second: int
    number: int


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
    """How many new texts are no disconnects."""
    late: bool
    """Whether the disconnects may be older than the connections that they name."""
    doubt: str
    """Why disconnects may have been lost, or the empty string."""


class Journal:
    """The journal of one storage and prefix, to write disconnects to and read them.

    ``expire`` is how long an entry stays, in seconds; writers and readers need the
    same. Safe to use from any thread. It is everybody's, so the backend sees nobody's
    context variables: a tenant of the writer's would hide an entry from readers.
    """

    def __init__(self, backend: BaseBackend, *, prefix: str, expire: int) -> None:
        self.backend = backend
        self.prefix = prefix
        self.expire = expire
        self._last = Slot(0, 0)

    def write(self, text: str) -> Slot:
        """Put the text into the first free slot of this second, and return that slot.

        Where the server that holds the slot fails, another second's slot may be on one
        that works. Raise the last of the storage's errors when none of them takes it,
        and StorageError when that took too long: write it again.
        """
        started, now = time.monotonic(), int(time.time())
        for second in range(now, now + _WRITER_AHEAD):
            try:
                slot = self._write(second, text)
                # A slow commit, or a process that was stopped.
                if time.monotonic() - started > _WRITER_LATE:
                    raise StorageError("The storage took a disconnect too late.")
                return slot
            except RealtimeTicketError:
                raise  # no outage, or too late
            except self.backend.storage_errors as exc:
                error = exc
            if time.monotonic() - started > _WRITER_WAIT:
                break
        raise error

    def _write(self, second: int, text: str) -> Slot:
        # The last slot of ours is taken, and so are those before it. Threads that race
        # here only try a taken slot more.
        number = self._last.number if self._last.second == second else 0
        while not self.add(Slot(second, number), text):
            number += 1
        self._last = slot = Slot(second, number)
        return slot

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
        found, unread = self.look({each: range(_FIRST_SLOTS) for each in seconds})
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
            second: range(count, count + _FIRST_SLOTS)
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
            # Nobody can tell a hole in an old second from an entry that has expired.
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


def _goes_on(texts: Sequence[str | Exception | None]) -> bool:
    """Tell whether there may be more behind these slots of one second.

    The first ones may all be on a server that is down, and the next ones not.
    """
    are_first = len(texts) == _FIRST_SLOTS
    return any(isinstance(text, str) for text in texts) or (
        are_first and all(isinstance(text, Exception) for text in texts)
    )
