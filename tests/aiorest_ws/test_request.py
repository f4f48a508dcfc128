"""The protocol and the factory, over real sockets."""

import pytest_twisted

from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView


class Hello(MethodBasedView):
    def get(self, request):
        return "Hello, world!"


def hello_router():
    router = SimpleRouter()
    router.register("/hello", Hello, "GET")
    return router


@pytest_twisted.ensureDeferred
async def test_a_text_message_is_answered_in_text(network):
    client = await network.connect(await network.serve(hello_router()))
    client.send({"method": "GET", "url": "/hello"})
    assert await client.replies.get() == (b'{"data":"Hello, world!","event_name":null}', False)
