"""The recipe of the docs for tenants: a ticket of one is good at no other."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory

from realtime_ticket import InvalidAudience, get_service
from tests.asgi import Peer, a_scope
from tests.docs.pages import run_page


@pytest.fixture
def recipe(project: Path) -> SimpleNamespace:
    return SimpleNamespace(**run_page("users-and-tenants.md", project))


def issue(recipe: SimpleNamespace, tenant: str, wanted: str | None = None) -> str:
    """Ask the recipe's view of this tenant for a ticket, and return its value."""
    request: Any = RequestFactory().post("/", {"audience": wanted} if wanted else {})
    request.user = User(pk=1, username="admin")
    request.tenant = SimpleNamespace(schema_name=tenant)
    request._dont_enforce_csrf_checks = True
    response = recipe.TenantTicketView.as_view()(request)
    if response.status_code == 400:
        raise InvalidAudience
    return str(json.loads(response.content)["message"])


def connect(recipe: SimpleNamespace, host: str, value: str) -> Peer:
    headers = ((b"host", host.encode()), (b"origin", f"https://{host}".encode()))
    scope = a_scope(query=f"ticket={value}") | {"headers": [*headers]}
    return Peer(scope).connect(recipe.application)


def test_a_ticket_of_one_tenant_is_good_there_and_nowhere_else(
    recipe: SimpleNamespace,
) -> None:
    """Both have a user 1 who is called admin. Shown elsewhere it is not spent."""
    value = issue(recipe, "acme")
    assert not connect(recipe, "umbrella.example.com", value).is_let_in
    assert not connect(recipe, "elsewhere.example.com", value).is_let_in
    assert connect(recipe, "acme.example.com", value).is_let_in
    assert not connect(recipe, "acme.example.com", value).is_let_in


def test_a_client_may_still_name_an_audience(
    recipe: SimpleNamespace, settings: Any
) -> None:
    """It is one of the tenant's, and must be allowed."""
    settings.REALTIME_TICKET_AUDIENCES = ["chat"]
    value = issue(recipe, "acme", "chat")
    assert get_service().consume(value, audience="acme.chat").username == "admin"
    with pytest.raises(InvalidAudience):
        issue(recipe, "acme", "umbrella")
