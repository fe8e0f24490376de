"""The pages of the demo."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST


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
        },
    )


@login_required
@require_POST
def restart(request: HttpRequest) -> HttpResponse:
    """Ask ``python -m examples.demo`` to restart the realtime server."""
    settings.RESTART.touch()
    return HttpResponse(status=202)
