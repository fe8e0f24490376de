"""Django's side: log in, the chat page, and the ticket endpoint."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.generic import TemplateView

chat = TemplateView.as_view(
    template_name="chat.html",
    extra_context={"websocket_url": f"ws://127.0.0.1:{settings.REALTIME_PORT}/"},
)

urlpatterns = [
    path("", login_required(chat), name="chat"),
    path("login/", LoginView.as_view(template_name="login.html"), name="login"),
    path("logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path("", include("realtime_ticket.urls")),
]
