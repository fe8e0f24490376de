"""Django's side: log in, the chat page, and the ticket endpoint."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from realtime_ticket.integrations.http import AuthorizeView

from . import views

urlpatterns = [
    path("", views.chat, name="chat"),
    path("restart/", views.restart, name="restart"),
    path("logout-elsewhere/", views.log_out_elsewhere, name="logout_elsewhere"),
    path("login/", LoginView.as_view(template_name="login.html"), name="login"),
    path("logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path("", include("realtime_ticket.urls")),
    path("internal/", include("realtime_ticket.integrations.urls")),
    # Caddy names the URI in a header of its own choice.
    path(
        "internal/authorize/caddy/",
        AuthorizeView.as_view(uri_header="X-Forwarded-Uri"),
    ),
]
