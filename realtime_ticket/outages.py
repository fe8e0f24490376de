"""Describe an outage in texts that are safe to log: where, what, and what to do.

The text of a driver may hold a key, which is a ticket, or a password. So only the kind
of an error is used: its class, its code, and as a last resort a few known phrases of
servers that give no code.
"""

from __future__ import annotations

import itertools
import queue
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

from .exceptions import StorageError
from .logs import logger

Failure = TypeVar("Failure", bound=BaseException)

PAUSE: Final = 60
"""Seconds in which a process logs an outage once."""


class Outage(NamedTuple):
    """What failed, and what to do about it, each in whole sentences."""

    message: str
    hint: str


class Report:
    """The log of a service's outages: at most one record in ``PAUSE`` seconds.

    It takes no lock, which a fork could copy locked.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._told = 0
        self._first_of: dict[int, int] = {}

    def __call__(self, error: StorageError) -> None:
        """Log the error, or count it for the next record."""
        number = next(self._numbers)
        period = int(time.monotonic() // PAUSE)
        if self._first_of.setdefault(period, number) == number:
            unsaid, self._told = number - self._told - 1, number
            self._first_of.pop(period - 1, None)
            more = f" {unsaid} more calls have failed." if unsaid else ""
            logger.error("%s%s", error, more)


def place_of(host: object, port: object = "") -> str:
    """Return an address in its usual form, or nothing for what may hold a password."""
    host = str(host)
    if not host.startswith("/") and not _HOST.fullmatch(host):
        return ""
    host = f"[{host}]" if ":" in host and port else host
    return f"{host}:{port}" if port else host


def locate(error: Failure, place: str = "", kind: str = "") -> Failure:
    """Note on the error where it happened, and its kind if known, and return it."""
    noted: Any = error
    if place and not hasattr(error, "_realtime_ticket_place"):
        noted._realtime_ticket_place = place
    if kind:
        noted._realtime_ticket_kind = kind
    return error


def explain(
    error: Exception,
    *,
    storage: str,
    setting: str,
    place: str = "",
    hints: dict[str, str] | None = None,
) -> Outage:
    """Return what the error of a driver means.

    ``storage`` is the subject of the sentence, and ``setting`` the setting with its
    address. The place that is noted on the error comes before ``place``. ``hints`` are
    those of the storage itself, by kind.
    """
    chain = list(_chain(error))
    places = (getattr(each, "_realtime_ticket_place", "") for each in chain)
    where = next(filter(None, places), place)
    kinds = (judge(each) for judge in (_kind_of, _by_phrase) for each in chain)
    kind = next(filter(None, kinds), "unknown")
    what, hint = _WORDS[kind]
    hint = (hints or {}).get(kind, hint)
    return Outage(
        f"{storage}{where and f' at {where}'} {what} ({type(error).__name__}).",
        hint.format(setting=setting),
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes. Some drivers make the chain a circle."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def _kind_of(error: BaseException) -> str:
    """Return the kind of this one error, empty if it is not known."""
    return (
        getattr(error, "_realtime_ticket_kind", "")
        or _by_class(error)
        or _BY_STATE.get(getattr(error, "sqlstate", None) or "", "")
        or _by_mysql_code(error)
        or _BY_SQLITE_NAME.get(_sqlite_name(error), "")
    )


def _by_class(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        # X509_V_ERR_HOSTNAME_MISMATCH, and for an IP address (openssl/x509_vfy.h)
        return "other certificate" if error.verify_code in (62, 64) else "certificate"
    for cls, kind in _BY_CLASS:
        if isinstance(error, cls):
            return kind
    names = [cls.__name__ for cls in type(error).__mro__ if "redis" in cls.__module__]
    return next((_BY_REDIS_NAME[name] for name in names if name in _BY_REDIS_NAME), "")


def _by_mysql_code(error: BaseException) -> str:
    if type(error).__module__.partition(".")[0] not in ("MySQLdb", "pymysql"):
        return ""
    code, words = (*error.args, 0, "")[:2]
    if code in (2002, 2003):  # the system's error number is in the words
        number = re.search(r"\((\d+)\b", str(words))
        return _BY_ERRNO.get(int(number[1]) if number else 111, "refused")
    return _BY_MYSQL_CODE.get(code, "")


def _sqlite_name(error: BaseException) -> str:
    return "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])


def _by_phrase(error: BaseException) -> str:
    words = f"{error.args[0]}" if error.args else ""
    return next((kind for phrase, kind in _PHRASES if phrase in words), "")


_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+|\[[0-9A-Fa-f:.]+\]:[0-9]+")

_BY_CLASS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ssl.SSLError, "tls"),
    (socket.gaierror, "host"),
    (ConnectionRefusedError, "refused"),
    (FileNotFoundError, "missing"),
    (PermissionError, "denied"),
    (TimeoutError, "timeout"),
    (ConnectionError, "lost"),
    (queue.Empty, "pool"),
)
_BY_ERRNO: Final = {2: "missing", 13: "denied", 110: "timeout"}
_BY_REDIS_NAME: Final = {
    "AuthenticationError": "password",
    "AuthorizationError": "permission",
    "NoPermissionError": "permission",
    "ReadOnlyError": "read-only",
    "OutOfMemoryError": "full",
    "MaxClientsError": "busy",
    "BusyLoadingError": "starting",
    "TimeoutError": "timeout",
}
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE: Final = {
    "25006": "read-only",
    "28000": "password",
    "28P01": "password",
    "3D000": "database",
    "42501": "permission",
    "42P01": "table",
    "53100": "full",
    "53200": "full",
    "53300": "busy",
    "55P03": "timeout",
    "57014": "timeout",
    "57P01": "lost",
    "57P03": "starting",
}
# https://mariadb.com/docs/server/reference/error-codes
_BY_MYSQL_CODE: Final = {
    1021: "full",
    1040: "busy",
    1044: "permission",
    1045: "password",
    1049: "database",
    1114: "full",
    1142: "permission",
    1143: "permission",
    1146: "table",
    1205: "timeout",
    1227: "permission",
    1290: "read-only",
    1698: "password",
    1792: "read-only",
    1836: "read-only",
    1969: "timeout",
    2005: "host",
    2006: "lost",
    2013: "lost",
    2026: "tls",
    3024: "timeout",
}
# https://www.sqlite.org/rescode.html
_BY_SQLITE_NAME: Final = {
    "SQLITE_BUSY": "timeout",
    "SQLITE_CANTOPEN": "missing",
    "SQLITE_FULL": "full",
    "SQLITE_READONLY": "read-only file",
}
# libpq gives no code for a connection that it could not make, nor does SQLite for a
# missing table, nor Memcached for anything.
_PHRASES: Final = (
    ("no such table", "table"),
    ("password authentication failed", "password"),
    ("no password supplied", "password"),
    ('FATAL:  role "', "password"),
    ('FATAL:  database "', "database"),
    ("no pg_hba.conf entry", "password"),
    ("could not translate host name", "host"),
    ("failed to resolve host", "host"),
    ("Name or service not known", "host"),
    ("certificate verify failed", "certificate"),
    ("does not match host name", "other certificate"),
    ("does not support SSL", "tls"),
    ("SSL error", "tls"),
    ("Connection refused", "refused"),
    ("No such file or directory", "missing"),
    ("Permission denied", "denied"),
    ("timeout expired", "timeout"),
    ("Connection timed out", "timeout"),
    ("too many clients", "busy"),
    ("the database system is starting up", "starting"),
    ("server closed the connection", "lost"),
    ("Connection closed by server", "lost"),
    ("out of memory", "full"),
    ("unauthenticated", "password"),
)

_WORDS: Final = {
    "refused": (
        "refuses connections",
        "Is it running there? See host and port in {setting}.",
    ),
    "missing": ("is not there", "Is it running? See the path in {setting}."),
    "denied": (
        "does not admit this process",
        "May the process's user read and write what {setting} names?",
    ),
    "host": ("has an unknown host name", "Correct the host in {setting}."),
    "other certificate": (
        "shows a certificate for another host",
        "Name the host in {setting} as the certificate does.",
    ),
    "certificate": (
        "shows a certificate that is not trusted",
        "Name the authority that signed it, such as with ssl_ca_certs, in {setting}; "
        "or renew the certificate.",
    ),
    "tls": (
        "cannot be reached with TLS",
        "Does this port speak TLS, and do both sides have a version in common? See "
        "{setting}.",
    ),
    "password": (
        "refuses this user name and password",
        "Correct them in {setting}.",
    ),
    "permission": (
        "does not allow this user to do what tickets need",
        "Grant the user of {setting} the rights.",
    ),
    "read-only": (
        "is a read-only replica",
        "Name the primary in {setting}: spending a ticket is a write.",
    ),
    "read-only file": (
        "is a read-only file",
        "Let the process's user write to the file and its folder, see {setting}.",
    ),
    "database": ("does not have this database", "Correct NAME in {setting}."),
    "table": ("has no table for tickets", "Run manage.py migrate."),
    "timeout": (
        "did not answer in time",
        "Is it overloaded, frozen, or behind a firewall? Or does one side speak TLS "
        "and the other not? {setting} says where it is and how long to wait.",
    ),
    "lost": (
        "closed the connection",
        "Was it restarted? Or does one side speak TLS and the other not? See "
        "{setting}.",
    ),
    "pool": (
        "has no free connection: too many threads use it at once",
        "Raise max_connections in {setting}.",
    ),
    "full": ("is full", "Give tickets more room, or a storage of their own."),
    "busy": ("takes no more connections", "Raise its limit, or start fewer processes."),
    "starting": ("is still starting", "Wait until it is up."),
    "replicas": (
        "has too few replicas that confirm a spent ticket",
        "Start them, or lower wait_replicas in {setting}.",
    ),
    "in charge": (
        "names no master",
        "Is service_name in {setting} the name in the Sentinels' configuration?",
    ),
    "slot": ("has no master for this ticket", "Repair the cluster."),
    "forgotten": (
        "did not keep the ticket",
        "It may be down and hide that, be full, or have no table. See {setting}.",
    ),
    "unknown": ("failed", "Look into its own log. {setting} says where it is."),
}
"""By kind: what the storage does, and what to do. ``{setting}`` is where to look."""
