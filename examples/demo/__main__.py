"""Run the demo: ``python -m examples.demo``, or with ``--once`` to stop after the walk.

It starts Django and the realtime server as two processes, walks a user through them,
and then leaves them to you until Ctrl-C. ``--server NAME`` takes a realtime server of
``examples/servers.py`` in place of the demo's own chat room.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from examples.servers import SERVERS, Server

from .processes import Process, free_port, python, redis_url
from .walk import walk

USERS = ("alice", "bob")
CHAT_ROOM = Server("..", tuple(python("examples.demo.realtime")))
EXAMPLES = [name for name, server in SERVERS.items() if server.carrier]
"""The servers that the page can talk to."""


def main() -> None:
    options = read_options()
    # Line by line, also into a pipe or a file.
    sys.stdout.reconfigure(line_buffering=True)
    server = SERVERS[options.server] if options.server else CHAT_ROOM
    with ExitStack() as stack:
        state = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="realtime-ticket-"))
        )
        site = free_port(int(os.environ.get("DEMO_DJANGO_PORT", 8000)))
        realtime = free_port(int(os.environ.get("DEMO_REALTIME_PORT", 8001)))
        origin = f"http://127.0.0.1:{site}"
        if options.server:  # in another process and language, so not with our database
            redis = stack.enter_context(redis_url(state / "redis.log"))
            os.environ |= {"REDIS_URL": redis, "DEMO_EXAMPLE": options.server}
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "examples.demo.settings",
            "DEMO_STATE": str(state),
            "DEMO_DJANGO_PORT": str(site),
            "DEMO_REALTIME_PORT": str(realtime),
            "DEMO_CARRIER": str(server.carrier),
            "PORT": str(realtime),
            "ORIGIN": origin,
            "DJANGO_URL": origin,
        }
        create_users()
        stack.enter_context(
            Process(
                "Django",
                python("django", "runserver", "--noreload", f"127.0.0.1:{site}"),
                port=site,
                log=state / "django.log",
            )
        )
        realtime_server = stack.enter_context(
            Process(
                f"the realtime server ({options.server or 'a chat room'})",
                server.command,
                port=realtime,
                log=state / "realtime.log",
                cwd=server.directory,
            )
        )
        walk(origin, f"ws://127.0.0.1:{realtime}/ws", str(server.carrier))
        if not options.once:
            print(
                f"\nNow you: open {origin}/ and log in as alice, and"
                "\nin a private window as bob. The password is the name."
                "\nCtrl-C ends the demo."
            )
            tend(realtime_server, state / "restart")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo")
    parser.add_argument("--once", action="store_true", help="stop after the walk")
    parser.add_argument(
        "--server",
        metavar="NAME",
        choices=EXAMPLES,
        help=f"an example server: {', '.join(EXAMPLES)}",
    )
    return parser.parse_args()


def create_users() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("check")
    call_command("migrate", verbosity=0)
    from django.contrib.auth import get_user_model

    for name in USERS:
        get_user_model().objects.create_user(name, password=name)


def tend(realtime: Process, restart: Path) -> None:
    """Restart the realtime server whenever the page asks for it."""
    while True:
        time.sleep(0.1)
        if restart.exists():
            restart.unlink()
            realtime.restart()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("\nBye.")
