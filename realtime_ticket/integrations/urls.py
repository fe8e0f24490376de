"""Include this for your own servers; see ``REALTIME_TICKET_SERVICE_KEYS``."""

from __future__ import annotations

from django.urls import path

from .centrifugo import CentrifugoConnectView, CentrifugoRefreshView
from .http import AuthorizeView, ConsumeView, DisconnectsView

urlpatterns = [
    path("consume/", ConsumeView.as_view(), name="realtime_ticket_consume"),
    path("disconnects/", DisconnectsView.as_view(), name="realtime_ticket_disconnects"),
    path("authorize/", AuthorizeView.as_view(), name="realtime_ticket_authorize"),
    path(
        "centrifugo/connect/",
        CentrifugoConnectView.as_view(),
        name="realtime_ticket_centrifugo_connect",
    ),
    path(
        "centrifugo/refresh/",
        CentrifugoRefreshView.as_view(),
        name="realtime_ticket_centrifugo_refresh",
    ),
]
