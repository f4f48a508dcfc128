"""Errors of authorization (403)."""

from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.status import STATUS_FORBIDDEN, WS_MESSAGE_VIOLATE_POLICY

__all__ = ("BaseAuthException", "PermissionDeniedException")


class BaseAuthException(BaseAPIException):
    """The request is not allowed."""

    default_detail = "The caller could not be authenticated."
    status_code = WS_MESSAGE_VIOLATE_POLICY
    status = STATUS_FORBIDDEN


class PermissionDeniedException(BaseAuthException):
    """A permission of the view does not allow the request."""

    default_detail = "Permission denied."
