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
    """Keep texts for some seconds and hand each out once. Subclass it for a new store.

    Tickets need ``add`` and ``pop`` and nothing else; live connections that end with
    their login need ``read_many`` too. A backend is synchronous: calls of coroutines
    reach it in batches, from a thread. One instance serves every thread of a process.
    :class:`realtime_ticket.testing.BackendContract` tests all that is promised here.

    The constructor takes keyword options, refuses unknown ones with a TypeError, reads
    no settings and touches no network.
    """

    storage_errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the driver raises in trouble. The service turns it into StorageError."""

    thread_sensitive: ClassVar[bool] = True
    """Whether batches must run in Django's own thread. Set it to False for a store that
    uses no database connection of Django's: it then gets a thread of its own."""

    hashes_keys: ClassVar[bool] = False
    """Whether the service always hashes the keys of tickets, and so never hands over a
    ticket's value. Keys of the journal are never hashed."""

    setting: ClassVar[str] = ""
    """The last part of the Django setting with this backend's options: ``REDIS`` stands
    for ``REALTIME_TICKET_REDIS``. ``REALTIME_TICKET_OPTIONS`` comes on top."""

    shorthand: ClassVar[str] = ""
    """The option that is meant when that setting is a plain string."""

    @property
    def database(self) -> str | None:
        """Return the alias of Django's database that has the tickets, if one has."""
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
        the text: of any number of racing callers exactly one. Expiry is judged by the
        store's own clock. Raise one of ``storage_errors`` when the outcome is unknown.
        """

    # No peek() and no exists(): they invite a check that another caller overtakes.

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        """Do ``add`` for each, in order. Override it unless that reads a ContextVar."""
        return [self.add(*item) for item in items]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        """Do what ``pop`` does for each key, in order. See add_many()."""
        return [self.pop(key) for key in keys]

    def read_many(self, keys: Sequence[str]) -> list[str | Exception | None]:
        """Return the text of each key, in order, and remove nothing.

        Only the journal of disconnects is read this way. Never read a ticket: before
        you remove it, another caller can do so.

        ``keys`` are 1 to 500 keys like ``off:rt_:1764303000:12``, unhashed whatever
        ``hashes_keys`` says; a key may come twice. None stands for a key without a text
        and for an expired one.

        Raise one of ``storage_errors`` when nothing could be read. Where only some of
        several servers failed, such an exception stands in the place of each key that
        could not be read. The default raises UnsupportedBackend.
        """
        raise UnsupportedBackend(
            f"{type(self).__module__}.{type(self).__qualname__} has no read_many(), so "
            "connections cannot hear of disconnects. Write read_many() (see 'Write a "
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
        """Remove what expired and return how much: 0 if the store does it by itself."""
        return 0

    def check(self, databases: Collection[str] = ()) -> list[CheckMessage]:
        """Return findings for ``manage.py check``.

        ``databases`` are the aliases that this run may query: see Django's
        ``check --database``. Everything else is judged without I/O.
        """
        return []

    def diagnose(self) -> list[CheckMessage]:
        """Return findings that only the storage itself can tell, for ``ticket_doctor``.

        It may take a second. Raise one of ``storage_errors`` when the storage fails.
        """
        return []

    def explain(self, error: Exception) -> Outage:
        """Return what an error of the driver means: where, what, and what to do.

        It goes into StorageError and the log, so it must hold no key and no password:
        nothing that the driver said, which may repeat them.
        """
        return explain(error, storage=type(self).__name__, setting=self.options_name)

    @property
    def options_name(self) -> str:
        """Return where a reader finds the options of this backend."""
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
