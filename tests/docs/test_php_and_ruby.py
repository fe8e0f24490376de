"""The consumers in PHP and Ruby: the vectors, and a Redis that is killed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from realtime_ticket import TicketService
from realtime_ticket.backends.redis import RedisBackend
from tests import matrix, servers
from tests.docs.pages import DOCS, FENCES, write_files
from tests.docs.programs import issue
from tests.helpers import GOOD

PAGE = "consumers-in-php-and-ruby.md"
VECTORS = DOCS / "wire-format-vectors.json"
LOOPS = {
    "php": """<?php
        require $argv[1];
        while (($value = fgets(STDIN)) !== false) {
            $answer = judge(trim($value));
            echo $answer['claims']['username'] ?? $answer['status'], "\\n";
        }
    """,
    "ruby": """
        require ARGV[0]
        STDOUT.sync = true
        while value = STDIN.gets
          answer = judge(value.strip)
          puts answer[:claims] ? answer[:claims]["username"] : answer[:status]
        end
    """,
}
READERS = {"php": "Ticket.php", "ruby": "ticket.rb"}


@pytest.fixture(params=LOOPS)
def language(request: pytest.FixtureRequest) -> str:
    if servers.find(request.param) is None:
        if servers.REQUIRED:
            pytest.fail(f"{request.param} is not installed", pytrace=False)
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def test_they_agree_with_the_vectors(language: str, tmp_path: Path) -> None:
    reader = write_files(PAGE, tmp_path)[READERS[language]]
    check = DOCS / f"check-vectors{reader.suffix}"
    result = subprocess.run(
        [language, check, VECTORS, reader], capture_output=True, text=True, timeout=60
    )
    assert result.stdout in {fence.text for fence in FENCES[PAGE]}, result


@contextmanager
def judging(language: str, folder: Path, port: int) -> Iterator[Callable[[str], str]]:
    """Run the page's server, which is shown one ticket after another."""
    for path in write_files(PAGE, folder).values():
        path.write_text(path.read_text().replace("6379", str(port)))
    loop = folder / "loop"
    loop.write_text(LOOPS[language])
    server = folder / f"server{Path(READERS[language]).suffix}"
    with subprocess.Popen(
        [language, loop, server],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin and process.stdout

        def judge(value: str) -> str:
            process.stdin.write(f"{value}\n")
            return str(process.stdout.readline()).strip()

        yield judge
        process.stdin.close()
        process.wait(10)


def test_they_tell_an_outage_from_a_bad_ticket(language: str, tmp_path: Path) -> None:
    """And an error of Redis from no ticket. After an outage they connect again."""
    storage = matrix.Redis(tmp_path)
    service = TicketService(RedisBackend(url=storage.url))
    try:
        with (
            closing(service),
            redis.Redis(port=storage.port) as client,
            judging(language, tmp_path, storage.port) as judge,
        ):
            value = issue(service, "chat")
            assert [judge(value), judge(value)] == ["ana", "401"]
            assert judge(issue(service)) == "401"
            assert judge("nonsense") == "401"
            client.rpush(f"{GOOD}:chat", "no text")
            assert judge(GOOD) == "503"
            storage.kill()
            assert judge(GOOD) == "503"
            storage.start()
            assert judge(issue(service, "chat")) == "ana"
    finally:
        storage.kill()
