"""Auth by a constant header."""

from networkpype.auth.base import RESTOnlyAuth, require, set_header
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer

__all__ = ("APIKeyAuth", "BearerAuth")


class APIKeyAuth(RESTOnlyAuth):
    """Send a key in a header."""

    resign_after_s = None

    def __init__(
        self,
        api_key: str,
        *,
        header: str = "X-API-Key",
        time_provider: TimeSynchronizer | None = None,
    ) -> None:
        super().__init__(time_provider)
        require("api_key", api_key)
        self._value = api_key
        self._header = header

    async def rest_authenticate(self, request: RESTRequest) -> RESTRequest:
        """Set the header."""
        set_header(request, self._header, self._value)
        return request


class BearerAuth(APIKeyAuth):
    """Send a constant bearer token (RFC 6750, section 2.1)."""

    def __init__(self, token: str, *, time_provider: TimeSynchronizer | None = None) -> None:
        require("token", token)
        super().__init__(f"Bearer {token}", header="Authorization", time_provider=time_provider)
