"""The ASGI servers that TicketMiddleware is tried on, and how each is started."""

from __future__ import annotations

APP = "tests.live_apps:guarded"
COMMANDS = {
    "uvicorn-websockets": f"uvicorn --port PORT --ws websockets {APP}",
    "uvicorn-sansio": f"uvicorn --port PORT --ws websockets-sansio {APP}",
    "uvicorn-wsproto": f"uvicorn --port PORT --ws wsproto {APP}",
    "hypercorn": f"hypercorn -b 127.0.0.1:PORT {APP}",
    "daphne": f"daphne -b 127.0.0.1 -p PORT {APP}",
    "granian": f"granian --interface asgi --port PORT {APP}",
    "gunicorn": f"gunicorn -k asgi -b 127.0.0.1:PORT {APP}",
}
"""Words for ``python -m``, in which PORT stands for the port."""
