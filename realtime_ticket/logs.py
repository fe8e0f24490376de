"""The logger of the package."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any


class _QuietLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs, and never raises: a filter of the project's own may.

    Such a filter must not end a thread, nor change what a call returns or raises.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        with suppress(Exception):
            super().log(level, msg, *args, **kwargs)


logger = _QuietLogger(logging.getLogger("realtime_ticket"))
