"""The demo's Django, with pages for tests beside its own."""

from __future__ import annotations

import os
from pathlib import Path

from examples.demo.settings import *  # noqa: F403
from examples.demo.settings import (
    CONNECT_SRC,
    INSTALLED_APPS,
    MIDDLEWARE,
    REALTIME_PORT,
    STATICFILES_DIRS,
    TEMPLATES,
)

HERE = Path(__file__).parent
REALTIME = f"http://127.0.0.1:{REALTIME_PORT}"

CONNECT_SRC = [
    *CONNECT_SRC,
    REALTIME,  # for EventSource
    f"ws://127.0.0.1:{os.environ['BROWSER_LINE_PORT']}",
]
REALTIME_TICKET_EXPIRE = 60  # Chromium opens one WebSocket at a time, and we fifty
ROOT_URLCONF = "tests.browser.urls"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast
STATICFILES_DIRS = [
    *STATICFILES_DIRS,
    HERE / "static",
    ("bundles", os.environ["BROWSER_BUNDLES"]),
]
TEMPLATES = [TEMPLATES[0] | {"DIRS": [*TEMPLATES[0]["DIRS"], HERE / "templates"]}]

# A single-page application on another origin of the same site
INSTALLED_APPS = [*INSTALLED_APPS, "corsheaders"]
MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *MIDDLEWARE]
CORS_ALLOWED_ORIGINS = CSRF_TRUSTED_ORIGINS = [REALTIME]
CORS_ALLOW_CREDENTIALS = True
