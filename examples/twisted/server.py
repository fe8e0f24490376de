"""Twisted: check a connection in render_GET(), before WebSocketResource answers it."""

import os
import sys
from functools import partial

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.python import log
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.websocket import WebSocketProtocol, WebSocketResource

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import AllowedOrigins, find_ticket
from realtime_ticket.live import LiveTickets

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))
PING = 30  # seconds, after which a client that does not answer is taken for gone

tickets = TicketService(RedisBackend(url=REDIS))
live = LiveTickets(tickets)
origins = AllowedOrigins([ORIGIN], allow_missing=True)


class WithTicket(Resource):
    """Calls welcome() for a client with a good ticket, revoke() when its login ends."""

    isLeaf = True

    def render(self, request):
        request.query = request.uri.partition(b"?")[2]
        request.uri = request.path  # what is logged, and must show no ticket
        if request.method != b"GET":  # a preflight would spend the ticket
            request.setResponseCode(405)
            return b""
        return super().render(request)

    def render_GET(self, request):
        judging = ensureDeferred(self.judge(request))
        request.notifyFinish().addErrback(lambda _: judging.cancel())  # the client left
        judging.addErrback(lambda failure: failure.trap(CancelledError))
        judging.addErrback(request.processingFailed)
        return NOT_DONE_YET

    async def judge(self, request):
        if header(request, b"origin") not in origins:
            return refuse(request, 403)
        try:
            value = find_ticket(
                query=request.query,
                authorization=header(request, b"authorization"),
                # WebSocketResource can echo no subprotocol, so a browser may offer none
                carriers=("query", "authorization"),
            )
            request.ticket = await deferToThread(tickets.consume, value)
            # Its callback comes from the thread that hears of disconnects.
            end = partial(reactor.callFromThread, self.revoke, request)
            request.watch = live.watch(request.ticket, end)
        except InvalidTicket:
            return refuse(request, 401)
        except StorageError:
            return refuse(request, 503)
        request.notifyFinish().addBoth(lambda _: request.watch.close())
        self.welcome(request)


def header(request, name):
    value = request.getHeader(name)
    return value if value is None else value.decode("latin-1")


def refuse(request, status):
    request.setResponseCode(status)
    request.finish()


class Events(WithTicket):
    def welcome(self, request):
        request.setHeader("Content-Type", "text/event-stream")
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("Access-Control-Allow-Origin", ORIGIN)
        request.write(b": connected\n\n")
        request.write(f"data: Hello, {request.ticket.username}!\n\n".encode())

    def revoke(self, request, revoked):
        request.finish()


class Chat(WithTicket):
    def welcome(self, request):
        answer = WebSocketResource(self).render_GET(request)
        if answer is not NOT_DONE_YET:  # no WebSocket handshake
            request.write(answer)
            request.finish()

    def buildProtocol(self, request):
        request.talk = Talk(request.ticket.username, request.watch)
        return request.talk

    def revoke(self, request, revoked):
        request.talk.revoke(revoked)


class Talk(WebSocketProtocol):
    def __init__(self, name, watch):
        self.name = name
        self.watch = watch
        self.pings = LoopingCall(self.ping)
        self.is_there = True

    def negotiationStarted(self, transport):
        self.transport = transport

    def negotiationFinished(self):
        self.transport.sendTextMessage(f"Hello, {self.name}!")
        self.pings.start(PING, now=False)

    def ping(self):  # Twisted sends none by itself
        if not self.is_there:
            return self.transport.transport.abortConnection()
        self.is_there = False
        self.transport.ping()

    def pongReceived(self, payload):
        self.is_there = True

    def connectionLost(self, reason):
        self.watch.close()
        self.pings.stop()

    def revoke(self, revoked):
        self.textMessageReceived = lambda message: None
        self.transport.loseConnection(revoked.close_code, revoked.close_reason)

    def textMessageReceived(self, message):
        self.transport.sendTextMessage(f"{self.name}: {message}")


if __name__ == "__main__":
    root = Resource()
    root.putChild(b"ws", Chat())
    root.putChild(b"events", Events())
    log.startLogging(sys.stdout)
    reactor.listenTCP(PORT, Site(root), interface="127.0.0.1")
    live.start()  # or the first connection would hold up the reactor
    reactor.run()
