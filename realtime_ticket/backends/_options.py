"""Which values the options of drivers may have. Drivers find out only on use."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final


def is_text(value: object) -> bool:
    return value is None or isinstance(value, (str, bytes))


def is_file(value: object) -> bool:
    # redis-py treats an empty name as none, too.
    is_path = isinstance(value, (str, os.PathLike))
    return not value or (is_path and os.access(value, os.R_OK))  # type: ignore[arg-type]


def is_host(value: object) -> bool:
    if not isinstance(value, str) or value == "" or {*"/@ ,[]"} & {*value}:
        return False
    return value.count(":") != 1  # IPv6 has more. One is before a port.


def is_time(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (is_number and value > 0)  # type: ignore[operator]


def is_number(lowest: int, highest: int) -> Callable[[object], bool]:
    def is_fine(value: object) -> bool:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)  # from the environment
        return type(value) is int and lowest <= value <= highest

    return is_fine


is_port: Final = is_number(1, 65_535)
