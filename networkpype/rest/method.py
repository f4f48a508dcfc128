"""HTTP methods (RFC 9110, section 9; PATCH: RFC 5789)."""

from enum import Enum, unique

__all__ = ("RESTMethod",)


@unique
class RESTMethod(Enum):
    """An HTTP method; `str()` and `repr()` return its name alone."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    PATCH = "PATCH"
    HEAD = "HEAD"
    OPTIONS = "OPTIONS"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name
