"""PING: a message that the connection answers itself."""

import asyncio
import json

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from aiorest_ws import Application, Limits, Request
from aiorest_ws.request import RequestHandlerFactory
from support.hello import HELLO, HELLO_REPLY, hello_router
from support.waiting import until

PONG = b'{"data":null,"event_name":null}'


async def served(network, router=None, **options):
    factory = RequestHandlerFactory(router=router or hello_router(), **options)
    return await network.connect(await network.serve(factory=factory))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("keys", "echoed"),
    [
        ({}, {"event_name": None}),
        ({"id": 1}, {"event_name": None, "id": 1}),
        ({"id": "a", "event_name": "alive"}, {"event_name": "alive", "id": "a"}),
        ({"data": 5, "args": {"a": 1}}, {"event_name": None}),
    ],
)
@pytest.mark.parametrize("method", ["PING", "ping"])
@pytest_twisted.ensureDeferred
async def test_a_ping_is_answered(network, method, keys, echoed, binary):
    client = await served(network)
    reply = await client.ask({"method": method, **keys}, binary)
    assert json.loads(reply) == {"data": None, **echoed}


@pytest.mark.parametrize("url", ["/hello", "/hello/x", "/nowhere"])
@pytest_twisted.ensureDeferred
async def test_with_a_url_it_is_an_unknown_method(network, url):
    client = await served(network)
    assert json.loads(await client.ask({"method": "PING", "url": url}))["status"] == 405
    assert await client.ask(HELLO) == HELLO_REPLY


@pytest_twisted.ensureDeferred
async def test_it_is_answered_while_calls_wait(network):
    router, waiting = hello_router(), []

    @router.get("/wait")
    def wait(request: Request):
        waiting.append(Deferred())
        return waiting[-1]

    client = await served(network, router, limits=Limits(calls_in_flight=1))
    for number in (1, 2):
        client.send({"method": "GET", "url": "/wait", "id": number})
    assert await client.ask({"method": "PING"}) == PONG
    waiting[0].callback("first")
    assert json.loads(await client.receive())["data"] == "first"
    await until(lambda: len(waiting) == 2)
    waiting[1].callback("second")
    assert json.loads(await client.receive())["data"] == "second"


@pytest_twisted.ensureDeferred
async def test_it_counts_for_the_rate(network):
    client = await served(network, limits=Limits(messages_per_second=2))
    for _ in range(3):
        client.send({"method": "PING"})
    replies = [json.loads(await client.receive()) for _ in range(3)]
    assert [reply.get("status") for reply in replies] == [None, None, 429]


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_it_is_answered_while_the_server_stops(network):
    router, released = hello_router(), asyncio.Event()
    app = Application(router=router)

    @router.get("/wait")
    async def wait(request: Request):
        await released.wait()
        return "done"

    service = app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    port = await service.listening
    client = await network.connect(port.getHost().port)
    client.send({"method": "GET", "url": "/wait"})
    assert await client.ask({"method": "PING"}) == PONG
    stopped = service.stopService()
    assert await client.ask({"method": "PING"}) == PONG
    released.set()
    assert json.loads(await client.receive())["data"] == "done"
    await client.closed
    assert client.close == (True, 1012, "retry 250-5000")
    await stopped


@pytest.mark.parametrize(("given", "reason"), [((0, 0), "retry 0-0"), ([7, 9000], "retry 7-9000")])
@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_says_when_to_connect_again(network, given, reason):
    app = Application(router=hello_router(), limits=Limits(reconnect_milliseconds=given))
    service = app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    port = await service.listening
    client = await network.connect(port.getHost().port)
    await service.stopService()
    await client.closed
    assert client.close == (True, 1012, reason)
