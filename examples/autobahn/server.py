"""Autobahn|Python on Twisted: check a connection in onConnect()."""

import os
from functools import partial

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import AllowedOrigins, find_ticket, select_subprotocol
from realtime_ticket.live import LiveTickets

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))

tickets = TicketService(RedisBackend(url=REDIS))
live = LiveTickets(tickets)
origins = AllowedOrigins([ORIGIN], allow_missing=True)


class Chat(WebSocketServerProtocol):
    watch = None

    async def onConnect(self, request):
        """Set self.ticket and choose the subprotocol, or refuse."""
        if request.path != "/ws":
            raise ConnectionDeny(404, "Connect to /ws")
        # Not with allowedOrigins, which lets everything pass that sends no Origin.
        if request.headers.get("origin") not in origins:
            raise ConnectionDeny(403, "Wrong origin")
        try:
            value = find_ticket(
                subprotocols=request.protocols,
                query=self.http_request_uri.partition("?")[2],
                authorization=request.headers.get("authorization"),
            )
            self.ticket = await deferToThread(tickets.consume, value)
            # Its callback comes from the thread that hears of disconnects.
            end = partial(reactor.callFromThread, self.revoke)
            self.watch = live.watch(self.ticket, end)
        except InvalidTicket:
            raise ConnectionDeny(401, "No valid ticket") from None
        except StorageError:
            raise ConnectionDeny(503, "Try again") from None
        return select_subprotocol(request.protocols)

    def onOpen(self):
        self.sendMessage(f"Hello, {self.ticket.username}!".encode())

    def onMessage(self, payload, isBinary):
        if not isBinary and self.state == self.STATE_OPEN:  # not revoked
            self.sendMessage(f"{self.ticket.username}: {payload.decode()}".encode())

    def revoke(self, revoked):
        self.sendClose(revoked.close_code, revoked.close_reason)

    def onClose(self, wasClean, code, reason):
        if self.watch:
            self.watch.close()


if __name__ == "__main__":
    factory = WebSocketServerFactory()
    factory.protocol = Chat
    # webStatus redirects anyone to wherever a URL says. onConnect() judges "null" too.
    factory.setProtocolOptions(
        webStatus=False,
        allowNullOrigin=True,
        autoPingInterval=30,
        autoPingTimeout=30,
        maxMessagePayloadSize=2**16,
    )
    reactor.listenTCP(PORT, factory, interface="127.0.0.1")
    live.start()  # or the first connection would hold up the reactor
    reactor.run()
