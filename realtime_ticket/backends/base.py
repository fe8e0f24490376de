"""The contract that every storage backend keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from realtime_ticket.exceptions import UnsupportedBackend
from realtime_ticket.outages import Outage, explain

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from realtime_ticket.replies import Request


class Item(NamedTuple):
    """What ``add`` takes: a key, the text to keep, and its lifetime in seconds."""

    key: str
    data: str
    expire: int

    # The key can be a ticket, and a repr ends up in logs and error reports.
    def __repr__(self) -> str:
        return f"<Item expire={self.expire}>"


class BaseBackend(ABC):
    """Keep texts for some seconds, and give each to one caller. The base of backends.

    Tickets need only ``add()`` and ``pop()``; connections that end with their login
    need ``read_many()`` too. A backend is synchronous: for coroutines, the service
    calls it in a thread, with batches. One instance serves every thread of a process.
    :class:`~realtime_ticket.testing.BackendContract` tests all these promises.

    The constructor takes keyword options, refuses unknown ones with a TypeError, reads
    no settings and opens no connection.
    """

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the driver raises when the store fails. The service turns it into
    StorageError, with the original as its cause and without its text, which may hold a
    key. Any other exception passes through unchanged, because it is a bug."""

    thread_sensitive: ClassVar[bool] = True
    """Whether async calls must run in the thread of Django's ORM. Set it to False for a
    store that does not use Django's database connections: they then run in a thread of
    the service, where no ORM query delays them."""

    hashes_keys: ClassVar[bool] = False
    """Whether the service always hashes the keys of tickets: then they are the prefix
    and 64 hexadecimal digits. For stores that ignore case or trailing spaces, or whose
    keys end up in logs and backups. Keys of the journal are never hashed."""

    setting: ClassVar[str] = ""
    """The last part of the Django setting with this backend's options: ``REDIS`` stands
    for ``REALTIME_TICKET_REDIS``. Subclasses inherit it. ``REALTIME_TICKET_OPTIONS``
    comes on top."""

    shorthand: ClassVar[str] = ""
    """The option that is meant when that setting is a plain string: ``url`` lets users
    write ``REALTIME_TICKET_REDIS = "redis://localhost"``."""

    @property
    def database(self) -> str | None:
        """Return the alias of Django's database that has the tickets, or None.

        ``manage.py check --database ALIAS`` asks a storage with that alias, or None.
        """
        return None

    @abstractmethod
    def add(self, key: str, data: str, expire: int) -> bool:
        """Store the text for ``expire`` seconds if the key is free, in one atomic step.

        Return False, and change nothing, when the key is taken. A key is never used
        twice, so whether an expired one is free again is up to the store. Raise one of
        ``storage_errors`` when the store cannot say that it has the text.
        """

    @abstractmethod
    def pop(self, key: str) -> str | None:
        """Remove the text and return it. Return None when there is none, or it expired.

        One atomic operation of the store, whose result is checked, decides who gets
        the text: of any number of racing callers exactly one. The store's own clock
        decides when it expires. Raise one of ``storage_errors`` when the outcome is
        unknown.
        """

    # No peek() and no exists(): they invite a check that another caller overtakes.

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        """Do what ``add()`` does for each item, in order. The default is a loop.

        Override it if the store can do it in one round trip, which makes a storm of
        connections fast. A key may come twice. It runs without the context variables of
        any caller: if ``add()`` reads one, such as the current tenant, do not override
        it. Coroutines then call ``add()``, each with its own context.
        """
        return [self.add(*item) for item in items]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        """Do what ``pop()`` does for each key, in order. See add_many()."""
        return [self.pop(key) for key in keys]

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        """Return the text of each key, in order, and remove nothing.

        Only the journal of disconnects is read this way. Never read a ticket without
        removing it: another caller can take it in between.

        ``keys`` are 1 to 500 keys like ``off:rt_:1764303000:12``, unhashed whatever
        ``hashes_keys`` says; a key may come twice. None stands for a key without a text
        and for an expired one.

        Raise one of ``storage_errors`` when nothing could be read. Where a storage has
        several servers and only some of them failed, the exception (one of
        ``storage_errors``) stands in place of each key that could not be read. The
        default raises UnsupportedBackend.
        """
        raise UnsupportedBackend(
            f"{type(self).__module__}.{type(self).__qualname__} has no read_many(), so "
            "connections cannot end at a logout. Write read_many() (see 'Write a "
            "backend' in the documentation), or use a backend that has it."
        )

    def send(self, calls: Sequence[Item | str]) -> Request | None:
        """Send calls from an event loop, an Item to add or a key to pop. Never wait.

        Return None where it would: add_many() and pop_many() then run in a thread.
        """
        return None

    def add_durably(self, key: str, data: str, expire: int) -> bool:
        """Do what ``add`` does, and let no rollback of the caller's undo it.

        Raise OpenTransaction where one could. Override it for a storage that takes part
        in the caller's transactions.
        """
        return self.add(key, data, expire)

    @classmethod
    def supports_read_many(cls) -> bool:
        """Return whether this backend has a ``read_many`` of its own. No I/O."""
        return cls.read_many is not BaseBackend.read_many

    def clear_expired(self) -> int:
        """Remove what expired and return how much; 0 if the store does so by itself."""
        return 0

    def check(self, databases: Collection[str] = ()) -> list[CheckMessage]:
        """Return findings for ``manage.py check``.

        ``databases`` are the aliases that this run may query: see Django's
        ``check --database``. Everything else is checked without I/O.
        """
        return []

    def diagnose(self) -> list[CheckMessage]:
        """Return findings for ``ticket_doctor``: versions, and settings that do harm.

        Give each message an id of your own. It may take a second. Raise one of
        ``storage_errors`` when the storage fails.
        """
        return []

    def explain(self, error: Exception) -> Outage:
        """Return what an error of the driver means: where, what, and what to do.

        It goes into StorageError, logs and checks, so it must hold no key, no password,
        and nothing that the driver said. The default distinguishes a refused
        connection, a timeout, an unknown host and a few more.
        ``realtime_ticket.outages.explain()`` does so for you, given the name and the
        place of your storage.
        """
        return explain(error, storage=type(self).__name__, setting=self.options_name)

    @property
    def options_name(self) -> str:
        """Return the setting that holds the options of this backend."""
        return f"REALTIME_TICKET_{self.setting or 'OPTIONS'}"

    def close(self) -> None:  # noqa: B027
        """Drop open connections. Calling it twice is fine; the next call reconnects."""

    # Options can hold a password, and a repr ends up in logs.
    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__}>"

    def __init__(self, **options: Any) -> None:
        if options:
            raise TypeError(f"{type(self).__name__}: unknown options {sorted(options)}")


def require_read_many(backend: BaseBackend) -> None:
    """Raise UnsupportedBackend when the backend has no ``read_many``."""
    if not backend.supports_read_many():
        backend.read_many([])  # raises, and says why
