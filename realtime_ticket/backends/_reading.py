"""Reading from several servers, of which some may be down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Server = TypeVar("Server")


def read_from_each(
    shares: Mapping[Server, Sequence[int]],
    read: Callable[[Server, Sequence[int]], Sequence[str | None]],
    errors: tuple[type[Exception], ...],
) -> list[str | Exception | None]:
    """Return what every server read of its share: the positions of keys in a call.

    If a server raises one of ``errors``, the error is in place of each of its texts.
    Raise that error when no server answered.
    """
    texts: dict[int, str | Exception | None] = {}
    failures = []
    for server, positions in shares.items():
        try:
            found: Sequence[str | Exception | None] = read(server, positions)
        except errors as exc:
            failures.append(exc)
            found = [exc] * len(positions)
        texts |= zip(positions, found, strict=True)
    if len(failures) == len(shares):
        raise failures[0]
    return [texts[position] for position in sorted(texts)]
