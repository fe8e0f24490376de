"""Projects that are made of the files on a page of the documentation, and run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import servers
from tests.docs.pages import FENCES
from tests.docs.programs import environment_of
from tests.processes import free_ports, running

SETTINGS = """\
from pathlib import Path
SECRET_KEY = "for tests only, and long enough that no check complains of its length"
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
ROOT_URLCONF = "urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "realtime_ticket",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(__file__).parent / "db.sqlite3",
    }
}
"""
URLS = """\
from django.urls import include, path
urlpatterns = [path("", include("realtime_ticket.urls"))]
"""
ASGI = "from django.core.asgi import get_asgi_application\n"
ASGI += "application = get_asgi_application()\n"


@dataclass(frozen=True)
class Project:
    """A Django project in a folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.folder, DJANGO_SETTINGS_MODULE="settings")

    @classmethod
    def of_page(
        cls,
        page: str,
        folder: Path,
        settings: str = "",
        ports: Mapping[str, int] | None = None,
        **files: str,
    ) -> Project:
        """Write what ``startproject`` makes, and what the page adds to it.

        ``settings`` comes before the page's, whose ports are replaced. ``files`` are
        others, without ``.py``.
        """
        texts = {"settings.py": SETTINGS + on_redis() + settings, "urls.py": URLS}
        texts |= {"asgi.py": ASGI}
        texts |= {f"{name}.py": text for name, text in files.items()}
        for fence in (fence for fence in FENCES[page] if fence.file):
            name = "settings.py" if fence.file.endswith("settings.py") else fence.file
            text = texts.get(name, "") + on_private_redis(fence.text)
            for port, free_port in (ports or {}).items():
                text = text.replace(port, str(free_port))
            texts[name] = text
        texts["settings.py"] += "INSTALLED_APPS = [*dict.fromkeys(INSTALLED_APPS)]\n"
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cls(folder)

    def python(self, *words: str) -> str:
        """Run Python in the project, and return what it prints."""
        result = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def run(self, code: str) -> str:
        """Run this code with Django set up, and return what it prints."""
        return self.python("-c", f"import django\ndjango.setup()\n{code}")

    @contextmanager
    def serving(
        self, port: int = 0, application: str = "asgi:application"
    ) -> Iterator[str]:
        """Run it under ASGI, and give its origin."""
        port = port or free_ports()[0]
        words = "-m", "uvicorn", "--port", str(port), application
        place = {"folder": self.folder, "environment": self.environment}
        with running(*words, port=port, **place):
            yield f"http://127.0.0.1:{port}"


def on_private_redis(text: str) -> str:
    """Return the code with the Redis of the tests in the place of localhost's."""
    path = str(servers.REDIS)
    text = text.replace('host="localhost"', f'unix_socket_path="{path}", db=9')
    return text.replace(
        '{"host": "localhost"}', f'{{"unix_socket_path": "{path}", "db": 9}}'
    )


def on_redis() -> str:
    """Return the setting that keeps tickets in the Redis of the tests."""
    servers.require("redis")
    return f"REALTIME_TICKET_REDIS = 'unix://{servers.REDIS}?db=9'\n"


def client(origin: str, **options: Any) -> httpx.Client:
    """Return an HTTP client with cookies of its own, and no proxy."""
    return httpx.Client(base_url=origin, trust_env=False, timeout=30, **options)
