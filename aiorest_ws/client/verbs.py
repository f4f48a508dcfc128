"""One method for each method of requests."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypedDict, TypeVar, Unpack

__all__ = ("CallOptions", "Verbs")

Answer = TypeVar("Answer")


class CallOptions(TypedDict, total=False):
    """What a call takes besides its method and path; see `Client.call`."""

    args: Mapping[str, Any] | None
    data: Any
    reply: Any
    timeout: float | None
    idempotent: bool | None
    event_name: Any


class Verbs(ABC, Generic[Answer]):
    """`get`, `post`, `put`, `patch` and `delete` of what has a `call`."""

    @abstractmethod
    def call(self, method: str, path: str, **options: Unpack[CallOptions]) -> Answer:
        """Make a call."""

    def get(self, path: str, **options: Unpack[CallOptions]) -> Answer:
        """Call GET; see `call`."""
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Unpack[CallOptions]) -> Answer:
        """Call POST; see `call`."""
        return self.call("POST", path, **options)

    def put(self, path: str, **options: Unpack[CallOptions]) -> Answer:
        """Call PUT; see `call`."""
        return self.call("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[CallOptions]) -> Answer:
        """Call PATCH; see `call`."""
        return self.call("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[CallOptions]) -> Answer:
        """Call DELETE; see `call`."""
        return self.call("DELETE", path, **options)
