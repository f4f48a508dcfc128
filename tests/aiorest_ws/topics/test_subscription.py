"""Subscriptions: their order with pushes, and how they end."""

import json

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from support.leftovers import loops_of
from support.subscriptions import (
    nothing_comes,
    nothing_is_left,
    opened,
    received,
    served,
    subscribe,
    unsubscribe,
)
from support.waiting import until

# The answer, and what comes after it


class Gate(AbstractMiddleware):
    """Holds answers back until they are let go."""

    def __init__(self):
        self.doors = []

    def process_request(self, request, handler):
        pass

    async def process_response(self, request, response):
        self.doors.append(Deferred())
        await self.doors[-1]


@pytest_twisted.ensureDeferred
async def test_what_is_published_while_the_answer_waits_comes_after_it(network):
    gate = Gate()
    factory = served(middlewares=[gate], presence=True)
    client = await opened(network, factory)
    client.send({"method": "SUBSCRIBE", "url": "orders/42"})
    await until(lambda: gate.doors)
    for number in range(200):
        factory.publish("orders/42", number)
    gate.doors[0].callback(None)
    answer = await received(client)
    assert answer["data"]["offset"] == 0
    pushes = [await received(client) for _ in range(200)]
    assert [push["offset"] for push in pushes] == list(range(1, 201))
    assert [push["data"] for push in pushes] == list(range(200))


@pytest_twisted.ensureDeferred
async def test_a_hook_that_waits_does_not_let_pushes_before_the_answer(network):
    door = Deferred()

    async def on_subscribe(request, topic):
        await door
        return True

    factory = served(on_subscribe=on_subscribe)
    client = await opened(network, factory)
    position = await factory.publish("orders/42", "a")
    client.send(
        {
            "method": "SUBSCRIBE",
            "url": "orders/42",
            "since": {"epoch": position.epoch, "offset": 0},
        }
    )
    [connection] = factory.connections
    await until(lambda: connection.running)
    factory.publish("orders/42", "b")
    door.callback(None)
    factory.publish("orders/42", "c")
    answer = await received(client)
    assert "data" in answer
    assert "gap" not in answer
    assert [(await received(client))["data"] for _ in range(3)] == ["a", "b", "c"]


@pytest_twisted.ensureDeferred
async def test_a_repeat_replaces_the_subscription(network):
    factory = served()
    client = await opened(network, factory)
    await subscribe(client, event_name="one")
    await subscribe(client, event_name="two")
    await factory.publish("orders/42", 1)
    assert (await received(client))["event_name"] == "two"
    await nothing_comes(client)
    [connection] = factory.connections
    assert connection.topic_subscriptions.names == ("orders/42",)
    await unsubscribe(client)
    assert nothing_is_left(factory)


@pytest_twisted.ensureDeferred
async def test_unsubscribe_stops_at_once_and_may_be_repeated(network):
    factory = served()
    client = await opened(network, factory)
    await subscribe(client)
    client.send({"method": "UNSUBSCRIBE", "url": "orders/42"})
    [connection] = factory.connections
    await until(lambda: not connection.subscriptions)
    await factory.publish("orders/42", 1)
    left = {"data": {"topic": "orders/42"}, "event_name": None}
    assert await received(client) == left
    assert await unsubscribe(client) == left
    assert nothing_is_left(factory)


# Calls that are ended


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["deadline", "cancel", "stubborn", "closed"])
async def test_a_subscribe_that_is_ended_in_its_hook_leaves_no_subscription(network, how):
    begun, ended = Deferred(), Deferred()

    async def on_subscribe(request, topic):
        begun.callback(None)
        try:
            await Deferred()
        except BaseException:
            if how != "stubborn":
                raise
            return True
        finally:
            ended.callback(None)

    factory = served(on_subscribe=on_subscribe, presence=True)
    client = await opened(network, factory)
    [connection] = factory.connections
    timeout = {"timeout": 0.05} if how == "deadline" else {}
    client.send({"method": "SUBSCRIBE", "url": "orders/42", "id": 1, **timeout})
    await begun
    if how == "closed":
        client.transport.abortConnection()
    else:
        if how != "deadline":
            client.send({"method": "CANCEL", "id": 1})
        assert (await received(client))["status"] == (408 if how == "deadline" else 499)
    await ended
    await until(lambda: not connection.calls_in_flight)
    await until(lambda: nothing_is_left(factory))
    assert connection.subscriptions == ()
    assert not connection.topic_subscriptions.unanswered
    if how != "closed":
        await factory.publish("orders/42", 1)
        assert "status" not in await subscribe_to_other(client)


async def subscribe_to_other(client):
    return await unsubscribe(client, "orders/other")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["cancel", "closed"])
async def test_a_subscribe_that_is_ended_before_its_answer_leaves_no_subscription(network, how):
    gate = Gate()
    factory = served(middlewares=[gate])
    client = await opened(network, factory)
    [connection] = factory.connections
    client.send({"method": "SUBSCRIBE", "url": "orders/42", "id": 1})
    await until(lambda: gate.doors)
    assert connection.subscriptions == ("orders/42",)
    await factory.publish("orders/42", 1)
    if how == "closed":
        client.transport.abortConnection()
    else:
        client.send({"method": "CANCEL", "id": 1})
        assert (await received(client))["status"] == 499
    await until(lambda: nothing_is_left(factory))
    assert not connection.topic_subscriptions.unanswered


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", ["presence_info", "hook"])
async def test_who_goes_while_it_is_asked_about_leaves_nothing(network, where):
    begun, door = Deferred(), Deferred()

    async def wait(*_):
        begun.callback(None)
        await door.addErrback(lambda _: None)
        return True

    router = SimpleRouter()
    router.register_topic(
        "orders/{id}", presence=True, on_subscribe=wait if where == "hook" else None
    )
    factory = RequestHandlerFactory(
        router=router, presence_info=wait if where == "presence_info" else None
    )
    client = await opened(network, factory)
    [connection] = factory.connections
    client.send({"method": "SUBSCRIBE", "url": "orders/42"})
    await begun
    client.transport.abortConnection()
    await client.closed
    await until(lambda: connection.state == connection.STATE_CLOSED)
    if not door.called:
        door.callback(None)
    await until(lambda: not factory.connections)
    await until(lambda: nothing_is_left(factory))


@pytest_twisted.ensureDeferred
@pytest.mark.logs_errors
async def test_an_answer_that_could_not_be_sent_leaves_no_subscription(network):
    class Broken(RequestHandlerProtocol):
        def _encode_message(self, response, isBinary=False):
            if b'"epoch"' in response:
                raise ValueError("an override of the application's")
            return super()._encode_message(response, isBinary)

    factory = served()
    factory.protocol = Broken
    client = await opened(network, factory)
    assert (await subscribe(client))["status"] == 500
    assert nothing_is_left(factory)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_too_large_leaves_no_subscription(network):
    router = SimpleRouter()
    router.register_topic("orders/{id}", presence=True)
    factory = RequestHandlerFactory(
        router=router,
        limits=Limits(message_bytes=4000, presence_bytes=2000),
        presence_info=lambda request: "x" * 1500,
    )
    port = await network.serve(factory=factory)
    replies = [await subscribe(await network.connect(port)) for _ in range(3)]
    assert [reply.get("status") for reply in replies] == [None, None, 413]
    names = [connection.topic_subscriptions.names for connection in factory.connections]
    assert sorted(names) == [(), ("orders/42",), ("orders/42",)]


# The server stops


@pytest_twisted.ensureDeferred
async def test_while_the_server_stops_pushes_come_until_the_close_frame(network):
    waiting = Deferred()

    @endpoint("/wait", "GET")
    async def wait(request):
        await waiting

    router = SimpleRouter()
    router.register_endpoint(wait)
    router.register_topic("orders/{id}")
    app = Application(router=router, limits=Limits(drain_seconds=30, closing_seconds=5))
    service = app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    port = (await service.listening).getHost().port
    client, other = await network.connect(port), await network.connect(port)
    await subscribe(client)
    client.send({"method": "GET", "url": "/wait"})
    other.send({"method": "GET", "url": "/wait"})
    await until(lambda: sum(len(c.running) for c in service.factory.connections) == 2)
    stopped = service.stopService()
    assert (await subscribe(other))["status"] == 503
    await service.factory.publish("orders/42", "last words")
    assert (await received(client))["data"] == "last words"
    waiting.callback(None)
    assert "data" in await received(client)
    await client.closed
    assert client.close[1] == 1012
    await stopped
    assert nothing_is_left(service.factory)
    assert not loops_of(network.reactor)


@pytest_twisted.ensureDeferred
async def test_a_hook_that_takes_long_does_not_subscribe_while_the_server_stops(network):
    begun, door = Deferred(), Deferred()

    async def on_subscribe(request, topic):
        begun.callback(None)
        await door
        return True

    factory = served(on_subscribe=on_subscribe)
    client = await opened(network, factory)
    client.send({"method": "SUBSCRIBE", "url": "orders/42"})
    await begun
    [connection] = factory.connections
    connection.drain()
    door.callback(None)
    assert (await received(client))["status"] == 503
    assert nothing_is_left(factory)


@pytest_twisted.ensureDeferred
async def test_an_unsubscribe_ends_the_subscription_that_is_on_its_way(network):
    goes_on = Deferred()
    factory = served(on_subscribe=lambda request, topic: goes_on)
    client = await opened(network, factory)
    client.send({"method": "SUBSCRIBE", "url": "orders/42", "id": 1})
    client.send({"method": "UNSUBSCRIBE", "url": "orders/42", "id": 2})
    assert json.loads(await client.receive())["id"] == 2
    goes_on.callback(True)
    told = json.loads(await client.receive())
    assert (told["id"], told["status"]) == (1, 499)
    await factory.publish("orders/42", 1)
    await nothing_comes(client)
    nothing_is_left(factory)


@pytest_twisted.ensureDeferred
async def test_a_subscriber_cannot_have_its_event_name_kept_whatever_its_size(network):
    client = await opened(network, served())
    told = json.loads(
        await client.ask({"method": "SUBSCRIBE", "url": "orders/42", "event_name": "x" * 2000})
    )
    assert told["status"] == 400
    assert "event_name" in told["detail"]
