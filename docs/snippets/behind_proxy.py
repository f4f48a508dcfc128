"""The first server behind a proxy on the same machine."""

from aiorest_ws import Application, Limits
from first_server import router

limits = Limits(
    trusted_proxies=["127.0.0.1"],
    allowed_hosts=["api.example.com"],
    allowed_origins=["https://www.example.com"],
    connections_per_address=20,
)
app = Application(router=router, limits=limits)
