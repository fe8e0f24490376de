"""Issue tickets and consume them, whatever the storage. No Django."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from . import tickets
from .backends.base import BaseBackend, Item
from .batching import GroupCommit
from .exceptions import InvalidTicket, RealtimeTicketError, StorageError
from .outages import Report
from .tickets import Ticket

Result = TypeVar("Result")

logger = logging.getLogger("realtime_ticket")

EXPIRE = 10
"""Seconds: enough for a page to connect, too short for a stolen ticket to matter."""

MAX_EXPIRE = 30 * 24 * 60 * 60
"""Seconds. Memcached takes more for a date, and the calendars of databases end."""


class TicketService:
    """Issues single-use tickets and consumes them, on any backend.

    Both sides of a project need the same ``prefix``, ``hash_keys`` and storage.
    ``expire`` is in whole seconds. Methods are safe to call from any thread; the twins
    with an ``a`` belong to event loops, and are batched there.

    Override ``notify`` and ``anotify`` to hear of what happens to tickets, and
    ``report`` to hear of outages.
    """

    def __init__(
        self,
        backend: BaseBackend,
        *,
        expire: int = EXPIRE,
        prefix: str = tickets.PREFIX,
        hash_keys: bool = False,
    ) -> None:
        if not tickets.PREFIX_FORMAT.fullmatch(prefix):
            raise ValueError("A prefix is 1 to 32 characters of [A-Za-z0-9._-].")
        self.backend = backend
        self.expire = check_expire(expire)
        self.prefix = prefix
        self.hash_keys = hash_keys or backend.hashes_keys
        self._format = tickets.value_format(prefix)
        self._log = Report()
        self._batches: GroupCommit[Item | str, Any] = GroupCommit(
            self._commit, thread_sensitive=backend.thread_sensitive
        )

    def issue(
        self, claims: dict[str, Any], *, audience: str = "", expire: int | None = None
    ) -> Ticket:
        """Store a new ticket that says ``claims`` and return it.

        ``claims`` is a JSON object of at most 4 KiB with ``id`` (int or str) and
        ``username`` (str). ``expire`` overrides the service's, in whole seconds.

        Raise StorageError when the ticket may not be in the storage, InvalidClaims or
        InvalidAudience when they are not what they should be, and ValueError for a
        wrong ``expire``.
        """
        ticket, item = self._prepare(claims, audience, expire)
        self._require(self._call(self.backend.add, *item))
        self.notify("issued", ticket=ticket)
        return ticket

    async def aissue(
        self, claims: dict[str, Any], *, audience: str = "", expire: int | None = None
    ) -> Ticket:
        """See issue()."""
        ticket, item = self._prepare(claims, audience, expire)
        self._require(await self._submit(item))
        await self.anotify("issued", ticket=ticket)
        return ticket

    def consume(self, value: str, *, audience: str = "") -> Ticket:
        """Spend the ticket with this value and return it. It works once.

        ``value`` may be anything that a client sent. Raise InvalidTicket when it lets
        nobody in, and StorageError when the storage failed: the ticket may be spent or
        not, so the client needs a new one. Raise OpenTransaction when a rollback of the
        caller's could revive the ticket. No other error has to do with the value.
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

        Raise StorageError when the storage failed.
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

    def notify(self, event: str, **details: Any) -> None:
        """Hear that a ticket was ``issued``, ``consumed`` or ``rejected``.

        ``details`` holds the ``ticket``, or for a rejection ``reason``, ``fingerprint``
        (empty for a malformed value) and ``audience``. This one writes a log record.
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
        """Hear that a call failed with this error. This one logs it, at most once a
        minute in a process, and says how many more have failed since.
        """
        self._log(error)

    def close(self) -> None:
        """Close connections and end the thread. The next call starts anew."""
        self._batches.close()
        self.backend.close()

    async def aclose(self) -> None:
        """See close()."""
        sensitive = self.backend.thread_sensitive
        await sync_to_async(self.close, thread_sensitive=sensitive)()

    def _prepare(
        self, claims: dict[str, Any], audience: str, expire: int | None
    ) -> tuple[Ticket, Item]:
        """Return a new ticket and what the storage shall keep of it."""
        tickets.check_audience(audience)
        lifetime = self.expire if expire is None else check_expire(expire)
        issued_at = int(time.time())
        data = tickets.encode(
            claims,
            audience=audience,
            issued_at=issued_at,
            expires_at=issued_at + lifetime,
        )
        value = tickets.new_value(self.prefix)
        key = self._key(value, audience)
        # Read back from the text, so that issue() returns just what consume() will.
        ticket = tickets.decode(data, value=value, audience=audience)
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
            # The audience may come from the client too, as part of a path.
            raise InvalidTicket("malformed") from None
        return tickets.storage_key(
            value, audience, prefix=self.prefix, hashed=self.hash_keys
        )

    def _open(self, data: str | None, value: str, audience: str) -> Ticket:
        if data is None:
            raise InvalidTicket("unknown")
        return tickets.decode(data, value=value, audience=audience)

    def _require(self, added: bool) -> None:
        # Two of 2**256 values cannot meet. A store that swallows its errors says so.
        if not added:
            error = StorageError("The storage did not keep the ticket.")
            self.report(error)
            raise error

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
            (error,) = self._translated(exc)
            if isinstance(error, StorageError):
                self.report(error)
            raise error  # noqa: B904 (it has its cause)

    async def _submit(self, call: Item | str) -> Any:
        """Call the backend, together with others."""
        try:
            return await self._batches.submit(call)
        except StorageError as exc:
            self.report(exc)
            raise

    def _translated(self, error: Exception, count: int = 1) -> list[Exception]:
        """Return StorageErrors for what a driver raised, and any other as it is."""
        if isinstance(error, RealtimeTicketError):
            return [error] * count
        if not isinstance(error, self.backend.storage_errors):
            return [error] * count
        # Not the driver's words: they may hold a key, and a key is a ticket.
        message, hint = self.backend.explain(error)
        outages: list[Exception] = []
        for _ in range(count):
            outage = StorageError(f"The storage failed: {message}", hint)
            outage.__cause__ = error
            outages.append(outage)
        return outages

    def _commit(self, calls: list[Item | str]) -> list[Any]:
        """Make the calls of one batch: an Item is to be added, a key to be popped."""
        backend = self.backend
        items = [call for call in calls if isinstance(call, Item)]
        keys = [call for call in calls if isinstance(call, str)]
        added = self._outcomes(lambda item: backend.add(*item), backend.add_many, items)
        popped = self._outcomes(backend.pop, backend.pop_many, keys)
        return [next(added if isinstance(call, Item) else popped) for call in calls]

    def _outcomes(
        self,
        one: Callable[[Any], Any],
        many: Callable[[list[Any]], Sequence[Any]],
        calls: list[Any],
    ) -> Iterator[Any]:
        """Return the outcome of each call. A failed batch failed for every caller."""
        if not calls:
            return iter(())
        try:
            outcomes = [one(calls[0])] if len(calls) == 1 else many(calls)
            if len(outcomes) != len(calls):  # or users would get each other's tickets
                raise RuntimeError(
                    f"{self.backend!r} gave {len(outcomes)} results for {len(calls)}."
                )
        except Exception as exc:
            outcomes = self._translated(exc, len(calls))
        return iter(outcomes)


def check_expire(expire: int) -> int:
    """Return a lifetime in whole seconds. Raise ValueError for anything else."""
    if type(expire) is not int or expire < 1:
        raise ValueError(f"A ticket's lifetime is an int >= 1 second, not {expire!r}.")
    if expire > MAX_EXPIRE:
        raise ValueError(f"A ticket's lifetime is at most {MAX_EXPIRE} seconds.")
    return expire
