"""The rate of a user, whatever the connections that the messages come by."""

import json
import logging

import pytest_twisted
from twisted.internet.defer import Deferred

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics.memory import MemoryBroker

# So slow that nothing comes back while a test runs, whatever the machine.
PER_HOUR = 1 / 3600


class ByToken(AbstractMiddleware):
    """A token is the name of its user."""

    request_attributes = ("user",)

    def process_request(self, request, handler):
        request.user = User(username=request.token or "", is_user=bool(request.token))


@endpoint("/name", "GET")
def name(request):
    return request.user.username if hasattr(request, "user") else None


def served(**options):
    router = SimpleRouter()
    router.register_endpoint(name)
    factory = RequestHandlerFactory(
        router=router, limits=Limits(messages_per_second_per_user=3 * PER_HOUR), **options
    )
    router.middlewares.insert(0, ByToken())
    return factory


async def status(client, token=None):
    message = {"method": "GET", "url": "/name", "id": 7}
    if token:
        message["token"] = token
    return json.loads(await client.ask(message)).get("status", 200)


@pytest_twisted.ensureDeferred
async def test_the_connections_of_a_user_share_a_rate(network):
    port = await network.serve(factory=served())
    first, second = await network.connect(port), await network.connect(port)
    assert [await status(first, "ann"), await status(second, "ann")] == [200, 429]
    assert await status(second, "bob") == 200


@pytest_twisted.ensureDeferred
async def test_without_a_user_an_address_has_a_rate(network):
    port = await network.serve(factory=served())
    first, second = await network.connect(port), await network.connect(port)
    assert [await status(first), await status(second), await status(first)] == [200, 429, 429]
    assert network.factories[0].limit_hits["messages_per_second_per_user"] == 2
    assert await status(first, "ann") == 200  # the connection is as good as ever


@pytest_twisted.ensureDeferred
async def test_a_factory_may_say_what_is_counted_together(network):
    factory = served()
    factory.user_key = lambda request: request.event_name
    client = await network.connect(await network.serve(factory=factory))
    asked = {"method": "GET", "url": "/name"}
    replies = [
        json.loads(await client.ask({**asked, "event_name": one})).get("status")
        for one in ("a", "b", "a")
    ]
    assert replies == [None, None, 429]


@pytest_twisted.ensureDeferred
async def test_while_the_broker_is_away_a_process_counts_for_itself(network, monkeypatch, caplog):
    factory = served()

    async def admit(key, per_second):
        raise TopicsUnavailable

    monkeypatch.setattr(factory.topics.broker, "admit", admit)
    client = await network.connect(await network.serve(factory=factory))
    with caplog.at_level(logging.WARNING, logger="aiorest-ws"):
        assert [await status(client, "ann") for _ in range(3)] == [200, 429, 429]
    assert len([one for one in caplog.records if "rates of users" in one.message]) == 1


@pytest_twisted.ensureDeferred
async def test_what_was_used_comes_back(network):
    router = SimpleRouter()
    router.register_endpoint(name)
    clock = [0.0]
    limits = Limits(messages_per_second_per_user=2)
    broker = MemoryBroker(lambda: clock[0])
    factory = RequestHandlerFactory(router=router, limits=limits, topics=broker)
    client = await network.connect(await network.serve(factory=factory))
    assert [await status(client) for _ in range(3)] == [200, 200, 429]
    clock[0] = 0.5
    assert [await status(client) for _ in range(2)] == [200, 429]
    clock[0] = 60
    assert [await status(client) for _ in range(3)] == [200, 200, 429]
    clock[0] = 120
    broker.sweep()
    assert not any(one for one in vars(broker).values() if isinstance(one, dict))


@pytest_twisted.ensureDeferred
async def test_a_broker_that_hangs_is_not_waited_for(network, monkeypatch):
    factory = served()
    asked = []

    async def admit(key, per_second):
        asked.append(key)
        await Deferred()

    monkeypatch.setattr(factory.topics.broker, "admit", admit)
    client = await network.connect(await network.serve(factory=factory))
    assert [await status(client, "ann") for _ in range(3)] == [200, 429, 429]
    assert len(asked) == 1
