"""The action that disconnects users, in the admin of Django's users and of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from realtime_ticket.admin import disconnect_selected
from tests.accounts.models import Person
from tests.disconnects import FAILING, Heard

site = admin.AdminSite()


@admin.register(User, site=site)
class OwnUserAdmin(UserAdmin):
    actions = [disconnect_selected]


@admin.register(Person, site=site)
class PersonAdmin(admin.ModelAdmin):
    actions = [disconnect_selected]


urlpatterns = [path("admin/", site.urls)]
pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("empty_storage"),
]


@pytest.fixture
def staff() -> Client:
    """The browser of somebody who may change users, and do nothing else."""
    boss = User.objects.create_user("boss", is_staff=True)
    boss.user_permissions.set(
        Permission.objects.filter(codename__in=["change_user", "view_user"])
    )
    client = Client()
    client.force_login(boss)
    return client


@pytest.fixture
def superuser() -> Iterator[Client]:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    yield client


def act(client: Client, *users: Any, model: str = "auth/user") -> HttpResponse:
    """Select these users, and run the action."""
    data = {
        "action": "disconnect_selected",
        "_selected_action": [str(user.pk) for user in users],
    }
    return client.post(f"/admin/{model}/", data)


def said(response: HttpResponse) -> list[tuple[str, str]]:
    messages = get_messages(response.wsgi_request)  # type: ignore[attr-defined]
    return [(message.level_tag, message.message) for message in messages]


def test_disconnects_the_selected_and_logs_who_did_it(
    staff: Client, heard: Heard
) -> None:
    """Mutants: admin-logs-nothing."""
    ada, bob, _ = (User.objects.create_user(name) for name in ("ada", "bob", "eve"))
    response = act(staff, ada, bob)
    assert response.status_code == 302
    assert said(response) == [("success", "Disconnected 2.")]
    ((ids, session),) = heard
    assert (set(ids), session) == ({ada.pk, bob.pk}, None)
    entries = LogEntry.objects.values_list("user__username", "object_repr")
    assert set(entries) == {("boss", "ada"), ("boss", "bob")}
    assert LogEntry.objects.first().get_change_message() == "Disconnected."


def test_says_that_the_storage_failed(
    staff: Client, settings: Any, heard: Heard
) -> None:
    """It is tried again, and logged."""
    settings.REALTIME_TICKET_BACKEND = FAILING
    ((level, text),) = said(act(staff, User.objects.create_user("ada")))
    assert level == "error" and "tried again" in text
    assert LogEntry.objects.count() == 1


def test_is_for_those_who_may_change_users(staff: Client, rf: Any) -> None:
    """Others are not offered it. Mutants: admin-for-everyone."""

    def offered() -> bool:
        request = rf.get("/")
        request.user = User.objects.get()
        actions = site.get_model_admin(User).get_actions(request)
        return "disconnect_selected" in actions

    assert offered()
    User.objects.get().user_permissions.set(
        Permission.objects.filter(codename="view_user")
    )
    assert not offered()


def test_is_named_after_the_users(superuser: Client, settings: Any) -> None:
    """As delete_selected is."""
    for model, name in ("auth.User", "users"), ("accounts.Person", "persons"):
        settings.AUTH_USER_MODEL = model
        model_admin = site.get_model_admin(get_user_model())
        request = Client().get("/admin/").wsgi_request
        request.user = User(is_superuser=True, is_active=True)
        choices = dict(model_admin.get_action_choices(request))
        assert choices["disconnect_selected"] == f"Disconnect selected {name}"


def test_takes_another_user_model(settings: Any, heard: Heard, rf: Any) -> None:
    """With its own kind of key."""
    root = User.objects.create_superuser("root")
    settings.AUTH_USER_MODEL = "accounts.Person"
    person = Person.objects.create(email="ada@example.com")
    request = rf.post("/")
    request.user = root
    request._messages = _Messages()
    disconnect_selected(site.get_model_admin(Person), request, Person.objects.all())
    assert heard == [((str(person.pk),), None)]
    assert request._messages.texts == ["Disconnected 1."]


class _Messages:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, level: int, message: str, extra_tags: str = "") -> None:
        self.texts.append(message)
