"""Replies above the limit: 413 with whatever fits of what a reply echoes."""

import json

import pytest
import pytest_twisted

from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter

TOO_LARGE = {"detail": "The reply is too large.", "status": 413}
LIMIT = 3000


@endpoint("/same", "GET")
def same(request):
    return "same"


@endpoint("/later", "GET")
async def later(request):
    return "later"


@endpoint("/fail", "GET")
def fail(request):
    raise BaseAPIException("no", status=409)


@endpoint("/items", "GET")
async def items(request):
    yield 1
    yield 2


@endpoint("/much", "GET")
def much(request):
    return "x" * LIMIT


@endpoint("/some", "GET")
def some(request):
    return "x" * 300


@endpoint("/bad", "GET")
def bad(request):
    raise ValueError("mine")


def serving(network, limit=LIMIT):
    router = SimpleRouter()
    for view in (same, later, fail, items, much, some, bad):
        router.register_endpoint(view)
    router.register_topic("news")
    factory = RequestHandlerFactory(router=router, limits=Limits(message_bytes=limit))
    return network.serve(factory=factory)


async def asked(network, port, message, is_binary=False):
    """Send a message as large as it is; return the reply and whether a connection lives on."""
    client = await network.connect(port)
    raw = json.dumps(message, ensure_ascii=False).encode()
    reply = json.loads(await client.ask(raw, is_binary))
    # An ordinary call follows.
    again = json.loads(await client.ask({"url": "/same", "method": "GET", "id": 1}, is_binary))
    assert again["data"] == "same"
    return reply


# Each character of three bytes is six in a reply.
GROWING = "\u2028" * (LIMIT // 5)
BINARY_GROWING = "\u2029" * (LIMIT // 7)

CALLS = [
    {"url": "/same", "method": "GET"},
    {"url": "/later", "method": "GET"},
    {"url": "/fail", "method": "GET"},
    {"url": "/items", "method": "GET"},
    {"url": "/none", "method": "GET"},
    {"url": "/same", "method": "DELETE"},
    {"url": "/same", "method": "GET", "args": {"b": 1}},
    {"url": "news", "method": "SUBSCRIBE"},
    {"url": "/same", "method": "GET", "timeout": -1},
    {"url": 5, "method": "GET"},
    {"method": "GET"},
    {},
]


@pytest.mark.parametrize("is_binary", [False, True])
@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest_twisted.ensureDeferred
async def test_an_event_name_that_grows_is_left_out(network, call, is_binary):
    port = await serving(network)
    name = BINARY_GROWING if is_binary else GROWING
    for one in (7, "seven"):
        reply = await asked(network, port, {**call, "event_name": name, "id": one}, is_binary)
        assert reply == {**TOO_LARGE, "event_name": None, "id": one}
    reply = await asked(network, port, {**call, "event_name": name}, is_binary)
    assert reply == {**TOO_LARGE, "event_name": None}


@pytest.mark.parametrize(
    "name", [["\u2028" * 300, "\u2029" * 250], {"\u2028" * 590: 1}, "x" * 2960, [1] * 1470]
)
@pytest_twisted.ensureDeferred
async def test_any_event_name_that_does_not_fit_is_left_out(network, name):
    raw = json.dumps({"event_name": name}, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(raw) <= LIMIT
    client = await network.connect(await serving(network))
    assert json.loads(await client.ask(raw)) == {**TOO_LARGE, "event_name": None}


@pytest_twisted.ensureDeferred
async def test_an_event_name_that_fits_is_kept(network):
    call = {"url": "/much", "method": "GET", "event_name": "\u2028" * 400, "id": "\u2028" * 40}
    reply = await asked(network, await serving(network), call)
    assert reply == {**TOO_LARGE, "event_name": call["event_name"], "id": call["id"]}


@pytest.mark.parametrize("is_binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_an_id_that_grows_is_left_out(network, is_binary):
    limit = 250
    call = {"url": "/same", "method": "GET", "id": "\u2028" * (30 if is_binary else 40)}
    port = await serving(network, limit)
    assert await asked(network, port, call, is_binary) == {**TOO_LARGE, "event_name": None}
    reply = await asked(network, port, {**call, "event_name": "short"}, is_binary)
    assert reply == {**TOO_LARGE, "event_name": "short"}


@pytest.mark.parametrize("is_binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_limit_below_every_failure_closes_with_1009(network, is_binary):
    client = await network.connect(await serving(network, 40))
    client.send(b"{}", is_binary)
    assert await client.closed == (True, 1009, None)


@pytest_twisted.ensureDeferred
async def test_an_event_name_of_the_largest_message_is_left_out(network):
    port = await serving(network, 2**20)
    call = {"url": "/same", "method": "GET", "event_name": "\u2028" * 180_000, "id": 7}
    assert await asked(network, port, call) == {**TOO_LARGE, "event_name": None, "id": 7}


# They are escaped in a reply, and longer than in the message of the client.
NAMES = {
    "line separators": "\u2028" * 180,
    "paragraph separators, deep": [["\u2029" * 175]],
    "many": {"a": ["\u2028"] * 130},
    "long": "x" * 900,
}


@pytest.mark.parametrize("is_binary", [False, True])
@pytest.mark.parametrize("url", ["/some", "/much", "/bad", "/nowhere"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_an_event_name_that_does_not_fit_its_reply_costs_that_reply(
    network, name, url, is_binary
):
    port = await serving(network, 1400 if is_binary else 1000)
    message = {"method": "GET", "url": url, "event_name": NAMES[name], "id": 7}
    reply = await asked(network, port, message, is_binary)
    assert reply["id"] == 7
    assert reply["status"] in {413, 404, 500}
    if reply["status"] == 413:
        assert reply["event_name"] in (None, NAMES[name])
