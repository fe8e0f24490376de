"""A ticket that is issued when a template asks for it."""

from __future__ import annotations

from django.http import HttpRequest

from .exceptions import NotAuthenticated, RealtimeTicketError, StorageError
from .logs import logger
from .shortcuts import issue_ticket


class LazyTicket:
    """A ticket's value, issued on first use. One for each request.

    Django's templates call what is callable, so ``{{ realtime_ticket }}`` is the
    ticket's string, or None itself when there is no ticket: nobody is logged in, the
    storage is down, or anything else went wrong. It never raises, because error pages
    are rendered from the same templates. (A lazy object could not be None:
    ``{% if x is None %}`` compares identities.) Jinja2 prints it too, but must test
    ``realtime_ticket() is none``.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._value: str | None = None
        self.evaluated = False

    @classmethod
    def of(cls, request: HttpRequest) -> LazyTicket:
        """Return the lazy ticket of this request, always the same one."""
        # Django REST framework gives templates a wrapper, which no middleware sees.
        request = getattr(request, "_request", request)
        lazy: LazyTicket | None = request.__dict__.get("_realtime_ticket")
        if lazy is None:
            lazy = request.__dict__["_realtime_ticket"] = cls(request)
        return lazy

    def __call__(self) -> str | None:
        if not self.evaluated:
            self.evaluated = True
            # Django's cache middleware looks at this after the page is rendered. It may
            # look before RealtimeTicketMiddleware has set any header, under cache_page.
            self._request._cache_update_cache = False  # type: ignore[attr-defined]
            self._value = self._issue()
        return self._value

    # What Jinja2 prints. Not __str__(), which a log would call.
    def __html__(self) -> str:
        return self() or ""

    def _issue(self) -> str | None:
        try:
            if not hasattr(self._request, "user"):
                logger.warning(
                    "The template gets no ticket: this page was rendered before "
                    "AuthenticationMiddleware, or without it."
                )
                return None
            return issue_ticket(self._request).value
        except (NotAuthenticated, StorageError):  # an outage has been logged
            return None
        except RealtimeTicketError as exc:
            logger.warning("The template gets no ticket: %s", exc)
            return None
        except Exception:
            logger.exception("The template gets no ticket.")
            return None
