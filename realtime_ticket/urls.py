"""Include this to get ``POST /ticket/``, named ``realtime_ticket``."""

from __future__ import annotations

from django.urls import path

from .views import RealtimeTicketView

urlpatterns = [path("ticket/", RealtimeTicketView.as_view(), name="realtime_ticket")]
