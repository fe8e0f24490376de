"""The settings, and the service that they describe. No other module reads them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables

from . import journal as journals
from . import service as services
from . import tickets
from .backends.base import BaseBackend
from .service import TicketService
from .signalling import SignallingService

DEFAULTS: dict[str, Any] = {
    "BACKEND": "realtime_ticket.backends.redis.RedisBackend",
    "EXPIRE": services.EXPIRE,
    "PREFIX": tickets.PREFIX,
    "HASH_KEYS": False,
    "AUDIENCES": (),
    "CLAIMS": None,
    "REDIS": {},
    "MEMCACHED": {},
    "CACHE": "default",
    "DATABASE": DEFAULT_DB_ALIAS,
    "OPTIONS": {},
    "SERVICE_KEYS": (),
    "DISCONNECT": True,
    "JOURNAL_EXPIRE": journals.EXPIRE,
}
"""Every setting, without its ``REALTIME_TICKET_``, and its default."""

DRIVERS = {"redis": "redis", "pymemcache": "memcached"}
"""Drivers, and the extra of this package that installs each."""


class WrongSetting(ImproperlyConfigured):
    """A setting is wrong. ``hint`` and ``id`` are for ``manage.py check``."""

    def __init__(self, message: str, *, hint: str, id: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint
        self.id = f"realtime_ticket.{id}"


def expire() -> int:
    """Return the lifetime of tickets in seconds."""
    try:
        return services.check_expire(_read("EXPIRE"))
    except ValueError as exc:
        raise WrongSetting(
            f"REALTIME_TICKET_EXPIRE: {exc}",
            hint="Set it to a whole number of seconds, such as 10.",
            id="E003",
        ) from exc


def prefix() -> str:
    """Return the prefix of every ticket."""
    value = _read("PREFIX")
    if not isinstance(value, str) or not tickets.PREFIX_FORMAT.fullmatch(value):
        raise WrongSetting(
            f"REALTIME_TICKET_PREFIX is {value!r}.",
            hint="Set it to 1 to 32 characters of A-Z, a-z, 0-9, '.', '_' and '-'.",
            id="E006",
        )
    return value


def hash_keys() -> bool:
    """Return whether storage keys are hashed."""
    value = _read("HASH_KEYS")
    if not isinstance(value, bool):
        raise WrongSetting(
            f"REALTIME_TICKET_HASH_KEYS is {value!r}.",
            hint="Set it to True or False.",
            id="E009",
        )
    return value


def audiences() -> tuple[str, ...]:
    """Return the audiences that a client may ask for."""
    value = _read("AUDIENCES")
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(
        isinstance(name, str) and tickets.AUDIENCE_FORMAT.fullmatch(name)
        for name in value
    ):
        raise WrongSetting(
            f"REALTIME_TICKET_AUDIENCES is {value!r}.",
            hint="Set it to a list of names, each 1 to 64 characters of A-Z, a-z, 0-9, "
            "'.', '_' and '-'.",
            id="E007",
        )
    return tuple(value)


def claims() -> Callable[[Any], dict[str, Any]] | None:
    """Return the function that adds claims, ``callable(request) -> dict``, or None."""
    path = _read("CLAIMS")
    if path is None:
        return None
    try:
        function: Callable[[Any], dict[str, Any]] = import_string(path)
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        raise WrongSetting(
            f"REALTIME_TICKET_CLAIMS is {path!r}, which cannot be imported: {exc}.",
            hint="Set it to the dotted path of a function: function(request) -> dict.",
            id="E008",
        ) from exc
    if not callable(function):
        raise WrongSetting(
            f"REALTIME_TICKET_CLAIMS is {path!r}, which is not callable.",
            hint="Set it to the dotted path of a function: function(request) -> dict.",
            id="E008",
        )
    if inspect.iscoroutinefunction(function):
        raise WrongSetting(
            f"REALTIME_TICKET_CLAIMS is {path!r}, which is an async function.",
            hint="Make it a plain one. Under ASGI it runs in a thread.",
            id="E008",
        )
    return function


def service_keys(keys: object = None) -> tuple[str, ...]:
    """Return the keys with which servers of your own may consume over HTTP.

    They are the setting's, or else the ``keys`` of one view.
    """
    value = _read("SERVICE_KEYS") if keys is None else keys
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(key, str) and _SERVICE_KEY.fullmatch(key) for key in value
    ):
        raise WrongSetting(  # without the value: it is a secret
            "REALTIME_TICKET_SERVICE_KEYS is not a list of keys.",
            hint="Make each key with secrets.token_urlsafe(32): at least 32 characters "
            "of A-Z, a-z, 0-9, '.', '_', '~', '+', '/', '=' and '-'.",
            id="E013",
        )
    return tuple(value)


def disconnects_by_itself() -> bool:
    """Return whether Django disconnects users by itself, as at a logout."""
    value = _read("DISCONNECT")
    if not isinstance(value, bool):
        raise WrongSetting(
            f"REALTIME_TICKET_DISCONNECT is {value!r}.",
            hint="Set it to True or False.",
            id="E017",
        )
    return value


def journal_expire() -> int:
    """Return how long a disconnect can be heard, in seconds."""
    try:
        return services.check_journal_expire(_read("JOURNAL_EXPIRE"))
    except ValueError as exc:
        raise WrongSetting(
            f"REALTIME_TICKET_JOURNAL_EXPIRE: {exc}",
            hint="Set it to a whole number of seconds, such as 120, and to the same "
            "in every process.",
            id="E018",
        ) from exc


def backend_class() -> type[BaseBackend]:
    """Return the class of the storage backend."""
    path = _read("BACKEND")
    try:
        cls = import_string(path)
    except ModuleNotFoundError as exc:
        if exc.name not in DRIVERS:
            raise _wrong_path(path, exc) from exc
        raise WrongSetting(
            f"REALTIME_TICKET_BACKEND is {path!r}, whose driver {exc.name!r} is not "
            "installed.",
            hint=f"Run: pip install 'django-realtime-ticket[{DRIVERS[exc.name]}]>=1'",
            id="E004",
        ) from exc
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        raise _wrong_path(path, exc) from exc
    if not isinstance(cls, type) or not issubclass(cls, BaseBackend):
        raise WrongSetting(
            f"REALTIME_TICKET_BACKEND is {path!r}, which is not a ticket backend.",
            hint="Set it to a subclass of realtime_ticket.backends.base.BaseBackend.",
            id="E002",
        )
    return cls


@sensitive_variables()
def backend() -> BaseBackend:
    """Return a new backend, made as the settings say."""
    cls = backend_class()
    options = _options(cls.setting, cls.shorthand) | _options("OPTIONS", "")
    if known := _ALIASES.get(cls.setting):
        alias = options.get("alias", "default")
        if not isinstance(alias, str) or alias not in getattr(settings, known):
            raise WrongSetting(
                f"REALTIME_TICKET_{cls.setting} is {alias!r}, not one of {known}.",
                hint=f"Set it to an alias in {known}.",
                id="E010",
            )
    try:
        return cls(**options)
    except Exception as exc:
        name = f"REALTIME_TICKET_{cls.setting or 'OPTIONS'}"
        # A KeyError is a word without a sentence.
        said = exc if isinstance(exc, (TypeError, ValueError)) else repr(exc)
        raise WrongSetting(
            f"{name} does not suit {cls.__name__}: {said}.",
            hint="Correct the option: the settings reference lists them.",
            id="E005",
        ) from exc


def get_service() -> TicketService:
    """Return the service that the settings describe, one for the whole process.

    It sends signals. Raise ImproperlyConfigured when a setting is wrong.
    """
    service = _made.get(SignallingService)
    if service is None:
        # Threads that start together may each make one, and use the first. A lock could
        # be copied by a fork while it is locked.
        service = _made.setdefault(SignallingService, new_service(SignallingService))
    return service


def new_service(cls: type[TicketService] = TicketService) -> TicketService:
    """Return a new service as the settings describe it. See get_service()."""
    return cls(
        backend(),
        expire=expire(),
        prefix=prefix(),
        hash_keys=hash_keys(),
        journal_expire=journal_expire(),
    )


# What fits a Bearer credential (RFC 6750, section 2.1), long enough not to be guessed.
_SERVICE_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{32,}")
_ALIASES = {"CACHE": "CACHES", "DATABASE": "DATABASES"}

_made: dict[type[TicketService], TicketService] = {}


def _reset(*, setting: str, **kwargs: Any) -> None:
    """Forget the service when a test overrides a setting that it was made from."""
    if not (setting.startswith("REALTIME_TICKET_") or setting in _ALIASES.values()):
        return
    if outdated := _made.pop(SignallingService, None):
        # In an async test, the connection to the database is the test's to close.
        with suppress(SynchronousOnlyOperation):
            outdated.close()


setting_changed.connect(_reset, dispatch_uid="realtime_ticket")


def _read(name: str) -> Any:
    return getattr(settings, f"REALTIME_TICKET_{name}", DEFAULTS.get(name, {}))


def _options(name: str, shorthand: str) -> dict[str, Any]:
    """Return a setting that holds a backend's options, or one of them as a string."""
    value = _read(name) if name else {}
    if shorthand and isinstance(value, str):
        return {shorthand: value}
    if not isinstance(value, dict):
        raise WrongSetting(  # without the value: it may hold a password
            f"REALTIME_TICKET_{name} is a {type(value).__name__}.",
            hint="Set it to a dict of options"
            + (f", or to a string for {shorthand!r}." if shorthand else "."),
            id="E005",
        )
    return dict(value)


def _wrong_path(path: object, exc: Exception) -> WrongSetting:
    return WrongSetting(
        f"REALTIME_TICKET_BACKEND is {path!r}, which cannot be imported: {exc}.",
        hint="Set it to a dotted path, such as "
        "'realtime_ticket.backends.redis.RedisBackend'.",
        id="E001",
    )
