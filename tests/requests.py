"""Requests as the middleware of Django's sessions makes them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse
from django.test import RequestFactory


def a_request(cookie: str | None = None) -> Any:
    """Return a request with a session, and nobody logged in."""
    request: Any = RequestFactory().post("/ticket/")
    SessionMiddleware(lambda request: HttpResponse()).process_request(request)
    request.session = type(request.session)(cookie)
    request.user = AnonymousUser()

    async def auser() -> Any:
        return request.user

    request.auser = auser
    return request
