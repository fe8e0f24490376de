"""System checks: what ``manage.py check`` says about the configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core import checks

from . import conf, doctor
from .service import TicketService

_LONG_EXPIRE = 120
_MIDDLEWARE = "realtime_ticket.middleware.RealtimeTicketMiddleware"
_MIDDLEWARES = frozenset({_MIDDLEWARE, "realtime_ticket.RealtimeTicketMiddleware"})
_PROCESSOR = "realtime_ticket.context_processors.realtime_ticket"
_SETTINGS: tuple[Callable[[], object], ...] = (
    conf.expire,
    conf.prefix,
    conf.hash_keys,
    conf.audiences,
    conf.claims,
    conf.service_keys,
    conf.disconnects_by_itself,
    conf.journal_expire,
    conf.backend,
)


@checks.register(checks.Tags.security)
def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """Report wrong, misspelt and risky ``REALTIME_TICKET_`` settings."""
    return [*_wrong_settings(), *_unknown_settings(), *_long_expire()]


@checks.register(checks.Tags.security)
def check_template_variable(**kwargs: Any) -> list[checks.CheckMessage]:
    """Report a template variable that is only half set up for the whole site."""
    middleware = not _MIDDLEWARES.isdisjoint(settings.MIDDLEWARE)
    processor = any(
        _PROCESSOR in engine.get("OPTIONS", {}).get("context_processors", ())
        for engine in settings.TEMPLATES
    )
    if middleware and not processor:
        return [
            checks.Warning(
                "RealtimeTicketMiddleware is listed for the whole site, where only "
                "TemplateResponse gets the template variable from it.",
                hint="Decorate the views that need a ticket instead, or also list the "
                f"context processor {_PROCESSOR!r}.",
                id="realtime_ticket.W008",
            )
        ]
    if processor and not middleware:
        return [
            checks.Warning(
                "The realtime_ticket context processor is listed without "
                "RealtimeTicketMiddleware, so a page with a ticket may be cached.",
                hint=f"Add {_MIDDLEWARE!r} to MIDDLEWARE.",
                id="realtime_ticket.W009",
            )
        ]
    return []


@checks.register(checks.Tags.security)
def check_backend(**kwargs: Any) -> list[checks.CheckMessage]:
    """Report what the storage backend finds, without asking the storage."""
    try:
        backend = conf.backend()
    except conf.WrongSetting:
        return []  # check_settings() has reported it
    return [*backend.check(), *doctor.check_reading(backend)]


@checks.register(checks.Tags.database)
def check_storage(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Report what only the storage can tell.

    It runs with ``manage.py check --database ALIAS``. ``migrate`` runs the checks of
    its database too, but before it makes the tables, so nothing is reported then.
    """
    if not databases or sys.argv[1:2] == ["migrate"]:
        return []
    try:
        service = conf.new_service(doctor.ExaminedService)
    except conf.WrongSetting:
        return []  # check_settings() has reported it
    backend = service.backend
    known = backend.check()
    with suppress(*backend.storage_errors):  # the question below finds out why
        if found := [each for each in backend.check(databases) if each not in known]:
            return found
    if backend.database is None or backend.database in databases:
        return list(_outage(service))
    return []


def _outage(service: TicketService) -> Iterator[checks.CheckMessage]:
    if error := doctor.failure(service):
        yield checks.Warning(
            error.args[0],
            hint=error.hint or "Run manage.py ticket_doctor.",
            id="realtime_ticket.W020",
        )
    service.close()


def _wrong_settings() -> Iterator[checks.CheckMessage]:
    for read in _SETTINGS:
        try:
            read()
        except conf.WrongSetting as exc:
            yield checks.Error(exc.message, hint=exc.hint, id=exc.id)


def _unknown_settings() -> Iterator[checks.CheckMessage]:
    names = {*conf.DEFAULTS}
    with suppress(conf.WrongSetting):
        names.add(conf.backend_class().setting)
    known = {f"REALTIME_TICKET_{name}" for name in names if name}
    for name in dir(settings):
        if name.startswith("REALTIME_TICKET_") and name not in known:
            yield checks.Warning(
                f"{name} is not a setting of django-realtime-ticket.",
                hint=f"The settings are {', '.join(sorted(known))}.",
                id="realtime_ticket.W011",
            )


def _long_expire() -> Iterator[checks.CheckMessage]:
    expire, journal_expire = conf.DEFAULTS["EXPIRE"], conf.DEFAULTS["JOURNAL_EXPIRE"]
    with suppress(conf.WrongSetting):
        expire = conf.expire()
    with suppress(conf.WrongSetting):
        journal_expire = conf.journal_expire()
    if expire > _LONG_EXPIRE:
        yield checks.Warning(
            f"REALTIME_TICKET_EXPIRE lets tickets live for {expire} seconds.",
            hint="A page should ask for a ticket when it connects: 10 seconds will do.",
            id="realtime_ticket.W002",
        )
    if expire > journal_expire:
        yield checks.Warning(
            f"REALTIME_TICKET_EXPIRE lets tickets live for {expire} seconds, but "
            f"disconnects are forgotten after {journal_expire}. Live connections "
            "and consuming over HTTP refuse an older ticket: its user may have logged "
            "out.",
            hint="Set REALTIME_TICKET_JOURNAL_EXPIRE to at least as much.",
            id="realtime_ticket.W023",
        )
