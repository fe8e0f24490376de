"""What a browser does, step by step, and what each server answers."""

from __future__ import annotations

import json
import time
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

PROTOCOL = "realtime-ticket.v1"


class Browser:
    """Keeps cookies and sends the CSRF token back, as a page's script does."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.cookies = CookieJar()
        self.opener = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> str:
        with self.opener.open(self.site + path, timeout=10) as response:
            return response.read().decode()

    def post(self, path: str, **fields: str) -> str:
        token = next(c.value for c in self.cookies if c.name == "csrftoken")
        request = Request(
            self.site + path,
            data=urlencode(fields).encode(),
            headers={"X-CSRFToken": token or "", "Origin": self.site},
        )
        with self.opener.open(request, timeout=10) as response:
            return response.read().decode()


def walk(site: str, realtime: str) -> None:
    """Show a ticket's life. Exit where it is not what it should be."""
    browser = Browser(site)
    browser.get("/login/")
    page = browser.post("/login/", username="alice", password="alice")
    expect("You are <strong>alice" in page, "the chat page", page)
    print("1. alice logs in to Django.")

    ticket, expires_in = fetch_ticket(browser)
    print(f"2. POST /ticket/ gives a ticket for {expires_in} seconds: {ticket[:7]}...")

    greeting = present(realtime, ticket)
    expect(greeting == "Hello, alice!", "a greeting", greeting)
    print(f"3. The realtime server consumes it and says: {greeting}")

    refusal = present(realtime, ticket)
    expect(refusal == "HTTP 401", "a refusal", refusal)
    print(f"4. The same ticket again is refused: {refusal}")

    ticket, expires_in = fetch_ticket(browser)
    time.sleep(expires_in + 0.2)
    refusal = present(realtime, ticket)
    expect(refusal == "HTTP 401", "a refusal", refusal)
    print(f"5. A ticket that waited too long is refused: {refusal}")


def fetch_ticket(browser: Browser) -> tuple[str, int]:
    answer = json.loads(browser.post("/ticket/"))
    expect(answer["status"] == "ok", "a ticket", answer)
    return answer["message"], answer["expires_in"]


def present(realtime: str, ticket: str) -> str:
    """Connect with the ticket. Return the first message, or why there is none."""
    try:
        with connect(
            realtime, subprotocols=[PROTOCOL, f"ticket.{ticket}"], proxy=None
        ) as connection:
            return str(json.loads(connection.recv(timeout=10))["text"])
    except InvalidStatus as exc:
        return f"HTTP {exc.response.status_code}"


def expect(met: bool, what: str, got: object) -> None:
    if not met:
        raise SystemExit(f"Expected {what}, got: {got}")
