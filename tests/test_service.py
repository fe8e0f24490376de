"""TicketService: issuing, consuming, revoking; what it refuses, and how it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest

from realtime_ticket import (
    InvalidAudience,
    InvalidClaims,
    InvalidTicket,
    StorageError,
    Ticket,
    TicketService,
    tickets,
)
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.redis import RedisBackend
from tests import servers
from tests.doors import AsyncDoor, Door
from tests.helpers import (
    CLAIMS,
    GOOD,
    WAIT,
    FailingBackend,
    RecordingBackend,
    commands_of,
    hostile_audiences,
    hostile_values,
    real_redis,
    reason_of,
    same_ticket,
    shown,
    using,
)


@pytest.fixture(params=[Door, AsyncDoor], ids=["sync", "async"])
def open_door(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Return a function that opens the door under test to a backend."""
    opened: list[TicketService] = []

    def open_door(backend: BaseBackend, **options: Any) -> Any:
        opened.append(TicketService(backend, **options))
        return request.param(opened[-1])

    yield open_door
    for service in opened:
        service.close()


class TestOneTicket:
    def test_comes_back_as_it_was_issued(self, open_door: Any) -> None:
        """consume returns a ticket equal to the one that issue returned."""
        door = open_door(RecordingBackend())
        claims = {"id": 2**60, "username": "Ада", "room": ("a", None), "n": 1.5}
        issued = door.issue(claims, audience="chat")
        consumed = door.consume(issued.value, audience="chat")
        assert same_ticket(issued, consumed)
        assert consumed.user_id == str(2**60)
        assert consumed.username == "Ада"
        assert consumed.claims["room"] == ["a", None]
        assert consumed.audience == "chat"

    def test_works_once(self, open_door: Any) -> None:
        """The second time, and every other, a ticket is unknown."""
        door = open_door(RecordingBackend())
        value = door.issue(CLAIMS).value
        door.consume(value)
        assert reason_of(lambda: door.consume(value)) == "unknown"
        assert reason_of(lambda: door.consume(value)) == "unknown"

    def test_that_was_never_issued_is_unknown(self, open_door: Any) -> None:
        """A string in the right format is not enough."""
        door = open_door(RecordingBackend())
        assert reason_of(lambda: door.consume(GOOD)) == "unknown"

    @pytest.mark.parametrize(
        ("issued", "shown_at"), [("chat", "news"), ("chat", ""), ("", "chat")]
    )
    def test_at_the_wrong_door_is_kept(
        self, open_door: Any, issued: str, shown_at: str
    ) -> None:
        """Another audience does not know the ticket, and does not burn it."""
        door = open_door(RecordingBackend())
        ticket = door.issue(CLAIMS, audience=issued)
        wrong = lambda: door.consume(ticket.value, audience=shown_at)  # noqa: E731
        assert reason_of(wrong) == "unknown"
        assert door.consume(ticket.value, audience=issued) == ticket

    def test_can_be_revoked(self, open_door: Any) -> None:
        """revoke says whether the ticket was still good, which then it is not."""
        door = open_door(RecordingBackend())
        ticket = door.issue(CLAIMS, audience="chat")
        assert door.revoke(ticket.value) is False
        assert door.revoke(ticket.value, audience="chat") is True
        assert door.revoke(ticket.value, audience="chat") is False
        gone = lambda: door.consume(ticket.value, audience="chat")  # noqa: E731
        assert reason_of(gone) == "unknown"

    def test_is_stored_under_its_value(self, open_door: Any) -> None:
        """The storage gets value, text and lifetime, and nothing else."""
        backend = RecordingBackend()
        door = open_door(backend, expire=25)
        ticket = door.issue(CLAIMS)
        assert backend.calls == [("add", (ticket.value,))]
        assert backend.expires == {ticket.value: 25}
        assert json.loads(backend.texts[ticket.value]) == CLAIMS | {
            "iat": ticket.issued_at,
            "exp": ticket.expires_at,
        }

    def test_says_when_it_ends(self, open_door: Any) -> None:
        """issued_at is now, expires_at that and the lifetime, 10 seconds if unsaid."""
        before = int(time.time())
        ticket = open_door(RecordingBackend()).issue(CLAIMS)
        assert before <= ticket.issued_at <= time.time()
        assert ticket.expires_at == ticket.issued_at + 10

    def test_can_live_longer_than_others(self, open_door: Any) -> None:
        """expire of one call wins over the service's."""
        backend = RecordingBackend()
        ticket = open_door(backend, expire=25).issue(CLAIMS, expire=3)
        assert backend.expires == {ticket.value: 3}
        assert ticket.expires_at - ticket.issued_at == 3

    def test_carries_the_prefix(self, open_door: Any) -> None:
        """A service with a prefix issues it, and refuses all others."""
        backend = RecordingBackend()
        ours, theirs = open_door(backend, prefix="shop."), open_door(backend)
        value = ours.issue(CLAIMS).value
        assert value.startswith("shop.") and len(value) == 48
        assert reason_of(lambda: theirs.consume(value)) == "malformed"
        assert ours.consume(value).username == "ada"

    @pytest.mark.parametrize("by_backend", [False, True])
    def test_can_be_stored_under_a_hash(self, open_door: Any, by_backend: bool) -> None:
        """With hash_keys, or when the backend says so, no value is ever stored."""
        backend = RecordingBackend()
        if by_backend:
            backend.hashes_keys = True  # type: ignore[misc]
        door = open_door(backend, prefix="p_", hash_keys=not by_backend)
        ticket = door.issue(CLAIMS, audience="chat")
        key = tickets.storage_key(ticket.value, "chat", prefix="p_", hashed=True)
        assert list(backend.texts) == [key]
        assert ticket.value not in repr(backend.texts)
        assert door.consume(ticket.value, audience="chat") == ticket


class TestArguments:
    @pytest.mark.parametrize(
        "expire", [True, False, 0, -1, 1.0, 10.5, "10", b"1", [], float("inf")]
    )
    def test_a_lifetime_is_whole_seconds(self, open_door: Any, expire: Any) -> None:
        """Anything but an int of at least 1 raises ValueError; nothing is stored."""
        backend = RecordingBackend()
        with pytest.raises(ValueError, match="int >= 1"):
            open_door(backend).issue(CLAIMS, expire=expire)
        with pytest.raises(ValueError, match="int >= 1"):
            TicketService(backend, expire=expire)
        assert backend.calls == []

    @pytest.mark.parametrize(
        "login",
        [
            {"session": 7},
            {"session": None},
            {"session": "x" * 129},
            {"max_age": -1},
            {"max_age": True},
            {"max_age": 60.0},
            {"max_age": 2**53},
        ],
        ids=ascii,
    )
    def test_a_login_is_named_by_a_str_and_lasts_whole_seconds(
        self, open_door: Any, login: dict[str, Any]
    ) -> None:
        """Anything else raises ValueError; nothing is stored."""
        backend = RecordingBackend()
        with pytest.raises(ValueError, match=r"A session is a str|max_age is an int"):
            open_door(backend).issue(CLAIMS, **login)
        assert backend.calls == []

    @pytest.mark.parametrize(
        "when", ["1", True, -1, float("nan"), float("inf"), 2**53], ids=ascii
    )
    def test_a_user_is_authenticated_at_a_unix_time(
        self, open_door: Any, when: Any
    ) -> None:
        backend = RecordingBackend()
        with pytest.raises(ValueError, match="is not a Unix time in seconds"):
            open_door(backend).issue(CLAIMS, authenticated_at=when)
        assert backend.calls == []

    def test_a_ticket_is_as_old_as_its_authentication(self, open_door: Any) -> None:
        """A disconnect after it refuses the ticket.

        Mutants: authenticated-now, authenticated-in-the-future.
        """
        now = time.time()
        service = open_door(RecordingBackend())
        ticket = service.issue(CLAIMS, authenticated_at=now - 60.5)
        assert ticket.issued_at == int(now - 60.5)
        ticket = service.issue(CLAIMS, authenticated_at=now + 60)
        assert ticket.issued_at - now <= 1

    def test_a_service_needs_a_lifetime(self) -> None:
        """None is no lifetime for a service, though it is for one call."""
        with pytest.raises(ValueError, match="int >= 1"):
            TicketService(RecordingBackend(), expire=None)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "prefix", ["", "a" * 33, "a b", "a:", "a\n", "é", "*"], ids=shown
    )
    def test_a_prefix_is_checked(self, prefix: str) -> None:
        """A prefix outside of its format raises ValueError."""
        with pytest.raises(ValueError, match="1 to 32 characters"):
            TicketService(RecordingBackend(), prefix=prefix)

    @pytest.mark.parametrize("audience", hostile_audiences(), ids=shown)
    def test_an_audience_to_issue_for_is_checked(
        self, open_door: Any, audience: Any
    ) -> None:
        """issue raises InvalidAudience, a ValueError, and stores nothing."""
        backend = RecordingBackend()
        with pytest.raises(InvalidAudience) as caught:
            open_door(backend).issue(CLAIMS, audience=audience)
        assert isinstance(caught.value, ValueError)
        assert backend.calls == []

    @pytest.mark.parametrize(
        "claims", [{}, None, CLAIMS | {"exp": 1}, CLAIMS | {"x": object()}], ids=shown
    )
    def test_claims_are_checked(self, open_door: Any, claims: Any) -> None:
        """issue raises InvalidClaims and stores nothing."""
        backend = RecordingBackend()
        with pytest.raises(InvalidClaims):
            open_door(backend).issue(claims)
        assert backend.calls == []

    def test_options_are_given_by_name(self) -> None:
        """Neither the audience nor the lifetime can be mistaken for something else."""
        with using(RecordingBackend()) as service:
            with pytest.raises(TypeError):
                service.issue(CLAIMS, "chat")  # type: ignore[misc]
            with pytest.raises(TypeError):
                service.consume(GOOD, "chat")  # type: ignore[misc]


class TestHostileValues:
    def test_are_many(self) -> None:
        """The table has what it is meant to have."""
        values = hostile_values()
        assert len(values) >= 200
        assert max(len(value) for value in values if isinstance(value, str)) >= 10**6

    @pytest.mark.parametrize("value", hostile_values(), ids=shown)
    def test_never_reach_the_storage(self, open_door: Any, value: Any) -> None:
        """Each is malformed, for consume and revoke, and costs no storage call."""
        backend = RecordingBackend()
        door = open_door(backend)
        assert reason_of(lambda: door.consume(value)) == "malformed"
        assert reason_of(lambda: door.consume(value, audience="chat")) == "malformed"
        assert door.revoke(value) is False
        assert backend.calls == []

    @pytest.mark.parametrize("audience", hostile_audiences(), ids=shown)
    def test_nor_do_hostile_audiences(self, open_door: Any, audience: Any) -> None:
        """An audience may come from the client: then the ticket is malformed."""
        backend = RecordingBackend()
        door = open_door(backend)
        value = door.issue(CLAIMS).value
        backend.calls.clear()
        assert reason_of(lambda: door.consume(value, audience=audience)) == "malformed"
        assert door.revoke(value, audience=audience) is False
        assert backend.calls == []
        assert door.consume(value).username == "ada"

    def test_cost_a_real_redis_nothing(self, open_door: Any) -> None:
        """Redis counts not one command for the whole table."""
        with real_redis() as watcher:
            door = open_door(RedisBackend(unix_socket_path=str(servers.REDIS)))
            door.revoke(GOOD)  # connects
            before = commands_of(watcher)
            for value in hostile_values():
                assert reason_of(lambda value=value: door.consume(value)) == "malformed"
                assert door.revoke(value) is False
            for audience in hostile_audiences():
                with pytest.raises(InvalidTicket):
                    door.consume(GOOD, audience=audience)
            assert commands_of(watcher) == before
            door.revoke(GOOD)
            assert commands_of(watcher) != before, "the counter does not count"

    def test_cannot_read_other_keys(self, open_door: Any) -> None:
        """What else is in that Redis stays there, whatever the client sends."""
        with real_redis() as other:
            other.set("session:abc", '{"id":1,"username":"admin","iat":1,"exp":2}')
            door = open_door(RedisBackend(unix_socket_path=str(servers.REDIS)))
            for value in ("session:abc", "session:abc\n", "*", "rt_"):
                assert reason_of(lambda value=value: door.consume(value)) == "malformed"
            assert other.getdel("session:abc") is not None


class TestWireFormat:
    def test_any_language_can_consume(self, open_door: Any) -> None:
        """The ticket is the key; GETDEL gives JSON with id and username, once."""
        with real_redis() as tornado:
            door = open_door(RedisBackend(unix_socket_path=str(servers.REDIS)))
            ticket = door.issue(CLAIMS)
            assert 0 < tornado.pttl(ticket.value) <= 10_000
            user = json.loads(tornado.getdel(ticket.value))
            assert (user["id"], user["username"]) == (7, "ada")
            assert tornado.exists(ticket.value) == 0
            assert reason_of(lambda: door.consume(ticket.value)) == "unknown"

    @pytest.mark.parametrize(
        "garbage",
        [b"", b"garbage", b"\xff\xfe", b"[]", b"{}", b"\x80\x04K\x07.", b"\0" * 5000,
         '{"id":7,"username":"ä","iat":1,"exp":2}'.encode(),
         b'{"id":7,"username":"ada","iat":1,"exp":2,"aud":"chat"}'],
        ids=shown,
    )  # fmt: skip
    def test_what_others_stored_is_a_mismatch(
        self, open_door: Any, garbage: bytes
    ) -> None:
        """Garbage under a ticket's key lets nobody in, and is gone."""
        with real_redis() as other:
            other.set(GOOD, garbage, px=5000)
            door = open_door(RedisBackend(unix_socket_path=str(servers.REDIS)))
            assert reason_of(lambda: door.consume(GOOD)) == "mismatch"
            assert other.exists(GOOD) == 0

    def test_a_key_of_another_type_is_no_ticket(self, open_door: Any) -> None:
        """A list under a ticket's key lets nobody in either."""
        with real_redis() as other:
            other.rpush(GOOD, "x")
            other.pexpire(GOOD, 5000)
            door = open_door(RedisBackend(unix_socket_path=str(servers.REDIS)))
            assert reason_of(lambda: door.consume(GOOD)) == "mismatch"
            other.delete(GOOD)

    def test_another_language_can_issue(self, open_door: Any) -> None:
        """A text in the documented format is a ticket, whatever stored it."""
        with real_redis() as node:
            node.set(GOOD, '{"username":"ada","id":"7","exp":11,"iat":1}', px=5000)
            door = open_door(RedisBackend(unix_socket_path=str(servers.REDIS)))
            assert door.consume(GOOD).user_id == "7"


class Down(OSError):
    """What the driver of FailingBackend raises. Its text names the key."""


every_call = pytest.mark.parametrize(
    ("call", "argument"), [("issue", CLAIMS), ("consume", GOOD), ("revoke", GOOD)]
)


class TestFailures:
    @every_call
    def test_of_the_storage_are_translated(
        self, open_door: Any, call: str, argument: Any
    ) -> None:
        """A driver's error becomes StorageError with its cause, without its text."""
        cause = Down(f"no reply to GETDEL {GOOD}")
        with pytest.raises(StorageError) as caught:
            getattr(open_door(FailingBackend(cause)), call)(argument)
        assert caught.value.__cause__ is cause
        assert "Down" in str(caught.value)
        assert GOOD[3:] not in f"{caught.value!s}{caught.value!r}"

    @every_call
    def test_of_the_program_are_not(
        self, open_door: Any, call: str, argument: Any
    ) -> None:
        """An error that is none of the storage's passes as it is."""
        bug = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError) as caught:
            getattr(open_door(FailingBackend(bug)), call)(argument)
        assert caught.value is bug

    @every_call
    def test_never_hang(self, call: str, argument: Any) -> None:
        """Not even StopIteration, which no future can hold, leaves a caller waiting."""

        async def in_time(service: TicketService) -> None:
            await asyncio.wait_for(getattr(service, f"a{call}")(argument), WAIT)

        with (
            using(FailingBackend(StopIteration())) as service,
            pytest.raises((StorageError, RuntimeError)),
        ):
            asyncio.run(in_time(service))

    def test_a_ticket_that_was_not_kept_is_not_issued(self, open_door: Any) -> None:
        """An add that returns False raises StorageError."""

        class Forgetful(RecordingBackend):
            def add(self, key: str, data: str, expire: int) -> bool:
                return False

        with pytest.raises(StorageError, match="did not keep"):
            open_door(Forgetful()).issue(CLAIMS)

    def test_waiters_get_exceptions_of_their_own(self) -> None:
        """A failed batch fails all of its callers, none with another's exception."""

        async def storm(service: TicketService) -> list[Any]:
            calls = [service.aconsume(tickets.new_value()) for _ in range(50)]
            return await asyncio.gather(*calls, return_exceptions=True)

        with using(FailingBackend()) as service:
            errors = asyncio.run(storm(service))
        assert {type(error) for error in errors} == {StorageError}
        assert len(set(map(id, errors))) == 50
        assert all(isinstance(error.__cause__, OSError) for error in errors)

    @pytest.mark.parametrize("difference", [-1, 1], ids=["too few", "too many"])
    @pytest.mark.parametrize("call", ["issue", "consume"])
    def test_a_batch_with_a_wrong_number_of_results(
        self, call: str, difference: int
    ) -> None:
        """Nobody is let in when it is unclear whose result is whose."""

        class Miscounting(RecordingBackend):
            def add_many(self, items: Sequence[Item]) -> list[bool]:
                return [True] * (len(items) + difference)

            def pop_many(self, keys: Sequence[str]) -> list[str | None]:
                return [STORED] * (len(keys) + difference)

        async def storm(service: TicketService) -> list[Any]:
            calls = [
                service.aissue(CLAIMS)
                if call == "issue"
                else service.aconsume(tickets.new_value())
                for _ in range(5)
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

        with using(Miscounting()) as service:
            errors = asyncio.run(storm(service))
        assert Counter(type(error) for error in errors) == {RuntimeError: 5}
        assert "for 5" in str(errors[0])

    def test_a_failing_half_of_a_batch_leaves_the_other(self) -> None:
        """When consuming fails, those who issue in the same batch succeed."""

        class HalfDead(RecordingBackend):
            storage_errors: ClassVar[tuple[type[Exception], ...]] = (Down,)

            def pop_many(self, keys: Sequence[str]) -> list[str | None]:
                raise Down

        async def both(service: TicketService) -> list[Any]:
            calls: list[Any] = [service.aissue(CLAIMS) for _ in range(3)]
            calls += [service.aconsume(GOOD) for _ in range(3)]
            return await asyncio.gather(*calls, return_exceptions=True)

        with using(HalfDead()) as service:
            outcomes = asyncio.run(both(service))
        assert [type(outcome) for outcome in outcomes] == [Ticket] * 3 + [
            StorageError
        ] * 3


_, STORED = tickets.create(CLAIMS, value=GOOD, audience="", issued_at=1, expires_at=2)


class Listening(TicketService):
    """Note what the service tells its hooks, and through which."""

    def __init__(self, backend: BaseBackend) -> None:
        super().__init__(backend)
        self.heard: list[tuple[str, str, dict[str, Any]]] = []

    def notify(self, event: str, **details: Any) -> None:
        self.heard.append(("sync", event, details))
        super().notify(event, **details)

    async def anotify(self, event: str, **details: Any) -> None:
        self.heard.append(("async", event, details))


class TestNotify:
    @pytest.mark.parametrize("door_class", [Door, AsyncDoor])
    def test_hears_of_every_event(self, door_class: type[Door]) -> None:
        """Each door tells its own hook what became of a ticket."""
        service = Listening(RecordingBackend())
        door = door_class(service)
        ticket = door.issue(CLAIMS, audience="chat")
        door.consume(ticket.value, audience="chat")
        for value in (ticket.value, "garbage"):
            with pytest.raises(InvalidTicket):
                door.consume(value, audience="chat")
        service.close()
        name = "async" if door_class is AsyncDoor else "sync"
        assert service.heard == [
            (name, "issued", {"ticket": ticket}),
            (name, "consumed", {"ticket": ticket}),
            (name, "rejected", {"reason": "unknown", "audience": "chat",
                                "fingerprint": ticket.fingerprint}),
            (name, "rejected", {"reason": "malformed", "audience": "chat",
                                "fingerprint": ""}),
        ]  # fmt: skip

    def test_does_not_hear_of_outages(self) -> None:
        """A storage that is down rejects nobody; the caller gets the error."""
        service = Listening(FailingBackend())
        with pytest.raises(StorageError):
            service.consume(GOOD)
        assert service.heard == []

    def test_logs_fingerprints_only(
        self, open_door: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log names tickets, but nobody could use what it says."""
        door = open_door(RecordingBackend())
        with caplog.at_level(logging.DEBUG, logger="realtime_ticket"):
            ticket = door.issue(CLAIMS, audience="chat")
            door.consume(ticket.value, audience="chat")
            reason_of(lambda: door.consume(ticket.value, audience="chat"))
            reason_of(lambda: door.consume("s3cret garbage"))
        assert len(caplog.records) == 4
        assert caplog.text.count(ticket.fingerprint) == 3
        assert ticket.value[3:] not in caplog.text
        assert "s3cret" not in caplog.text
        assert "unknown" in caplog.text and "malformed" in caplog.text

    def test_is_silent_by_default(
        self, open_door: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Above DEBUG nothing is logged for a ticket."""
        with caplog.at_level(logging.INFO, logger="realtime_ticket"):
            door = open_door(RecordingBackend())
            door.consume(door.issue(CLAIMS).value)
        assert caplog.records == []


class TestClose:
    def test_closes_the_backend(self) -> None:
        """close reaches the backend, and may be called again."""
        backend = RecordingBackend()
        service = TicketService(backend)
        service.close()
        service.close()
        assert backend.closed == 2

    def test_is_not_the_end(self, open_door: Any) -> None:
        """The service goes on with its next call."""
        door = open_door(RecordingBackend())
        value = door.issue(CLAIMS).value
        door.service.close()
        assert door.consume(value).username == "ada"

    def test_has_a_twin(self) -> None:
        """aclose closes where the calls were made, and may be called again too."""

        async def session() -> None:
            ticket = await service.aissue(CLAIMS)
            await service.aclose()
            await service.aclose()
            assert await service.aconsume(ticket.value) == ticket

        backend = RecordingBackend()
        service = TicketService(backend)
        asyncio.run(session())
        assert backend.closed == 2
        service.close()

    def test_of_a_thread_sensitive_backend_is_for_its_thread(self) -> None:
        """A database connection can be closed only in the thread that opened it."""

        class Sensitive(RecordingBackend):
            thread_sensitive: ClassVar[bool] = True

            def close(self) -> None:
                self.threads.append(threading.current_thread())

        async def session() -> None:
            await service.aissue(CLAIMS)
            await service.aclose()

        backend = Sensitive()
        service = TicketService(backend)
        asyncio.run(session())
        opened, closed = backend.threads
        assert opened is closed is not threading.current_thread()


class TestBaseBackend:
    def test_batches_are_loops_by_default(self) -> None:
        """A backend with add and pop alone serves batches, in order."""

        class Minimal(BaseBackend):
            texts: ClassVar[dict[str, str]] = {}

            def add(self, key: str, data: str, expire: int) -> bool:
                return self.texts.setdefault(key, data) is data

            def pop(self, key: str) -> str | None:
                return self.texts.pop(key, None)

        backend = Minimal()
        assert backend.add_many([Item("a", "A", 1), Item("b", "B", 1)]) == [True, True]
        assert backend.add_many([Item("a", "other", 1)]) == [False]
        assert backend.pop_many(["b", "x", "a", "a"]) == ["B", None, "A", None]
        assert backend.clear_expired() == 0
        assert backend.check() == []
        backend.close()

    def test_needs_add_and_pop(self) -> None:
        """A subclass without them cannot be made."""
        with pytest.raises(TypeError, match="abstract"):
            BaseBackend()  # type: ignore[abstract]

    def test_refuses_options_by_name(self) -> None:
        """An option that nobody asked for raises a TypeError that names it."""

        class Plain(RecordingBackend):
            __init__ = BaseBackend.__init__

        with pytest.raises(TypeError, match=r"Plain: unknown options \['x'\]"):
            Plain(x=1)

    def test_hides_its_options(self) -> None:
        """A repr ends up in logs, so a password is not part of it."""
        backend = RedisBackend(password="s3cret")
        assert repr(backend) == "<realtime_ticket.backends.redis.RedisBackend>"
