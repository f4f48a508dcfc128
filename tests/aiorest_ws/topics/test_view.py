"""SUBSCRIBE and UNSUBSCRIBE on the wire, and who may."""

import base64
import functools
import json
from decimal import Decimal

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
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

NO_TOPIC = {"detail": "There is no such topic.", "status": 404, "event_name": None}
REFUSED = {"detail": "This topic is not open to the caller.", "status": 403, "event_name": None}


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
@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("answer", [True, 1, "no", [None]])
async def test_a_hook_lets_in_with_a_true_result(network, answer, is_later):
    seen = []

    def on_subscribe(request, topic):
        seen.append((topic, request.data))
        return succeed(answer) if is_later else answer

    factory = served(on_subscribe=on_subscribe)
    client = await opened(network, factory)
    assert (await subscribe(client, data={"k": 1}))["data"]["topic"] == "orders/42"
    assert seen == [("orders/42", {"k": 1})]


class Callable:
    def __init__(self, answer):
        self.answer = answer

    def __call__(self, request, topic):
        return self.answer


def returning(answer, request, topic):
    return answer


def hooks(answer):
    async def later(request, topic):
        await deferLater(install_reactor(), 0)
        return answer

    return {
        "lambda": lambda request, topic: answer,
        "later": later,
        "Callable": Callable(answer),
        "returning": functools.partial(returning, answer),
    }


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["lambda", "later", "Callable", "returning"])
@pytest.mark.parametrize("answer", [None, False, 0, 0.0, "", b"", [], (), {}, set(), Decimal(0)])
async def test_a_hook_refuses_with_a_false_result(network, answer, kind, caplog):
    factory = served(on_subscribe=hooks(answer)[kind], presence=True)
    client = await opened(network, factory)
    first = await factory.publish("orders/42", "secret")
    for _ in range(3):
        assert await subscribe(client, since={"epoch": first.epoch, "offset": 0}) == REFUSED
    assert nothing_is_left(factory)
    lines = [r.getMessage() for r in caplog.records if r.name == "aiorest-ws"]
    named = [line for line in lines if "returned None: return True to let the client in" in line]
    if answer is None:
        assert f"{kind}" in named[0]
        assert "orders/{id}" in named[0]
    else:
        assert named == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_that_yields_is_refused_at_registration(is_async):
    def hook(request, topic):
        yield False

    async def hook_later(request, topic):
        yield False

    with pytest.raises(TypeError, match="on_subscribe must return its answer"):
        SimpleRouter().register_topic("a", on_subscribe=hook_later if is_async else hook)


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
        return True

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
        return True

    factory = served(limits=Limits(subscriptions=2), on_subscribe=on_subscribe, presence=True)
    client = await opened(network, factory)
    for number in range(5):
        client.send({"method": "SUBSCRIBE", "url": f"orders/{number}"})
    await until(lambda: len(doors) == 5)
    for door in doors:
        door.callback(None)
    replies = [await received(client) for _ in range(5)]
    assert sorted(reply.get("status", 200) for reply in replies) == [200, 200, 429, 429, 429]
    assert len(factory.topics.names) == 2


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
    assert not connection.topic_subscriptions.unanswered


# What subclasses see


@pytest_twisted.ensureDeferred
async def test_a_subscribe_that_a_router_answers_with_a_failure_gets_no_pushes(network):
    class Refusing(SimpleRouter):
        def process_request(self, request):
            reply = super().process_request(request)
            if request.method == "SUBSCRIBE":
                raise BaseAPIException("Not today.")
            return reply

    router = Refusing()
    router.register_topic("orders/{id}")
    factory = RequestHandlerFactory(router=router)
    client = await opened(network, factory)
    assert (await subscribe(client))["detail"] == "Not today."
    await factory.publish("orders/42", 1)
    await nothing_comes(client)
    [connection] = factory.connections
    assert connection.subscriptions == ()


@pytest_twisted.ensureDeferred
async def test_an_override_of_unsubscribe_sees_that_of_a_client(network):
    seen = []

    class Watching(RequestHandlerProtocol):
        def unsubscribe(self, topic):
            seen.append(topic)
            super().unsubscribe(topic)

    factory = served()
    factory.protocol = Watching
    client = await opened(network, factory)
    await subscribe(client, "orders/1")
    await unsubscribe(client, "orders/1")
    assert seen == ["orders/1"]


@pytest_twisted.ensureDeferred
async def test_a_connection_keeps_nothing_of_subscriptions_that_have_ended(network):
    factory = served()
    client = await opened(network, factory)
    [connection] = factory.connections
    await subscribe(client, "orders/1")
    first = connection.topic_subscriptions
    assert connection.topic_subscriptions is first
    await unsubscribe(client, "orders/1")
    assert connection.topic_subscriptions is not first
