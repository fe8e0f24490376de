"""Row 8: what it costs when a million tickets are outstanding, and to clear them."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

from realtime_ticket import TicketService

from . import by_hand, ours, tables
from .harness import Effort, Finding, Target, calls, compare, once, sample
from .stores import MemcachedStore, RedisStore, Store, TableStore

TITLE = "Growth: few and many outstanding tickets"

ENOUGH = 10_000
"""Tickets to store before their size is measured: a few fit into free memory."""

PATIENCE = 60
"""Seconds that clearing may take before it is given up."""

CLEAR = """
import sys
import django
django.setup()
from realtime_ticket.backends.database import DatabaseBackend
DatabaseBackend(alias=sys.argv[1]).clear_expired()
"""


def run(effort: Effort) -> list[Finding]:
    effort = replace(effort, rounds=min(5, effort.rounds))  # filling takes minutes
    findings = []
    pairs: list[tuple[Store, Store]] = [
        (RedisStore("few"), RedisStore("many")),
        (MemcachedStore("few-cached"), MemcachedStore("many-cached")),
    ]
    for few, many in pairs:
        findings += outstanding(few, many, effort)
    for vendor in tables.VENDORS:
        few, many = TableStore(vendor, "few"), TableStore(vendor, "many")
        findings += outstanding(few, many, effort)
        findings += clearing(many, effort)
    return findings


def outstanding(few: Store, many: Store, effort: Effort) -> list[Finding]:
    """Compare the cost of a pair among many with that among few, ours and theirs."""
    most, least = effort.most, effort.most // 1000 or 1
    few.fill(least)
    empty = many.size()
    many.fill(most)
    size = (many.size() - empty) / most
    service, other = TicketService(many.backend()), TicketService(few.backend())
    result = compare(
        [
            calls("many", lambda: ours.pair(service)),
            calls(f"{least:,} outstanding", lambda: ours.pair(other)),
        ],
        effort,
    )
    floor = compare(
        [
            calls("many", many.bare()),
            calls(f"{least:,} outstanding", few.bare()),
        ],
        effort,
    )
    service.close()
    other.close()
    among = f"{least:,} outstanding"
    work = f"{many.name}, {most:,} outstanding"
    findings = []
    if most >= ENOUGH:
        findings.append(once(f"{many.name}, bytes of a ticket", "memory", size))
    findings.append(result.ratio(work, among, "time", Target(at_most=1.2)))
    findings.append(floor.ratio(f"{work}, {many.driver} alone", among, "time"))
    return findings


def clearing(many: TableStore, effort: Effort) -> list[Finding]:
    """Issue tickets while another process removes as many expired ones as there are."""
    many.empty()
    many.fill(effort.most, lifetime=-1)
    service = TicketService(many.backend())
    latencies = []
    with subprocess.Popen([sys.executable, "-c", CLEAR, many.alias]) as process:
        started = now = time.perf_counter()
        while process.poll() is None and now < started + PATIENCE:
            before = now
            service.issue(by_hand.CLAIMS)
            now = time.perf_counter()
            latencies.append(now - before)
        process.kill()
    service.close()
    if process.returncode and now < started + PATIENCE:
        raise RuntimeError("Clearing failed.")
    work = f"{many.name}, issue while {effort.most:,} expired are cleared"
    measured = sample(latencies, now - started)
    return [
        once(work, "longest", measured["longest"], Target(at_most=0.05)),
        once(work, "p99", measured["p99"]),
        once(work, "last", now - started, Target(at_most=PATIENCE)),
    ]
