"""A chat that knows nothing of tickets: nginx has seen to them, and says who is there.

It listens on a Unix socket, because it trusts every client that can connect.
"""

from urllib.parse import unquote

from websockets.asyncio.server import unix_serve

PROTOCOL = "realtime-ticket.v1"


async def chat(connection):
    name = unquote(connection.request.headers["X-Realtime-Username"])
    await connection.send(f"Hello, {name}!")
    async for text in connection:
        await connection.send(f"{name}: {text}")


def select(connection, offered):
    return PROTOCOL if PROTOCOL in offered else None


def serve(path):
    return unix_serve(chat, path, select_subprotocol=select)
