"""The access log: one line for each reply."""

import time

from aiorest_ws.log import get_logger
from aiorest_ws.wrappers import Request

__all__ = ("AccessLog",)

logger = get_logger("aiorest-ws.access")

_LINE = "%(peer)s %(request_id)s %(request)r %(status)d %(bytes)d bytes %(milliseconds).1f ms"


class AccessLog:
    """Writes to `aiorest-ws.access`."""

    def note(
        self, peer: str, request: Request | None, size: int, status: int | None = None
    ) -> None:
        """Write the line of a reply of `size` bytes; `status` by default is the request's."""
        now = time.monotonic()
        if status is None:
            # Without a request, only a failure can have been sent: of an override that raised.
            status = 500 if request is None else getattr(request, "_status", 200)
        fields = {
            "peer": peer,
            "request_id": request.log_id if request is not None else "-",
            "status": status,
            "bytes": size,
            "milliseconds": (now - getattr(request, "_started", now)) * 1000,
        }
        logger.info(_LINE, {**fields, "request": request}, extra={"event": "reply", **fields})
