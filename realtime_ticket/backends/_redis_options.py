"""The options of redis-py, checked when they are given and not when they are used."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ._options import is_file, is_host, is_number, is_port, is_text, is_time

_SILENT: Final[dict[str, Any]] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.Redis).parameters
    else {"lib_name": None, "lib_version": None}
)
"""redis-py tells each server its name (``CLIENT SETINFO``). twemproxy then closes."""

_UNUSABLE: Final = {
    "connection_pool", "single_connection_client", "cache", "cache_config",
}  # fmt: skip
"""Options of ``redis.Redis`` that bring a pool of their own, or connect at once."""

DEFAULTS: Final[dict[str, Any]] = {
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    # redis-py 8 makes ten: 59 s of waiting for a frozen server, and a GETDEL that is
    # sent twice turns a lost reply into a false refusal.
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
    "max_connections": 50,
    **_SILENT,
}


def pattern_of(options: dict[str, Any], url: str | None = None) -> redis.ConnectionPool:
    """Return the pool that the options describe, without connecting it.

    Raise TypeError or ValueError for an option that does not exist, or that would fail
    later. The text holds no value that may be a secret.
    """
    if unusable := sorted(_UNUSABLE & options.keys()):
        raise TypeError(f"{unusable} cannot be used here: say host, port and so on")
    try:
        pool = _pool_of(options) if url is None else _pool_at(url, options)
        _check(pool)
        if issubclass(pool.connection_class, redis.SSLConnection):
            _check_hostnames(pool.connection_kwargs)
        # Opens no socket, but raises TypeError for an option that a URL let through.
        pool.connection_class(**pool.connection_kwargs)
    except (redis.RedisError, AttributeError) as exc:
        raise ValueError(f"redis-py refuses it ({type(exc).__name__})") from exc
    return pool


def _pool_of(options: dict[str, Any]) -> redis.ConnectionPool:
    # redis-py before 6 accepts the certificate of any host.
    return redis.Redis(**{"ssl_check_hostname": True} | options).connection_pool


def _pool_at(url: str, options: dict[str, Any]) -> redis.ConnectionPool:
    if not isinstance(url, str):
        raise TypeError("url has to be a string")
    try:
        return redis.ConnectionPool.from_url(url, **options)
    except ValueError:
        # Not the parser's message, which may repeat a part of the password.
        raise ValueError(
            "url is not 'redis://[[user]:password@]host[:port][/db]', or "
            "its password is not percent-encoded"
        ) from None


def _check_hostnames(options: dict[str, Any]) -> None:
    """Let redis-py compare the host with the certificate, if it verifies one."""
    unverified = ("none", None, ssl.CERT_NONE)
    verifies = options.get("ssl_cert_reqs", "required") not in unverified
    # redis-py before 6 refuses to compare the host without verifying the certificate.
    options["ssl_check_hostname"] = verifies and options.get("ssl_check_hostname", True)


def _check(pool: redis.ConnectionPool) -> None:
    options = pool.connection_kwargs | {"max_connections": pool.max_connections}
    for name, (is_fine, wanted) in _RULES.items():
        if name in options and not is_fine(options[name]):
            raise ValueError(f"{name} has to be {wanted}")


def _are_errors(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(each, type) and issubclass(each, Exception) for each in value
    )


_RULES: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "host": (is_host, "a host name or an address, without a port, not a URL"),
    "port": (is_port, "a number from 1 to 65535"),
    "db": (is_number(0, 2**31 - 1), "a number"),
    "path": (is_text, "the path of a socket"),
    "username": (is_text, "a string"),
    "password": (is_text, "a string"),
    "client_name": (is_text, "a string"),
    "socket_timeout": (is_time, "a number of seconds above 0"),
    "socket_connect_timeout": (is_time, "a number of seconds above 0"),
    "health_check_interval": (
        lambda value: value == 0 or is_time(value),
        "a number of seconds",
    ),
    "max_connections": (is_number(1, 65_535), "a number from 1 to 65535"),
    "retry": (lambda value: isinstance(value, Retry), "a redis.retry.Retry"),
    "retry_on_error": (_are_errors, "a list of exceptions"),
    # redis-py has a default of its own that is not a dict.
    "socket_keepalive_options": (
        lambda value: not isinstance(value, (str, bytes, float, int, list, tuple)),
        "a dict",
    ),
    **dict.fromkeys(
        ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_ca_path"),
        (is_file, "the path of something that this process can read"),
    ),
}
