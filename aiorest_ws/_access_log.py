"""A line in the log for each reply: who asked for what, and what became of it.

A protocol class is made for it, so that a server without an access log does not ask for it.
"""

import logging
import re
import time
from typing import Any

from aiorest_ws._calls import CallingProtocol
from aiorest_ws.wrappers import Request

__all__ = ("with_access_log",)

logger = logging.getLogger("aiorest-ws.access")

# The keys of a failure have their order, and a quotation mark inside of `detail` is escaped.
_STATUS = re.compile(rb'^\{"detail":.*?,"status":(\d{3}),', re.DOTALL)


class _AccessLogged(CallingProtocol):
    def _decode_message(self, payload: bytes, isBinary: bool = False) -> Request:
        begun = time.monotonic()
        request: Request = super()._decode_message(payload, isBinary)  # type: ignore[misc]
        request._begun = begun
        return request

    def _choose_ways(self) -> None:
        super()._choose_ways()
        self._reply_limit = -1  # each reply passes the next one

    def _reply(self, request: Request | None, reply: Any, isBinary: bool) -> None:
        super()._reply(request, reply, isBinary)
        took = time.monotonic() - getattr(request, "_begun", time.monotonic())
        reply = bytes(reply) if isinstance(reply, bytes) else b""
        match = _STATUS.match(reply)
        status = int(match[1]) if match else 200
        request_id = request.log_id if request is not None else "-"
        fields = {
            "event": "reply",
            "peer": self.peer,
            "request_id": request_id,
            "status": status,
            "milliseconds": took * 1000,
            "bytes": len(reply),
        }
        logger.info(
            "%s %s %r %d %d bytes %.1f ms",
            self.peer,
            request_id,
            request,
            status,
            len(reply),
            took * 1000,
            extra=fields,
        )


def with_access_log(kind: type[CallingProtocol]) -> type[CallingProtocol]:
    """Return a class like `kind` whose replies are lines in the log `aiorest-ws.access`."""
    names = {"__doc__": kind.__doc__, "__module__": kind.__module__}
    return type(kind.__name__, (_AccessLogged, kind), names)
