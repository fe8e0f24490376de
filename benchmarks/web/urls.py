"""What a page may ask for to be let in elsewhere: a ticket of ours, and other things.

All of it is for a user with a session, and by POST with a CSRF token.
"""

from __future__ import annotations

import json
import uuid

import redis
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.urls import path
from knox.views import LoginView
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.tokens import RefreshToken
from sesame.utils import get_token

from benchmarks import by_hand
from realtime_ticket.views import AsyncRealtimeTicketView, RealtimeTicketView
from tests import servers

_redis = redis.Redis(unix_socket_path=str(servers.REDIS))


@login_required
def floor(request: HttpRequest) -> JsonResponse:
    """Answer a user who is logged in with what is always the same."""
    return JsonResponse({"status": "ok", "message": "rt_" + "a" * 43, "expires_in": 10})


async def async_floor(request: HttpRequest) -> JsonResponse:
    """See floor()."""
    if not (await request.auser()).is_authenticated:
        return JsonResponse({"status": "error"}, status=401)
    return JsonResponse({"status": "ok", "message": "rt_" + "a" * 43, "expires_in": 10})


@login_required
def redis_py(request: HttpRequest) -> JsonResponse:
    """Issue a ticket as one would by hand."""
    value, data = by_hand.make()
    if not _redis.set(value, data, px=by_hand.EXPIRE * 1000, nx=True):
        raise RuntimeError
    return JsonResponse({"status": "ok", "message": value})


@login_required
def sesame(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok", "message": get_token(request.user)})


@api_view(["POST"])
def simplejwt(request: Request) -> Response:
    """Do what its documentation says under "Creating tokens manually"."""
    refresh = RefreshToken.for_user(request.user)
    return Response({"refresh": str(refresh), "access": str(refresh.access_token)})


@login_required
def of_2012(request: HttpRequest) -> JsonResponse:
    """Do what this package did in 2012."""
    value = str(uuid.uuid4())
    user = {"id": request.user.pk, "username": request.user.get_username()}
    _redis.set(value, json.dumps(user))
    _redis.expire(value, 10)
    return JsonResponse({"status": "ok", "message": value})


urlpatterns = [
    path("ticket/", RealtimeTicketView.as_view()),
    path("async-ticket/", AsyncRealtimeTicketView.as_view()),
    path("floor/", floor),
    path("async-floor/", async_floor),
    path("redis-py/", redis_py),
    path("sesame/", sesame),
    path("simplejwt/", simplejwt),
    path("knox/", LoginView.as_view()),
    path("2012/", of_2012),
]
