"""SUBSCRIBE and UNSUBSCRIBE on real sockets: the bytes, who may, and in which order."""

import base64
import json

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from support.waiting import until

NO_TOPIC = {"detail": "There is no such topic.", "status": 404, "event_name": None}
REFUSED = {"detail": "This topic is not open to the caller.", "status": 403, "event_name": None}


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
    return not hub._topics and not any(
        state.members or state.followers for state in hub.broker._topics.values()
    )


async def nothing_comes(client):
    """A reply to what is asked now is the next message."""
    assert await unsubscribe(client, "orders/other") == {
        "data": {"topic": "orders/other"},
        "event_name": None,
    }


# The bytes


@pytest_twisted.ensureDeferred
async def test_the_wire_format_is_this_byte_by_byte(network):
    factory = served(history=1)
    client = await opened(network, factory)
    asked = b'{"method":"SUBSCRIBE","url":"orders/42","event_name":{"b":1,"a":[]},"id":"x"}'
    answer = await client.ask(asked)
    epoch = json.loads(answer)["data"]["epoch"]
    echo = b'"event_name":{"b":1,"a":[]},"id":"x"'
    place = b'"topic":"orders/42","epoch":"%s"' % epoch.encode()
    assert answer == b'{"data":{%b,"offset":0},%b}' % (place, echo)
    await factory.publish("orders/42", {"z": 1, "a": "é"})
    assert await client.receive() == (
        b'{%b,%b,"offset":1,"data":{"z":1,"a":"\xc3\xa9"}}' % (echo, place)
    )
    await factory.publish("orders/42", None)
    assert await client.receive() == b'{%b,%b,"offset":2,"data":null}' % (echo, place)
    await factory.publish("orders/42", 3)
    assert await client.receive() == b'{%b,%b,"offset":3,"data":3}' % (echo, place)
    assert await client.ask(b'{"method":"unsubscribe ","url":"orders/42","id":0}') == (
        b'{"data":{"topic":"orders/42"},"event_name":null,"id":0}'
    )
    # One message is kept, so 1 and 2 are not to be had.
    again = await client.ask(
        b'{"method":"subscribe","url":"orders/42","since":{"epoch":"%s","offset":0}}'
        % epoch.encode()
    )
    assert again == b'{"data":{%b,"offset":2},"event_name":null}' % place
    assert await client.receive() == b'{"event_name":null,%b,"offset":2,"gap":true}' % place
    assert await client.receive() == b'{"event_name":null,%b,"offset":3,"data":3}' % place


@pytest_twisted.ensureDeferred
async def test_pushes_have_the_form_of_their_subscribe(network):
    factory = served()
    client = await opened(network, factory)
    await subscribe(client, "orders/1", binary=True, event_name="b")
    await subscribe(client, "orders/2", event_name="t")
    await factory.publish("orders/1", 1)
    await factory.publish("orders/2", 2)
    pushes = [await client.replies.get() for _ in range(2)]
    assert [is_binary for _, is_binary in pushes] == [True, False]
    first, second = base64.b64decode(pushes[0][0], validate=True), pushes[1][0]
    assert [json.loads(push)["data"] for push in (first, second)] == [1, 2]
    assert first.startswith(b'{"event_name":"b","topic":"orders/1","epoch":')
    assert second.startswith(b'{"event_name":"t","topic":"orders/2","epoch":')


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("binary", [False, True])
async def test_a_view_subscribes_its_caller(network, binary):
    told = []

    @endpoint("/watch", "GET")
    async def watch(request):
        told.append(
            await request.connection.subscribe("orders/42", since=request.since, request=request)
        )
        return request.connection.subscriptions

    factory = served(views=[watch], permission_classes=[Nobody])
    client = await opened(network, factory)
    first = await factory.publish("orders/42", "before")
    since = {"epoch": first.epoch, "offset": 0}
    client.send({"method": "GET", "url": "/watch", "event_name": "e", "since": since}, binary)
    replies = [await received(client) for _ in range(2)]
    assert sorted(replies, key=lambda reply: "topic" in reply) == [
        {"data": ["orders/42"], "event_name": "e"},
        {
            "event_name": "e",
            "topic": "orders/42",
            "epoch": first.epoch,
            "offset": 1,
            "data": "before",
        },
    ]
    assert told == [{"topic": "orders/42", "epoch": first.epoch, "offset": 0}]
    await factory.publish("orders/42", "after")
    _, is_binary = await client.replies.get()
    assert is_binary == binary


# Who may, and what is wrong


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("word", ["SUBSCRIBE", "unsubscribe", " Subscribe\n"])
@pytest.mark.parametrize(
    "topic", ["orders", "orders/", "/orders/1", "orders/1/2", "orders/1 ", "orders/*", "o" * 300]
)
async def test_what_is_not_registered_is_404(network, word, topic):
    client = await opened(network, served())
    assert json.loads(await client.ask({"method": word, "url": topic})) == NO_TOPIC


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("word", ["SUBSCRIBE", "UNSUBSCRIBE"])
@pytest.mark.parametrize("url", [None, ""])
async def test_no_url_is_400(network, word, url):
    client = await opened(network, served())
    reply = json.loads(await client.ask({"method": word, "url": url}))
    assert reply["status"] == 400


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "since",
    [
        7,
        "x",
        [],
        {},
        {"epoch": "e"},
        {"offset": 1},
        {"epoch": 1, "offset": 1},
        {"epoch": "e", "offset": "1"},
        {"epoch": "e", "offset": 1.5},
        {"epoch": "e", "offset": True},
        {"epoch": "e", "offset": -1},
    ],
)
async def test_a_since_of_a_wrong_type_is_400_and_subscribes_to_nothing(network, since):
    factory = served()
    client = await opened(network, factory)
    assert (await subscribe(client, since=since))["status"] == 400
    assert nothing_is_left(factory)


class Nobody:
    @staticmethod
    def check(request, handler):
        return False


class NobodyLater:
    @staticmethod
    async def check(request, handler):
        await deferLater(install_reactor(), 0)
        return False


class Teapot(BaseAPIException):
    default_detail = "Short and stout."
    status = 418


class Raising:
    @staticmethod
    def check(request, handler):
        raise Teapot


def refuse(request, topic):
    return False


async def refuse_later(request, topic):
    await deferLater(install_reactor(), 0)
    return False


async def raise_later(request, topic):
    await deferLater(install_reactor(), 0)
    raise Teapot


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"permission_classes": [Nobody]}, 403),
        ({"permission_classes": [NobodyLater]}, 403),
        ({"permission_classes": [Raising]}, 418),
        ({"on_subscribe": refuse}, 403),
        ({"on_subscribe": refuse_later}, 403),
        ({"on_subscribe": raise_later}, 418),
    ],
)
async def test_who_is_refused_gets_nothing_of_the_topic(network, options, status):
    factory = served(presence=True, **options)
    client = await opened(network, factory)
    first = await factory.publish("orders/42", "secret")
    reply = await subscribe(client, since={"epoch": first.epoch, "offset": 0})
    assert reply["status"] == status
    if status == 403:
        assert reply == REFUSED
    await factory.publish("orders/42", "secret, too")
    assert nothing_is_left(factory)
    await nothing_comes(client)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("answer", [None, True, 0, "no"])
async def test_only_false_refuses(network, answer):
    seen = []

    def on_subscribe(request, topic):
        seen.append((topic, request.data))
        return answer

    factory = served(on_subscribe=on_subscribe)
    client = await opened(network, factory)
    assert (await subscribe(client, data={"k": 1}))["data"]["topic"] == "orders/42"
    assert seen == [("orders/42", {"k": 1})]


@pytest_twisted.ensureDeferred
async def test_permissions_come_before_the_hook_and_know_topic_and_values(network):
    seen = []

    class Allowed:
        @staticmethod
        def check(request, handler):
            seen.append(("check", handler.topic, handler.values))
            return True

    def on_subscribe(request, topic):
        seen.append(("hook", topic))

    factory = served(permission_classes=[Allowed, Nobody], on_subscribe=on_subscribe)
    assert await subscribe(await opened(network, factory)) == REFUSED
    assert seen == [("check", "orders/42", {"id": "42"})]
    seen.clear()
    factory = served(permission_classes=[Allowed], on_subscribe=on_subscribe)
    await subscribe(await opened(network, factory))
    assert seen == [("check", "orders/42", {"id": "42"}), ("hook", "orders/42")]


@pytest_twisted.ensureDeferred
@pytest.mark.logs_errors
async def test_a_hook_that_fails_is_500_and_no_subscription(network):
    def on_subscribe(request, topic):
        raise KeyError("a secret of ours")

    factory = served(on_subscribe=on_subscribe)
    client = await opened(network, factory)
    reply = await subscribe(client)
    assert (reply["status"], reply["detail"]) == (500, "Internal server error.")
    assert nothing_is_left(factory)


@pytest_twisted.ensureDeferred
async def test_one_more_than_may_be_is_429_and_a_repeat_is_not_one_more(network):
    factory = served(limits=Limits(subscriptions=2))
    client = await opened(network, factory)
    assert "data" in await subscribe(client, "orders/1")
    assert "data" in await subscribe(client, "orders/2")
    assert (await subscribe(client, "orders/3"))["status"] == 429
    assert (await subscribe(client, "nothing"))["status"] == 404
    assert "data" in await subscribe(client, "orders/2")
    assert factory.limit_hits == {"subscriptions": 1}
    await unsubscribe(client, "orders/1")
    assert "data" in await subscribe(client, "orders/3")


@pytest_twisted.ensureDeferred
async def test_those_that_wait_for_a_hook_do_not_get_past_the_limit(network):
    doors = []

    async def on_subscribe(request, topic):
        doors.append(Deferred())
        await doors[-1]

    factory = served(limits=Limits(subscriptions=2), on_subscribe=on_subscribe, presence=True)
    client = await opened(network, factory)
    for number in range(5):
        client.send({"method": "SUBSCRIBE", "url": f"orders/{number}"})
    await until(lambda: len(doors) == 5)
    for door in doors:
        door.callback(None)
    replies = [await received(client) for _ in range(5)]
    assert sorted(reply.get("status", 200) for reply in replies) == [200, 200, 429, 429, 429]
    assert len(factory.topics._topics) == 2


# Middlewares


class ByToken(AbstractMiddleware):
    request_attributes = ("user",)

    def process_request(self, request, handler):
        request.user = request.token


@pytest_twisted.ensureDeferred
async def test_a_middleware_says_who_it_is_before_permission_is_asked(network):
    class OnlyAnn:
        @staticmethod
        def check(request, handler):
            return request.user == "ann"

    factory = served(middlewares=[ByToken()], permission_classes=[OnlyAnn])
    client = await opened(network, factory)
    assert await subscribe(client, token="bob") == REFUSED
    assert "data" in await subscribe(client, token="ann")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("is_late", [False, True])
async def test_an_answer_that_a_middleware_makes_a_failure_leaves_no_subscription(
    network, is_late
):
    class Spoiling(AbstractMiddleware):
        def process_request(self, request, handler):
            pass

        async def process_response(self, request, response):
            if is_late:
                await deferLater(install_reactor(), 0)
            raise Teapot

    factory = served(middlewares=[Spoiling()])
    client = await opened(network, factory)
    assert (await subscribe(client))["status"] == 418
    assert nothing_is_left(factory)
    [connection] = factory.connections
    assert connection.subscriptions == ()
    assert not connection.subscriber.unanswered


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
    assert len(factory.topics._topics["orders/42"].subscriptions) == 1
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
    assert not connection.subscriber.unanswered
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
    assert not connection.subscriber.unanswered


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("where", ["presence_info", "hook"])
async def test_who_goes_while_it_is_asked_about_leaves_nothing(network, where):
    begun, door = Deferred(), Deferred()

    async def wait(*_):
        begun.callback(None)
        await door.addErrback(lambda _: None)

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
        limits=Limits(message_bytes=4000),
        presence_info=lambda request: "x" * 1500,
    )
    port = await network.serve(factory=factory)
    replies = [await subscribe(await network.connect(port)) for _ in range(3)]
    assert [reply.get("status") for reply in replies] == [None, None, 413]
    assert len(factory.topics._topics["orders/42"].subscriptions) == 2


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
    assert not service.factory.topics._sweeping.running


@pytest_twisted.ensureDeferred
async def test_a_hook_that_takes_long_does_not_subscribe_while_the_server_stops(network):
    begun, door = Deferred(), Deferred()

    async def on_subscribe(request, topic):
        begun.callback(None)
        await door

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
    goes_on.callback(None)
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
