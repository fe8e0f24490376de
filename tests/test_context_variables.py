"""Context variables: no call for the storage sees those of another caller.

A project may keep its current tenant in one, and the key or the place of a ticket may
depend on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from django.core.cache import caches

from realtime_ticket import InvalidTicket, TicketService, service
from realtime_ticket.backends.base import BaseBackend, Item
from realtime_ticket.backends.cache import CacheBackend
from tests.helpers import CLAIMS, GOOD, using

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
TENANTS = [f"tenant{number}" for number in range(20)]


def tenant_key(key: str, key_prefix: str, version: int) -> str:
    """A KEY_FUNCTION, as django-tenants has one."""
    return f"{tenant.get()}:{key}"


def of_tenants(settings: Any) -> None:
    """Let there be a cache with that KEY_FUNCTION."""
    settings.CACHES = settings.CACHES | {
        "tenants": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "tenants",
            "KEY_FUNCTION": f"{__name__}.tenant_key",
        }
    }


class OneByOne(BaseBackend):
    """Store each ticket where its caller's tenant keeps them."""

    def __init__(self, *, thread_sensitive: bool) -> None:
        self.thread_sensitive = thread_sensitive  # type: ignore[misc]
        self.texts: dict[str, str] = {}
        self.seen: list[str] = []

    def add(self, key: str, data: str, expire: int) -> bool:
        return self.texts.setdefault(self._place(key), data) is data

    def pop(self, key: str) -> str | None:
        return self.texts.pop(self._place(key), None)

    def _place(self, key: str) -> str:
        self.seen.append(tenant.get())
        tenant.set(f"left by {tenant.get()}")
        return f"{self.seen[-1]}:{key}"


class Together(OneByOne):
    """The same, with batches of its own."""

    def add_many(self, items: Sequence[Item]) -> list[bool]:
        return [self.add(*item) for item in items]

    def pop_many(self, keys: Sequence[str]) -> list[str | None]:
        return [self.pop(key) for key in keys]


either_thread = pytest.mark.parametrize("sensitive", [False, True])


async def as_tenant(name: str, call: Any, *args: Any) -> Any:
    """Make a call, or return the error, with this tenant."""
    tenant.set(name)
    try:
        return await call(*args)
    except InvalidTicket as exc:
        return exc
    finally:
        assert tenant.get() == name


async def issue_at_each(service: TicketService) -> list[Any]:
    return await asyncio.gather(
        *[as_tenant(name, service.aissue, CLAIMS) for name in TENANTS]
    )


async def consume_shifted(service: TicketService, issued: list[Any], by: int) -> Any:
    """Show each ticket at the tenant that comes so many later, all at once."""
    names = TENANTS[by:] + TENANTS[:by]
    return await asyncio.gather(
        *[
            as_tenant(name, service.aconsume, ticket.value)
            for name, ticket in zip(names, issued, strict=True)
        ]
    )


async def tickets_stay_at_their_tenants(service: TicketService) -> None:
    # One after the other, so that each is where it belongs whatever a batch does.
    issued = [await as_tenant(name, service.aissue, CLAIMS) for name in TENANTS]
    foreign = await consume_shifted(service, issued, by=1)
    assert [type(each) for each in foreign] == [InvalidTicket] * len(TENANTS)
    assert await consume_shifted(service, issued, by=0) == issued


def test_a_ticket_of_one_tenant_is_not_let_in_at_another(settings: Any) -> None:
    """With a cache whose KEY_FUNCTION reads the tenant, also under load.

    Mutants: call-sees-the-context-of-its-batch.
    """
    of_tenants(settings)
    with using(CacheBackend(alias="tenants")) as service:
        asyncio.run(tickets_stay_at_their_tenants(service))


@either_thread
def test_each_call_sees_its_own_context(sensitive: bool) -> None:
    """Where the backend makes calls one by one, in whichever thread.

    Mutants: call-sees-the-context-of-its-batch.
    """
    backend = OneByOne(thread_sensitive=sensitive)
    with using(backend) as service:
        asyncio.run(tickets_stay_at_their_tenants(service))
    assert backend.seen[: len(TENANTS)] == TENANTS


@either_thread
def test_a_batch_sees_nobodys_context(sensitive: bool) -> None:
    """Where a batch is one command for many callers. It depends on no load: a lone call
    sees nobody's either.

    Mutants: batch-sees-the-context-of-its-first-caller,
    lone-call-sees-another-context-than-a-batch.
    """

    async def scene() -> None:
        issued = await issue_at_each(service)
        assert await consume_shifted(service, issued, by=0) == issued
        for _ in range(2):
            backend.seen.clear()
            await as_tenant("alone", service.aissue, CLAIMS)
            assert backend.seen == ["nobody"]

    backend = Together(thread_sensitive=sensitive)
    # Within one batch, what one call leaves is there for the next: it is one command.
    backend._place = lambda key: backend.seen.append(tenant.get()) or key  # type: ignore[method-assign, func-returns-value]
    with using(backend) as service:
        asyncio.run(scene())
    assert set(backend.seen) == {"nobody"}


@pytest.mark.parametrize("twin", [False, True])
def test_a_disconnect_is_heard_whichever_tenant_it_comes_from(
    settings: Any, twin: bool
) -> None:
    """A logout happens in a tenant's request, and the thread that hears has no tenant.

    Mutants: disconnect-is-written-where-its-tenant-is,
    disconnects-are-read-where-a-tenant-is.
    """
    of_tenants(settings)

    async def scene() -> None:
        tenant.set("acme")
        if twin:
            await service.adisconnect(7)
        else:
            service.disconnect(7)
        assert [each.users for each in service.journal.since(0)[0]] == [("7",)]

    with using(CacheBackend(alias="tenants")) as service:
        asyncio.run(scene())
        assert [each.users for each in service.journal.since(0)[0]] == [("7",)]
    caches["tenants"].clear()


def test_a_synchronous_call_sees_the_context_of_its_thread() -> None:
    """As any function does."""
    backend = Together(thread_sensitive=False)
    with using(backend) as service:
        token = tenant.set("here")
        try:
            service.issue(CLAIMS)
        finally:
            tenant.reset(token)
    assert backend.seen == ["here"]


def test_a_call_does_not_show_its_key() -> None:
    """It is a ticket, and a repr ends up in logs and error reports."""
    assert repr(service._Pop(GOOD, copy_context())) == "<_Pop>"
