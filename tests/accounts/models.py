"""User models that projects have, beside Django's own."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import User
from django.db import models


class Person(AbstractBaseUser):
    """A user with a UUID, and without a field ``is_active``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)

    objects = BaseUserManager()

    USERNAME_FIELD = "email"


class Robot(models.Model):
    """A user model that has nothing of Django's."""

    name = models.TextField(unique=True)
    is_active = models.BooleanField(default=True)

    USERNAME_FIELD = "name"
    REQUIRED_FIELDS: list[str] = []
    is_anonymous = False
    is_authenticated = True

    def __str__(self) -> str:
        return self.name


class Colleague(User):
    """A proxy of Django's user."""

    class Meta:
        proxy = True


class Customer(User):
    """A user with a table of its own beside Django's."""

    credit = models.IntegerField(default=0)
