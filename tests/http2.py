"""A WebSocket in a stream of an HTTP/2 connection, as in RFC 8441."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlencode

from h2.connection import H2Connection
from h2.events import DataReceived, Event, RemoteSettingsChanged, ResponseReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from realtime_ticket.handshake import PROTOCOL
from tests.dialling import Refused, Session, Shown


class Peer:
    """The client's end of an HTTP/2 connection with one WebSocket in it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.http = H2Connection()
        self.websocket = Connection(ConnectionType.CLIENT)
        self.events: list[Event] = []
        self.stream = 0

    async def handshake(self, path: str, headers: list[tuple[str, str]]) -> Event:
        """Ask for the WebSocket, as soon as the server allows it. Return the answer."""
        self.http.initiate_connection()
        settings = await self.until(RemoteSettingsChanged)
        assert settings.changed_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL].new_value
        self.stream = self.http.get_next_available_stream_id()
        head = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "http",
            ":authority": "127.0.0.1",
            ":path": path,
            "sec-websocket-version": "13",
        }
        self.http.send_headers(self.stream, [*head.items(), *headers])
        return await self.until(ResponseReceived)

    async def until(self, kind: type[Event]) -> Event:
        """Read until an event of this kind comes, and return it."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            self.writer.write(self.http.data_to_send())
            data = await self.reader.read(4096)
            if not data:
                raise ConnectionClosed(None, None)
            self.events += self.http.receive_data(data)

    async def hear(self) -> TextMessage | CloseConnection:
        """Return the next message."""
        while True:
            for message in self.websocket.events():
                if isinstance(message, TextMessage | CloseConnection):
                    return message
            event = await self.until(DataReceived)
            self.http.acknowledge_received_data(len(event.data), self.stream)
            self.websocket.receive_data(event.data)

    def send(self, message: TextMessage | CloseConnection) -> None:
        try:
            self.http.send_data(self.stream, self.websocket.send(message))
        except ProtocolError:  # the server has closed it
            raise ConnectionClosed(None, None) from None
        self.writer.write(self.http.data_to_send())


@asynccontextmanager
async def websocket(
    port: int, *shown: Shown, origin: str | None
) -> AsyncIterator[Session]:
    """Connect to ``/ws`` on a server that is known to speak HTTP/2 without TLS."""
    by = {carrier: [v for c, v in shown if c == carrier] for carrier, _ in shown}
    query = urlencode([("ticket", value) for value in by.get("query", [])])
    headers = [
        ("authorization", f"Ticket {value}") for value in by.get("authorization", [])
    ]
    if values := by.get("subprotocol"):
        offered = ", ".join([PROTOCOL, *(f"ticket.{value}" for value in values)])
        headers.append(("sec-websocket-protocol", offered))
    if origin is not None:
        headers.append(("origin", origin))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer)
    try:
        answer = await peer.handshake(f"/ws?{query}", headers)
        found = {name.decode(): value.decode() for name, value in answer.headers}
        if found[":status"] != "200":
            raise Refused(int(found[":status"]))

        async def text() -> str:
            message = await peer.hear()
            if isinstance(message, CloseConnection):
                close = Close(message.code, message.reason or "")
                raise ConnectionClosed(close, None)
            return message.data

        async def say(words: str) -> str:
            peer.send(TextMessage(words))
            return await text()

        async def closed() -> int:
            message = await peer.hear()
            assert isinstance(message, CloseConnection), message
            return message.code

        protocol = found.get("sec-websocket-protocol")
        yield Session(await text(), say, closed, protocol, str(found))
        with suppress(ConnectionClosed):
            peer.send(CloseConnection(1000))
    finally:
        writer.close()
