"""The pages of the demo."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.decorators import login_required
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from realtime_ticket import disconnect


@login_required
def chat(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "chat.html",
        {
            "websocket_url": f"{settings.REALTIME_ORIGIN}/ws",
            "carrier": settings.CARRIER,
            "expire": settings.REALTIME_TICKET_EXPIRE,
            "example": settings.EXAMPLE,
            "site_port": settings.DJANGO_PORT,
            "realtime_port": settings.REALTIME_PORT,
        },
    )


@login_required
@require_POST
def restart(request: HttpRequest) -> HttpResponse:
    """Ask ``python -m examples.demo`` to restart the realtime server."""
    settings.RESTART.touch()
    return HttpResponse(status=202)


@login_required
@require_POST
def log_out_elsewhere(request: HttpRequest) -> HttpResponse:
    """End the user's other sessions, and all their connections.

    This page comes back by itself, because its session is still there.
    """
    # The demo has few sessions, so it looks at all of them.
    for session in Session.objects.exclude(pk=request.session.session_key):
        if session.get_decoded().get(SESSION_KEY) == request.session[SESSION_KEY]:
            session.delete()
    disconnect(request.user)
    return HttpResponse(status=204)
