"""Cyclone 1.3 on Python 3: check a connection in prepare(), let wsproto speak.

Its own cyclone.websocket and cyclone.sse are Python 2 code; RequestHandler works.
"""

import os
import sys
from functools import partial

from cyclone.web import Application, HTTPError, RequestHandler, asynchronous
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.python import log
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import AllowedOrigins, find_ticket, select_subprotocol
from realtime_ticket.live import LiveTickets

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))
PING = 30  # seconds, after which a client that does not answer is taken for gone

tickets = TicketService(RedisBackend(url=REDIS))
live = LiveTickets(tickets)
origins = AllowedOrigins([ORIGIN], allow_missing=True)


class WithTicket(RequestHandler):
    """Lets in clients with a good ticket, as self.ticket, until its login ends."""

    async def prepare(self):
        headers = self.request.headers
        if self.request.method != "GET":  # a preflight would spend the ticket
            raise HTTPError(405)
        if headers.get("Origin") not in origins:
            raise HTTPError(403)
        try:
            value = find_ticket(
                subprotocols=headers.get("Sec-WebSocket-Protocol"),
                query=self.request.query,
                authorization=headers.get("Authorization"),
            )
            self.ticket = await deferToThread(tickets.consume, value)
            # Its callback comes from the thread that hears of disconnects.
            end = partial(reactor.callFromThread, self.revoke)
            watch = live.watch(self.ticket, end)
            self.notifyFinish().addBoth(lambda _: watch.close())
        except InvalidTicket:
            raise HTTPError(401) from None
        except StorageError:
            raise HTTPError(503) from None


class Chat(WithTicket):
    @asynchronous
    def get(self):
        headers = self.request.headers
        self.websocket = WSConnection(ConnectionType.SERVER)
        try:
            self.websocket.initiate_upgrade_connection(
                [(name.encode(), value.encode()) for name, value in headers.items()],
                self.request.path,
            )
        except RemoteProtocolError:
            raise HTTPError(400) from None
        self.request.connection.setRawMode()
        self.request.connection.rawDataReceived = self.receive
        offered = headers.get("Sec-WebSocket-Protocol")
        self.send(AcceptConnection(subprotocol=select_subprotocol(offered)))
        self.send(TextMessage(f"Hello, {self.ticket.username}!"))
        self.message = ""
        self.is_there = True
        pings = LoopingCall(self.ping)
        pings.start(PING, now=False)
        self.notifyFinish().addBoth(lambda _: pings.stop())

    def ping(self):  # nobody else sends any
        if not self.is_there:
            return self.request.connection.transport.abortConnection()
        self.is_there = False
        self.send(Ping())

    def revoke(self, revoked):
        self.request.connection.rawDataReceived = lambda data: None
        self.send(CloseConnection(revoked.close_code, revoked.close_reason))
        self.request.connection.transport.loseConnection()

    def reply(self, text):
        self.send(TextMessage(f"{self.ticket.username}: {text}"))

    def send(self, event):
        self.request.connection.transport.write(self.websocket.send(event))

    def receive(self, data):
        self.websocket.receive_data(data)
        for event in self.websocket.events():
            match event:
                case TextMessage():
                    self.message += event.data
                    if event.message_finished:
                        self.reply(self.message)
                        self.message = ""
                case Ping():
                    self.send(event.response())
                case Pong():
                    self.is_there = True
                case CloseConnection():
                    self.send(event.response())
                    self.request.connection.transport.loseConnection()


class Events(WithTicket):
    @asynchronous
    def get(self):
        self._transforms = []  # the chunked one is Python 2 code, too
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Access-Control-Allow-Origin", ORIGIN)
        self.write(": connected\n\n")
        self.write(f"data: Hello, {self.ticket.username}!\n\n")
        self.flush()

    def revoke(self, revoked):
        self.finish()
        self.request.connection.transport.loseConnection()


def log_path(handler):
    """Log a request without its query, and so without the ticket."""
    log.msg(f"{handler.request.method} {handler.request.path} {handler.get_status()}")


if __name__ == "__main__":
    log.startLogging(sys.stdout)
    application = Application(
        [("/ws", Chat), ("/events", Events)], log_function=log_path
    )
    reactor.listenTCP(PORT, application, interface="127.0.0.1")
    live.start()  # or the first connection would hold up the reactor
    reactor.run()
