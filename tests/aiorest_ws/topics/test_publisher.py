"""Publishing: from where, what is refused, once encoded, and nothing left behind."""

import gc
import json
import weakref

import pytest
import pytest_twisted
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponse
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import ReplyTooLarge, SerializerError, UnknownTopic
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import broker, encoding, hub
from aiorest_ws.transports import install_reactor
from aiorest_ws.utils.websocket import deflate_offer_accept
from support.leftovers import loops_of, members_of
from support.waiting import until


def served(protocol=None, views=(), presence=False, **options):
    router = SimpleRouter()
    router.register_topic("t/{name}", presence=presence)
    for view in views:
        router.register_endpoint(view)
    factory = RequestHandlerFactory(router=router, **options)
    if protocol is not None:
        factory.protocol = protocol
    return factory


async def subscribed(network, port, topic="t/1", **options):
    client = await network.connect(port, **options)
    answer = json.loads(await client.ask({"method": "SUBSCRIBE", "url": topic}))
    client.member = answer["data"].get("member")
    client.presence = answer["data"].get("presence")
    return client


async def received(client):
    return json.loads(await client.receive())


@pytest.mark.parametrize(
    ("topic", "data", "options", "error"),
    [
        ("x/1", 1, {}, UnknownTopic),
        ("t/1/2", 1, {}, UnknownTopic),
        ("t/*", 1, {}, ValueError),
        (7, 1, {}, ValueError),
        ("t/1", object(), {}, SerializerError),
        ("t/1", "x" * 1024**2, {}, ReplyTooLarge),
        ("t/1", 1, {"key": 7}, TypeError),
    ],
)
def test_what_cannot_be_published_is_refused_at_once(topic, data, options, error):
    factory = served()
    with pytest.raises(error):
        factory.publish(topic, data, **options)
    assert not factory.topics.broker.names


@pytest_twisted.ensureDeferred
async def test_what_is_published_is_encoded_once_whatever_the_number_of_subscribers(
    network, monkeypatch
):
    factory = served()
    port = await network.serve(factory=factory)
    clients = [await subscribed(network, port) for _ in range(20)]
    data, bodies, envelopes = [], [], []
    encode_data, encode_body, encode_message = (
        encoding.encode_json,
        broker.encode_json,
        hub.encode_message,
    )
    monkeypatch.setattr(encoding, "encode_json", lambda one: data.append(one) or encode_data(one))
    monkeypatch.setattr(broker, "encode_json", lambda one: bodies.append(1) or encode_body(one))
    monkeypatch.setattr(
        hub,
        "encode_message",
        lambda one, is_binary: envelopes.append(1) or encode_message(one, is_binary),
    )
    await factory.publish("t/1", {"a": 1})
    assert [(await received(client))["data"] for client in clients] == [{"a": 1}] * 20
    assert (data, len(bodies), len(envelopes)) == ([{"a": 1}], 1, 1)


@pytest_twisted.ensureDeferred
async def test_what_nobody_waits_for_is_published_in_order(network):
    factory = served()
    client = await subscribed(network, await network.serve(factory=factory))
    changing = {"n": 0}
    for number in range(500):
        changing["n"] = number
        factory.publish("t/1", changing)  # encoded at once
    pushes = [await received(client) for _ in range(500)]
    assert [(push["offset"], push["data"]["n"]) for push in pushes] == [
        (number + 1, number) for number in range(500)
    ]


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_publishes_from_its_thread(network):
    @endpoint("/send", "GET", blocking=True)
    def send(request):
        return request.factory.publish_from_thread("t/1", "from a thread").offset

    factory = served(views=[send])
    client = await subscribed(network, await network.serve(factory=factory))
    client.send({"method": "GET", "url": "/send"})
    told = sorted([await received(client) for _ in range(2)], key=lambda one: "topic" in one)
    assert [one["data"] for one in told] == [1, "from a thread"]
    with pytest.raises(RuntimeError, match="would wait for itself"):
        factory.publish_from_thread("t/1", 1)


@pytest_twisted.ensureDeferred
async def test_hooks_publish(network):
    factories = []
    router = SimpleRouter()
    router.register_topic("t/{name}")
    app = Application(router=router, limits=Limits(closing_seconds=5))

    @app.on_startup
    async def begin(factory):
        factories.append(factory)
        assert (await factory.publish("t/1", "startup")).offset == 1

    @app.on_connect
    async def come(connection):
        await connection.factory.publish("t/1", "came")

    @app.on_disconnect
    async def go(connection):
        await connection.factory.publish("t/1", "gone")

    @app.on_shutdown
    async def end(factory):
        factories.append(await factory.publish("t/1", "shutdown"))

    service = app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    port = (await service.listening).getHost().port
    client = await subscribed(network, port)
    other = await network.connect(port)
    assert (await received(client))["data"] == "came"
    other.transport.abortConnection()
    assert (await received(client))["data"] == "gone"
    await service.stopService()
    await client.closed
    assert factories[0] is service.factory
    assert factories[1].offset >= 5


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_behind(network):
    factory = served(presence=True)
    port = await network.serve(factory=factory)
    clients = [await subscribed(network, port, f"t/{number % 3}") for number in range(9)]
    gone = [weakref.ref(connection) for connection in factory.connections]
    for number in range(3):
        publishing = factory.publish(f"t/{number}", 1)
        gone.append(weakref.ref(publishing))
        await publishing
    del publishing
    for client in clients:
        client.transport.abortConnection()
    await until(lambda: not factory.connections)
    broker = factory.topics.broker
    assert not factory.topics.names
    assert not broker.followed
    assert not any(map(members_of(broker), broker.names))

    def are_gone():
        gc.collect()
        return not any(one() for one in gone)

    await until(are_gone)
    assert loops_of(network.reactor)
    factory.stopFactory()
    assert not loops_of(network.reactor)


@pytest_twisted.ensureDeferred
async def test_pushes_are_compressed_where_that_was_agreed(network):
    factory = served()
    factory.setProtocolOptions(perMessageCompressionAccept=deflate_offer_accept)
    port = await network.serve(factory=factory)

    def accept(response):
        if isinstance(response, PerMessageDeflateResponse):
            from autobahn.websocket.compress import PerMessageDeflateResponseAccept

            return PerMessageDeflateResponseAccept(response)
        return None

    small = await subscribed(
        network,
        port,
        perMessageCompressionOffers=[PerMessageDeflateOffer()],
        perMessageCompressionAccept=accept,
    )
    plain = await subscribed(network, port)
    data = "x" * 100_000
    by_size = {}
    before = {one: one.trafficStats.outgoingOctetsWireLevel for one in factory.connections}
    await factory.publish("t/1", data)
    assert (await received(small))["data"] == (await received(plain))["data"] == data
    by_size = sorted(one.trafficStats.outgoingOctetsWireLevel - old for one, old in before.items())
    assert by_size[0] < 5000 < 100_000 < by_size[1]


@pytest_twisted.ensureDeferred
async def test_an_override_of_send_message_sees_each_push(network):
    seen = []

    class Seeing(RequestHandlerProtocol):
        def sendMessage(self, payload, *args, **kwargs):
            seen.append(payload)
            super().sendMessage(payload, *args, **kwargs)

    factory = served(Seeing)
    client = await subscribed(network, await network.serve(factory=factory))
    await factory.publish("t/1", 1)
    assert await client.receive() == seen[-1]


@pytest_twisted.ensureDeferred
@pytest.mark.logs_errors
async def test_an_override_that_raises_does_not_disturb_the_others(network, caplog):
    broken = []

    class Breaking(RequestHandlerProtocol):
        def sendMessage(self, payload, *args, **kwargs):
            if self in broken:
                raise ValueError("the application's")
            super().sendMessage(payload, *args, **kwargs)

    factory = served(Breaking)
    port = await network.serve(factory=factory)
    clients = [await subscribed(network, port)]
    broken += factory.connections
    clients += [await subscribed(network, port) for _ in range(2)]
    await factory.publish("t/1", 1)
    assert [(await received(client))["data"] for client in clients[1:]] == [1, 1]
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == [
        "a push could not be sent"
    ]


@pytest_twisted.ensureDeferred
async def test_an_override_that_publishes_as_it_sends_makes_no_gap(network):
    class Echoing(RequestHandlerProtocol):
        def sendMessage(self, payload, *args, **kwargs):
            super().sendMessage(payload, *args, **kwargs)
            if b'"data":"first"' in payload:
                self.factory.publish("t/1", "second")

    factory = served(Echoing)
    port = await network.serve(factory=factory)
    clients = [await subscribed(network, port) for _ in range(3)]
    await factory.publish("t/1", "first")
    for client in clients:
        pushes = [await received(client) for _ in range(4)]
        assert [push["offset"] for push in pushes] == [1, 2, 3, 4]
        assert [push.get("data") for push in pushes] == ["first", *["second"] * 3]


@pytest_twisted.ensureDeferred
async def test_connections_that_end_in_the_middle_of_a_fan_out_do_not_disturb_the_others(network):
    ended = []

    class Ending(RequestHandlerProtocol):
        def sendMessage(self, payload, *args, **kwargs):
            super().sendMessage(payload, *args, **kwargs)
            if b'"data":1' in payload and not ended:
                ended.append(self)
                for one in to_end:
                    one.unsubscribe("t/1")
                    one.dropConnection(abort=True)

    factory = served(Ending)
    port = await network.serve(factory=factory)
    clients = [await subscribed(network, port)]
    first = set(factory.connections)
    clients += [await subscribed(network, port) for _ in range(2)]
    to_end = set(factory.connections) - first
    clients += [await subscribed(network, port) for _ in range(2)]
    await factory.publish("t/1", 1)
    await factory.publish("t/1", 2)
    for client in (clients[0], *clients[3:]):
        assert [(await received(client))["data"] for _ in range(2)] == [1, 2]
    await gatherResults([client.closed for client in clients[1:3]])


# Who is there


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["none", "plain", "coroutine"])
async def test_who_is_there_is_told_to_those_who_are(network, kind):
    async def later(request):
        await deferLater(install_reactor(), 0)
        return {"name": request.token}

    told = {"none": None, "plain": lambda request: {"name": request.token}, "coroutine": later}
    factory = served(presence=True, presence_info=told[kind])
    port = await network.serve(factory=factory)
    info = None if kind == "none" else {"name": "sesame"}

    async def comes():
        client = await network.connect(port)
        answer = await client.ask({"method": "SUBSCRIBE", "url": "t/1", "token": "sesame"})
        if kind == "none":
            assert b"sesame" not in answer
        assert b"127.0.0.1" not in answer
        data = json.loads(answer)["data"]
        return client, data["member"], data["presence"]

    first, ann, presence = await comes()
    assert presence == {ann: info}
    second, bob, presence = await comes()
    assert presence == {ann: info, bob: info} == await factory.presence("t/1")
    join = await received(first)
    assert (join["topic"], join["join"]) == ("t/1", {"member": bob, "info": info})
    assert "offset" not in join
    await factory.publish("t/1", 1)
    # Nobody is told of oneself.
    assert (await received(second))["data"] == 1
    assert (await received(first))["data"] == 1
    second.transport.abortConnection()
    assert (await received(first))["leave"] == {"member": bob}
    assert await factory.presence("t/1") == {ann: info}


@pytest.mark.parametrize("presence", [True, False])
@pytest.mark.parametrize("info", ["x" * 1100, {"name": ["\u2028" * 400]}, list(range(500))])
@pytest_twisted.ensureDeferred
async def test_presence_information_has_a_limit(network, presence, info):
    """A client that can fill a room with its name makes the room unreadable for all others."""
    factory = served(presence=presence, presence_info=lambda request: request.data)
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    message = {"method": "SUBSCRIBE", "url": "t/1", "id": 1}
    refused = json.loads(await client.ask({**message, "data": info}))
    assert refused["status"] == 413
    assert await factory.presence("t/1") == {}
    accepted = json.loads(await client.ask({**message, "data": {"name": "Ada"}}))
    assert accepted["data"]["topic"] == "t/1"
    assert list((await factory.presence("t/1")).values()) == [{"name": "Ada"}]


@pytest_twisted.ensureDeferred
async def test_without_presence_clients_learn_nothing_of_others(network):
    factory = served()
    port = await network.serve(factory=factory)
    first = await subscribed(network, port)
    second = await subscribed(network, port)
    assert (first.member, second.presence) == (None, None)
    assert len(await factory.presence("t/1")) == 2
    assert await factory.presence("t/2") == {}
    second.transport.abortConnection()
    await until(lambda: len(factory.connections) == 1)
    await factory.publish("t/1", 1)
    assert (await received(first))["data"] == 1


@pytest_twisted.ensureDeferred
async def test_a_repeat_leaves_one_member_of_which_the_others_know(network):
    factory = served(presence=True)
    port = await network.serve(factory=factory)
    first, second = await subscribed(network, port), await subscribed(network, port)
    await received(first)
    second.send({"method": "SUBSCRIBE", "url": "t/1"})
    join, leave = await received(first), await received(first)
    assert leave["leave"] == {"member": second.member}
    assert {first.member, join["join"]["member"]} == set(await factory.presence("t/1"))
