"""Who may call a view: on the wire, in every kind of server and of view."""

import json

import pytest
import pytest_twisted
from autobahn.websocket.types import ConnectingRequest

from aiorest_ws.auth.permissions import IsAuthenticated
from aiorest_ws.auth.token.middlewares import BaseTokenMiddleware
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from support.routers import Passing, ask, ask_later, failure, router_of, success, view_of

NEEDS_TOKEN = failure(401, "This call needs a token.")
DENIED = failure(403, "Permission denied.")
ANN = User(username="ann", is_user=True)


class Setting:
    """Sets attributes of every request."""

    def __init__(self, **attributes):
        self.attributes = attributes

    def process_request(self, request, handler):
        for name, value in self.attributes.items():
            setattr(request, name, value)


class Counted:
    """A permission that answers `answer`, and counts."""

    def __init__(self, answer):
        self.answer = answer
        self.calls = 0

    def check(self, request, handler):
        self.calls += 1
        return self.answer

    async def later(self):
        return self.answer


class CountedLater(Counted):
    async def check(self, request, handler):
        return super().check(request, handler)


def answer(request):
    return "in"


async def answer_later(request):
    return "in"


async def answer_in_parts(request):
    yield "in"


class Class(MethodBasedView):
    get = staticmethod(answer)


class Dispatching(Class):
    def dispatch(self, request, *args, **kwargs):
        return "in"


class Own(SimpleRouter):
    def search_handler(self, request, url):
        return view_of(answer, **self.attributes)(), (), {}


def own_router(**attributes):
    router = Own()
    router.attributes = attributes
    return router


def of_function(function, **options):
    def make(**attributes):
        router = SimpleRouter()
        router.register_endpoint(endpoint("/x", "GET", **options, **attributes)(function))
        return router

    return make


def of_class(base):
    def make(**attributes):
        router = SimpleRouter()
        router.register("/x", type("View", (base,), attributes), "GET")
        return router

    return make


def of_instance(**attributes):
    """The instance demands what its class does not."""

    class View(Class):
        def __init__(self):
            vars(self).update(attributes)

    router = SimpleRouter()
    router.register("/x", View, "GET")
    return router


def of_property(**attributes):
    namespace = {name: property(lambda self, v=v: v) for name, v in attributes.items()}
    return of_class(Class)(**namespace)


def of_late_decision(**attributes):
    router = of_class(Class)()
    for route in router.urls:
        for name, value in attributes.items():
            setattr(route.handler, name, value)
    return router


def of_included(**attributes):
    router = SimpleRouter()
    router.include(of_class(Class)(**attributes))
    return router


KINDS = {
    "function": of_function(answer),
    "coroutine": of_function(answer_later),
    "stream": of_function(answer_in_parts),
    "blocking": of_function(answer, blocking=True),
    "ordered": of_function(answer, ordered=True),
    "class": of_class(Class),
    "own dispatch": of_class(Dispatching),
    "instance": of_instance,
    "property": of_property,
    "decided after registration": of_late_decision,
    "included": of_included,
    "own search": own_router,
}

# What a client may try, and what does not authenticate anybody.
MIDDLEWARES = {
    "none": [],
    "one that does nothing": [Passing()],
    "one that sets no user": [BaseTokenMiddleware()],
    "an anonymous user": [Setting(user=User())],
    "no payload": [Setting(user=None, token_payload=None)],
    "a user that cannot tell": [Setting(user=object())],
}


@pytest.mark.parametrize("middlewares", MIDDLEWARES)
@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_auth_required_is_closed_to_whom_nobody_has_authenticated(
    network, kind, middlewares
):
    router = KINDS[kind](auth_required=True)
    router.middlewares.extend(MIDDLEWARES[middlewares])
    client = await network.connect(await network.serve(router))
    for token in ({}, {"token": "anything"}) * 2:
        reply = json.loads(await client.ask({"method": "GET", "url": "/x", **token}))
        assert reply == NEEDS_TOKEN


class PropertyUser:
    is_authenticated = True


class LaterUser:
    def __init__(self, answer):
        self.answer = answer

    async def is_authenticated(self):
        return self.answer


@pytest.mark.parametrize(
    "attributes",
    [
        {"token_payload": {"sub": "1"}},
        {"token_payload": {}},
        {"user": ANN},
        {"user": PropertyUser()},
        {"user": LaterUser(True)},
        {"user": User(), "token_payload": {}},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_auth_required_is_open_to_a_verified_token_or_a_user(network, kind, attributes):
    router = KINDS[kind](auth_required=True)
    router.middlewares.append(Setting(**attributes))
    client = await network.connect(await network.serve(router))
    assert json.loads(await client.ask({"method": "GET", "url": "/x"}))["data"] == "in"


@pytest.mark.parametrize(
    ("attributes", "reply"),
    [
        ({"user": LaterUser(False)}, NEEDS_TOKEN),
        ({"user": User(is_active=False), "token_payload": {}}, DENIED),
        ({"user": User(is_active=False)}, NEEDS_TOKEN),
        ({"user": User(username="ann", is_user=True, is_active=False)}, DENIED),
    ],
)
@pytest_twisted.ensureDeferred
async def test_who_is_not_let_in(attributes, reply):
    router = router_of(answer, middlewares=[Setting(**attributes)], auth_required=True)
    assert await ask_later(router) == reply


@pytest.mark.parametrize("counted", [Counted, CountedLater])
@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_permissions_are_asked_once_on_every_view(network, kind, counted):
    yes, no, never = counted("yes"), counted(None), counted(True)
    router = KINDS[kind](permission_classes=(yes, no, never))
    client = await network.connect(await network.serve(router))
    for number in (1, 2):
        assert json.loads(await client.ask({"method": "GET", "url": "/x"})) == DENIED
        assert (yes.calls, no.calls, never.calls) == (number, number, 0)
    no.answer = 1
    assert json.loads(await client.ask({"method": "GET", "url": "/x"}))["data"] == "in"
    assert (yes.calls, no.calls, never.calls) == (3, 3, 1)


def test_permissions_are_asked_after_all_middlewares_and_not_by_authenticate():
    class Late:
        @staticmethod
        def check(request, handler):
            seen.append("permission")
            return request.rank == 1

    class Judging(BaseTokenMiddleware):
        def authenticate(self, request, handler):
            seen.append("authenticate")
            return super().authenticate(request, handler)

    seen = []
    router = router_of(
        answer,
        middlewares=[Judging(), Setting(user=ANN, rank=1)],
        auth_required=True,
        permission_classes=(IsAuthenticated, Late),
    )
    assert ask(router) == success("in")
    assert seen == ["authenticate", "permission"]


@pytest.mark.parametrize("is_later", [False, True])
@pytest_twisted.ensureDeferred
async def test_authenticate_can_refuse(is_later):
    class Strict(BaseTokenMiddleware):
        def authenticate(self, request, handler):
            return self.refuse() if is_later else self.refuse_now()

        async def refuse(self):
            self.refuse_now()

        def refuse_now(self):
            raise BaseAPIException("Strictly not.", status=403)

    assert await ask_later(router_of(answer, middlewares=[Strict()])) == failure(
        403, "Strictly not."
    )


@pytest_twisted.ensureDeferred
async def test_a_view_is_judged_before_its_method_and_its_arguments():
    router = router_of(answer, auth_required=True)
    for method, args in (("PUT", None), (None, None), ("GET", {"other": 1})):
        assert await ask_later(router, method, args=args) == NEEDS_TOKEN
    assert (await ask_later(router, url="/y"))["status"] == 404


@pytest_twisted.ensureDeferred
async def test_the_answer_of_a_user_may_be_awaited_by_the_permission_too():
    for is_in in (True, False):
        router = router_of(
            answer,
            middlewares=[Setting(user=LaterUser(is_in))],
            permission_classes=(IsAuthenticated,),
        )
        assert await ask_later(router) == (success("in") if is_in else DENIED)


@pytest_twisted.ensureDeferred
async def test_a_user_from_the_handshake_needs_no_token(network):
    class ByCookie:
        request_attributes = ("user",)

        def process_request(self, request, handler):
            cookie = request.connection.http_headers.get("cookie", "")
            request.user = ANN if cookie == "session=ann" else User()

    router = router_of(answer, middlewares=[ByCookie()], auth_required=True)
    port = await network.serve(router)
    for name, reply in (("ann", success("in")), ("bob", NEEDS_TOKEN)):
        headers = {"Cookie": f"session={name}"}

        class WithCookie(network.client_class):
            def onConnecting(self, _, headers=headers):
                return ConnectingRequest(host="localhost", port=80, resource="/", headers=headers)

        client = await network.connect(port, WithCookie)
        assert json.loads(await client.ask({"method": "GET", "url": "/x"})) == reply
