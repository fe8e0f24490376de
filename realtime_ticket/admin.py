"""An action for the admin of your user model. Nothing is registered here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest

from .disconnects import disconnect
from .exceptions import StorageError


@admin.action(
    description="Disconnect selected %(verbose_name_plural)s", permissions=["change"]
)
def disconnect_selected(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
) -> None:
    """End the open connections of the selected users, and log who did it.

    They stay logged in, so their pages come back. Deactivate a user to keep them out.
    """
    try:
        disconnect(queryset)
    except StorageError:
        modeladmin.message_user(
            request,
            "The storage of the tickets does not answer. The disconnect is tried again "
            "for two minutes.",
            messages.ERROR,
        )
    else:
        modeladmin.message_user(
            request, f"Disconnected {queryset.count()}.", messages.SUCCESS
        )
    LogEntry.objects.log_actions(
        user_id=request.user.pk or 0,
        queryset=queryset,
        action_flag=CHANGE,
        change_message="Disconnected.",
    )
