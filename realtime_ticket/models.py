"""The table of the database backend."""

from __future__ import annotations

from django.db import models


class StoredTicket(models.Model):
    """A ticket that was issued and not yet consumed. See backends/database.py.

    Rows are written and read by that backend's own statements alone, in UTC by the
    database's clock, whatever ``USE_TZ`` says.
    """

    ticket_key = models.CharField(max_length=200, primary_key=True)
    data = models.TextField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "realtime_ticket"

    def __str__(self) -> str:
        return self.ticket_key
