"""Sentry's SDK, with the lines of the page on security and without them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import GOOD

PAGE = Path(__file__).parent.parent / "docs" / "security.md"
SCRIPT = """
import json, sys

import django, sentry_sdk
from django.conf import settings
from django.http import HttpResponse
from django.test import Client

import errors
from realtime_ticket import InvalidTicket, TicketService
from realtime_ticket.backends.locmem import LocMemBackend

TICKET = sys.argv[2]
sent = []


class Capture(sentry_sdk.Transport):
    def capture_envelope(self, envelope):
        sent.append(envelope.serialize().decode())


def view(request):
    service = TicketService(LocMemBackend())
    service.consume(TICKET)


settings.configure(
    SECRET_KEY="x", ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"], DATABASES={},
    REALTIME_TICKET_BACKEND="realtime_ticket.backends.locmem.LocMemBackend",
)
begin = errors.report_errors if sys.argv[1] == "with" else sentry_sdk.init
begin("http://key@127.0.0.1:1/1", transport=Capture)
from django.urls import path

urlpatterns = [path("", view)]
django.setup()
headers = {"X-Original-URI": f"/?ticket={TICKET}"}
client = Client(raise_request_exception=False)
body = json.dumps({"ticket": TICKET})
assert client.post(f"/?ticket={TICKET}", body, "application/json", headers=headers
                   ).status_code == 500
sentry_sdk.flush()
print("\\n".join(sent))
"""


@pytest.mark.parametrize("lines", ["with", "without"])
def test_sentry_is_sent_no_ticket(lines: str, tmp_path: Path) -> None:
    """With the lines it hears of the error. Without them, of the ticket as well."""
    (fence,) = re.findall(r"```python\n# errors.py\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "errors.py").write_text(fence)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, lines, GOOD],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{PAGE.parent.parent}"},
        timeout=180,
    )
    assert run.returncode == 0, run.stderr
    assert "InvalidTicket" in run.stdout
    assert (GOOD in run.stdout) is (lines == "without")
