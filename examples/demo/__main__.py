"""Run the demo: ``python -m examples.demo``, or with ``--once`` to stop after the walk.

It starts Django and the realtime server as two processes, walks a user through them,
and then leaves them to you until Ctrl-C.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .walk import walk

USERS = ("alice", "bob")
PATIENCE = 20
"""Seconds that a server may take to start."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="realtime-ticket-demo-") as state:
        site, realtime = free_port(8000), free_port(8001)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "examples.demo.settings",
            "DEMO_STATE": state,
            "DEMO_DJANGO_PORT": str(site),
            "DEMO_REALTIME_PORT": str(realtime),
        }
        create_users()
        runserver = ("django", "runserver", "--noreload", f"127.0.0.1:{site}")
        with (
            running("Django", *runserver, port=site, log=Path(state, "django.log")),
            running(
                "the realtime server",
                "examples.demo.realtime",
                port=realtime,
                log=Path(state, "realtime.log"),
            ),
        ):
            walk(f"http://127.0.0.1:{site}", f"ws://127.0.0.1:{realtime}")
            if "--once" not in sys.argv:
                print(
                    f"\nNow you: open http://127.0.0.1:{site}/ and log in as alice, and"
                    "\nin a private window as bob. The password is the name."
                    "\nCtrl-C ends the demo."
                )
                wait_for_interrupt()
    return 0


def create_users() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("check")
    call_command("migrate", verbosity=0)
    from django.contrib.auth import get_user_model

    for name in USERS:
        get_user_model().objects.create_user(name, password=name)


@contextmanager
def running(name: str, *module: str, port: int, log: Path) -> Iterator[None]:
    """Run a Python module as a server process until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        print(f"Started {name}, process {process.pid}, on port {port}.")
        yield
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port(wanted: int) -> int:
    """Return this port, or any other that is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nBye.")


if __name__ == "__main__":
    sys.exit(main())
