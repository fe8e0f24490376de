"""The example servers: how each is started, in its own folder.

Each reads ``PORT``, ``ORIGIN`` (whose pages may connect) and ``REDIS_URL``, answers a
WebSocket at ``/ws`` with ``Hello, <username>!`` and then repeats what it is told as
``<username>: <text>``, and streams the same greeting at ``/events`` where it can.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).parent


def shell(arguments: str) -> tuple[str, ...]:
    """Return the command that runs Python with these, in which ``$PORT`` is known."""
    return "sh", "-c", f'exec "{sys.executable}" {arguments}'


class Server(NamedTuple):
    """How to start an example: a command, run in a folder of this directory.

    ``carrier`` is where a browser puts the ticket; None where it speaks no WebSocket.
    """

    folder: str
    command: tuple[str, ...] = (sys.executable, "server.py")
    carrier: str | None = "subprotocol"

    @property
    def directory(self) -> Path:
        """Return the folder that the command is run in."""
        return EXAMPLES / self.folder


def proxy(name: str) -> Server:
    """Return a reverse proxy that asks Django, with a chat behind it."""
    return Server("proxies", (sys.executable, "server.py", name))


SERVERS = {
    "aiohttp": Server("aiohttp"),
    "autobahn": Server("autobahn"),
    "caddy": proxy("caddy"),
    "channels-daphne": Server(
        "channels", shell("-m daphne -b 127.0.0.1 -p $PORT server:application")
    ),
    "channels-uvicorn": Server(
        "channels",
        shell(
            "-m uvicorn --port $PORT --timeout-graceful-shutdown 3 server:application"
        ),
    ),
    "cyclone": Server("cyclone"),
    "fastapi": Server("fastapi"),
    "gevent": Server("gevent"),
    "gevent-gunicorn": Server("gevent", shell("-m gunicorn server:app")),
    "haproxy": proxy("haproxy"),
    "litestar": Server("litestar"),
    "nginx": proxy("nginx"),
    "node-ws-ioredis": Server("node-ws", ("node", "server-ioredis.mjs")),
    "node-ws-redis": Server("node-ws", ("node", "server-redis.mjs")),
    "sanic": Server("sanic"),
    "socketio": Server("socketio", carrier=None),
    "starlette": Server("starlette"),
    "tornado": Server("tornado"),
    "twisted": Server("twisted", carrier="query"),
    "websockets": Server("websockets"),
}
"""Each server by the name that ``make demo SERVER=name`` knows it by."""
