"""LiveTickets: a connection ends with its login, and nobody else's does."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import weakref

import pytest

from realtime_ticket import (
    InvalidTicket,
    StorageError,
    TicketService,
    UnsupportedBackend,
)
from realtime_ticket.live import LiveTickets, Revoked
from tests.helpers import RecordingBackend, failing_filter
from tests.journals import Clocks, Store, World, entry, ticket


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# Who is disconnected


def test_a_logout_ends_the_connections_of_its_session_alone(world: World) -> None:
    """Other devices stay connected.

    Mutants: disconnect-ends-other-sessions.
    """
    world.connect("laptop", session="L")
    world.connect("laptop's other tab", session="L")
    world.connect("phone", session="P")
    world.connect("no session")
    world.connect("somebody else", 8, session="S")
    world.service.disconnect(7, session="L")
    assert world.after(0.5) == {"laptop": "session", "laptop's other tab": "session"}


def test_a_session_of_another_user_with_the_same_name_stays(world: World) -> None:
    world.connect("mine", 7, session="1")
    world.connect("theirs", 8, session="1")
    world.service.disconnect(7, session="1")
    assert world.after(0.5) == {"mine": "session"}


def test_a_logout_without_a_session_ends_the_connections_without_one(
    world: World,
) -> None:
    """It may come back when new tickets are not refused any more.

    Mutants: sessionless-comes-back-too-early.
    """
    world.connect("old", 7)
    world.connect("phone", session="P")
    world.service.disconnect(7, session="")
    assert world.after(0.5) == {"old": "user"}
    world.clocks.advance(world.ended["old"].retry_after)
    world.connect("new", 7)


def test_a_disconnect_that_comes_late_ends_older_connections_only(
    world: World,
) -> None:
    """Its writer was frozen, or its storage: the user has logged in again since.

    Mutants: old-disconnect-ends-new-connections.
    """
    now = world.clocks.wall
    world.watch("old", ticket(issued_at=now - 65))
    world.watch("old session", ticket(issued_at=now, session="L"))
    world.watch("new", ticket(issued_at=now))
    world.store.put(now, 0, at=now - 60)
    world.store.put(now, 1, at=now - 60, session="L")
    assert world.after(0.5) == {"old": "user", "old session": "session"}


def test_a_disconnected_user_loses_all_connections(world: World) -> None:
    for name in ("a", "b", ""):
        world.connect(f"of {name}", session=name)
    world.connect("somebody else", 8)
    world.service.disconnect("7")
    assert world.after(0.5) == {"of a": "user", "of b": "user", "of ": "user"}


def test_many_users_are_disconnected_in_one_call(world: World) -> None:
    """And they come back at different times.

    Mutants: disconnect-compares-ids-as-they-are, listener-calls-all-back-at-once.
    """
    for number in range(3000):
        world.connect(str(number), number)
    world.service.disconnect(*range(2000))
    assert {*world.after(0.5)} == {str(number) for number in range(2000)}
    # Not all come back within the same second.
    waits = [revoked.retry_after for revoked in world.ended.values()]
    assert 3.0 <= min(waits) < 3.5
    assert 12.0 < max(waits) <= 13.0


def test_a_connection_is_told_once(world: World) -> None:
    calls: list[Revoked] = []
    world.live.watch(ticket(session="L"), calls.append)
    world.service.disconnect(7, session="L")
    world.service.disconnect(7)
    world.after(0.5)
    world.after(0.5)
    assert len(calls) == 1


def test_an_entry_that_cannot_be_understood_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.connect("here")
    world.service.journal.write("garbage")
    world.service.disconnect(7)
    assert world.after(0.5) == {"here": "user"}
    assert caplog.messages == [
        "1 entries of the journal of disconnects cannot be understood."
    ]


def test_a_log_filter_that_raises_costs_nobody_a_disconnect(world: World) -> None:
    """Mutants: log-filters-stop-everything."""
    world.connect("here")
    world.service.journal.write("garbage")
    world.service.disconnect(7)
    with failing_filter():
        assert {*world.after(0.5)} == {"here"}


def test_a_log_filter_that_raises_costs_no_other_connection_its_end(
    world: World,
) -> None:
    """Mutants: log-filters-stop-everything."""

    def fail(revoked: Revoked) -> None:
        raise ValueError

    for number in range(3):
        world.live.watch(ticket(issued_at=world.clocks.wall), fail)
        world.connect(str(number))
    world.service.disconnect(7)
    with failing_filter():
        assert {*world.after(0.5)} == {"0", "1", "2"}


def test_a_connection_that_has_ended_is_not_told(world: World) -> None:
    calls: list[Revoked] = []
    with world.live.watch(ticket(), calls.append) as watch:
        pass
    watch.close()
    world.service.disconnect(7)
    world.after(0.5)
    assert calls == []


@pytest.mark.parametrize("max_age", [None, 10**6])
def test_a_connection_that_has_ended_is_not_kept(
    world: World, max_age: int | None
) -> None:
    """Not even until the garbage collector runs, whose work costs every connection.

    Mutants: watch-keeps-what-has-ended.
    """

    class Connection:
        def __init__(self) -> None:
            shown = ticket(issued_at=world.clocks.wall, max_age=max_age)
            self.watch = world.live.watch(shown, self.end)

        def end(self, revoked: Revoked) -> None:
            pass

    gc.disable()
    try:
        connection = Connection()
        connection.watch.close()
        trace = weakref.ref(connection)
        del connection
        assert trace() is None
    finally:
        gc.enable()


# Who is let in


def test_a_ticket_whose_session_has_ended_is_refused(world: World) -> None:
    world.service.disconnect(7, session="L")
    world.after(60)
    with pytest.raises(InvalidTicket) as refused:
        world.connect("late", session="L")
    assert refused.value.reason == "revoked"
    world.connect("phone", session="P")
    world.connect("no session")


def test_a_refusal_is_told_like_any_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By watch() and awatch(), after the ticket was told as consumed."""
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        world.service, "notify", lambda event, **kw: told.append((event, kw["reason"]))
    )
    shown = ticket(session="L", issued_at=world.clocks.wall)
    world.service.journal.write(entry(session="L", at=world.clocks.wall))
    world.after(0.5)
    with pytest.raises(InvalidTicket):
        world.watch("late", shown)
    with pytest.raises(InvalidTicket):
        asyncio.run(world.live.awatch(shown, print))  # type: ignore[arg-type]
    assert told == [("rejected", "revoked")] * 2


def test_a_ticket_from_before_its_user_was_disconnected_is_refused(
    world: World,
) -> None:
    """Clocks may differ by two seconds.

    Mutants: disconnect-locks-users-out, disconnect-trusts-clocks.
    """
    shown = ticket(issued_at=world.clocks.wall)
    world.clocks.advance(1)
    world.service.disconnect(7)
    world.after(0.5)
    ahead = ticket(issued_at=world.clocks.wall + 1)
    for each in (shown, ahead):
        with pytest.raises(InvalidTicket):
            world.watch("late", each)
    world.clocks.advance(3)
    world.connect("back")
    assert world.after(0.5) == {}


def test_a_user_who_comes_back_when_told_is_let_in(world: World) -> None:
    """The new ticket is certainly younger than the disconnect.

    Mutants: listener-asks-too-soon.
    """
    for _ in range(20):
        world.clocks.advance(random.random())
        world.connect("first")
        world.service.disconnect(7)
        world.after(0.5)
        world.clocks.advance(world.ended.pop("first").retry_after)
        world.connect("again")
        world.after(1)
        world.after(4)


def test_a_disconnect_is_not_remembered_for_ever(world: World) -> None:
    """Nothing is left of it after two minutes and a half.

    Mutants: disconnect-is-remembered-for-ever.
    """
    for number in range(100):
        world.service.disconnect(7, 7, number, session="L")
        world.after(0.5)
    for _ in range(4):
        world.after(50)
    watches = world.service.listener._state.watches
    assert (watches._ids, dict(watches._disconnects), len(watches._heard)) == (
        set(), {}, 0,
    )  # fmt: skip


def test_a_ticket_that_is_older_than_the_journal_is_refused(world: World) -> None:
    """A disconnect of its time may be forgotten.

    Mutants: listener-admits-old-tickets.
    """
    shown = ticket(issued_at=world.clocks.wall)
    for _ in range(7):
        world.after(17)
    world.watch("in time", shown)
    world.after(2)
    with pytest.raises(InvalidTicket) as refused:
        world.watch("too old", shown)
    assert refused.value.reason == "revoked"


def test_nobody_is_let_in_when_nothing_is_heard(world: World) -> None:
    """Those who are connected stay.

    Mutants: listener-admits-when-blind.
    """
    world.connect("before")
    world.store.is_down = lambda key: True
    world.clocks.advance(5)
    world.connect("still")
    world.clocks.advance(0.5)
    with pytest.raises(ConnectionError):
        world.live.poll()
    with pytest.raises(StorageError, match="cannot be read"):
        world.connect("refused")
    assert world.ended == {}


# What is heard late


def test_a_disconnect_that_is_heard_late_spares_who_logged_in_since(
    world: World,
) -> None:
    """Nobody knows in which order the two came.

    Mutants: disconnect-heard-late-ends-new-connections.
    """
    world.connect("before", session="B")
    world.clocks.advance(2)
    world.service.disconnect(7)
    world.store.is_down = lambda key: True
    # Nobody is admitted when nothing was read for five seconds: these were.
    world.clocks.advance(3)
    world.watch("after", ticket(issued_at=world.clocks.wall + 30))
    world.clocks.advance(57)
    world.store.is_down = lambda key: False
    assert world.after(0) == {"before": "user"}


@pytest.mark.parametrize("difference", [-10, 0, 9])
def test_clocks_that_differ_lose_nothing(world: World, difference: int) -> None:
    world.connect("here")
    world.clocks.advance(30)
    world.clocks.wall += difference  # the writer's
    world.service.disconnect(7)
    world.clocks.wall -= difference
    ended = {}
    for _ in range(21):
        ended = ended or world.after(0.5)
    assert ended == {"here": "user"}


# Doubt


def lose_memory(world: World) -> None:
    world.service.disconnect("somebody")
    world.after(0.5)
    world.store.texts.clear()


def test_in_doubt_every_connection_proves_itself_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """They come back at different times, with new tickets.

    Mutants: listener-admits-in-doubt.
    """
    for number in range(1000):
        world.connect(str(number), number)
    unused = ticket(1001, issued_at=world.clocks.wall)
    lose_memory(world)
    with caplog.at_level(logging.WARNING, "realtime_ticket"):
        assert {*world.after(0.5).values()} == {"doubt"}
    assert "Disconnects may have been lost: an entry that was read" in caplog.text
    assert len(world.ended) == 1000
    waits = [revoked.retry_after for revoked in world.ended.values()]
    assert (min(waits) >= 11, max(waits) > 15, max(waits) <= 16) == (True,) * 3
    ahead = ticket(1001, issued_at=world.clocks.wall + 9)
    for each in (unused, ahead):
        with pytest.raises(InvalidTicket):
            world.watch("unused", each)
    for _ in range(4):
        world.after(2.75)
    world.connect("back")
    assert len(world.after(0.5)) == 1000


def test_in_doubt_connections_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, in_doubt="keep")
    world.connect("here")
    lose_memory(world)
    assert world.after(0.5) == {}
    world.connect("new")
    world.service.disconnect(7)
    assert world.after(0.5) == {"here": "user", "new": "user"}


# Age


def test_a_connection_ends_at_its_greatest_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a tenth earlier, so that not all end at once.

    Mutants: live-ages-all-alike.
    """
    world = World(monkeypatch, max_age=100)
    for number in range(200):
        world.connect(str(number), number)
    assert world.after(89.5) == {}
    ends = [len(world.after(0.5)) for _ in range(21)]
    assert ends[-1] == 200
    assert all(ends[number] < ends[number + 5] for number in range(0, 15, 5))
    assert {revoked.cause for revoked in world.ended.values()} == {"age"}


def test_a_connection_ends_with_its_session(world: World) -> None:
    """The ticket says how long the session lasts, from when it was issued.

    Mutants: live-ignores-the-end-of-the-session, age-begins-with-the-connection.
    """
    world.watch("short", ticket(issued_at=world.clocks.wall - 8, max_age=60))
    world.connect("unlimited")
    assert world.after(51.5) == {}
    assert world.after(0.5) == {"short": "age"}


def test_a_clock_that_is_behind_prolongs_no_session(world: World) -> None:
    """Mutants: age-trusts-clocks."""
    world.watch("short", ticket(issued_at=world.clocks.wall + 8, max_age=60))
    assert world.after(60) == {"short": "age"}


def test_a_session_that_expired_before_the_connection_ends_it_at_once(
    world: World,
) -> None:
    world.watch("late", ticket(issued_at=world.clocks.wall - 8, max_age=5))
    assert world.after(0.5) == {"late": "age"}


def test_an_age_needs_no_storage(world: World) -> None:
    world.watch("short", ticket(issued_at=world.clocks.wall, max_age=60))
    world.store.is_down = lambda key: True
    with pytest.raises(ConnectionError):
        world.after(60)
    assert world.ended["short"].cause == "age"


def test_connections_that_ended_early_take_no_memory(world: World) -> None:
    for number in range(1000):
        shown = ticket(number, issued_at=world.clocks.wall, max_age=10**6)
        world.live.watch(shown, print).close()
        if number % 100 == 0:
            world.live.poll()
    world.connect("one")
    world.live.poll()
    watches = world.service.listener._state.watches
    assert (len(watches), len(watches._aging), len(watches._by_user)) == (1, 0, 1)


# Options and errors


def test_a_backend_that_cannot_be_read_is_named() -> None:
    service = TicketService(RecordingBackend())
    for use in (LiveTickets, lambda service: service.disconnect(7)):
        with pytest.raises(
            UnsupportedBackend, match="RecordingBackend has no read_many"
        ):
            use(service)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"max_age": 0}, "max_age is a number of seconds > 0, not 0"),
        ({"max_age": -1.5}, "max_age is a number of seconds > 0, not -1.5"),
        ({"max_age": "60"}, "max_age is a number of seconds > 0, not '60'"),
        ({"max_age": True}, "max_age is a number of seconds > 0, not True"),
        ({"in_doubt": "panic"}, "in_doubt is 'close' or 'keep', not 'panic'"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, object], complaint: str) -> None:
    service = TicketService(Store(Clocks()))
    with pytest.raises(ValueError, match=complaint):
        LiveTickets(service, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("expire", [59, 3601, 60.0, True, "120"])
def test_a_journal_has_a_life_of_a_minute_to_an_hour(expire: object) -> None:
    with pytest.raises(ValueError, match="an int of 60 to 3600 seconds"):
        TicketService(Store(Clocks()), journal_expire=expire)  # type: ignore[arg-type]


def test_only_a_consumed_ticket_can_be_watched(world: World) -> None:
    value = "rt_" + "a" * 43
    with pytest.raises(TypeError, match="Watch the Ticket") as refused:
        world.live.watch(value, print)  # type: ignore[arg-type]
    assert value not in str(refused.value)


def test_a_life_of_the_journal_that_differs_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """And what is missing after its own life is no loss.

    Mutants: journal-expects-its-own-life-of-all.
    """
    writer = TicketService(world.store, journal_expire=60)
    world.connect("here")
    for _ in range(3):
        writer.disconnect(8)
        world.after(0.5)
    for _ in range(12):
        assert world.after(10) == {}
    assert caplog.messages == [
        "Disconnects are kept for 60 seconds where they are written, and for 120 here. "
        "Set the same journal_expire on both sides."
    ]


def test_a_disconnect_of_what_is_no_user_or_session_is_refused(world: World) -> None:
    with pytest.raises(TypeError):
        world.service.disconnect(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 128 characters"):
        world.service.disconnect(7, session="x" * 129)
    for no_session in (0, False, b""):
        with pytest.raises(ValueError, match="A session is a str"):
            world.service.disconnect(7, session=no_session)  # type: ignore[arg-type]
    world.service.disconnect()
    assert world.store.texts == {}


@pytest.mark.parametrize(
    "revoked, reason",
    [
        (Revoked("session"), "disconnected kind=session"),
        (Revoked("user", retry_after=3.04), "disconnected kind=user retry=3.0"),
        (Revoked("doubt", retry_after=17.26), "reconnect kind=doubt retry=17.3"),
        (Revoked("age"), "expired kind=age"),
    ],
)
def test_a_close_frame_says_why_and_when_to_come_back(
    revoked: Revoked, reason: str
) -> None:
    assert (revoked.close_code, revoked.close_reason) == (4401, reason)
    assert str(revoked) == f"The connection must end ({revoked.cause})."
