"""What a browser does, step by step, and what each server answers."""

from __future__ import annotations

import json
import time
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from realtime_ticket.handshake import PROTOCOL

REFUSALS = {"HTTP 401", "HTTP 403", "closed with 4401"}
"""What servers answer to a bad ticket. Some frameworks know only 403."""


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


def walk(site: str, realtime: str, carrier: str) -> None:
    """Show a ticket's life. Exit if something is not as it should be."""
    browser = Browser(site)
    browser.get("/login/")
    page = browser.post("/login/", username="alice", password="alice")
    expect("You are <strong>alice" in page, "the chat page", page)
    print("1. alice logs in to Django.")

    ticket, expires_in = fetch_ticket(browser)
    print(f"2. POST /ticket/ gives a ticket for {expires_in} seconds: {ticket[:7]}...")

    greeting = present(realtime, ticket, site, carrier)
    expect(greeting == "Hello, alice!", "a greeting", greeting)
    print(f"3. The realtime server consumes it and says: {greeting}")

    refusal = present(realtime, ticket, site, carrier)
    expect(refusal in REFUSALS, "a refusal", refusal)
    print(f"4. The same ticket again is refused: {refusal}")

    ticket, expires_in = fetch_ticket(browser)
    time.sleep(expires_in + 0.2)
    refusal = present(realtime, ticket, site, carrier)
    expect(refusal in REFUSALS, "a refusal", refusal)
    print(f"5. A ticket that waited too long is refused: {refusal}")


def fetch_ticket(browser: Browser) -> tuple[str, int]:
    answer = json.loads(browser.post("/ticket/"))
    expect(answer["status"] == "ok", "a ticket", answer)
    return answer["message"], answer["expires_in"]


def present(realtime: str, ticket: str, origin: str, carrier: str) -> str:
    """Connect with the ticket. Return the first message, or why there is none."""
    chosen, offered = None, None
    if carrier == "query":
        realtime = f"{realtime}?ticket={ticket}"
    else:
        chosen, offered = PROTOCOL, [PROTOCOL, f"ticket.{ticket}"]
    try:
        with connect(
            realtime, subprotocols=offered, origin=origin, proxy=None
        ) as connection:
            # A browser gives up on a server that chooses none of what it offered.
            expect(connection.subprotocol == chosen, chosen, connection.subprotocol)
            return str(connection.recv(timeout=10))
    except InvalidStatus as exc:
        return f"HTTP {exc.response.status_code}"
    except ConnectionClosed as exc:
        return f"closed with {exc.rcvd.code if exc.rcvd else 'no code'}"


def expect(met: bool, what: str | None, got: object) -> None:
    if not met:
        raise SystemExit(f"Expected {what}, got: {got}")
