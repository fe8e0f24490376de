"""The journal of disconnects: where a writer puts what, and what a reader hears."""

from __future__ import annotations

import json

import pytest

from realtime_ticket import OpenTransaction, StorageError
from realtime_ticket.journal import Journal, Slot
from realtime_ticket.journal_reader import JournalReader
from tests.journals import START, Clocks, Store, doubt, entry, heard


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    for module in ("journal", "journal_reader"):
        monkeypatch.setattr(f"realtime_ticket.{module}.time", clocks)
    return clocks


@pytest.fixture
def store(clocks: Clocks) -> Store:
    return Store(clocks)


@pytest.fixture
def journal(store: Store) -> Journal:
    return Journal(store, prefix="rt_", expire=120)


@pytest.fixture
def reader(journal: Journal, clocks: Clocks) -> JournalReader:
    """A reader that has read an empty journal."""
    reader = JournalReader(journal)
    assert heard(reader) == []
    clocks.advance(0.5)
    return reader


def users(reader: JournalReader) -> list[str]:
    return [user for disconnect in heard(reader) for user in disconnect.users]


# Writing


def test_a_writer_takes_the_first_free_slot_of_the_second(
    journal: Journal, store: Store, clocks: Clocks
) -> None:
    store.put(START, 0)
    for text in ("a", "b"):
        journal.write(text)
    clocks.advance(1)
    journal.write("c")
    assert [key.removeprefix("off:rt_:") for key in store.texts] == [
        f"{START:.0f}:0",
        f"{START:.0f}:1",
        f"{START:.0f}:2",
        f"{START + 1:.0f}:0",
    ]


def test_a_writer_does_not_look_for_its_last_slot_again(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    add = store.add
    monkeypatch.setattr(store, "add", lambda *args: tried.append(args) or add(*args))
    for _ in range(100):
        journal.write("text")
    assert len(tried) == 199


def test_an_entry_is_kept_for_the_life_of_the_journal(
    journal: Journal, store: Store, clocks: Clocks
) -> None:
    journal.write("text")
    ((_, deadline),) = store.texts.values()
    assert deadline == clocks.uptime + 120


def test_a_slot_on_a_dead_server_is_no_obstacle(journal: Journal, store: Store) -> None:
    """The writer goes on with the next second, whose slots are elsewhere.

    Mutants: journal-writes-to-one-second-only.
    """
    store.is_down = lambda key: key.endswith((":0", f"{START + 1:.0f}:1"))
    with pytest.raises(ConnectionError):
        journal.write("text")
    store.is_down = lambda key: f"{START:.0f}" in key or f"{START + 1:.0f}" in key
    journal.write("text")
    assert list(store.texts) == [f"off:rt_:{START + 2:.0f}:0"]


def test_a_writer_tries_no_further_second_than_readers_look_at(
    journal: Journal, store: Store, reader: JournalReader
) -> None:
    """And a reader reads on where all slots of one of its calls are on a dead server.

    Mutants: journal-reads-all-servers-or-none.
    """
    tried = []
    store.is_down = lambda key: bool(tried.append(key)) or True
    with pytest.raises(ConnectionError):
        journal.write("text")
    store.is_down = lambda key: key not in tried[-1:]
    journal.write(entry("9"))
    assert users(reader) == ["9"]


def test_a_frozen_storage_is_not_asked_eight_times(
    journal: Journal, store: Store, clocks: Clocks
) -> None:
    """A logout waits for about two seconds at most.

    Mutants: journal-asks-a-frozen-storage-again-and-again.
    """
    tried = []

    def freeze(key: str) -> bool:
        tried.append(key)
        clocks.advance(1)
        return True

    store.is_down = freeze
    with pytest.raises(ConnectionError):
        journal.write("text")
    assert len(tried) == 3


def test_an_open_transaction_is_no_outage(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(*args: object) -> bool:
        tried.append(args)
        raise OpenTransaction("Leave it.")

    monkeypatch.setattr(store, "add_durably", refuse)
    monkeypatch.setattr(Store, "storage_errors", (Exception,))
    with pytest.raises(OpenTransaction):
        journal.write("text")
    assert len(tried) == 1


def test_what_was_written_too_late_is_to_be_written_again(
    journal: Journal,
    store: Store,
    clocks: Clocks,
    reader: JournalReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit took long, or the process was stopped. No reader looks there any more.

    Mutants: journal-writes-where-nobody-looks.
    """
    add = store.add

    def slow(key: str, data: str, expire: int) -> bool:
        clocks.advance(12)
        assert users(reader) == []
        return add(key, data, expire)

    with monkeypatch.context() as patch:
        patch.setattr(store, "add", slow)
        with pytest.raises(StorageError, match="too late"):
            journal.write(entry("9"))
    assert users(reader) == []
    journal.write(entry("9"))
    assert users(reader) == ["9"]


# Hearing


def test_a_disconnect_is_heard_once(
    journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    journal.write(entry("9"))
    assert users(reader) == ["9"]
    for _ in range(300):
        clocks.advance(0.5)
        assert users(reader) == []


def test_an_entry_stays_new_until_it_is_remembered(
    journal: Journal, reader: JournalReader
) -> None:
    journal.write(entry("9"))
    for _ in range(2):
        assert [d.users for d in reader.read().disconnects] == [("9",)]


def test_many_disconnects_of_one_second_are_all_heard(
    journal: Journal, store: Store, reader: JournalReader, clocks: Clocks
) -> None:
    """And they cost the readings after that next to nothing.

    Mutants: journal-is-read-from-its-first-slot, journal-stops-at-the-first-slots.
    """
    for number in range(500):
        journal.write(entry(str(number)))
    assert users(reader) == [str(number) for number in range(500)]
    clocks.advance(0.5)
    journal.write(entry("more"))
    store.reads.clear()
    assert users(reader) == ["more"]
    # Not 500 keys each time: the last entries, and four slots of each second.
    assert sum(store.reads) < 16 + 21 * 4 + 20


def test_no_reading_asks_for_more_than_500_keys_at_once(
    journal: Journal, store: Store, clocks: Clocks
) -> None:
    for number in range(2000):
        store.put(START - number % 100, number // 100, user=str(number))
    assert len(users(JournalReader(journal))) == 2000
    assert max(store.reads) <= 500


@pytest.mark.parametrize("seconds", [-9, -3, 0, 3, 9])
def test_a_writer_whose_clock_differs_is_heard(
    store: Store, reader: JournalReader, clocks: Clocks, seconds: int
) -> None:
    """By up to ten seconds.

    Mutants: journal-is-read-without-overlap, journal-is-read-up-to-the-present.
    """
    store.put(clocks.wall + seconds, 0, user="9")
    assert users(reader) == ["9"]


def test_an_entry_that_arrives_late_is_heard(
    store: Store, reader: JournalReader, clocks: Clocks
) -> None:
    store.put(clocks.wall, 1, user="9")
    assert users(reader) == ["9"]
    clocks.advance(0.5)
    store.put(clocks.wall, 0, user="8")
    reading = reader.read()
    assert ([d.users for d in reading.disconnects], reading.doubt) == ([("8",)], "")


def test_an_entry_that_cannot_be_read_costs_nobody_theirs(
    store: Store, journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    for text in ("garbage", entry("9")):
        journal.write(text)
    reading = reader.read()
    assert [d.users for d in reading.disconnects] == [("9",)]
    assert reading.unreadable == 1
    reader.remember(reading)
    clocks.advance(0.5)
    assert reader.read().unreadable == 0


@pytest.mark.parametrize("away", [4, 60, 109])
def test_a_reader_that_was_away_hears_what_it_missed(
    journal: Journal, reader: JournalReader, clocks: Clocks, away: int
) -> None:
    """It reads every second of its absence.

    Mutants: journal-skips-what-was-missed.
    """
    for second in range(away):
        journal.write(entry(str(second)))
        clocks.advance(1)
    reading = reader.read()
    assert [*reading.disconnects[0].users, len(reading.disconnects)] == ["0", away]
    assert (reading.late, reading.doubt) == (away > 5, "")


def test_the_first_reading_covers_the_life_of_the_journal(
    store: Store, journal: Journal, clocks: Clocks
) -> None:
    store.put(START - 119, 0, user="old")
    reading = JournalReader(journal).read()
    assert [d.users for d in reading.disconnects] == [("old",)]
    assert (reading.late, reading.doubt) == (True, "")


def test_an_outage_is_raised_and_nothing_is_lost(
    store: Store, journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    journal.write(entry("9"))
    store.is_down = lambda key: True
    for _ in range(100):
        with pytest.raises(ConnectionError):
            reader.read()
        clocks.advance(0.5)
    store.is_down = lambda key: False
    assert users(reader) == ["9"]


# One of several servers


def test_a_dead_server_stops_no_other(
    store: Store, journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    """What the other servers hold is written and read.

    The slots that one call asks for may all be on the dead server.
    """
    store.is_down = lambda key: int(key[-1]) % 3 == 1
    for number in range(5):
        journal.write(entry(str(number)))
        clocks.advance(0.2)
    reading = reader.read()
    assert len(reading.disconnects) == 5
    assert reading.unread
    reader.remember(reading)


def test_what_a_server_kept_while_only_the_reader_could_not_reach_it_is_heard(
    store: Store, journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    """Its seconds are read again until they can be.

    Mutants: journal-forgets-a-server-that-was-away.
    """
    journal.write(entry("9"))
    store.is_down = lambda key: key.endswith(":0")
    for _ in range(120):
        assert users(reader) == []
        clocks.advance(0.5)
    store.is_down = lambda key: False
    reading = reader.read()
    assert ([d.users for d in reading.disconnects], reading.doubt) == ([("9",)], "")


@pytest.mark.parametrize("is_new", [False, True])
def test_a_server_that_was_away_after_an_absence_is_heard(
    store: Store, journal: Journal, clocks: Clocks, is_new: bool
) -> None:
    """Nothing is skipped that only the other servers could tell.

    Mutants: journal-takes-a-half-reading-for-a-whole-one.
    """
    reader = JournalReader(journal)
    if not is_new:
        assert users(reader) == []
    journal.write(entry("9"))
    clocks.advance(60)
    store.is_down = lambda key: key.endswith(":0")
    assert users(reader) == []
    clocks.advance(2)
    store.is_down = lambda key: False
    assert users(reader) == ["9"]


def test_what_a_server_tells_late_is_no_news(
    store: Store, journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    """The user may have logged in again since.

    Mutants: journal-takes-what-a-server-tells-late-for-news.
    """
    journal.write(entry("9"))
    store.is_down = lambda key: key.endswith(":0")
    for _ in range(20):
        assert users(reader) == []
        clocks.advance(0.5)
    store.is_down = lambda key: False
    reading = reader.read()
    assert (len(reading.disconnects), reading.late) == (1, True)
    reader.remember(reading)
    clocks.advance(0.5)
    assert not reader.read().late


def test_a_server_that_is_dead_for_long_is_doubted_then_and_at_its_return(
    store: Store, reader: JournalReader, clocks: Clocks
) -> None:
    """It may be dead for this reader alone, and what others wrote there has expired.

    Mutants: journal-trusts-a-server-that-was-away-for-long.
    """
    store.is_down = lambda key: key.endswith(":0")
    doubts = []
    for number in range(1000):
        if number == 900:
            store.is_down = lambda key: False
        doubts.append(doubt(reader))
        clocks.advance(0.5)
    assert [text for text in doubts if text] == [UNREAD, UNREAD]
    assert 215 < doubts.index(UNREAD) < 225  # 110 seconds
    assert doubts[900] == UNREAD


# Doubt

LOST = "an entry that was read is gone: the storage lost its memory"
HOLES = "an entry is missing before another one"
CLOCK = "the clock was set, or the machine was suspended"
UNREAD = "a server could not be read for as long as an entry stays"
AWAY = "nothing was read for as long as an entry stays"


def test_a_healthy_journal_is_never_doubted(
    journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    for number in range(600):
        if number % 7 == 0:
            journal.write(entry(str(number)))
        assert doubt(reader) == ""
        clocks.advance(0.5)


def test_a_storage_that_lost_its_memory_is_doubted_once(
    store: Store, journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    """The reader reads some entries again, and misses them.

    Mutants: journal-never-misses-an-entry.
    """
    journal.write(entry("9"))
    assert users(reader) == ["9"]
    clocks.advance(60)
    assert doubt(reader) == ""
    store.texts.clear()
    assert [doubt(reader), doubt(reader)] == [LOST, ""]
    journal.write(entry("8"))
    assert users(reader) == ["8"]


def test_a_slot_that_is_written_a_second_time_is_heard_and_doubted(
    store: Store, journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    store.put(clocks.wall, 0, user="9")
    assert users(reader) == ["9"]
    store.texts.clear()
    store.put(clocks.wall, 0, user="8")
    reading = reader.read()
    assert ([d.users for d in reading.disconnects], reading.doubt) == ([("8",)], LOST)


def test_an_entry_that_has_expired_is_no_loss(
    journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    journal.write(entry("9"))
    for _ in range(260):
        assert doubt(reader) == ""
        clocks.advance(0.5)


def test_a_hole_in_the_slots_is_doubted_once_when_it_lasts(
    store: Store, reader: JournalReader, clocks: Clocks
) -> None:
    """Writers fill slots in order.

    Mutants: journal-ignores-holes.
    """
    store.put(clocks.wall, 2, user="9")
    doubts = []
    for _ in range(200):
        doubts.append(doubt(reader))
        clocks.advance(0.5)
    assert [text for text in doubts if text] == [HOLES]
    assert doubts.index(HOLES) == 5  # the first after more than two seconds


def test_a_reader_that_begins_under_load_does_not_doubt(
    journal: Journal, clocks: Clocks
) -> None:
    """The first entries of the oldest second have expired, and its last have not.

    Mutants: journal-takes-what-has-expired-for-a-hole.
    """
    for number in range(300):
        journal.write(entry(str(number)))
        clocks.advance(0.45)
    clocks.advance(0.5)
    reader = JournalReader(journal)
    for _ in range(10):
        assert doubt(reader) == ""
        clocks.advance(0.5)


def test_a_hole_that_is_far_down_is_found(
    store: Store, reader: JournalReader, clocks: Clocks
) -> None:
    for number in [0, 5, 60]:
        store.put(clocks.wall, number, user=str(number))
    assert users(reader) == ["0", "5"]
    clocks.advance(3)
    assert doubt(reader) == HOLES


def test_a_hole_on_a_dead_server_is_no_loss_until_it_is_seen(
    store: Store, reader: JournalReader, clocks: Clocks
) -> None:
    store.put(clocks.wall, 0, user="0")
    store.put(clocks.wall, 1, user="1")
    store.is_down = lambda key: key.endswith(":0")
    assert users(reader) == ["1"]
    clocks.advance(4)
    assert doubt(reader) == ""
    store.is_down = lambda key: False
    assert users(reader) == ["0"]


@pytest.mark.parametrize("step", [-3600, -6, 6, 3600])
def test_a_clock_that_is_set_is_doubted(
    reader: JournalReader, clocks: Clocks, step: int
) -> None:
    """The wall clock and the monotonic clock must agree.

    Mutants: journal-trusts-the-clock.
    """
    clocks.wall += step
    assert [doubt(reader), doubt(reader)] == [CLOCK, ""]


def test_a_clock_that_is_corrected_a_little_is_not_doubted(
    journal: Journal, reader: JournalReader, clocks: Clocks
) -> None:
    clocks.wall -= 4
    journal.write(entry("9"))
    reading = reader.read()
    assert ([d.users for d in reading.disconnects], reading.doubt) == ([("9",)], "")


def test_a_reader_that_was_away_for_too_long_doubts(
    reader: JournalReader, clocks: Clocks
) -> None:
    """Entries have expired that it never read.

    Mutants: journal-forgives-a-long-absence.
    """
    clocks.advance(111)
    assert [doubt(reader), doubt(reader)] == [AWAY, ""]


def test_entries_are_under_the_documented_keys(journal: Journal) -> None:
    assert journal.key(Slot(1764303000, 12)) == "off:rt_:1764303000:12"


def test_the_helper_writes_what_a_service_does() -> None:
    assert json.loads(entry("7"))["users"] == ["7"]
