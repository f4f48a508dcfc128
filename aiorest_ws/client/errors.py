"""What a client raises.

ClientError
    CallError: the server answered with a failure
        Unauthorized, Forbidden, NotFound, Invalid, TooMany
    ConnectionLost (a ConnectionError)
    InvalidReply (a ValueError)
    Overflow
"""

from collections.abc import Mapping
from typing import Any

__all__ = (
    "CallError",
    "ClientError",
    "ConnectionLost",
    "Forbidden",
    "Invalid",
    "InvalidReply",
    "NotFound",
    "Overflow",
    "TooMany",
    "Unauthorized",
    "failure",
)


class ClientError(Exception):
    """Base class of the errors of this package."""


class CallError(ClientError):
    """The server answered a call with a failure."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        error: str | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.errors = [] if errors is None else errors
        self.error = error
        self.info = {} if info is None else info


class Unauthorized(CallError):
    """Status 401: no token, or one that is not accepted."""


class Forbidden(CallError):
    """Status 403."""


class NotFound(CallError):
    """Status 404."""


class Invalid(CallError):
    """Status 422; `errors` names each value that does not fit."""


class TooMany(CallError):
    """Status 429; `retry_after` is in seconds, None if the server does not say."""

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the call may be repeated."""
        value = self.info.get("retry_after")
        return float(value) if isinstance(value, int | float) else None


class ConnectionLost(ClientError, ConnectionError):
    """The connection ended before the answer; `maybe_executed` if the call had been sent."""

    def __init__(self, text: str, *, maybe_executed: bool = False) -> None:
        super().__init__(text)
        self.maybe_executed = maybe_executed


class InvalidReply(ClientError, ValueError):
    """A reply does not fit the type that the caller gave in `reply=`."""


class Overflow(ClientError):
    """A stream was cancelled because its consumer was too slow."""


_BY_STATUS: dict[int, type[CallError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    422: Invalid,
    429: TooMany,
}


def failure(message: Mapping[str, Any]) -> CallError:
    """Return the error that a failure message means."""
    status = message.get("status", 400)
    return _BY_STATUS.get(status, CallError)(
        status,
        message["detail"],
        message.get("errors"),
        message.get("error"),
        message.get("info"),
    )
