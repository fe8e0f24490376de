"""Any sequence of calls, on every storage, against a model that is a dict.

One call after another, by both doors. What concurrent calls do to each other is tested
in tests/test_histories.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from asgiref.sync import async_to_sync
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    multiple,
    rule,
    run_state_machine_as_test,
)

from realtime_ticket import InvalidTicket, Ticket, TicketService, tickets
from realtime_ticket.backends import locmem
from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.locmem import LocMemBackend
from tests.faults.planted import OnDatabase, OnMemcached, OnRedis
from tests.helpers import REMOTE, same_ticket

LONG, SHORT = 600, 1
"""Lifetimes of tickets in seconds: waiting ends only the short one."""

TICK = 0.05
"""Seconds by which the storage's clock may differ from ours over that time."""

audiences = st.sampled_from(["", "chat", "news"])
lifetimes = st.sampled_from([LONG, SHORT])
claims = st.fixed_dictionaries(
    {"id": st.integers(), "username": st.text(max_size=5)},
    optional={"room": st.lists(st.text(max_size=5), max_size=2)},
)
by_batch = st.booleans()


class Good(NamedTuple):
    """A ticket that nobody has spent: when it was added, at the earliest and latest."""

    audience: str
    since: float
    until: float
    expire: int


class Model(RuleBasedStateMachine):
    """Makes calls, and compares what they say with a dict of what should be there."""

    issued = Bundle("issued")
    make: Callable[[], BaseBackend]
    clock: Any = time
    waits = 2
    """How often calls may still wait, in all sequences together."""
    early = 0.0
    """Seconds before its end that a ticket may be gone."""

    def __init__(self) -> None:
        super().__init__()
        self.service = TicketService(self.make())
        self.good: dict[str, Good] = {}

    def teardown(self) -> None:
        self.service.close()

    @rule(
        target=issued,
        claims=st.lists(claims, min_size=1, max_size=4),
        audience=audiences,
        expire=lifetimes,
        by_batch=by_batch,
    )
    def issue(
        self, claims: list[Any], audience: str, expire: int, by_batch: bool
    ) -> Any:
        """Every ticket is new, and says what it was told to say."""
        since = self.clock.monotonic()
        options = {"audience": audience, "expire": expire}
        found = self._call("issue", [(each, options) for each in claims], by_batch)
        good = Good(audience, since, self.clock.monotonic(), expire)
        for said, ticket in zip(claims, found, strict=True):
            assert ticket.value not in self.good
            assert str(ticket.user_id) == str(said["id"])
            assert ticket.claims == said | {"id": ticket.user_id}
            self.good[ticket.value] = good
        return multiple(*found)

    @rule(
        shown=st.lists(issued, min_size=1, max_size=6),
        audience=st.none() | audiences,
        by_batch=by_batch,
    )
    def consume(
        self, shown: list[Ticket], audience: str | None, by_batch: bool
    ) -> None:
        """Of all who show a good ticket at its own door, now or ever, one gets in."""
        before = self.clock.monotonic()
        doors = [ticket.audience if audience is None else audience for ticket in shown]
        calls = [
            (ticket.value, {"audience": door})
            for ticket, door in zip(shown, doors, strict=True)
        ]
        outcomes = self._call("consume", calls, by_batch)
        let_in: dict[str, int] = {}
        for ticket, door, outcome in zip(shown, doors, outcomes, strict=True):
            if isinstance(outcome, Ticket):
                assert same_ticket(outcome, ticket)
            if door == ticket.audience:
                count = let_in.get(ticket.value, 0)
                let_in[ticket.value] = count + isinstance(outcome, Ticket)
            else:
                assert outcome == "unknown"
        for value, count in let_in.items():
            assert count in self._expected(value, before)
            self.good.pop(value, None)

    @rule(ticket=issued, audience=st.none() | audiences, by_batch=by_batch)
    def revoke(self, ticket: Ticket, audience: str | None, by_batch: bool) -> None:
        """It tells whether the ticket was good, which it then no longer is."""
        before = self.clock.monotonic()
        door = ticket.audience if audience is None else audience
        call = (ticket.value, {"audience": door})
        (revoked,) = self._call("revoke", [call], by_batch)
        if door == ticket.audience:
            assert revoked in self._expected(ticket.value, before)
            self.good.pop(ticket.value, None)
        else:
            assert revoked is False

    @rule(audience=audiences, by_batch=by_batch)
    def consume_what_nobody_issued(self, audience: str, by_batch: bool) -> None:
        """It is unknown, and what is no ticket is malformed."""
        values = [tickets.new_value(), "rt_", tickets.new_value() + "\n"]
        calls = [(value, {"audience": audience}) for value in values]
        outcomes = self._call("consume", calls, by_batch)
        assert outcomes == ["unknown", "malformed", "malformed"]

    @rule(by_batch=by_batch)
    def wait(self, by_batch: bool) -> None:
        """Let the time of the short ones pass, and show all that are left."""
        if self.waits and any(good.expire == SHORT for good in self.good.values()):
            type(self).waits -= 1
            self.clock.sleep(SHORT + 2 * TICK)
        before = self.clock.monotonic()
        calls = [(value, {"audience": g.audience}) for value, g in self.good.items()]
        outcomes = self._call("consume", calls, by_batch)
        for value, outcome in zip(list(self.good), outcomes, strict=True):
            assert isinstance(outcome, Ticket) in self._expected(value, before)
            del self.good[value]

    @rule()
    def close(self) -> None:
        """The next call connects again."""
        self.service.close()

    def _call(self, name: str, calls: list[Any], by_batch: bool) -> list[Any]:
        """Return what comes of these calls, made one by one, or all at once."""
        if not by_batch:
            return [self._outcome(name, *call) for call in calls]
        method = getattr(self.service, f"a{name}")

        async def main() -> list[Any]:
            waiting = [method(argument, **options) for argument, options in calls]
            return await asyncio.gather(*waiting, return_exceptions=True)

        return [reason_or_error(outcome) for outcome in async_to_sync(main)()]

    def _outcome(self, name: str, argument: Any, options: dict[str, Any]) -> Any:
        try:
            return getattr(self.service, name)(argument, **options)
        except InvalidTicket as error:
            return reason_or_error(error)

    def _expected(self, value: str, before: float) -> set[int]:
        """Return how many may have got in with this ticket since a moment before."""
        if value not in self.good:
            return {0}
        _, since, until, expire = self.good[value]
        if before > until + expire + TICK:
            return {0}
        if self.clock.monotonic() < since + expire - TICK - self.early:
            return {1}
        return {0, 1}


def reason_or_error(outcome: Any) -> Any:
    """Return why a ticket was refused, or what is no refusal. Raise other errors."""
    if isinstance(outcome, InvalidTicket):
        return outcome.reason
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def check(examples: int, **attributes: Any) -> None:
    """Run sequences of calls on a storage."""
    machine = type("Machine", (Model,), attributes)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
            derandomize=True,
        ),
    )


def test_local_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test's own.

    Mutants: locmem-only-reads, locmem-ignores-expiry, key-without-its-audience.
    """
    clock = Clock()
    monkeypatch.setattr(locmem, "time", SimpleNamespace(monotonic=clock.monotonic))
    check(60, make=staticmethod(LocMemBackend), clock=clock, waits=100)


def on_database(alias: str) -> Any:
    marks = pytest.mark.django_db(transaction=True, databases=[alias])
    return pytest.param(OnDatabase(alias), 0.0, id=alias, marks=marks)


@pytest.mark.parametrize(
    ("storage", "early"),
    [
        pytest.param(OnRedis(), 0.0, id="redis"),
        pytest.param(OnMemcached(), 1.0, id="memcached"),
        *map(on_database, ["default", *REMOTE]),
    ],
)
def test_servers(storage: OnRedis, early: float) -> None:
    """By the storage's own clock. Memcached counts whole seconds.

    Mutants: key-without-its-audience, revoke-says-the-contrary, redis-only-reads,
    redis-forgets-expiry, memcached-only-reads, sqlite-ignores-expiry.
    """
    check(20, make=staticmethod(storage.make), early=early)
