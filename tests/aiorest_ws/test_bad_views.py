"""Views that misbehave, and views that never answer."""

import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.renderers import JSONRenderer, XMLRenderer
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.views import MethodBasedView
from support.bad_input import (
    GOOD,
    GOOD_REPLY,
    OUR_FAULT,
    SENT,
    failure,
    hello_router,
    reply_to,
    soon,
    within_reason,
)

UNRENDERABLE = "The reply cannot be rendered."


ALL_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]


# Views that misbehave.


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class Raises(MethodBasedView):
    """Raise in a synchronous view: (method, what)."""

    faults = {
        "GET": ValueError,
        "POST": KeyboardInterrupt,
        "PUT": SystemExit,
        "PATCH": GeneratorExit,
        "DELETE": StopIteration,
        "HEAD": type("Custom", (BaseException,), {}),
        "OPTIONS": RecursionError,
        "TRACE": Unspeakable,
    }

    def get(self, request):
        raise self.faults[request.method]

    post = put = patch = delete = head = options = trace = get


class RaisesLater(Raises):
    async def get(self, request):
        await soon(request)
        raise self.faults[request.method]

    post = put = patch = delete = head = options = trace = get


class Fails(Raises):
    def get(self, request):
        return fail(self.faults[request.method]("it"))

    post = put = patch = delete = head = options = trace = get


class FailsLater(Raises):
    def get(self, request):
        raised = self.faults[request.method]("it")
        return soon(request).addCallback(lambda _: fail(raised))

    post = put = patch = delete = head = options = trace = get


class RaisesBeside(Raises):
    blocking = True


class Unmade(MethodBasedView):
    def __init__(self):
        raise SystemExit(1)

    def get(self, request):
        return 1


class TypeErrorInside(MethodBasedView):
    def get(self, request):
        return len()


def endless():
    items: list[Any] = []
    items.append(items)
    return items


def endless_mapping():
    items: dict[str, Any] = {}
    items["self"] = items
    return items


def deep(levels):
    items: list[Any] = []
    for _ in range(levels):
        items = [items]
    return items


class Unhelpful:
    def __iter__(self):
        raise RuntimeError("no")

    __str__ = __repr__ = __len__ = __iter__


class Unrenderable(MethodBasedView):
    makers = {
        "GET": object,
        "POST": endless,
        "PUT": endless_mapping,
        "PATCH": lambda: "\ud800",
        "DELETE": lambda: {"\udfff": 1},
        "HEAD": lambda: deep(100_000),
        "OPTIONS": Unhelpful,
        "TRACE": lambda: (n for n in range(3)),
    }

    def get(self, request):
        return type(self).makers[request.method]()

    post = put = patch = delete = head = options = trace = get


class UnrenderableLater(Unrenderable):
    async def get(self, request):
        await soon(request)
        return type(self).makers[request.method]()

    post = put = patch = delete = head = options = trace = get


class UnrenderableXML(Unrenderable):
    renderers = (XMLRenderer,)
    makers = {
        "GET": lambda: {"a b": 1},
        "POST": endless,
        "PUT": endless_mapping,
        "PATCH": lambda: "\ud800",
        "DELETE": lambda: {1: 1},
        "HEAD": lambda: {"": 1},
        "OPTIONS": lambda: "\x00",
        "TRACE": Unhelpful,
    }


class BrokenRenderer(JSONRenderer):
    def render(self, data):
        raise SystemExit(1)


class TextRenderer(JSONRenderer):
    def render(self, data):
        return "no bytes"


class Broken(MethodBasedView):
    renderers = (BrokenRenderer,)

    def get(self, request):
        return 1


class NoBytes(Broken):
    renderers = (TextRenderer,)


class NoRenderer(Broken):
    def get_renderer(self, preferred_format, *args, **kwargs):
        return None


class RaisingRenderer(Broken):
    def get_renderer(self, preferred_format, *args, **kwargs):
        raise KeyboardInterrupt


BROKEN_VIEWS = (
    *(
        (view, m, OUR_FAULT)
        for view in (Raises, RaisesLater, Fails, FailsLater)
        for m in ALL_METHODS
    ),
    *((RaisesBeside, method, OUR_FAULT) for method in ALL_METHODS),
    *((view, m, UNRENDERABLE) for view in (Unrenderable, UnrenderableLater) for m in ALL_METHODS),
    *((UnrenderableXML, method, UNRENDERABLE) for method in ALL_METHODS),
    (Unmade, "GET", OUR_FAULT),
    (TypeErrorInside, "GET", OUR_FAULT),
    (Broken, "GET", OUR_FAULT),
    (NoBytes, "GET", OUR_FAULT),
    (NoRenderer, "GET", OUR_FAULT),
    (RaisingRenderer, "GET", OUR_FAULT),
)


class Nothing(AbstractMiddleware):
    def process_request(self, request, handler):
        pass


@pytest.mark.logs_errors
@pytest.mark.parametrize("behind_middleware", [False, True], ids=["bare", "behind-middleware"])
@pytest.mark.parametrize(("view", "method", "detail"), BROKEN_VIEWS)
@pytest_twisted.ensureDeferred
async def test_a_broken_view_is_our_fault_and_nobody_elses(
    network, caplog, view, method, detail, behind_middleware
):
    router = hello_router()
    router.register("/broken", view, ALL_METHODS)
    if behind_middleware:
        router.middlewares.append(Nothing())
    client = await network.connect(await network.serve(router))
    secret = '"data":"s3cr3t","token":"s3cr3t"'
    message = f'{{"method":"{method}","url":"/broken",{secret},{SENT}}}'
    assert await reply_to(client, message.encode()) == (failure(500, detail, SENT), False)
    assert await reply_to(client, GOOD) == (GOOD_REPLY, False)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].getMessage().split(": ")[1] == f"<Request {method!r} '/broken'> failed"
    assert errors[0].exc_info
    assert "s3cr3t" not in caplog.text


class Detail(MethodBasedView):
    details = {
        "GET": object(),
        "POST": "\ud800",
        "PUT": endless(),
        "PATCH": {1: "a", "b": object()},
    }

    def get(self, request):
        raise BaseAPIException(self.details[request.method])

    post = put = patch = get


@pytest.mark.logs_errors
@pytest.mark.parametrize("method", Detail.details)
@pytest_twisted.ensureDeferred
async def test_a_detail_that_cannot_be_rendered_is_our_fault(network, method):
    router = hello_router()
    router.register("/detail", Detail, list(Detail.details))
    client = await network.connect(await network.serve(router))
    message = f'{{"method":"{method}","url":"/detail",{SENT}}}'
    assert await reply_to(client, message.encode()) == (failure(500, OUR_FAULT, SENT), False)
    assert await reply_to(client, GOOD) == (GOOD_REPLY, False)


class UndecodingProtocol(RequestHandlerProtocol):
    def _decode_message(self, payload, isBinary=False):
        if payload == b"odd":
            raise BaseAPIException(object())
        if payload == b"even":
            raise ValueError(payload)
        return super()._decode_message(payload, isBinary)


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    "payload",
    [
        b"odd",
        b"even",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_broken_override_of_decoding_is_our_fault(network, payload):
    factory = RequestHandlerFactory(router=hello_router())
    factory.protocol = UndecodingProtocol
    client = await network.connect(await network.serve(factory=factory))
    assert await reply_to(client, payload) == (failure(500, OUR_FAULT), False)
    assert await reply_to(client, GOOD) == (GOOD_REPLY, False)


# Views that never answer.


class Never(MethodBasedView):
    """Wait for what does not come; `gone` fires when the waiting is given up."""

    gone: Deferred[None]

    def get(self, request):
        return Deferred(lambda _: self.gone.callback(None))

    async def post(self, request):
        await Deferred(lambda _: self.gone.callback(None))

    async def put(self, request):
        try:
            await Deferred()
        finally:
            self.gone.callback(None)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest_twisted.ensureDeferred
async def test_a_view_that_never_answers_holds_nobody_up_and_ends_with_its_client(network, method):
    class Waits(Never):
        gone = Deferred()

    router = hello_router()
    router.register("/never", Waits, method)
    port = await network.serve(router)
    client, other = await network.connect(port), await network.connect(port)
    client.send({"method": method, "url": "/never", "id": 1})
    for _ in range(3):
        assert await reply_to(client, GOOD) == (GOOD_REPLY, False)
        assert await reply_to(other, GOOD) == (GOOD_REPLY, False)
    assert not Waits.gone.called
    client.sendClose()
    await within_reason(Waits.gone, client)
    assert await reply_to(other, GOOD) == (GOOD_REPLY, False)


@pytest_twisted.ensureDeferred
async def test_the_id_of_a_call_without_end_is_refused_until_it_ends(network):
    class Waits(MethodBasedView):
        answers: list[Deferred[Any]] = []

        def get(self, request):
            self.answers.append(Deferred())
            return self.answers[-1]

    router = hello_router()
    router.register("/waits", Waits, "GET")
    port = await network.serve(router)
    client, other = await network.connect(port), await network.connect(port)
    call = b'{"method":"GET","url":"/waits","id":"1"}'
    hello = b'{"method":"GET","url":"/hello","id":%s}'
    in_use = failure(
        400, "`id` belongs to a call that is still running.", '"event_name":null,"id":"1"'
    )
    client.sendMessage(call)
    assert await reply_to(client, call) == (in_use, False)
    assert await reply_to(client, hello % b'"1"') == (in_use, False)
    # Another id, and another client's.
    answer = b'{"data":"Hello, world!","event_name":null,"id":%s}'
    assert await reply_to(client, hello % b"1") == (answer % b"1", False)
    assert await reply_to(other, hello % b'"1"') == (answer % b'"1"', False)
    Waits.answers[0].callback("done")
    assert (await client.replies.get())[0] == b'{"data":"done","event_name":null,"id":"1"}'
    assert await reply_to(client, hello % b'"1"') == (answer % b'"1"', False)


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_that_never_answers_holds_nobody_up(network):
    release = threading.Event()

    class Blocks(MethodBasedView):
        blocking = True

        def get(self, request):
            release.wait()
            return "released"

    router = hello_router()
    router.register("/blocks", Blocks, "GET")
    client = await network.connect(await network.serve(router))
    try:
        client.send({"method": "GET", "url": "/blocks", "id": 1})
        for _ in range(3):
            assert await reply_to(client, GOOD) == (GOOD_REPLY, False)
    finally:
        release.set()
    assert await client.receive() == b'{"data":"released","event_name":null,"id":1}'
