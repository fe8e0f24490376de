"""gevent: check a connection in the WSGI app, before simple-websocket answers it.

Run it as it is, on gevent's own server, or as ``gunicorn server:app``.
"""

from gevent import monkey

monkey.patch_all()  # before the drivers are imported
# ruff: noqa: E402

import os
import socket
from contextlib import suppress
from functools import partial

import gevent
from gevent.pywsgi import WSGIHandler, WSGIServer
from simple_websocket import ConnectionClosed, Server
from wsproto.utilities import RemoteProtocolError

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.handshake import PROTOCOL, AllowedOrigins, find_ticket
from realtime_ticket.live import LiveTickets, Revoked

REDIS = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:8000")
PORT = int(os.environ.get("PORT", "8001"))

tickets = TicketService(RedisBackend(url=REDIS))
live = LiveTickets(tickets)
origins = AllowedOrigins([ORIGIN], allow_missing=True)

LIMITS = {"ping_interval": 30, "max_message_size": 2**16}


def app(environ, start_response):
    page = PAGES.get(environ["PATH_INFO"])
    if page is None:
        return refuse(start_response, "404 Not Found")
    if environ["REQUEST_METHOD"] != "GET":  # a preflight would spend the ticket
        return refuse(start_response, "405 Method Not Allowed")
    if environ.get("HTTP_ORIGIN") not in origins:
        return refuse(start_response, "403 Forbidden")
    try:
        value = find_ticket(
            subprotocols=environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL"),
            query=environ["QUERY_STRING"],
            authorization=environ.get("HTTP_AUTHORIZATION"),
        )
        ticket = tickets.consume(value)  # blocks this greenlet alone
        # When its login ends, Revoked is raised wherever this greenlet waits.
        end = partial(gevent.getcurrent().kill, block=False)
        watch = live.watch(ticket, end)
    except InvalidTicket:
        return refuse(start_response, "401 Unauthorized")
    except StorageError:
        return refuse(start_response, "503 Service Unavailable")
    return page(ticket.username, watch, environ, start_response)


def refuse(start_response, status):
    start_response(status, [("Content-Length", "0")])
    return []


def chat(name, watch, environ, start_response):
    with watch, suppress(ConnectionClosed):
        try:
            websocket = Server.accept(environ, subprotocols=[PROTOCOL], **LIMITS)
        except RemoteProtocolError:
            return refuse(start_response, "400 Bad Request")
        try:
            websocket.send(f"Hello, {name}!")
            while True:
                websocket.send(f"{name}: {websocket.receive()}")
        except Revoked as exc:
            websocket.close(exc.close_code, exc.close_reason)
            websocket.thread.join(3)  # seconds for the client to answer
            if websocket.thread.is_alive():
                websocket.sock.shutdown(socket.SHUT_RDWR)
    if websocket.mode == "gunicorn":
        raise StopIteration  # or it would answer once more, and log that it cannot
    return []


def events(name, watch, environ, start_response):
    headers = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": ORIGIN,
    }
    start_response("200 OK", list(headers.items()))
    with watch, suppress(Revoked):
        yield b": connected\n\n"  # a WSGI server sends headers with the first byte
        yield f"data: Hello, {name}!\n\n".encode()
        while True:
            gevent.sleep(15)
            yield b": still here\n\n"  # which fails when the client has left


PAGES = {"/ws": chat, "/events": events}


class OneRequest(WSGIHandler):
    """Ends with its request, or the socket of a closed WebSocket would stay open."""

    def handle_one_response(self):
        super().handle_one_response()
        self.close_connection = True


if __name__ == "__main__":
    home = ("127.0.0.1", PORT)
    # Without a log, which would hold the query, and so the tickets.
    WSGIServer(home, app, handler_class=OneRequest, log=None).serve_forever()
