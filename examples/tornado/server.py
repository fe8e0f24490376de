"""Tornado: check a connection in prepare(), before the handshake is answered."""

import asyncio
import os

from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketHandler

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


class WithTicket(RequestHandler):
    """Lets in clients with a good ticket, as self.ticket, until its login ends."""

    watch = None

    async def prepare(self):
        headers = self.request.headers
        self.request.uri = self.request.path  # what is logged, without the ticket
        if self.request.method != "GET":  # a preflight would spend the ticket
            raise HTTPError(405)
        # Not in check_origin(), which is asked when the ticket is already spent.
        if headers.get("Origin") not in origins:
            raise HTTPError(403)
        try:
            value = find_ticket(
                subprotocols=headers.get_list("Sec-WebSocket-Protocol"),
                query=self.request.query,
                authorization=headers.get("Authorization"),
            )
            self.ticket = await tickets.aconsume(value)
            self.watch = await live.awatch(self.ticket, self.revoke)
        except InvalidTicket:
            raise HTTPError(401) from None
        except StorageError:
            raise HTTPError(503) from None

    def on_finish(self):
        if self.watch and self.get_status() != 101:  # where a WebSocket begins
            self.watch.close()


class Chat(WithTicket, WebSocketHandler):
    def check_origin(self, origin):
        return True  # prepare() has judged it

    def select_subprotocol(self, subprotocols):
        return select_subprotocol(subprotocols)

    async def open(self):
        await self.write_message(f"Hello, {self.ticket.username}!")

    async def on_message(self, message):
        await self.write_message(f"{self.ticket.username}: {message}")

    def revoke(self, revoked):
        self.on_message = lambda message: None  # until the client answers the close
        self.close(revoked.close_code, revoked.close_reason)

    def on_close(self):
        self.watch.close()


class Events(WithTicket):
    def initialize(self):
        self.gone = asyncio.Event()

    async def get(self):
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Access-Control-Allow-Origin", ORIGIN)
        self.write(": connected\n\n")
        self.write(f"data: Hello, {self.ticket.username}!\n\n")
        await self.flush()
        await self.gone.wait()

    def on_connection_close(self):
        self.gone.set()

    def revoke(self, revoked):
        self.gone.set()


async def main():
    pages = [("/ws", Chat), ("/events", Events)]
    Application(pages, websocket_ping_interval=30).listen(PORT, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
