"""A line in the log for each reply: who asked for what, and what became of it.

A protocol class is made for it, so that a server without an access log does not ask for it.
"""

import logging
import re
import time
from typing import Any

from aiorest_ws.connection.calls import CallingProtocol
from aiorest_ws.wrappers import Request

__all__ = ("with_access_log",)

logger = logging.getLogger("aiorest-ws.access")

# The keys of a failure have their order, and a quotation mark inside of `detail` is escaped.
_STATUS = re.compile(rb'^\{"detail":.*?,"status":(\d{3}),', re.DOTALL)


class _AccessLogged(CallingProtocol):
    def _decode_message(self, payload: bytes, isBinary: bool = False) -> Request:
        begun = time.monotonic()
        request: Request = super()._decode_message(payload, isBinary)  # type: ignore[misc]
        request._started = begun
        return request

    def _choose_ways(self) -> None:
        super()._choose_ways()
        self._reply_limit = -1  # each reply passes the next one

    def _reply(self, request: Request | None, reply: Any, isBinary: bool) -> Any:
        sent = super()._reply(request, reply, isBinary)
        if isinstance(sent, bytes):
            self._note_sent(request, sent, len(sent))
        return sent

    def _note_sent(self, request: Request | None, last: bytes, size: int) -> None:
        now = time.monotonic()
        match = _STATUS.match(last)
        fields = {
            "peer": self.peer,
            "request_id": request.log_id if request is not None else "-",
            "status": int(match[1]) if match else 200,
            "bytes": size,
            "milliseconds": (now - getattr(request, "_started", now)) * 1000,
        }
        line = (
            "%(peer)s %(request_id)s %(request)r %(status)d %(bytes)d bytes %(milliseconds).1f ms"
        )
        logger.info(line, {**fields, "request": request}, extra={"event": "reply", **fields})


def with_access_log(kind: type[CallingProtocol]) -> type[CallingProtocol]:
    """Return a class like `kind` whose replies are lines in the log `aiorest-ws.access`."""
    names = {"__doc__": kind.__doc__, "__module__": kind.__module__}
    return type(kind.__name__, (_AccessLogged, kind), names)
