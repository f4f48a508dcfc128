"""Replies that are larger than a message may be."""

import json

import pytest
import pytest_twisted

from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter

# They are escaped in a reply, and longer than in the message of the client.
NAMES = {
    "line separators": "\u2028" * 180,
    "paragraph separators, deep": [["\u2029" * 175]],
    "many": {"a": ["\u2028"] * 130},
    "long": "x" * 900,
}


def served(*views, binary):
    router = SimpleRouter()
    for view in views:
        router.register_endpoint(view)
    limits = Limits(message_bytes=1400 if binary else 1000)
    return RequestHandlerFactory(router=router, limits=limits)


@endpoint("/small", "GET")
def small(request):
    return "y" * 300


@endpoint("/large", "GET")
async def large(request):
    return "y" * 2000


@endpoint("/bad", "GET")
def bad(request):
    raise ValueError("mine")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("url", ["/small", "/large", "/bad", "/nowhere"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_an_event_name_that_does_not_fit_its_reply_costs_that_reply(
    network, name, url, binary
):
    factory = served(small, large, bad, binary=binary)
    client = await network.connect(await network.serve(factory=factory))
    message = {"method": "GET", "url": url, "event_name": NAMES[name], "id": 7}
    payload = json.dumps(message, ensure_ascii=False).encode()
    reply = json.loads(await client.ask(payload, binary))
    assert reply["id"] == 7
    assert reply["status"] in {413, 404, 500}
    if reply["status"] == 413:
        assert reply["event_name"] in (None, NAMES[name])
    # It stays open.
    assert json.loads(await client.ask({"method": "GET", "url": "/small"}))["data"]
