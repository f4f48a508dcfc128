"""A router that says hello, and what it answers."""

from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView

HELLO = {"method": "GET", "url": "/hello"}
HELLO_REPLY = b'{"data":"Hello, world!","event_name":null}'


class Hello(MethodBasedView):
    def get(self, request):
        return "Hello, world!"


def hello_router():
    router = SimpleRouter()
    router.register("/hello", Hello, "GET", name="hello")
    return router
