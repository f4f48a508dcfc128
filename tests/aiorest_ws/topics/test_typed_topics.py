"""`router.topic` returns what publishes to the topics of its pattern."""

import json
from uuid import UUID

import msgspec
import pytest
import pytest_twisted
from pydantic import BaseModel
from twisted.internet.threads import deferToThread

from aiorest_ws import Application, Request, SimpleRouter
from aiorest_ws.exceptions import SerializerError
from aiorest_ws.request import RequestHandlerFactory
from support.hello import hello_router


class Event(msgspec.Struct):
    kind: str
    size: int = 0


class Model(BaseModel):
    kind: str


class Row:
    kind = "row"
    size = 3
    password = "secret"


async def subscribed(network, router, topic):
    factory = RequestHandlerFactory(router=router)
    client = await network.connect(await network.serve(factory=factory))
    reply = json.loads(await client.ask({"method": "SUBSCRIBE", "url": topic, "id": 1}))
    assert reply["data"]["topic"] == topic
    return client


async def pushed(client):
    return json.loads(await client.receive())["data"]


PAYLOADS = [
    (None, {"any": 1}, {"any": 1}),
    (Event, Event("made"), {"kind": "made", "size": 0}),
    (Event, Row(), {"kind": "row", "size": 3}),
    (
        list[Event],
        [Row(), Event("made")],
        [{"kind": "row", "size": 3}, {"kind": "made", "size": 0}],
    ),
    (Event | None, None, None),
    (Model, Model(kind="made"), {"kind": "made"}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (int | str, "x", "x"),
]


@pytest.mark.parametrize(("payload", "given", "sent"), PAYLOADS)
@pytest_twisted.ensureDeferred
async def test_what_is_published_reaches_the_subscribers(network, payload, given, sent):
    router = SimpleRouter()
    orders = router.topic("orders/{id}", payload=payload)
    client = await subscribed(network, router, "orders/7")
    position = await orders.publish(given, id=7)
    assert await pushed(client) == sent
    assert position.offset == 1


@pytest_twisted.ensureDeferred
async def test_the_options_of_publishing_and_of_registering(network):
    router = SimpleRouter()
    prices = router.topic("prices", policy="latest", history=1)
    client = await subscribed(network, router, "prices")
    await prices.publish(1, key="a", wait_seconds=1)
    await prices.publish(2, key="a")
    assert [await pushed(client) for _ in "ab"] == [1, 2]
    [route] = router.topics
    assert (route.policy, route.history) == ("latest", 1)


@pytest_twisted.ensureDeferred
async def test_from_a_thread(network):
    router = SimpleRouter()
    orders = router.topic("orders/{id}", payload=Event)
    client = await subscribed(network, router, "orders/x")
    position = await deferToThread(orders.publish_from_thread, Event("made"), id="x")
    assert (await pushed(client))["kind"] == "made"
    assert position.offset == 1


@pytest_twisted.ensureDeferred
async def test_of_an_included_router_that_is_guarded(network):
    class Allow:
        @staticmethod
        def check(request, view):
            return True

    inner, outer = SimpleRouter(permission_classes=(Allow,)), hello_router()
    before = inner.topic("before/{a}-{b}")
    outer.include(inner)
    client = await subscribed(network, outer, "before/1-2")
    await before.publish("x", a=1, b=2)
    assert await pushed(client) == "x"


@pytest_twisted.ensureDeferred
async def test_of_a_router_that_was_included_later(network):
    inner, outer = SimpleRouter(), hello_router()
    late = inner.topic("late")
    factory = RequestHandlerFactory(router=outer)
    outer.include(inner)
    client = await network.connect(await network.serve(factory=factory))
    await client.ask({"method": "SUBSCRIBE", "url": "late"})
    await late.publish("x")
    assert await pushed(client) == "x"


# Names

orders = SimpleRouter().topic("orders/{id}/{kind}")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"id": 7, "kind": "a"}, "orders/7/a"),
        ({"id": "{kind}", "kind": "a"}, None),
        ({"id": UUID(int=1), "kind": "ä"}, f"orders/{UUID(int=1)}/ä"),
        ({"id": "a/b", "kind": "c"}, None),
        ({"id": "", "kind": "c"}, None),
        ({"id": "a b", "kind": "c"}, None),
        ({"id": "a", "kind": "b/orders"}, None),
        ({"id": "*", "kind": "c"}, None),
        ({"id": "x" * 200, "kind": "c"}, None),
    ],
)
def test_names(values, name):
    if name is None:
        with pytest.raises(ValueError, match="topic"):
            orders.name(**values)
    else:
        assert orders.name(**values) == name


def test_two_values_that_cannot_be_told_apart_are_refused():
    topic = SimpleRouter().topic("a/{x}-{y}")
    assert topic.name(x="1-2", y="3") == "a/1-2-3"
    with pytest.raises(ValueError, match="topic"):
        topic.name(x="1", y="2-3")


@pytest.mark.parametrize("values", [{}, {"id": 1}, {"id": 1, "kind": 2, "more": 3}, {"ids": 1}])
def test_other_parameters_are_refused(values):
    with pytest.raises(TypeError, match="id, kind"):
        orders.publish(1, **values) if values else orders.name()


@pytest.mark.parametrize("pattern", ["a/{key}", "a/{block}", "a/{wait_seconds}"])
def test_a_parameter_that_is_an_option_is_refused(pattern):
    with pytest.raises(ValueError, match="publish"):
        SimpleRouter().topic(pattern)


@pytest.mark.parametrize("payload", [object, type, complex, str | UUID, "Undefined"])
def test_a_payload_that_cannot_be_described_is_refused(payload):
    with pytest.raises(TypeError, match="payload"):
        SimpleRouter().topic("a", payload=payload)


def test_a_misspelt_option_is_refused():
    with pytest.raises(TypeError, match="histroy"):
        SimpleRouter().topic("a", histroy=1)


# Which server


def test_without_a_server():
    with pytest.raises(RuntimeError, match="no server"):
        SimpleRouter().topic("a").publish(1)


@pytest_twisted.ensureDeferred
async def test_of_several_factories_the_one_that_listens(network):
    router = SimpleRouter()
    topic = router.topic("a")
    kept = [RequestHandlerFactory(router=router), RequestHandlerFactory(router=router)]
    with pytest.raises(RuntimeError, match="several"):
        topic.publish(1)
    client = await network.connect(await network.serve(factory=kept[0]))
    await client.ask({"method": "SUBSCRIBE", "url": "a"})
    await topic.publish(1)
    assert await pushed(client) == 1
    await network.serve(factory=kept[1])
    with pytest.raises(RuntimeError, match="several"):
        topic.publish(1)


def test_a_factory_with_another_router_has_it_no_more():
    router = SimpleRouter()
    topic = router.topic("a")
    factory = RequestHandlerFactory(router=router)
    factory.router = hello_router()
    with pytest.raises(RuntimeError, match="no server"):
        topic.publish(1)


@pytest_twisted.ensureDeferred
async def test_what_json_cannot_hold_is_named(network):
    router = SimpleRouter()
    topic = router.topic("a")
    await network.serve(factory=RequestHandlerFactory(router=router))
    with pytest.raises(SerializerError, match="object"):
        await topic.publish(object())


# Streams


@pytest_twisted.ensureDeferred
async def test_the_items_of_a_stream_are_of_its_type(network):
    from collections.abc import AsyncIterator

    router = SimpleRouter()

    @router.get("/rows")
    async def rows(request: Request) -> AsyncIterator[Event]:
        yield Row()
        yield Event("made")

    app = Application(router=router)
    client = await network.connect(await network.serve(factory=app.service().factory))
    client.send({"method": "GET", "url": "/rows"})
    assert await pushed(client) == {"kind": "row", "size": 3}
    assert await pushed(client) == {"kind": "made", "size": 0}
