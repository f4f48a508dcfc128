"""A server for the pages of one site, with small messages and short calls."""

from aiorest_ws import Application, Limits
from first_server import router

limits = Limits(
    allowed_origins=["https://www.example.com"],
    message_bytes=64 * 1024,
    messages_per_second=50,
    connections_per_address=20,
    call_seconds=10,
)
app = Application(router=router, limits=limits)
