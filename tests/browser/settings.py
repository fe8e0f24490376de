"""The demo's Django, with pages for tests beside its own."""

from __future__ import annotations

from pathlib import Path

from examples.demo.settings import *  # noqa: F403
from examples.demo.settings import (
    CONNECT_SRC,
    REALTIME_PORT,
    STATICFILES_DIRS,
    TEMPLATES,
)

HERE = Path(__file__).parent

CONNECT_SRC = [*CONNECT_SRC, f"http://127.0.0.1:{REALTIME_PORT}"]  # for EventSource
REALTIME_TICKET_EXPIRE = 10  # Chromium opens one WebSocket at a time, and we fifty
ROOT_URLCONF = "tests.browser.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast
STATICFILES_DIRS = [*STATICFILES_DIRS, HERE / "static"]
TEMPLATES = [TEMPLATES[0] | {"DIRS": [*TEMPLATES[0]["DIRS"], HERE / "templates"]}]
