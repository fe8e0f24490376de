"""The options of pymemcache, checked when they are given, not when they are used."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any

from ._options import is_port, is_time

_SERVER = re.compile(
    r"(unix:)?/.+|([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]+))?"
)
"""A socket, a host, or an IPv6 address in brackets, as pymemcache reads them."""

_UNUSABLE = {"serde", "serializer", "deserializer", "encoding"}


def checked_servers(servers: object) -> list[str]:
    """Return the servers. Raise TypeError for what does not name any."""
    found = [servers] if isinstance(servers, str) else servers
    if (
        not isinstance(found, (list, tuple))
        or not found
        or not all(map(_is_server, found))
    ):
        # Without the value: a URL in it may hold a password.
        raise TypeError("servers is a list of 'host:port', or of paths of sockets")
    return list(found)


def _is_server(value: object) -> bool:
    match = _SERVER.fullmatch(value) if isinstance(value, str) else None
    return match is not None and is_port(match["port"] or 11211)


def check_options(options: dict[str, Any]) -> None:
    """Raise TypeError for options that pymemcache would only refuse when it is used."""
    if unusable := sorted(_UNUSABLE & options.keys()):
        raise TypeError(f"{unusable} cannot be used here: what is stored is plain text")
    for name in ("timeout", "connect_timeout"):
        if not is_time(options[name]):
            raise TypeError(f"{name} has to be a number of seconds above 0")
    if not isinstance(options.get("tls_context"), (ssl.SSLContext, type(None))):
        raise TypeError("tls_context has to be an ssl.SSLContext")
    if not hasattr(options.get("socket_module", socket), "socket"):
        raise TypeError("socket_module has to be a module like socket")
