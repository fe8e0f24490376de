"""The readers in the pages work, on a real Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from django.test import override_settings

from realtime_ticket import TicketService
from realtime_ticket.tickets import new_value
from tests.docs.pages import VECTORS, run_page
from tests.docs.programs import issue


def test_the_reader_without_the_package_works(
    issuer: TicketService, project: Path
) -> None:
    page = run_page("wire-format.md", project)
    consume, client = page["consume"], page["client"]
    value = issue(issuer)
    assert consume(value)["username"] == "ana"
    assert consume(value) is None
    value = issue(issuer, "chat")
    assert consume(value) is None
    assert consume(value, "chat")["id"] == 7
    client.set("session:1", "secret")
    assert consume("session:1") is None
    assert client.getdel("session:1") == b"secret"
    client.close()


def test_the_reader_without_the_package_agrees_with_the_vectors(project: Path) -> None:
    page = run_page("wire-format.md", project)
    page["client"] = None  # malformed values must not reach it
    for vector in VECTORS["tickets"]:
        page["PREFIX"] = vector["prefix"]
        value, audience = vector["value"], vector["audience"]
        key = page["storage_key"](value, audience, vector["hash_keys"])
        assert key == vector["key"]
        fields = page["open_data"](vector["data"].encode(), audience)
        assert vector["claims"].items() <= fields.items()
    for vector in VECTORS["accepted"]:
        fields = page["open_data"](vector["data"].encode(), vector["audience"])
        assert fields["id"] == vector["id"]
        assert type(fields["id"]) is type(vector["id"])
        assert fields["username"] == vector["username"]
    for value in VECTORS["malformed"]:
        assert page["consume"](value) is None
    for data in VECTORS["refused"]:
        assert page["open_data"](data.encode()) is None, data


def test_the_reader_of_the_migration_works(
    issuer: TicketService, project: Path
) -> None:
    page = run_page("migrate-from-2012.md", project)
    value = issue(issuer)
    assert page["user_of"](value)["username"] == "ana"
    assert page["user_of"](value) is None
    page["client"].close()


def test_the_reader_with_the_package_works(
    issuer: TicketService, project: Path
) -> None:
    page = run_page("choose-a-backend.md", project)
    value = issue(issuer)
    ticket, status = asyncio.run(page["log_in"](value))
    assert (ticket.username, status) == ("ana", None)
    assert asyncio.run(page["log_in"](value)) == (None, 401)
    page["service"].close()


@override_settings(
    REALTIME_TICKET_BACKEND="realtime_ticket.backends.redis.RedisBackend",
    REALTIME_TICKET_REDIS="redis://127.0.0.1:1",
)
def test_the_readers_of_users_refuse_what_they_cannot_read(project: Path) -> None:
    """A ticket that is none, and one in a storage that is down."""
    page = run_page("choose-a-backend.md", project)
    look_up = run_page("python-api.md", project)["user_for"]
    for value, status in (("nonsense", 401), (new_value(), 503)):
        assert asyncio.run(page["user_of"](value)) == (None, status)
        assert asyncio.run(look_up(value)) is None
    page["service"].close()


def test_the_four_steps_of_the_servers_work(
    issuer: TicketService, project: Path
) -> None:
    page = run_page("servers/index.md", project)

    def judge(
        *values: str,
        origin: str | None = "https://example.com",
        query: str = "",
        method: str = "GET",
    ) -> Any:
        offered = ", ".join(["realtime-ticket.v1", *(f"ticket.{v}" for v in values)])
        headers = {"Sec-WebSocket-Protocol": offered}
        if origin:
            headers["Origin"] = origin
        return asyncio.run(page["judge"](method, headers, query))

    value = issue(issuer)
    for origin in ("https://evil.example", None):
        assert judge(value, origin=origin) == (403, None, None)
    assert judge(value, method="OPTIONS") == (405, None, None)
    assert judge(value, query=f"ticket={issue(issuer)}") == (401, None, None)
    status, ticket, subprotocol = judge(value)
    assert (status, ticket.username) == (None, "ana")
    assert subprotocol == "realtime-ticket.v1"
    assert judge(value) == judge() == (401, None, None)
    page["tickets"].close()


def test_the_reader_of_the_first_page_works(
    issuer: TicketService, project: Path
) -> None:
    page = run_page("index.md", project)
    value = issue(issuer)
    assert asyncio.run(page["name_of"](value)) == "ana"
    assert asyncio.run(page["name_of"](value)) is None
    page["service"].close()
