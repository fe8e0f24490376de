"""Clients for HTTP and WebSockets that cost little beside the servers that they ask.

They know just enough of the protocols: requests are bytes made in advance, and of an
answer only the status and the length are looked at.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Self

LIMIT = 60
"""Seconds in which an answer has to come."""

_RESET = struct.pack("ii", 1, 0)


class Refused(Exception):
    """The server gave another answer than the one that was hoped for."""


class Connection(asyncio.Protocol):
    """A connection that sends one request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""

    @classmethod
    async def open(cls, port: int, source: str = "127.0.0.1") -> Self:
        """Connect from one of the addresses 127.0.0.1 to 127.255.255.254."""
        client = socket.socket()
        # So that the kernel chooses a port that is free for this pair of addresses.
        client.setsockopt(
            socket.SOL_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1
        )
        # Or else each connection would occupy its port for a minute after its end.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.setblocking(False)
        client.bind((source, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        _, connection = await loop.create_connection(cls, sock=client)
        return connection

    async def ask(self, request: bytes, status: bytes) -> None:
        """Send a request and wait for its answer. Raise Refused for another status."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        answer = await self._answer
        if answer[9:12] != status:
            raise Refused(answer.decode("latin-1"))

    def close(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self._received = b""
            self._settle(head + end + body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._settle(b"HTTP/1.1 000 hung up")

    def _settle(self, answer: bytes) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(answer)


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length: ")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def post(path: str, session: str) -> bytes:
    """Return a request as realtime-ticket.js makes it."""
    token = "a" * 32
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        f"Origin: http://127.0.0.1\r\nX-CSRFToken: {token}\r\nContent-Length: 0\r\n"
        f"Cookie: csrftoken={token}; sessionid={session}\r\n\r\n"
    ).encode()


def upgrade(path: str, *, protocols: str = "", session: str = "") -> bytes:
    """Return a handshake as a browser makes it."""
    offer = f"Sec-WebSocket-Protocol: {protocols}\r\n" if protocols else ""
    cookie = f"Cookie: sessionid={session}\r\n" if session else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}{cookie}\r\n"
    ).encode()
