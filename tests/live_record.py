"""What ASGI applications write down, for test_live_servers.py to read.

Each line of the record is a JSON list: the path, the time, and what happened.
"""

from __future__ import annotations

import json
import os
import time

_record = open(os.environ["RECORD"], "a", buffering=1)  # noqa: SIM115


def note(path: str, *words: object) -> None:
    print(json.dumps([path, time.monotonic(), *words]), file=_record)
