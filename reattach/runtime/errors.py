"""API errors: each kind has a status and a body `{"msg": ...}`."""

from __future__ import annotations


class ApiError(Exception):
    """Base; `msg` is the body's text, `log_text` what the log says."""

    status = 500
    prefix = ""
    log_prefix = ""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def msg(self) -> str:
        return f"{self.prefix}{self.reason}"

    @property
    def log_text(self) -> str:
        return f"{self.log_prefix}{self.msg}"


class BadRequest(ApiError):
    status = 400
    log_prefix = "Bad request: "

    @property
    def msg(self) -> str:
        # The real servers print the error's debug form, which puts plain messages in quotes.
        return f'"{self.reason}"'


class Unauthorized(ApiError):
    status = 401
    prefix = "Unauthorized: "


class Forbidden(ApiError):
    status = 403
    prefix = "Forbidden: "


class NotFound(ApiError):
    status = 404
    prefix = "NotFound: "


class PageNotFound(ApiError):
    """No such route."""

    status = 404


class NotAcceptable(ApiError):
    status = 406


class Timeout(ApiError):
    status = 408


class Conflict(ApiError):
    status = 409
    prefix = "Conflict: "


class PlainConflict(ApiError):
    """A conflict whose text stands alone, as in timeline creation."""

    status = 409


class PreconditionFailed(ApiError):
    status = 412
    prefix = "Precondition failed: "


class PayloadTooLarge(ApiError):
    status = 413


class TooManyRequests(ApiError):
    status = 429
    log_prefix = "Too many requests: "


class InternalError(ApiError):
    status = 500


class Cancelled(ApiError):
    status = 500

    def __init__(self) -> None:
        super().__init__("Request cancelled")


class ResourceUnavailable(ApiError):
    status = 503
    log_prefix = "Resource temporarily unavailable: "


class ShuttingDown(ApiError):
    status = 503

    def __init__(self) -> None:
        super().__init__("Shutting down")


def cause_chain(error: BaseException) -> str:
    """The error's text and those of its causes, outermost first, joined by `: `."""
    texts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = current.msg if isinstance(current, ApiError) else str(current) or type(current).__name__
        if not texts or texts[-1] != text:
            texts.append(text)
        current = current.__cause__
    return ": ".join(texts)
