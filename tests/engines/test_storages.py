"""The contract, and a kill under load, on servers newer than those of other tests."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import DjangoDbBlocker

from realtime_ticket.backends.base import BaseBackend
from realtime_ticket.backends.database import DatabaseBackend
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.testing import AsyncDoor
from tests import servers
from tests.contract import Contract
from tests.engines import packages
from tests.faults.load import DOORS, Load
from tests.faults.nodes import PgBouncerNode, PostgreSQLNode
from tests.helpers import using
from tests.servers import Node, free_port

BOUND = 9.0
"""Seconds that a call may take: to connect, to be answered, and a busy machine."""


@functools.cache
def redis(name: str) -> Node:
    """Return the Redis, or what takes its place, that is there for all tests."""
    return Node(program=str(packages.find(name)))


@functools.cache
def postgresql() -> PostgreSQLNode:
    return PostgreSQLNode(packages.postgresql_programs())


@functools.cache
def pgbouncer() -> PgBouncerNode:
    return PgBouncerNode(postgresql().port, patience=30)


@functools.cache
def alias_of(port: int) -> str:
    """Return the alias of a database on this port, which has our table."""
    alias = f"engine-{port}"
    connections.settings[alias] = connections.settings["default"] | {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": port,
        "OPTIONS": {"connect_timeout": 2},
    }
    call_command("migrate", "realtime_ticket", database=alias, verbosity=0)
    return alias


class EngineContract(Contract):
    race_tickets = 40

    def need(self) -> None:
        """Skip the test, or fail it, when something is not installed."""
        raise NotImplementedError

    def node(self) -> Any:
        """Return the server, which a test may kill if it starts it again."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _server(self, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
        self.need()
        with django_db_blocker.unblock():
            yield
            connections.close_all()


class OnRedis(EngineContract):
    engine: ClassVar[str]

    def need(self) -> None:
        packages.need(self.engine)

    def node(self) -> Node:
        return redis(self.engine)

    def make_backend(self) -> BaseBackend:
        return RedisBackend(port=self.node().port)

    def make_unreachable_backend(self) -> BaseBackend:
        return RedisBackend(port=free_port())


class TestRedis(OnRedis):
    engine = "Redis"


class TestValkey(OnRedis):
    engine = "Valkey"


class TestPostgreSQL(EngineContract):
    def need(self) -> None:
        packages.need("PostgreSQL")
        servers.need_module("psycopg")

    def node(self) -> PostgreSQLNode:
        return postgresql()

    def port(self) -> int:
        """Return the port by which the backend reaches the server."""
        return self.node().port

    def make_backend(self) -> BaseBackend:
        return DatabaseBackend(alias=alias_of(self.port()))

    def make_unreachable_backend(self) -> BaseBackend:
        nowhere = connections.settings[alias_of(self.port())] | {"PORT": free_port()}
        connections.settings["engine-nowhere"] = nowhere
        return DatabaseBackend(alias="engine-nowhere")


class TestPgBouncer(TestPostgreSQL):
    """PostgreSQL, behind a pool of connections that one transaction each has."""

    def need(self) -> None:
        super().need()
        servers.need("pgbouncer")

    def port(self) -> int:
        return pgbouncer().port


class TestRedisAsync(AsyncDoor, TestRedis): ...


class TestValkeyAsync(AsyncDoor, TestValkey): ...


class TestPostgreSQLAsync(AsyncDoor, TestPostgreSQL): ...


class TestPgBouncerAsync(AsyncDoor, TestPgBouncer): ...


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "suite", [TestRedis, TestValkey, TestPostgreSQL, TestPgBouncer]
)
def test_goes_on_after_a_restart(
    suite: type[EngineContract], door: str, django_db_blocker: DjangoDbBlocker
) -> None:
    """A server that is killed may lose tickets, and nobody gets in twice.

    Mutants: redis-trusts-its-connections, database-trusts-its-connection.
    """
    engine = suite()
    engine.need()
    with django_db_blocker.unblock():
        with using(engine.make_backend()) as service, Load(service, door) as load:
            assert load.goes_on()
            engine.node().kill()
            assert load.fails()
            engine.node().start()
            assert load.goes_on()
        connections.close_all()
    assert (load.doubles, load.crossed) == (0, 0)
    assert load.longest < BOUND


@pytest.mark.parametrize(
    ("suite", "name"), [(TestRedis, "Redis 8."), (TestValkey, "Valkey 9.")]
)
def test_the_doctor_knows_its_name(suite: type[OnRedis], name: str) -> None:
    """Valkey also says that it is Redis 7.2.4, for programs that ask for that."""
    engine = suite()
    engine.need()
    with using(engine.make_backend()) as service:
        (message,) = service.backend.diagnose()
    assert message.msg.startswith(name)
