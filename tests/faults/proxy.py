"""A way to a server that can be spoiled: cut, held up, or deaf in one direction."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from tests.servers import free_port


class Fault(Enum):
    """What happens to connections while the fault is on."""

    CUT = "replies cut off"
    """The request arrives. In place of its reply the connection is closed."""
    TEAR = "replies torn apart"
    """The same, in the middle of the reply."""
    LOSE = "replies lost, connection half open"
    """The request arrives. Its reply never does, and nobody closes."""
    VANISH = "other side gone without a word"
    """Nothing arrives, and nobody closes: the other side went without a word."""
    HOLD = "network cut, packets delivered later"
    """Nothing arrives until the fault is over. Then all that was sent does."""


class Proxy:
    """Forwards the connections to a port of the loopback interface, or spoils them.

    ``sent`` holds every byte that the server was given.
    """

    def __init__(self, port: int) -> None:
        self.target = ("127.0.0.1", port)
        self.port = free_port()
        self.sent = bytearray()
        self.fault: Fault | None = None
        self.over = threading.Event()
        self.links: set[Link] = set()
        self.changing = threading.Lock()
        """Held while the fault changes, or a link is given it."""
        self.accept()

    def accept(self) -> None:
        """Listen, again if it refused."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        spawn(self._serve, self._listener)

    def refuse(self) -> None:
        """Listen no more, and close every connection."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection."""
        for link in list(self.links):
            link.close()

    def spoil(self, fault: Fault, *, newcomers: bool = True) -> None:
        """Let this happen to every connection, or to those that are open now."""
        self.over.clear()
        with self.changing:
            self.fault = fault if newcomers else None
            for link in list(self.links):
                link.fault = fault

    def heal(self) -> None:
        """Forward again. Connections that missed something are closed."""
        with self.changing:
            self.fault = None
            for link in list(self.links):
                fault, link.fault = link.fault, None
                if fault in (Fault.LOSE, Fault.VANISH):
                    link.close()
        self.over.set()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                Link(self, listener.accept()[0])


class Link:
    """One connection of a client, and the one to the server that stands behind it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy, self._client = proxy, client
        self._server = socket.socket()
        with proxy.changing:
            self.fault = proxy.fault
            proxy.links.add(self)
        spawn(self._forth)

    def close(self) -> None:
        self._proxy.links.discard(self)
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _forth(self) -> None:
        """Carry what the client sends."""
        proxy = self._proxy
        with suppress(OSError):
            self._server.connect(proxy.target)
            spawn(self._back)
            while data := self._client.recv(65536):
                if self.fault is Fault.HOLD:
                    proxy.over.wait(60)
                if self.fault is not Fault.VANISH:
                    proxy.sent += data
                    self._server.sendall(data)
        self.close()

    def _back(self) -> None:
        """Carry what the server replies."""
        proxy = self._proxy
        with suppress(OSError):
            while data := self._server.recv(65536):
                if self.fault is Fault.HOLD:
                    proxy.over.wait(60)
                fault = self.fault  # which may be over before the reply is torn
                if fault is Fault.TEAR:
                    self._client.sendall(data[: len(data) // 2])
                if fault in (Fault.TEAR, Fault.CUT):
                    break
                if fault is None:
                    self._client.sendall(data)
        self.close()


def spawn(work: Callable[..., None], *args: object) -> None:
    threading.Thread(target=work, args=args, daemon=True).start()
