"""What ends the connections of users: Django's signals, and disconnect()."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import alogout, login, logout
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from realtime_ticket import (
    OpenTransaction,
    StorageError,
    UnsupportedBackend,
    adisconnect,
    disconnect,
    get_service,
)
from realtime_ticket.disconnects import disconnect_quietly
from realtime_ticket.journal import Journal
from realtime_ticket.models import StoredTicket
from realtime_ticket.receivers import connect
from realtime_ticket.sessions import SESSION_NAME
from tests.accounts.models import Colleague, Customer, Person, Robot
from tests.disconnects import FAILING, Heard
from tests.helpers import eventually, failing_filter, shown
from tests.requests import a_request

pytestmark = pytest.mark.usefixtures("empty_storage")

DATABASE = "realtime_ticket.backends.database.DatabaseBackend"


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_user("ada", password="enigma")


@pytest.fixture
def bob(transactional_db: None) -> User:
    return User.objects.create_user("bob", password="enigma")


@pytest.fixture(params=["sync", "async"])
def log_out(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """logout() and its twin."""
    return logout if request.param == "sync" else async_to_sync(alogout)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., None]:
    """disconnect() and its twin."""
    return disconnect if request.param == "sync" else async_to_sync(adisconnect)


def logged_in(user: Any) -> Any:
    """Return a request with an open session of this user."""
    request = a_request()
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return request


def act_as(request: Any, user: User) -> None:
    """Let a token or a middleware say who the user of this request is."""

    async def auser() -> User:
        return user

    request.user, request.auser = user, auser


def journal() -> list[str]:
    """Return the entries of the journal."""
    texts: dict[str, Any] = get_service().backend._texts  # type: ignore[attr-defined]
    return [text for key, (text, _) in texts.items() if key.startswith("off:")]


class TestLogout:
    def test_ends_the_connections_of_its_session(
        self, log_out: Callable[[Any], None], ada: User, heard: Heard
    ) -> None:
        """And of no other one. It is in the journal when logout() returns.

        Mutants: logout-of-every-session.
        """
        request, _ = logged_in(ada), logged_in(ada)
        name = request.session[SESSION_NAME]
        log_out(request)
        assert heard == [((ada.pk,), name)]
        assert len(journal()) == 1
        assert not request.user.is_authenticated

    def test_of_a_session_without_a_name(
        self, log_out: Callable[[Any], None], ada: User, heard: Heard
    ) -> None:
        """It is older than this feature. Those without a session end."""
        request = logged_in(ada)
        del request.session[SESSION_NAME]
        log_out(request)
        assert heard == [((ada.pk,), "")]

    def test_of_a_token(
        self, log_out: Callable[[Any], None], ada: User, heard: Heard
    ) -> None:
        """Tickets of that user name no session."""
        request = a_request()
        act_as(request, ada)
        log_out(request)
        assert heard == [((ada.pk,), "")]

    def test_during_impersonation(
        self, log_out: Callable[[Any], None], ada: User, bob: User, heard: Heard
    ) -> None:
        """The session is ada's, and she speaks as bob, whose tickets name no session.

        Mutants: logout-of-whom-ever.
        """
        request = logged_in(ada)
        name = request.session[SESSION_NAME]
        act_as(request, bob)
        log_out(request)
        assert heard == [((ada.pk,), name), ((bob.pk,), "")]

    def test_of_nobody(self, log_out: Callable[[Any], None], heard: Heard) -> None:
        """There is nothing to end."""
        log_out(a_request())
        user_logged_out.send(None, request=None, user=None)
        assert heard == []

    def test_says_so_again_after_the_commit(
        self, log_out: Callable[[Any], None], ada: User, heard: Heard
    ) -> None:
        """Somebody may have connected with the old session before it.

        Mutants: logout-not-told-after-the-commit.
        """
        request = logged_in(ada)
        with transaction.atomic():
            logout(request)
            assert len(heard) == 1
        assert len(heard) == 2
        assert heard[0] == heard[1]

    def test_is_not_lost_in_a_rollback(self, ada: User, heard: Heard) -> None:
        """Mutants: logout-told-after-the-commit-only."""
        request = logged_in(ada)
        with transaction.atomic():
            logout(request)
            transaction.set_rollback(True)
        assert [ids for ids, _ in heard] == [(ada.pk,)]

    @pytest.mark.parametrize("broken", ["service", "setting", "session", "storage"])
    def test_succeeds_whatever_is_broken(
        self,
        log_out: Callable[[Any], None],
        ada: User,
        settings: Any,
        caplog: pytest.LogCaptureFixture,
        broken: str,
    ) -> None:
        """The user is logged out, and one log record says what is wrong.

        Mutants: logout-stopped-by-an-error, logout-stopped-by-an-outage.
        """
        request = logged_in(ada)
        name = request.session[SESSION_NAME]
        patch: Any = mock.patch("django.VERSION")
        if broken == "service":
            settings.REALTIME_TICKET_EXPIRE = 0
        elif broken == "setting":
            settings.REALTIME_TICKET_DISCONNECT = "no"
        elif broken == "session":
            patch = mock.patch(
                "realtime_ticket.sessions.owner_of", side_effect=ZeroDivisionError
            )
        else:
            settings.REALTIME_TICKET_BACKEND = FAILING
        with patch, caplog.at_level(logging.WARNING, logger="realtime_ticket"):
            log_out(request)
        assert request.session.is_empty()
        assert not request.user.is_authenticated
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert name not in caplog.text

    def test_succeeds_whatever_a_log_filter_does(
        self, log_out: Callable[[Any], None], ada: User
    ) -> None:
        """Mutants: log-filters-stop-everything."""
        request = logged_in(ada)
        broken = mock.patch(
            "realtime_ticket.sessions.owner_of", side_effect=ZeroDivisionError
        )
        with broken, failing_filter():
            log_out(request)
        assert request.session.is_empty()


def test_after_a_commit_nothing_is_raised(settings: Any) -> None:
    """Whatever a log filter does.

    Mutants: log-filters-stop-everything.
    """
    settings.REALTIME_TICKET_EXPIRE = 0
    with failing_filter():
        disconnect_quietly(7)


class TestPassword:
    def test_that_changes_ends_all_connections(self, ada: User, heard: Heard) -> None:
        """Mutants: password-changed-unheard."""
        ada.set_password("bombe")
        ada.save()
        assert heard == [((ada.pk,), None)]
        ada.save()
        assert len(heard) == 1

    def test_that_changes_in_a_coroutine(self, ada: User, heard: Heard) -> None:
        async def change() -> None:
            ada.set_password("bombe")
            await ada.asave(update_fields=["password"])

        async_to_sync(change)()
        assert heard == [((ada.pk,), None)]

    def test_whose_hash_is_upgraded_ends_none(
        self, ada: User, heard: Heard, settings: Any
    ) -> None:
        """Django does it when someone logs in, after a change of PASSWORD_HASHERS.

        Mutants: hash-upgrade-taken-for-a-change.
        """
        settings.PASSWORD_HASHERS = [
            "django.contrib.auth.hashers.ScryptPasswordHasher",
            *settings.PASSWORD_HASHERS,
        ]
        before = ada.password
        assert ada.check_password("enigma")
        assert async_to_sync(ada.acheck_password)("enigma")
        assert ada.password != before
        assert heard == []

    def test_that_is_taken_away_ends_all_connections(
        self, ada: User, heard: Heard
    ) -> None:
        """The admin does that to users who must log in elsewhere.

        Mutants: password-taken-away-unheard.
        """
        ada.set_unusable_password()
        ada.save()
        assert heard == [((ada.pk,), None)]
        User.objects.get().save()
        assert len(heard) == 1

    def test_of_a_new_user_ends_nothing(
        self, transactional_db: None, heard: Heard
    ) -> None:
        """Mutants: new-user-disconnected."""
        User.objects.create_user("ada", password="enigma")
        User.objects.create_user("bob", is_active=False)
        eve = User(username="eve")
        eve.set_password("enigma")
        eve.save()
        assert heard == []

    def test_of_the_command_ends_all_connections(self, ada: User, heard: Heard) -> None:
        with mock.patch("getpass.getpass", return_value="a bombe of 1940"):
            call_command("changepassword", "ada", stdout=mock.Mock())
        assert heard == [((ada.pk,), None)]


class TestDeactivation:
    def test_ends_all_connections_once(self, ada: User, heard: Heard) -> None:
        """Mutants: deactivation-unheard, deactivation-heard-again."""
        ada.is_active = False
        ada.save()
        assert heard == [((ada.pk,), None)]
        ada.save()
        ada.is_active = True
        ada.save()
        assert len(heard) == 1
        ada.is_active = False
        ada.save(update_fields=["is_active"])
        assert len(heard) == 2

    def test_is_found_whatever_the_instance_was_loaded_with(
        self, ada: User, heard: Heard
    ) -> None:
        """The field was deferred, or changed in the database since."""
        deferred = User.objects.only("username").get()
        deferred.is_active = False
        deferred.save()
        assert len(heard) == 1

        old = User.objects.get()  # inactive
        User.objects.update(is_active=True)
        old.save()
        assert len(heard) == 2

        User.objects.update(is_active=True)
        old.refresh_from_db()
        old.is_active = False
        old.save()
        assert len(heard) == 3

    def test_is_found_in_a_new_instance_with_an_old_key(
        self, ada: User, heard: Heard
    ) -> None:
        """A synchronisation saves users so, without loading them.

        Mutants: deactivation-by-replacement-unheard.
        """
        User(pk=ada.pk, username="ada", is_active=False).save()
        assert heard == [((ada.pk,), None)]

    def test_costs_no_query_but_its_own(self, ada: User) -> None:
        """A save of an active user asks nothing, and loads no deferred field.

        Mutants: every-save-asks.
        """

        def queries(user: User, **options: Any) -> int:
            with CaptureQueriesContext(
                connection,
            ) as captured:
                user.save(**options)
            return len(
                [q for q in captured if not q["sql"].startswith(("BEGIN", "COMM"))]
            )

        deferred = User.objects.only("username").get()
        assert queries(ada) == queries(deferred) == 1
        ada.is_active = False
        assert queries(ada, update_fields=["email"]) == 1
        assert queries(ada) == 2

    def test_that_is_not_saved_ends_nothing(self, ada: User, heard: Heard) -> None:
        """Mutants: deactivation-in-other-fields."""
        ada.is_active = False
        ada.save(update_fields=["email"])
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            ada.save()
            raise ZeroDivisionError
        assert heard == []

    def test_by_a_statement_is_not_heard(self, ada: User, heard: Heard) -> None:
        """Django sends no signal for it. The documentation says so."""
        User.objects.filter(pk=ada.pk).update(is_active=False)
        ada.is_active = False
        User.objects.bulk_update([ada], ["is_active"])
        assert heard == []


class TestDeletion:
    def test_ends_all_connections(self, ada: User, bob: User, heard: Heard) -> None:
        """By an instance and by a queryset."""
        pks = ada.pk, bob.pk
        ada.delete()
        User.objects.all().delete()
        assert heard == [((pks[0],), None), ((pks[1],), None)]

    def test_of_many_is_one_disconnect(
        self, ada: User, bob: User, heard: Heard
    ) -> None:
        """Writing each by itself would hold up the commit of a thousand for minutes.

        Mutants: deletions-one-by-one.
        """
        pks = [ada.pk, bob.pk]
        User.objects.all().delete()
        ((ids, session),) = heard
        assert (sorted(ids), session) == (pks, None)

    def test_leaves_fast_deletes_alone(self, ada: User) -> None:
        """A receiver for every model would fetch each expired session, to delete it.

        Mutants: deletions-of-everything-watched.
        """
        logged_in(ada).session.save()
        with CaptureQueriesContext(connection) as captured:
            Session.objects.all().delete()
        assert not any("SELECT" in query["sql"] for query in captured)


class TestTransaction:
    @pytest.mark.parametrize(
        "change", ["password", "deactivation", "deletion", "disconnect"]
    )
    def test_is_awaited(self, ada: User, heard: Heard, change: str) -> None:
        """All but a logout come after the commit, and not at all after a rollback.

        A deleted instance has no key by then.

        Mutants: password-told-before-the-commit, disconnect-before-the-commit,
        deletion-of-none.
        """

        def act() -> None:
            user = User.objects.get(username="ada")
            if change == "deletion":
                user.delete()
            elif change == "disconnect":
                disconnect(user)
            else:
                user.set_password("bombe") if change == "password" else None
                user.is_active = change != "deactivation"
                user.save()

        with transaction.atomic():
            act()
            transaction.set_rollback(True)
        assert heard == []
        with transaction.atomic():
            act()
            assert heard == []
        assert heard == [((ada.pk,), None)]

    def test_that_is_rolled_back_adds_nobody_to_another(
        self, ada: User, bob: User, heard: Heard
    ) -> None:
        """Whether in a savepoint or as a whole, before and after another one.

        Mutants: deletions-of-a-rolled-back-savepoint,
        deletions-of-a-rolled-back-transaction.
        """

        def roll_back() -> None:
            with transaction.atomic():
                ada.set_password("bombe")
                ada.save()
                transaction.set_rollback(True)

        roll_back()
        with transaction.atomic():
            bob.set_password("bombe")
            bob.save()
            roll_back()
            bob.save()
        assert {ids for ids, _ in heard} == {(bob.pk,)}

    def test_in_manual_mode_is_not_awaited(self, ada: User, heard: Heard) -> None:
        """Django knows nothing of its commit."""
        transaction.set_autocommit(False)
        try:
            ada.set_password("bombe")
            ada.save()
            assert heard == [((ada.pk,), None)]
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    def test_of_the_storage_does_not_hold_a_logout(
        self, ada: User, heard: Heard, settings: Any
    ) -> None:
        """Where tickets are in the same database, a thread writes it.

        Mutants: logout-in-the-storage-s-transaction.
        """
        settings.REALTIME_TICKET_BACKEND = DATABASE
        request = logged_in(ada)
        with transaction.atomic():
            logout(request)
            disconnect(ada)
        entries = StoredTicket.objects.filter(ticket_key__startswith="off:")
        assert len(heard) == 3
        assert eventually(lambda: entries.count() == 3)

    def test_of_another_database_is_none_of_disconnect_s_business(
        self, ada: User, heard: Heard
    ) -> None:
        """It never raises OpenTransaction: a thread writes it."""
        with mock.patch(
            "realtime_ticket.service.Journal.write", side_effect=_open_transaction()
        ):
            disconnect(ada)
        assert heard == [((ada.pk,), None)]
        assert eventually(lambda: len(journal()) == 1)


def _open_transaction() -> Any:
    """Refuse the first call as the database backend does, and do the others."""
    write, calls = Journal.write, iter([OpenTransaction()])

    def effect(text: str) -> None:
        for error in calls:
            raise error
        write(get_service().journal, text)

    return effect


class TestUserModels:
    def test_that_are_proxies_or_children(
        self, transactional_db: None, heard: Heard
    ) -> None:
        """Mutants: proxies-of-the-user-unheard."""
        for model in (Colleague, Customer):
            user = model.objects.create(username=model.__name__)
            heard.clear()
            user.is_active = False
            user.save()
            user.set_password("bombe")
            user.save()
            pk = user.pk
            user.delete()
            assert set(heard) == {((pk,), None)}
            assert len(heard) >= 3

    def test_with_a_uuid_and_without_is_active(
        self, transactional_db: None, heard: Heard, settings: Any
    ) -> None:
        settings.AUTH_USER_MODEL = "accounts.Person"
        connect()
        person = Person.objects.create(email="ada@example.com")
        person.save()
        person.set_password("bombe")
        person.save()
        pk = str(person.pk)
        disconnect(person.pk)
        disconnect(person.pk.hex.upper())
        person.delete()
        assert heard == [((pk,), None)] * 4

    def test_with_nothing_of_django_s(
        self, transactional_db: None, heard: Heard, settings: Any
    ) -> None:
        settings.AUTH_USER_MODEL = "accounts.Robot"
        connect()
        robot = Robot.objects.create(name="r2")
        robot.save()
        assert heard == []
        robot.is_active = False
        robot.save()
        pk = robot.pk
        robot.delete()
        assert heard == [((pk,), None)] * 2

    def test_that_are_not_the_project_s(
        self, transactional_db: None, heard: Heard
    ) -> None:
        """Mutants: every-person-is-a-user."""
        person = Person.objects.create(email="ada@example.com")
        person.set_password("bombe")
        person.save()
        person.delete()
        Group.objects.create(name="all").delete()
        assert heard == []

    def test_that_are_not_there(self, transactional_db: None, heard: Heard) -> None:
        """A project without users can save and delete what it has."""
        with mock.patch(
            "realtime_ticket.receivers.get_user_model", side_effect=ImproperlyConfigured
        ):
            connect()
            Group.objects.create(name="all").delete()
        assert heard == []


@pytest.mark.parametrize("change", ["logout", "password", "deactivation", "deletion"])
def test_the_setting_turns_it_off(
    ada: User, heard: Heard, settings: Any, change: str
) -> None:
    """And disconnect() still works. Sessions are named, so that it can be turned on.

    Mutants: setting-ignored.
    """
    settings.REALTIME_TICKET_DISCONNECT = False
    request = logged_in(ada)
    assert SESSION_NAME in request.session
    if change == "logout":
        logout(request)
    elif change == "password":
        ada.set_password("bombe")
        ada.save()
    elif change == "deactivation":
        ada.is_active = False
        ada.save()
    else:
        ada.delete()
    assert heard == []
    disconnect(7)
    assert heard == [((7,), None)]


class TestDisconnect:
    def test_takes_users_and_keys(
        self, call: Callable[..., None], ada: User, bob: User, heard: Heard
    ) -> None:
        """One or many. Mutants: string-taken-for-many."""
        both = (ada.pk, bob.pk)
        for users, ids in [
            (ada, (ada.pk,)),
            (SimpleLazyObject(lambda: ada), (ada.pk,)),
            (ada.pk, (ada.pk,)),
            ("42", (42,)),
            ([ada, bob.pk], both),
            ({ada.pk: 1}, (ada.pk,)),
            ((user for user in (ada, bob)), both),
            (User.objects.order_by("pk"), both),
            (User.objects.order_by("pk").values_list("pk", flat=True), both),
            (Colleague.objects.filter(pk=bob.pk), (bob.pk,)),
        ]:
            call(users)
            assert heard.pop() == (ids, None)
        call(ada, session="s1")
        call(ada, session="")
        assert heard == [((ada.pk,), "s1"), ((ada.pk,), "")]

    def test_takes_nobody(
        self, call: Callable[..., None], ada: User, heard: Heard
    ) -> None:
        call([])
        call(User.objects.none())
        assert heard == [] and journal() == []

    @pytest.mark.parametrize(
        "user",
        [
            *(None, True, 1.5, b"7", AnonymousUser(), User(), Person(), [None]),
            *(object(), "ada", ["7", "ada"]),
        ],
        ids=shown,
    )
    def test_refuses_what_is_no_user(
        self, call: Callable[..., None], ada: User, heard: Heard, user: object
    ) -> None:
        """At once, in a transaction too."""
        with pytest.raises(TypeError):
            call(user)
        with pytest.raises(TypeError), transaction.atomic():
            disconnect(user)
        with pytest.raises(TypeError):
            call(Group.objects.create(name="all"))
        assert heard == []

    def test_refuses_what_is_no_session(
        self, call: Callable[..., None], ada: User
    ) -> None:
        with pytest.raises(ValueError, match="session"), transaction.atomic():
            disconnect(ada, session="s" * 129)
        with pytest.raises(ValueError, match="session"):
            call(ada, session=7)

    def test_loads_no_users(self, ada: User) -> None:
        """Mutants: users-loaded-to-be-disconnected."""
        with CaptureQueriesContext(connection) as captured:
            disconnect(User.objects.all())
        (query,) = captured
        assert "password" not in query["sql"]

    def test_of_ten_thousand_takes_a_moment(
        self, transactional_db: None, heard: Heard
    ) -> None:
        """Many users are in one entry, so there are few."""
        User.objects.bulk_create(User(username=str(n)) for n in range(10_000))
        started = time.thread_time()  # other work of the machine is none of ours
        disconnect(User.objects.all())
        assert time.thread_time() - started < 2
        assert len(heard[0][0]) == 10_000
        assert len(journal()) < 40

    def test_says_that_the_storage_failed(
        self, call: Callable[..., None], ada: User, heard: Heard, settings: Any
    ) -> None:
        """It is tried again, so receivers hear of it.

        Mutants: failed-disconnect-untold.
        """
        settings.REALTIME_TICKET_BACKEND = FAILING
        with pytest.raises(StorageError):
            call(ada)
        assert heard == [((ada.pk,), None)]
        assert eventually(lambda: len(journal()) == 1)

    def test_needs_a_backend_that_can(
        self, call: Callable[..., None], ada: User, settings: Any
    ) -> None:
        """Django's logout does not: tickets work with any backend."""
        settings.REALTIME_TICKET_BACKEND = "tests.helpers.RecordingBackend"
        with pytest.raises(UnsupportedBackend, match="read_many"):
            call(ada)
        with pytest.raises(UnsupportedBackend), transaction.atomic():
            disconnect(ada)

    def test_of_a_logout_does_without_one(
        self, ada: User, settings: Any, heard: Heard, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Mutants: logout-needs-read-many."""
        settings.REALTIME_TICKET_BACKEND = "tests.helpers.RecordingBackend"
        logout(logged_in(ada))
        assert heard == [] and not caplog.records


class TestInATestCase:
    def test_awaits_a_commit_that_is_captured(self, db: None, heard: Heard) -> None:
        """As everything that awaits one, in a TestCase of Django's."""
        user = User.objects.create_user("ada")
        disconnect(user)
        assert heard == []
        with TestCase.captureOnCommitCallbacks(execute=True):
            disconnect(user)
        assert heard == [((user.pk,), None)]

    def test_captures_what_django_tells(self, db: None, heard: Heard) -> None:
        """Each time, though all are in one transaction."""
        user = User.objects.create_user("ada")
        for password in ("enigma", "bombe"):
            with TestCase.captureOnCommitCallbacks(execute=True):
                user.set_password(password)
                user.save()
            assert heard.pop() == ((user.pk,), None)
