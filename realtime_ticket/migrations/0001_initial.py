from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def set_unlogged(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Keep tickets out of PostgreSQL's write-ahead log.

    A ticket is faster to write then. After a crash, and on a promoted standby, the
    table is empty, so a spent ticket cannot come back.
    """
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE realtime_ticket SET UNLOGGED")


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="StoredTicket",
            fields=[
                (
                    "ticket_key",
                    models.CharField(max_length=200, primary_key=True, serialize=False),
                ),
                ("data", models.TextField()),
                ("expires_at", models.DateTimeField(db_index=True)),
            ],
            options={"db_table": "realtime_ticket"},
        ),
        migrations.RunPython(
            set_unlogged,
            migrations.RunPython.noop,
            hints={"model_name": "storedticket"},
        ),
    ]
