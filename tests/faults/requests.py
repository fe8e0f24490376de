"""Requests with whatever bytes, as hostile clients send them."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

KEY = "k" * 32
"""The key of the views for servers."""


def post(
    client: Client | AsyncClient, place: str, body: bytes, kind: str, **headers: str
) -> Any:
    """POST bytes as they are, which the client's own post() might encode."""

    async def wait() -> Any:
        return await response

    response: Any = client.generic(
        "POST", place, body, content_type=kind, headers=headers
    )
    return async_to_sync(wait)() if isinstance(client, AsyncClient) else response


def authorize(**headers: str) -> int:
    response = Client(raise_request_exception=False).get(
        "/authorize/",
        headers={"Authorization": f"Bearer {KEY}"}
        | {name.replace("_", "-"): value for name, value in headers.items()},
    )
    return int(response.status_code)
