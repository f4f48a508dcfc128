"""Makes `twist aiorest-ws` known to Twisted."""

from twisted.application.service import ServiceMaker

aiorest_ws = ServiceMaker(
    "aiorest-ws",
    "aiorest_ws.tap",
    "REST-style calls over WebSockets.",
    "aiorest-ws",
)
