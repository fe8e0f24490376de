"""Channels: the middleware consumes, a consumer finds scope["ticket"].

Started with ``daphne server:application`` or ``uvicorn server:application``.
"""

import asyncio
import os

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import StreamingHttpResponse
from django.urls import path

from realtime_ticket.handshake import AllowedOrigins
from realtime_ticket.integrations.asgi import TicketMiddleware

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")

# In a project these are in its settings module, with all the others.
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["channels", "realtime_ticket"],
    REALTIME_TICKET_REDIS=REDIS,
    ROOT_URLCONF=__name__,
    SECRET_KEY="the example listens on the loopback interface only",
)
django.setup()


class Chat(AsyncWebsocketConsumer):
    async def connect(self):
        self.name = self.scope["ticket"].username
        await self.accept()
        await self.send(f"Hello, {self.name}!")

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(f"{self.name}: {text_data}")


async def events(request):
    async def stream():
        yield ": connected\n\n"  # daphne sends headers with the first byte
        yield f"data: Hello, {request.scope['ticket'].username}!\n\n"
        await asyncio.sleep(3600)

    return StreamingHttpResponse(
        stream(),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": ORIGIN},
    )


urlpatterns = [path("events", events)]
application = TicketMiddleware(
    ProtocolTypeRouter(
        {
            "http": get_asgi_application(),
            "websocket": URLRouter([path("ws", Chat.as_asgi())]),
        }
    ),
    origins=AllowedOrigins([ORIGIN], allow_missing=True),
)
