"""The backends that the package ships, by their dotted paths."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from realtime_ticket import backends
from realtime_ticket.backends.base import BaseBackend


def _shipped() -> dict[str, type[BaseBackend]]:
    found = {}
    for info in pkgutil.iter_modules(backends.__path__, f"{backends.__name__}."):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        for name, cls in vars(importlib.import_module(info.name)).items():
            if (
                inspect.isclass(cls)
                and issubclass(cls, BaseBackend)
                and cls.__module__ == info.name
                and not inspect.isabstract(cls)
            ):
                found[f"{info.name}.{name}"] = cls
    return found


BACKENDS = _shipped()
