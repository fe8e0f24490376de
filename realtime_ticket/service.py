"""Issue tickets and consume them, whatever the storage. No Django."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, copy_context
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async

from . import journal as journals
from . import revocations, tickets
from .backends.base import BaseBackend, Item, require_read_many
from .batching import GroupCommit
from .exceptions import InvalidTicket, RealtimeTicketError, StorageError
from .journal import Journal
from .listener import Listener
from .logs import logger
from .outages import Report
from .outbox import Outbox
from .replies import Request
from .tickets import Ticket

Result = TypeVar("Result")
UserId = int | str | UUID

EXPIRE = 10
"""Seconds: enough for a page to connect, too short for a stolen ticket to matter."""

MAX_EXPIRE = 30 * 24 * 60 * 60
"""Seconds. Memcached reads a larger number as a date, and dates of databases end."""


class _Call(NamedTuple):
    """A call of a coroutine that is made with the context variables of its caller."""

    argument: Item | str
    context: Context

    # The key can be a ticket, and a repr ends up in logs and error reports.
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _Add(_Call):
    """A call of ``add``, with an Item."""


class _Pop(_Call):
    """A call of ``pop``, with a key."""


class TicketService:
    """Issues single-use tickets and consumes them, on any backend.

    Both sides of a project need the same ``prefix``, ``hash_keys``, ``journal_expire``
    and storage. ``expire`` is how long a ticket can be consumed, at most 30 days, and
    ``journal_expire`` how long a disconnect is kept, 60 to 3600; both in whole seconds.
    Methods may be called from any thread. The twins with an ``a`` are for coroutines,
    and are batched. Inside Django, get_service() returns the service of the settings.

    Override ``notify()`` and ``anotify()`` to count what happens to tickets, and
    ``report()`` to count outages.

    The constructor does not connect. Raise ValueError for a wrong argument.
    """

    def __init__(
        self,
        backend: BaseBackend,
        *,
        expire: int = EXPIRE,
        prefix: str = tickets.PREFIX,
        hash_keys: bool = False,
        journal_expire: int = journals.EXPIRE,
    ) -> None:
        if not tickets.PREFIX_FORMAT.fullmatch(prefix):
            raise ValueError("A prefix is 1 to 32 characters of [A-Za-z0-9._-].")
        self.backend = backend
        self.expire = check_expire(expire)
        self.prefix = prefix
        self.hash_keys = hash_keys or backend.hashes_keys
        self.journal = Journal(
            backend, prefix=prefix, expire=check_journal_expire(journal_expire)
        )
        self.outbox = Outbox(self.journal)
        self.listener = Listener(self.journal)
        self._format = tickets.value_format(prefix)
        self._log = Report()
        self._batches: GroupCommit[Item | str | _Call, Any] = GroupCommit(
            self._commit, thread_sensitive=backend.thread_sensitive, send=self._send
        )

    def issue(
        self,
        claims: dict[str, Any],
        *,
        audience: str = "",
        expire: int | None = None,
        session: str = "",
        max_age: int | None = None,
        authenticated_at: float | None = None,
    ) -> Ticket:
        """Store a new ticket that says ``claims`` and return it.

        ``claims`` is a JSON object of at most 4 KiB with ``id`` (int or str) and
        ``username`` (str). ``expire`` overrides the service's, in whole seconds.
        ``session`` names the user's login, for disconnect(); it must not be the key of
        a session, which is a credential. ``max_age`` is how many seconds that login
        lasts at most. ``authenticated_at`` is the Unix time when the user was
        recognised, some seconds ago: a disconnect of the user after it refuses the
        ticket. It is not the time of the login, because live connections refuse a
        ticket that is older than the journal of disconnects.

        Raise StorageError when the ticket may not be in the storage, InvalidClaims or
        InvalidAudience when they are not what they should be, and ValueError for a
        wrong ``expire``, ``session``, ``max_age`` or ``authenticated_at``.
        """
        ticket, item = self._prepare(
            claims, audience, expire, session, max_age, authenticated_at
        )
        self._require(self._call(self.backend.add, *item))
        self.notify("issued", ticket=ticket)
        return ticket

    async def aissue(
        self,
        claims: dict[str, Any],
        *,
        audience: str = "",
        expire: int | None = None,
        session: str = "",
        max_age: int | None = None,
        authenticated_at: float | None = None,
    ) -> Ticket:
        """See issue()."""
        ticket, item = self._prepare(
            claims, audience, expire, session, max_age, authenticated_at
        )
        self._require(await self._submit(item))
        await self.anotify("issued", ticket=ticket)
        return ticket

    def consume(self, value: str, *, audience: str = "") -> Ticket:
        """Spend the ticket with this value and return it. It works once.

        ``value`` may be anything that a client sent. Raise InvalidTicket when it lets
        nobody in, and StorageError when the storage failed: the ticket may be spent or
        not, so the client needs a new one. Refuse the connection in both cases.

        Raise OpenTransaction when a rollback of the caller's transaction could make the
        ticket valid again (not on MariaDB and MySQL, if the transaction was begun with
        SQL). No value causes another error.
        """
        try:
            key = self._key(value, audience)
            data = self._call(self.backend.pop, key)
            ticket = self._open(data, value, audience)
        except InvalidTicket as exc:
            self.notify("rejected", **self._rejection(exc, value, audience))
            raise
        self.notify("consumed", ticket=ticket)
        return ticket

    async def aconsume(self, value: str, *, audience: str = "") -> Ticket:
        """See consume()."""
        try:
            key = self._key(value, audience)
            data = await self._submit(key)
            ticket = self._open(data, value, audience)
        except InvalidTicket as exc:
            await self.anotify("rejected", **self._rejection(exc, value, audience))
            raise
        await self.anotify("consumed", ticket=ticket)
        return ticket

    def revoke(self, value: str, *, audience: str = "") -> bool:
        """Make the ticket useless. Return whether it was still good.

        No signal is sent. Raise StorageError when the storage failed.
        """
        try:
            key = self._key(value, audience)
        except InvalidTicket:
            return False
        return self._call(self.backend.pop, key) is not None

    async def arevoke(self, value: str, *, audience: str = "") -> bool:
        """See revoke()."""
        try:
            key = self._key(value, audience)
        except InvalidTicket:
            return False
        return await self._submit(key) is not None

    def disconnect(
        self, *user_ids: UserId, session: str | None = None, background: bool = False
    ) -> None:
        """End the open connections of users, wherever LiveTickets holds them.

        They end within about a second. ``user_ids`` are what tickets have as ``id``,
        compared as strings. ``session`` ends only the connections whose tickets name
        that session; the empty string, those whose tickets name none.

        Raise StorageError when the storage failed: this process then keeps the
        disconnect, and tries again from a thread for two minutes. Raise OpenTransaction
        in a transaction on the database that holds the tickets: nobody could read the
        disconnect before its commit. With ``background=True`` that thread writes it in
        the first place, and neither is raised. Raise TypeError or ValueError for what
        is not an id or a session, and UnsupportedBackend without ``read_many()``.
        """
        texts = self._disconnects(user_ids, session)
        if background:
            self.outbox.put(texts)
            texts = []
        for number, text in enumerate(texts):
            try:
                self._call(self.journal.write, text)
            except StorageError:
                self.outbox.put(texts[number:])
                self.notify("disconnected", user_ids=user_ids, session=session)
                raise
            self.outbox.confirm(text)
        self.notify("disconnected", user_ids=user_ids, session=session)

    async def adisconnect(
        self, *user_ids: UserId, session: str | None = None, background: bool = False
    ) -> None:
        """See disconnect()."""
        disconnect = sync_to_async(
            self.disconnect, thread_sensitive=self.backend.thread_sensitive
        )
        await disconnect(*user_ids, session=session, background=background)

    def notify(self, event: str, **details: Any) -> None:
        """Log an event: ``issued``, ``consumed``, ``rejected`` or ``disconnected``.

        ``details`` holds the ``ticket``; for a rejection ``reason``, ``fingerprint``
        (empty for a malformed value) and ``audience``; and for a disconnect what
        disconnect() takes, as ``user_ids`` and ``session``. What an override raises
        reaches the caller, whose ticket is already issued or spent.
        """
        if not logger.isEnabledFor(logging.DEBUG):
            return
        if ticket := details.get("ticket"):
            details = {
                "fingerprint": ticket.fingerprint,
                "audience": ticket.audience,
                "user_id": ticket.user_id,
            }
        logger.debug("Ticket %s: %s", event, details)

    async def anotify(self, event: str, **details: Any) -> None:
        """See notify()."""
        self.notify(event, **details)

    def report(self, error: StorageError) -> None:
        """Log the error of a failed call, at most once a minute in a process, with the
        number of calls that have failed since.
        """
        self._log(error)

    def close(self) -> None:
        """Close connections and end the threads. The next call starts them again."""
        self.listener.close()
        self.outbox.close()
        self._batches.close()
        self.backend.close()

    async def aclose(self) -> None:
        """See close()."""
        sensitive = self.backend.thread_sensitive
        await sync_to_async(self.close, thread_sensitive=sensitive)()

    def _prepare(
        self,
        claims: dict[str, Any],
        audience: str,
        expire: int | None,
        session: str,
        max_age: int | None,
        authenticated_at: float | None,
    ) -> tuple[Ticket, Item]:
        """Return a new ticket, and what to store of it."""
        tickets.check_audience(audience)
        tickets.check_session(session, max_age)
        lifetime = self.expire if expire is None else check_expire(expire)
        issued_at = int(time.time())
        if authenticated_at is not None:
            tickets.check_time(authenticated_at)
            issued_at = min(issued_at, int(authenticated_at))
        value = tickets.new_value(self.prefix)
        ticket, data = tickets.create(
            claims,
            value=value,
            audience=audience,
            issued_at=issued_at,
            expires_at=issued_at + lifetime,
            session=session,
            max_age=max_age,
        )
        key = tickets.storage_key(
            value, audience, prefix=self.prefix, hashed=self.hash_keys
        )
        return ticket, Item(key, data, lifetime)

    def _key(self, value: object, audience: str) -> str:
        """Return the storage key of a well-formed ticket, or raise InvalidTicket.

        Nothing else reaches the storage, so a client's string can name no other key.
        """
        if not isinstance(value, str) or not self._format.fullmatch(value):
            raise InvalidTicket("malformed")
        try:
            tickets.check_audience(audience)
        except ValueError:
            # The client may choose the audience, for example in a path.
            raise InvalidTicket("malformed") from None
        return tickets.storage_key(
            value, audience, prefix=self.prefix, hashed=self.hash_keys
        )

    def _open(self, data: str | None, value: str, audience: str) -> Ticket:
        if data is None:
            raise InvalidTicket("unknown")
        return tickets.decode(data, value=value, audience=audience)

    def _disconnects(
        self, user_ids: Sequence[UserId], session: str | None
    ) -> list[str]:
        """Return the texts to write into the journal."""
        require_read_many(self.backend)
        users = [revocations.user_key(user_id) for user_id in user_ids]
        tickets.check_session("" if session is None else session, None)
        kind: revocations.Kind = "session" if session else "sessionless"
        if session is None:
            kind, session = "user", ""
        at, expire = int(time.time()), self.journal.expire
        return [*revocations.encode(kind, users, at=at, expire=expire, session=session)]

    def _require(self, added: bool) -> None:
        # Random values of 256 bits are never equal, so the key cannot be taken. This
        # storage hides its errors.
        if not added:
            raise self._reported(StorageError("The storage did not keep the ticket."))

    def _rejection(
        self, error: InvalidTicket, value: str, audience: str
    ) -> dict[str, str]:
        fingerprint = ""
        if error.reason != "malformed":
            fingerprint = tickets.fingerprint(value)
        return {
            "reason": error.reason,
            "fingerprint": fingerprint,
            "audience": audience,
        }

    def _call(self, method: Callable[..., Result], *args: Any) -> Result:
        """Call the backend."""
        try:
            return method(*args)
        except Exception as exc:
            # It has its cause. It gets no name here: its traceback refers to this
            # frame, and that to the frames of the driver, whose connection would stay
            # open until the next garbage collection.
            raise self._reported(self._translated(exc)[0])  # noqa: B904

    async def _submit(self, what: Item | str) -> Any:
        """Call the backend, together with others: add an Item, or pop a key.

        A backend without a batch form gets each call with the context variables of its
        caller, because the key or the place of a ticket may depend on a tenant in them.
        A backend with a batch form gets none, not even for a single call: it would work
        until two callers meet.
        """
        cls = type(self.backend)
        call: Item | str | _Call = what
        if isinstance(what, Item):
            if cls.add_many is BaseBackend.add_many:
                call = _Add(what, copy_context())
        elif cls.pop_many is BaseBackend.pop_many:
            call = _Pop(what, copy_context())
        try:
            return await self._batches.submit(call)
        except StorageError as exc:
            self.report(exc)
            raise

    def _reported(self, error: Exception) -> Exception:
        """Report an outage. Return the error, whatever it is."""
        if isinstance(error, StorageError):
            self.report(error)
        return error

    def _translated(self, error: Exception, count: int = 1) -> list[Exception]:
        """Return StorageErrors for an error of the driver, and any other as it is."""
        if isinstance(error, RealtimeTicketError):
            return [error] * count
        if not isinstance(error, self.backend.storage_errors):
            return [error] * count
        # Without the driver's message: it may contain a key, and a key is a ticket.
        message, hint = self.backend.explain(error)
        outages: list[Exception] = []
        for _ in range(count):
            outage = StorageError(f"The storage failed: {message}", hint)
            outage.__cause__ = error
            outages.append(outage)
        return outages

    def _send(self, calls: list[Item | str | _Call]) -> Request | None:
        """Send the calls of one batch, if the backend can."""
        plain = [call for call in calls if not isinstance(call, _Call)]
        if len(plain) < len(calls):
            return None
        try:
            return self.backend.send(plain)
        except Exception as exc:
            raise self._translated(exc)[0]  # noqa: B904 (it has its cause)

    def _commit(
        self, calls: list[Item | str | _Call], request: Request | None = None
    ) -> list[Any]:
        """Make the calls of one batch, see _submit(), or read what _send() sent."""
        if request:
            outcomes = self._outcomes(request.outcomes, len(calls))
            return [
                self._translated(outcome)[0]
                if isinstance(outcome, Exception)
                else outcome
                for outcome in outcomes
            ]
        backend = self.backend
        adds = [call for call in calls if isinstance(call, (Item, _Add))]
        pops = [call for call in calls if isinstance(call, (str, _Pop))]
        added = self._made(self._add, backend.add_many, adds)
        popped = self._made(backend.pop, backend.pop_many, pops)
        return [
            next(added if isinstance(call, (Item, _Add)) else popped) for call in calls
        ]

    def _add(self, item: Item) -> bool:
        return self.backend.add(*item)

    def _made(
        self,
        one: Callable[[Any], Any],
        many: Callable[[list[Any]], Sequence[Any]],
        calls: list[Any],
    ) -> Iterator[Any]:
        """Make calls of one kind and return their outcomes."""

        def make() -> Sequence[Any]:
            if isinstance(calls[0], _Call):
                return [call.context.run(one, call.argument) for call in calls]
            return [one(calls[0])] if len(calls) == 1 else many(calls)

        return iter(self._outcomes(make, len(calls)) if calls else ())

    def _outcomes(self, make: Callable[[], Sequence[Any]], count: int) -> Sequence[Any]:
        """Return the outcome of each call. A failed batch failed for all callers."""
        try:
            outcomes = make()
            if len(outcomes) != count:  # or users would get each other's tickets
                raise RuntimeError(
                    f"{self.backend!r} gave {len(outcomes)} results for {count}."
                )
        except Exception as exc:
            return self._translated(exc, count)
        return outcomes


def check_journal_expire(expire: int) -> int:
    """Return how long a disconnect is kept. Raise ValueError for what is not possible.

    A reader that was away for a minute must still find what it missed.
    """
    if type(expire) is not int or not 60 <= expire <= journals.MAX_EXPIRE:
        raise ValueError(
            "A disconnect is kept for an int of 60 to "
            f"{journals.MAX_EXPIRE} seconds, not {expire!r}."
        )
    return expire


def check_expire(expire: int) -> int:
    """Return a lifetime in whole seconds. Raise ValueError for anything else."""
    if type(expire) is not int or expire < 1:
        raise ValueError(f"A ticket's lifetime is an int >= 1 second, not {expire!r}.")
    if expire > MAX_EXPIRE:
        raise ValueError(f"A ticket's lifetime is at most {MAX_EXPIRE} seconds.")
    return expire
