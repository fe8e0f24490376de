"""Make the database, with users who are logged in, and print their session keys."""

from __future__ import annotations

import json

import django
from django.core.management import call_command

COUNT = 100

if __name__ == "__main__":
    django.setup()
    from django.contrib.auth.models import User
    from django.test import Client

    call_command("migrate", verbosity=0)
    keys = []
    for number in range(COUNT):
        client = Client()
        client.force_login(User.objects.create(username=f"user-{number}"))
        keys.append(client.cookies["sessionid"].value)
    print(json.dumps(keys))
