"""What ``manage.py ticket_doctor`` says of Redis servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import redis
from django.core import checks

from . import _clock


def diagnose(
    pools: Sequence[redis.ConnectionPool], wait_replicas: int
) -> list[checks.CheckMessage]:
    """Return the findings about the servers that these pools connect to, each once."""
    found: list[checks.CheckMessage] = []
    for pool in pools:
        for message in _server(redis.Redis(connection_pool=pool), wait_replicas):
            if message not in found:
                found.append(message)
    return found


def _server(client: Any, wait_replicas: int) -> Iterator[checks.CheckMessage]:
    try:
        info = client.info()
        if "role" not in info:  # Envoy's own answer, and its TIME is not that of Redis
            yield _unknown("A proxy answers in place of Redis")
            return
        yield checks.Info(f"{_name(info)}, {info['role']}.", id="realtime_ticket.I002")
        yield from _eviction(info)
        yield from _replication(info, wait_replicas)
        yield from _persistence(info, client.config_get("save"))
    except redis.ResponseError:
        yield _unknown("This Redis user may not run INFO and CONFIG GET")
    with suppress(redis.ResponseError):  # this user may not run TIME
        yield from _clock.compare(lambda: _time(client))


def _unknown(why: str) -> checks.CheckMessage:
    return checks.Info(
        f"{why}, so not all of the server's settings are known.",
        hint="Check by hand: maxmemory-policy noeviction, save '', appendonly no.",
        id="realtime_ticket.I001",
    )


def _name(info: dict[str, Any]) -> str:
    """Return the server's name and version. Valkey calls itself Redis 7.2.4, too."""
    if version := info.get("valkey_version"):
        return f"Valkey {version}"
    return f"Redis {info['redis_version']}"


def _time(client: Any) -> float:
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1_000_000)


def _eviction(info: dict[str, Any]) -> Iterator[checks.CheckMessage]:
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        yield checks.Warning(
            f"When its memory is full, Redis drops live tickets ({policy}).",
            hint="Give tickets a Redis of their own, with maxmemory-policy noeviction.",
            id="realtime_ticket.W013",
        )


def _replication(
    info: dict[str, Any], wait_replicas: int
) -> Iterator[checks.CheckMessage]:
    replicas = info.get("connected_slaves", 0)
    if replicas > wait_replicas:
        yield checks.Warning(
            "After a failover, a spent ticket may be valid again for what is left of "
            "its time: replicas need not know of it.",
            hint="Set wait_replicas to the number of replicas, or accept it.",
            id="realtime_ticket.W015",
        )
    elif replicas < wait_replicas:
        yield checks.Error(
            f"wait_replicas is {wait_replicas}, and Redis has {replicas} replicas, so "
            "no ticket lets anyone in.",
            hint="Start the replicas, or set wait_replicas to their number.",
            id="realtime_ticket.E014",
        )


def _persistence(
    info: dict[str, Any], config: dict[str, Any]
) -> Iterator[checks.CheckMessage]:
    if info.get("aof_enabled") or config.get("save"):
        yield checks.Warning(
            "Redis writes to disk. After a crash, a spent ticket may be valid again "
            "for what is left of its time.",
            hint="Give tickets a Redis of their own, with save '' and appendonly no.",
            id="realtime_ticket.W014",
        )
