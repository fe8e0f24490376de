"""How fast it could be: the bytes of two commands, made by hand and sent together.

It handles no error reply, no outage, no limit and no cancelled call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from . import by_hand


class Pipelined(asyncio.Protocol):
    """A connection that sends what one turn of the loop asks for in one piece."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._requests: list[str] = []
        self._waiters: deque[asyncio.Future[bytes | None]] = deque()
        self._unread = b""

    @classmethod
    async def connect(cls, path: str) -> Pipelined:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_unix_connection(cls, path)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        self._transport.close()

    async def pair(self) -> None:
        value, data = by_hand.make()
        expire = str(by_hand.EXPIRE * 1000)
        await self._ask(
            f"*6\r\n$3\r\nSET\r\n${len(value)}\r\n{value}\r\n${len(data)}\r\n{data}\r\n"
            f"$2\r\nNX\r\n$2\r\nPX\r\n${len(expire)}\r\n{expire}\r\n"
        )
        by_hand.read(
            await self._ask(f"*2\r\n$6\r\nGETDEL\r\n${len(value)}\r\n{value}\r\n")
        )

    def _ask(self, request: str) -> asyncio.Future[bytes | None]:
        if not self._requests:
            self._loop.call_soon(self._send)
        self._requests.append(request)
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    def _send(self) -> None:
        self._transport.write("".join(self._requests).encode())
        self._requests.clear()

    def data_received(self, data: bytes) -> None:
        for reply in self._replies(self._unread + data):
            self._waiters.popleft().set_result(reply)

    def _replies(self, data: bytes) -> Iterator[bytes | None]:
        """Yield each whole reply: that of SET is one line, that of GETDEL is two."""
        start = 0
        while (end := data.find(b"\r\n", start)) >= 0:
            if data[start : start + 1] == b"$":
                length = int(data[start + 1 : end])
                first, end = end + 2, end + 2 + length
                if end + 2 > len(data):
                    break
                yield data[first:end]
            else:
                yield data[start:end]
            start = end + 2
        self._unread = data[start:]
