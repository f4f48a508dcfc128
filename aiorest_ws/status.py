"""WebSocket close codes (RFC 6455, section 7.4) and the status numbers of failures."""

from http import HTTPStatus

__all__ = (
    "STATUS_BAD_REQUEST",
    "STATUS_CANCELLED",
    "STATUS_CONFLICT",
    "STATUS_CONTRACT",
    "STATUS_FORBIDDEN",
    "STATUS_INTERNAL_ERROR",
    "STATUS_METHOD_NOT_ALLOWED",
    "STATUS_NOT_FOUND",
    "STATUS_TIMEOUT",
    "STATUS_TOO_LARGE",
    "STATUS_TOO_MANY",
    "STATUS_UNAUTHORIZED",
    "STATUS_UNAVAILABLE",
    "WS_BAD_GATEWAY",
    "WS_CLOSED_ABNORMALLY",
    "WS_DATA_CANNOT_ACCEPT",
    "WS_FAILURE_TLS",
    "WS_GOING_AWAY",
    "WS_MESSAGE_NOT_CONSISTENT",
    "WS_MESSAGE_TOO_BIG",
    "WS_MESSAGE_VIOLATE_POLICY",
    "WS_NORMAL",
    "WS_NO_STATUS_CODE",
    "WS_PROTOCOL_ERROR",
    "WS_RESERVED",
    "WS_SERVER_DIDNT_RETURN_EXTENSIONS",
    "WS_SERVICE_RESTART",
    "WS_TRY_AGAIN_LATER",
    "WS_UNEXPECTED_CONDITION",
    "is_library",
    "is_not_used",
    "is_private",
    "is_reserved",
)

WS_NORMAL = 1000
WS_GOING_AWAY = 1001
WS_PROTOCOL_ERROR = 1002
WS_DATA_CANNOT_ACCEPT = 1003
WS_RESERVED = 1004
WS_NO_STATUS_CODE = 1005
WS_CLOSED_ABNORMALLY = 1006
WS_MESSAGE_NOT_CONSISTENT = 1007
WS_MESSAGE_VIOLATE_POLICY = 1008
WS_MESSAGE_TOO_BIG = 1009
WS_SERVER_DIDNT_RETURN_EXTENSIONS = 1010
WS_UNEXPECTED_CONDITION = 1011
# 1012 to 1014 are in IANA's registry, not in the RFC.
WS_SERVICE_RESTART = 1012
WS_TRY_AGAIN_LATER = 1013
WS_BAD_GATEWAY = 1014
WS_FAILURE_TLS = 1015

# Statuses of failures: the HTTP status for the same error.
STATUS_BAD_REQUEST = HTTPStatus.BAD_REQUEST.value
STATUS_UNAUTHORIZED = HTTPStatus.UNAUTHORIZED.value
STATUS_FORBIDDEN = HTTPStatus.FORBIDDEN.value
STATUS_NOT_FOUND = HTTPStatus.NOT_FOUND.value
STATUS_METHOD_NOT_ALLOWED = HTTPStatus.METHOD_NOT_ALLOWED.value
STATUS_TIMEOUT = HTTPStatus.REQUEST_TIMEOUT.value
STATUS_CONFLICT = HTTPStatus.CONFLICT.value
STATUS_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value
STATUS_CONTRACT = HTTPStatus.UNPROCESSABLE_ENTITY.value
STATUS_TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS.value
# Not an HTTP status: nginx logs it for a request that the client cancelled.
STATUS_CANCELLED = 499
STATUS_INTERNAL_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR.value
STATUS_UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE.value


def is_not_used(code: int) -> bool:
    """Tell whether `code` is in the range that is not used (0 to 999)."""
    return 0 <= code <= 999


def is_reserved(code: int) -> bool:
    """Tell whether `code` is reserved for the protocol (1000 to 2999)."""
    return 1000 <= code <= 2999


def is_library(code: int) -> bool:
    """Tell whether `code` is for libraries and frameworks (3000 to 3999)."""
    return 3000 <= code <= 3999


def is_private(code: int) -> bool:
    """Tell whether `code` is for private use (4000 to 4999)."""
    return 4000 <= code <= 4999
