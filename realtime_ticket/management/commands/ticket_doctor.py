from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core import checks
from django.core.management.base import BaseCommand, CommandError

from realtime_ticket import conf, doctor
from realtime_ticket.checks import check_backend, check_settings
from realtime_ticket.doctor import Finding

_LEVELS = {"ERROR": checks.ERROR, "WARNING": checks.WARNING, "INFO": checks.INFO}


class Command(BaseCommand):
    help = (
        "Test the configured storage: a round trip, races, expiry, latency, and the "
        "server's own settings. It takes a few seconds and leaves nothing behind."
    )
    requires_system_checks: list[str] = []  # their findings are among the doctor's own

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object at the end."
        )
        parser.add_argument(
            "--fail-level",
            choices=_LEVELS,
            default="ERROR",
            help="Exit with status 1 from this level on (ERROR).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in _findings():
            findings.append(finding)
            if not options["json"]:
                self._say(finding)
        worst = max(finding.level for finding in findings)
        healthy = worst < _LEVELS[options["fail_level"]]
        if options["json"]:
            said = [asdict(finding) | {"level": _word(finding)} for finding in findings]
            self.stdout.write(json.dumps({"healthy": healthy, "findings": said}))
        if not healthy:
            raise CommandError("The storage needs attention.", returncode=1)

    def _say(self, finding: Finding) -> None:
        word = _word(finding)
        style = {
            "ERROR": self.style.ERROR,
            "WARNING": self.style.WARNING,
            "INFO": self.style.NOTICE,
        }.get(word, self.style.SUCCESS)
        self.stdout.write(style(f"{word:<8}") + f"{finding.name}: {finding.message}")
        if finding.hint:
            self.stdout.write(f"{'':<8}{finding.hint}")
        self.stdout.flush()


def _word(finding: Finding) -> str:
    return next((w for w, level in _LEVELS.items() if finding.level >= level), "OK")


def _findings() -> Iterator[Finding]:
    wrong = list(doctor.of_checks(check_settings()))
    yield from wrong
    try:
        service = conf.new_service(doctor.ExaminedService)
    except conf.WrongSetting as exc:
        yield from doctor.of_checks(check_backend())
        if exc.id not in {finding.name for finding in wrong}:
            # The check is silenced, but the user must see why nothing was examined.
            yield Finding(exc.id, exc.message, level=checks.ERROR, hint=exc.hint)
        return
    try:
        yield from doctor.examine(service)
    finally:
        service.close()
