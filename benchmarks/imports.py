"""Row 9: what a consumer that loads no Django pays for its imports."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from .harness import Contender, Effort, Finding, Sample, Target, compare

TITLE = "Imports of a consumer without Django"
OURS = """
from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
"""

MEASURE = """
import time
from pathlib import Path
PAGES = lambda: int(Path("/proc/self/statm").read_text().split()[1])
pages, started = PAGES(), time.perf_counter()
{code}
print(time.perf_counter() - started, (PAGES() - pages) * 4096)
"""


def run(effort: Effort) -> list[Finding]:
    result = compare(
        [imports("realtime_ticket", OURS), imports("import redis", "import redis")],
        effort,
    )
    return [
        result.ratio("import", "import redis", measure, Target(at_most=1.3))
        for measure in ("time", "memory")
    ]


def imports(name: str, code: str) -> Contender:
    """Return a contender that runs the code in one new process after the other."""

    def run(seconds: float) -> Sample:
        measured = []
        started = time.perf_counter()
        while not measured or time.perf_counter() < started + seconds:
            measured.append(in_new_process(code))
        times, memories = zip(*measured, strict=True)
        return {
            "time": statistics.median(times),
            "memory": statistics.median(memories),
        }

    return Contender(name, run)


def in_new_process(code: str) -> tuple[float, float]:
    """Return how many seconds the code took, and how much memory it left in use."""
    command = [sys.executable, "-c", MEASURE.format(code=code)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, size = map(float, said.split())
    return seconds, size
