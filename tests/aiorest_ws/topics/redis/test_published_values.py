"""Values on Redis: pushes, presence information, and the publisher of other programs."""

import asyncio
import json

import pytest

from aiorest_ws.exceptions import SerializerError
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import connect
from support.reactors import asyncio_test
from support.values import VALUES

NAMES = ("model", "constants-in-model", "matrix", "row", "derived-attrs", "ipv4-network", "deque")


def convert(value):
    if isinstance(value, complex):
        return [value.real, value.imag]
    raise TypeError


async def subscribed(network, redis_url, info):
    router = SimpleRouter()
    router.register_topic("t/{name}", presence=True)
    factory = RequestHandlerFactory(
        router=router, topics=redis_url, presence_info=lambda request: info, encoder=convert
    )
    port = await network.serve(factory=factory)
    await factory.topics.start()
    client = await network.connect(port)
    told = json.loads(await client.ask({"method": "SUBSCRIBE", "url": "t/1"}))["data"]
    return factory, client, told["presence"][told["member"]]


@asyncio_test
async def test_values_are_the_same_on_redis(network, redis_url):
    values = [VALUES[name][0] for name in NAMES]
    expected = [*(VALUES[name][1] for name in NAMES), [1.0, 2.0]]
    sent = [*values, 1 + 2j]
    factory, client, presence = await subscribed(network, redis_url, sent)
    try:
        assert presence == expected
        await factory.publish("t/1", sent)
        assert json.loads(await client.receive())["data"] == expected
        with connect(redis_url, encoder=convert) as publisher:
            await asyncio.to_thread(publisher.publish, "t/1", sent)
        assert json.loads(await client.receive())["data"] == expected
    finally:
        await factory.topics.stop()


@pytest.mark.parametrize(("encoder", "name"), [(None, "complex"), (convert, "set_iterator")])
def test_a_publisher_names_what_it_cannot_write(encoder, name):
    value = 1j if encoder is None else iter(set())
    publisher = connect("redis://127.0.0.1:1/0", encoder=encoder)
    with publisher, pytest.raises(SerializerError, match=f"type {name}.*'t/1'"):
        publisher.publish("t/1", [value])
