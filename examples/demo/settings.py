"""Settings of the demo, shared by its two processes: Django and the realtime server."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).parent
STATE = Path(os.environ["DEMO_STATE"])
DJANGO_PORT = int(os.environ["DEMO_DJANGO_PORT"])
REALTIME_PORT = int(os.environ["DEMO_REALTIME_PORT"])
REALTIME_ORIGIN = f"ws://127.0.0.1:{REALTIME_PORT}"
CONNECT_SRC = ["'self'", REALTIME_ORIGIN]
EXAMPLE = os.environ.get("DEMO_EXAMPLE", "")  # the realtime server, if not the demo's
CARRIER = os.environ.get("DEMO_CARRIER", "subprotocol")  # how it wants the ticket
RESTART = STATE / "restart"  # when this file is there, the realtime server restarts

SECRET_KEY = "the demo listens on the loopback interface only"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "examples.demo.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "chat"
STATIC_URL = "static/"
STATICFILES_DIRS = [HERE / "static"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "realtime_ticket",
]
MIDDLEWARE = [
    "examples.demo.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "templates"],
        "OPTIONS": {
            "context_processors": ["django.template.context_processors.request"],
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE / "demo.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}

# A few seconds, so that the demo need not wait long to see one expire.
REALTIME_TICKET_EXPIRE = int(os.environ.get("DEMO_EXPIRE", 3))
REALTIME_TICKET_AUDIENCES = ["another-server"]
REALTIME_TICKET_SERVICE_KEYS = ["the-demo-listens-on-the-loopback-interface-only"]

if redis_url := os.environ.get("REDIS_URL"):
    REALTIME_TICKET_BACKEND = "realtime_ticket.backends.redis.RedisBackend"
    REALTIME_TICKET_REDIS = redis_url
else:
    REALTIME_TICKET_BACKEND = "realtime_ticket.backends.database.DatabaseBackend"
