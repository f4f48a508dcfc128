"""Errors of tokens (401): the request has none, or an invalid one."""

from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.status import STATUS_UNAUTHORIZED, WS_MESSAGE_VIOLATE_POLICY

__all__ = (
    "BaseTokenException",
    "InvalidSignatureException",
    "ParsingTokenException",
    "TokenExpiredException",
    "TokenNotBeforeException",
    "TokenNotProvidedException",
)


class BaseTokenException(BaseAPIException):
    """A token is not accepted."""

    default_detail = "The token is not accepted."
    status_code = WS_MESSAGE_VIOLATE_POLICY
    status = STATUS_UNAUTHORIZED


class ParsingTokenException(BaseTokenException):
    """A token is not a JSON Web Token."""

    default_detail = "The token cannot be read."


class InvalidSignatureException(BaseTokenException):
    """A token was not signed with our key and algorithm."""

    default_detail = "The signature of the token is wrong."


class TokenNotBeforeException(BaseTokenException):
    """A token is used before its `nbf`."""

    default_detail = "The token is not valid yet."


class TokenExpiredException(BaseTokenException):
    """A token is used at or after its `exp`."""

    default_detail = "The token is no longer valid."


class TokenNotProvidedException(BaseTokenException):
    """A view that needs a token was called without one."""

    default_detail = "This call needs a token."
