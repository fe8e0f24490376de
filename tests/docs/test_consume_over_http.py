"""The page about consuming over HTTP, against a server that is one."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import wsgiref.simple_server
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client
from django.urls import include, path

from realtime_ticket import TicketService, get_service
from realtime_ticket.integrations.http import ConsumeView
from tests import servers
from tests.docs.pages import FENCES, read, run_page
from tests.docs.programs import issue, run_node
from tests.helpers import FailingBackend

SERVICE_KEY = "a-key-of-these-tests-that-is-long-enough"

urlpatterns = [
    path("internal/", include("realtime_ticket.integrations.urls")),
    path("closed/", ConsumeView.as_view(keys=())),
    path("down/", ConsumeView.as_view(service=TicketService(FailingBackend()))),
]


class _QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def internal(
    settings: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of the view, in a Django that listens and has the page's URLs."""
    run_page("consume-over-http.md", project)
    settings.ROOT_URLCONF = "urls"
    settings.REALTIME_TICKET_SERVICE_KEYS = [SERVICE_KEY]
    monkeypatch.setenv("TICKET_KEY", SERVICE_KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with wsgiref.simple_server.make_server(
        "127.0.0.1", 0, WSGIHandler(), handler_class=_QuietHandler
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/internal/consume/"
        server.shutdown()
        thread.join()


def test_the_consumer_in_python_works(internal: str, project: Path) -> None:
    consume = run_page("consume-over-http.md", project)["consume"]
    _set_globals(consume, URL=internal, KEY=SERVICE_KEY)
    value = issue(get_service(), "chat")
    assert consume(value) is None
    assert consume(value, "chat") == {"id": 7, "username": "ana"}
    assert consume(value, "chat") is None
    _set_globals(consume, KEY="wrong")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        consume(value)
    _set_globals(consume, URL="http://127.0.0.1:1/")
    with pytest.raises(urllib.error.URLError):
        consume(value)


def _set_globals(function: Any, **values: str) -> None:
    function.__globals__.update(values)


def test_the_consumer_in_node_works(internal: str, tmp_path: Path) -> None:
    (fence,) = [f for f in FENCES["consume-over-http.md"] if f.file == "consumer.mjs"]
    path = fence.write(tmp_path)
    text = path.read_text()
    assert text.count("http://localhost:8000/internal/consume/") == 1
    path.write_text(text.replace("http://localhost:8000/internal/consume/", internal))
    value = issue(get_service(), "chat")
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ consume }} from "{path}";
        console.log(await consume("{value}"));
        console.log((await consume("{value}", "chat")).username);
        console.log(await consume("{value}", "chat"));
        process.env.TICKET_KEY = "wrong";
        await consume("{value}").catch((error) => console.log(error.message));
        """
    )
    printed = run_node(script).splitlines()
    assert printed == ["null", "ana", "null", "Django answers 401"]


def test_the_listener_in_node_works(internal: str, tmp_path: Path) -> None:
    """It tells each disconnect once, of which connections, and what came before."""
    (fence,) = [
        f for f in FENCES["consume-over-http.md"] if f.file == "disconnects.mjs"
    ]
    path = fence.write(tmp_path)
    url = internal.replace("consume", "disconnects")
    text = path.read_text().replace("http://localhost:8000/internal/disconnects/", url)
    path.write_text(text.replace("setTimeout(resolve, 500)", "setTimeout(resolve, 50)"))
    service = get_service()
    service.disconnect(7, session="s1")
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ concerns, hasEnded, listen }} from "{path}";
        const of = (id, session, issued_at) =>
          ({{ claims: {{ id }}, session, issued_at }});
        const now = Date.now() / 1000;
        listen((each) => {{
          const those = [of(7, "s1"), of("7", ""), of(7, "s2"), of(8, "s1")];
          console.log(each.kind, ...those.map((answer) => concerns(each, answer)));
          if (each.kind === "user") {{
            console.log(hasEnded(of(7, "s1", now + 60)),
                        hasEnded(of(7, "s2", now - 60)),
                        hasEnded(of(7, "s2", now + 60)), hasEnded(of(8, "s1", now)));
            setTimeout(process.exit, 200);
          }}
        }}, () => console.log("in doubt"));
        """
    )
    timer = threading.Timer(0.5, lambda: service.disconnect(7))
    timer.start()
    printed = run_node(script).splitlines()
    timer.join()
    assert printed == [
        "session true false false false",
        "user true true true false",
        "true true false false",
    ]


def test_the_listener_in_node_asks_again_after_an_error(
    internal: str, settings: Any, tmp_path: Path
) -> None:
    """And is in doubt when it was away for as long as disconnects are kept."""
    (fence,) = [
        f for f in FENCES["consume-over-http.md"] if f.file == "disconnects.mjs"
    ]
    path = fence.write(tmp_path)
    text = path.read_text().replace(
        "http://localhost:8000/internal/disconnects/",
        internal.replace("consume", "disconnects"),
    )
    path.write_text(text.replace("setTimeout(resolve, 500)", "setTimeout(resolve, 20)"))
    script = tmp_path / "script.mjs"
    script.write_text(
        f"""
        import {{ listen }} from "{path}";
        const now = performance.now.bind(performance);
        let away = 0;
        performance.now = () => now() + away;
        const key = process.env.TICKET_KEY;
        process.env.TICKET_KEY = "wrong";
        console.error = (text) => {{
          console.log(text);
          process.env.TICKET_KEY = key;
          away = 111_000;
        }};
        listen(() => console.log("heard"), () => {{
          console.log("in doubt");
          setTimeout(process.exit, 300);
        }});
        """
    )
    printed = run_node(script).splitlines()
    assert printed[0] == "Django answers 401"
    assert [line for line in printed if "401" not in line] == ["in doubt"]


def test_curl_prints_what_the_page_says_of_disconnects(internal: str) -> None:
    if servers.find("curl") is None:
        pytest.skip("curl is not installed")
    began = int(time.time())
    get_service().disconnect(7)
    (block,) = [f for f in FENCES["consume-over-http.md"] if "since" in f.text[:200]
                and f.language == "console"]  # fmt: skip
    command, documented = block.text.removeprefix("$ ").splitlines()
    command = command.replace(
        "http://localhost:8000/internal/disconnects/",
        internal.replace("consume", "disconnects"),
    )
    printed = subprocess.run(
        ["sh", "-c", f"{command} --silent"], capture_output=True, timeout=60, check=True
    )
    answer, expected = json.loads(printed.stdout), json.loads(documented)
    (entry,) = answer["disconnects"]
    assert began <= entry["at"] <= answer["now"] <= time.time()
    (entry,) = expected["disconnects"]
    assert 0 <= expected["now"] - entry["at"] <= 2
    for each in (answer, expected):
        (entry,) = each["disconnects"]
        del each["now"], entry["at"]
        assert len(entry.pop("id")) == 16
    assert answer == expected


def test_curl_prints_what_the_page_says(internal: str) -> None:
    if servers.find("curl") is None:
        pytest.skip("curl is not installed")
    (block,) = [f for f in FENCES["consume-over-http.md"] if "rt_…" in f.text]
    command, documented = block.text.removeprefix("$ ").splitlines()
    command = command.replace("http://localhost:8000/internal/consume/", internal)
    command = command.replace("rt_…", issue(get_service()))
    printed = subprocess.run(
        ["sh", "-c", f"{command} --silent"], capture_output=True, timeout=60, check=True
    )
    answer, expected = json.loads(printed.stdout), json.loads(documented)
    for each, seconds in (answer, 60), (expected, 10):
        assert each["expires_at"] - each["issued_at"] == seconds
        del each["issued_at"], each["expires_at"]
    assert answer == expected


@pytest.mark.urls(__name__)
def test_answers_are_those_of_the_view(settings: Any) -> None:
    rows = re.findall(
        r"^\| (\d{3}) \| (.*?) \| .* \| .* \|$", read("consume-over-http.md"), re.M
    )
    documented = {int(status): body for status, body in rows}
    settings.REALTIME_TICKET_SERVICE_KEYS = [SERVICE_KEY]
    settings.REALTIME_TICKET_EXPIRE = 60  # the first request loads the URLs
    good = {"ticket": issue(get_service())}

    def post(
        body: Any, path: str = "/internal/consume/", key: str = SERVICE_KEY
    ) -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        return Client().post(path, body, "application/json", headers=headers)

    answers = [
        post(good),
        post(good),
        post([]),
        post(good, key="wrong"),
        post(good, "/down/"),
        post(good, "/closed/"),
        Client().get(
            "/internal/consume/", headers={"Authorization": f"Bearer {SERVICE_KEY}"}
        ),
    ]
    assert sorted(answer.status_code for answer in answers) == sorted(documented)
    for answer in answers:
        body = documented[answer.status_code]
        is_json = answer.headers["Content-Type"] == "application/json"
        assert is_json is ("Django's page" not in body)
        if is_json:
            assert f'`"status": "{answer.json()["status"]}"`' in body
        seconds = answer.headers.get("Retry-After")
        assert ("Retry-After" in body) is (seconds is not None)
        assert seconds is None or f"`Retry-After: {seconds}`" in body
