"""The page about rate limits, metrics and alarms, with the real packages."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django_ratelimit.core
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import AsyncClient, Client
from django.urls import path
from opentelemetry import metrics as opentelemetry
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import REGISTRY

from realtime_ticket import InvalidTicket, get_service
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.tickets import new_value
from tests.docs.pages import write_files
from tests.docs.projects import Project

PAGE = "limits-and-metrics.md"
CLAIMS = {"id": 7, "username": "ana"}


@pytest.fixture
def module(project: Path) -> Callable[[str], Any]:
    """Import a file of the page by its name."""
    write_files(PAGE, project)
    urls = project / "urls.py"
    urls.write_text(f"urlpatterns = []\n{urls.read_text()}")
    return importlib.import_module


def lives() -> None:
    """Let one ticket in, show it again, show one that never was, and disconnect."""
    service = get_service()
    value = service.issue(CLAIMS).value
    service.consume(value)
    for shown in (value, new_value(), "nonsense"):
        with pytest.raises(InvalidTicket):
            service.consume(shown)
    service.disconnect(7, 8)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_user_who_asks_too_often_is_told_when_to_come_back(
    module: Callable[[str], Any],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """Thirty tickets a minute for each user, whatever the address."""
    now = SimpleNamespace(time=lambda: 1_000_000.0)
    monkeypatch.setattr(django_ratelimit.core, "time", now)
    settings.ROOT_URLCONF = "urls"
    urls = module("urls")
    if kind == "async":
        view = module("alimited").AsyncLimitedTicketView.as_view()
        monkeypatch.setattr(urls, "urlpatterns", [path("ticket/", view)])
    cache.clear()

    def statuses(name: str, count: int) -> list[int]:
        client: Any = AsyncClient() if kind == "async" else Client()
        client.force_login(User.objects.create_user(name))
        post = async_to_sync(client.post) if kind == "async" else client.post
        answers = [post("/ticket/") for _ in range(count)]
        for answer in answers:
            if answer.status_code == 429:
                assert 1 <= int(answer["Retry-After"]) <= 60
                assert answer.json()["status"] == "error"
        return [answer.status_code for answer in answers]

    assert statuses("ana", 32) == [200] * 30 + [429] * 2
    assert statuses("bob", 1) == [200]
    cache.clear()


def test_a_limit_that_each_process_counts_for_itself_is_reported(
    tmp_path: Path,
) -> None:
    """By the check of django-ratelimit, once it is an app."""
    code = "from django.core import checks\nprint([e.id for e in checks.run_checks()])"
    assert "django_ratelimit.E003" in Project.of_page(PAGE, tmp_path).run(code)


def test_prometheus_counts_what_happens_to_tickets(
    module: Callable[[str], Any],
) -> None:
    module("metrics")
    lives()

    def count(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"{name}_total", labels)

    assert count("realtime_tickets_issued") == 1
    assert count("realtime_tickets_consumed") == 1
    assert count("realtime_tickets_rejected", reason="unknown") == 2
    assert count("realtime_tickets_rejected", reason="malformed") == 1
    assert count("realtime_users_disconnected") == 2


def test_opentelemetry_counts_what_happens_to_tickets(
    module: Callable[[str], Any],
) -> None:
    reader = InMemoryMetricReader()
    opentelemetry.set_meter_provider(MeterProvider([reader]))
    module("otel_metrics")
    lives()
    data: Any = reader.get_metrics_data()
    counted = {
        (metric.name, point.attributes.get("reason")): point.value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    }
    assert counted == {
        ("realtime_ticket.issued", None): 1,
        ("realtime_ticket.consumed", None): 1,
        ("realtime_ticket.rejected", "unknown"): 2,
        ("realtime_ticket.rejected", "malformed"): 1,
    }


def test_a_service_without_django_counts(module: Callable[[str], Any]) -> None:
    counting = module("counting")
    service = counting.CountingService(LocMemBackend())

    async def main() -> None:
        value = (await service.aissue(CLAIMS)).value
        await service.aconsume(value)
        with pytest.raises(InvalidTicket):
            await service.aconsume(value)
        with pytest.raises(InvalidTicket):
            service.consume(value)
        await service.adisconnect(7)

    asyncio.run(main())
    assert counting.counts == {
        ("issued", ""): 1,
        ("consumed", ""): 1,
        ("rejected", "unknown"): 2,
        ("disconnected", ""): 1,
    }


def test_a_ticket_that_is_shown_twice_raises_an_alarm(
    module: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And one that never was, or is none, does not."""
    module("replays")
    with caplog.at_level(logging.ERROR, "replays"):
        lives()
    (record,) = caplog.records
    assert "of user 7 was shown twice" in record.getMessage()
    assert "rt_" not in record.getMessage()
