"""Servers with topics, and clients that subscribe."""

import json

from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from support.leftovers import members_of


def served(pattern="orders/{id}", limits=None, middlewares=(), views=(), **options):
    router = SimpleRouter()
    router.register_topic(pattern, **options)
    for view in views:
        router.register_endpoint(view)
    router.middlewares.extend(middlewares)
    return RequestHandlerFactory(router=router, limits=limits)


async def opened(network, factory):
    return await network.connect(await network.serve(factory=factory))


def subscribe(client, topic="orders/42", binary=False, **more):
    return client.ask({"method": "SUBSCRIBE", "url": topic, **more}, binary).addCallback(
        json.loads
    )


def unsubscribe(client, topic="orders/42"):
    return client.ask({"method": "UNSUBSCRIBE", "url": topic}).addCallback(json.loads)


async def received(client):
    return json.loads(await client.receive())


def nothing_is_left(factory):
    hub = factory.topics
    broker = hub.broker
    return not hub.names and not broker.followed and not any(map(members_of(broker), broker.names))


async def nothing_comes(client):
    """A reply to what is asked now is the next message."""
    assert await unsubscribe(client, "orders/other") == {
        "data": {"topic": "orders/other"},
        "event_name": None,
    }
