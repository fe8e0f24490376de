"""The project of programs/preloaded.py, as a client of it sees it."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Any, NamedTuple

from realtime_ticket import InvalidTicket, StorageError
from tests.faults.load import Load

KEY = "k" * 40
"""The service key of the project."""


class Shown(NamedTuple):
    """A ticket, as a client of the site knows it."""

    value: str
    user: int


class Site:
    """A preloaded project, in the place of a service."""

    def __init__(self, port: int) -> None:
        self.port = port

    def load(self) -> Load:
        return Load(self, "sync")  # type: ignore[arg-type]

    def issue(self, claims: dict[str, Any], *, expire: int) -> Shown:
        headers = {
            "X-User": str(claims["id"]),
            "X-CSRFToken": "t" * 32,
            "Cookie": f"csrftoken={'t' * 32}",
        }
        answer = self._post("/ticket/", "", headers)
        return Shown(answer["message"], claims["id"])

    def consume(self, value: str) -> Shown:
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = self._post("/consume/", json.dumps({"ticket": value}), headers)
        return Shown(value, answer["claims"]["id"])

    def _post(self, path: str, body: str, headers: dict[str, str]) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException) as exc:
            raise StorageError("the worker died") from exc
        finally:
            connection.close()
        if response.status == 403:
            raise InvalidTicket("unknown")
        if response.status == 503:
            raise StorageError("503")
        assert response.status == 200, answer
        return answer
