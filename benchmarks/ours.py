"""A ticket with this package: issue it, and consume it."""

from __future__ import annotations

from realtime_ticket import TicketService

from . import by_hand


def pair(service: TicketService) -> None:
    ticket = service.issue(by_hand.CLAIMS, expire=by_hand.EXPIRE)
    service.consume(ticket.value)


async def apair(service: TicketService) -> None:
    ticket = await service.aissue(by_hand.CLAIMS, expire=by_hand.EXPIRE)
    await service.aconsume(ticket.value)
