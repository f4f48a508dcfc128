"""Bad input over a real socket: the exact failure it gets, and what must not come of it.

Every reply is judged by the wire protocol, and after each of them the same connection has to
answer a good request.
"""

import base64
import contextvars
import json
import sys
import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.renderers import JSONRenderer, XMLRenderer
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

GOOD = b'{"method":"GET","url":"/hello","event_name":"still there"}'
GOOD_REPLY = b'{"data":"Hello, world!","event_name":"still there"}'

NO_URL = "In query not specified `url` argument."
NO_HANDLER = "For URL, typed in request, handler not specified."
NO_METHOD = "In query not specified `method` argument."
METHOD_TYPE = "Method name should be a string type."
OUR_FAULT = "Internal server error."
UNRENDERABLE = "The reply cannot be rendered."
TOO_DEEP = "The message is nested deeper than 128 levels."

ALL_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]


class Hello(MethodBasedView):
    def get(self, request):
        return "Hello, world!"

    # Never registered.
    def put(self, request):
        return "put"


class User(MethodBasedView):
    def get(self, request, user_id, detailed=False):
        return {"id": user_id, "detailed": detailed}

    def post(self, request, user_id, **options):
        return sorted(options)


class Sum(MethodBasedView):
    def get(self, request, a, b=0):
        return a + b

    def post(self, request, *, needed):
        return needed


class Anything(MethodBasedView):
    def get(this, req, **options):  # noqa: N805
        return sorted(options)

    def post(self, request, *values, **options):
        return request.data


def hello_router():
    router = SimpleRouter()
    router.register("/hello", Hello, ["GET", "DELETE"])
    return router


def router_of_all():
    router = hello_router()
    router.register("/user/{id}", User, ["GET", "POST"])
    router.register("/sum", Sum, ["GET", "POST"])
    router.register("/anything", Anything, ["GET", "POST"])
    return router


def reply_to(client: Any, payload: bytes, binary: bool = False) -> Deferred[Any]:
    """Send a message; the (payload, is_binary) of its reply, an error if there will be none."""
    client.sendMessage(payload, binary)
    waiting = client.replies.get()
    client.is_closed.addCallback(lambda _: waiting.cancel())
    return waiting


async def ask(client: Any, **message: Any) -> Any:
    """Make a call; what its reply says."""
    reply, is_binary = await reply_to(client, json.dumps(message).encode())
    assert not is_binary
    return json.loads(reply)


def soon(request: Request) -> Deferred[None]:
    """Fire in another turn of the reactor."""
    waiting: Deferred[None] = Deferred()
    request.factory.reactor.callLater(0, waiting.callback, None)
    return waiting


def failure(status: int, detail: str, echo: str = '"event_name":null') -> bytes:
    return f'{{"detail":{json.dumps(detail, ensure_ascii=False)},"status":{status},{echo}}}'.encode()


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def to_hello(rest: str) -> str:
    return f'{{"method":"GET","url":"/hello",{rest}}}'


# What came as event_name and id comes back.
SENT = '"event_name":{"n":[1,null]},"id":"c-7"'


MALFORMED = {
    "{": "input data was truncated",
    "}": "invalid character (byte 0)",
    '{"url"': "input data was truncated",
    '{"url":': "input data was truncated",
    '{"url":"/hello': "input data was truncated",
    '{"url":"/hello"': "input data was truncated",
    '{"url":"/hello",}': "trailing comma in object (byte 16)",
    '{"data":[1,]}': "trailing comma in array (byte 10)",
    '{"data":[1': "input data was truncated",
    '{"data":[1}': "expected ',' or ']' (byte 10)",
    '{"url" "/hello"}': "expected ':' (byte 7)",
    '{"url":"/hello" "id":1}': "expected ',' or '}' (byte 16)",
    "{'url':'/hello'}": "object keys must be strings (byte 1)",
    '{url:"/hello"}': "object keys must be strings (byte 1)",
    '{1:"/hello"}': "object keys must be strings (byte 1)",
    '{"id":01}': "invalid number (byte 7)",
    '{"id":+1}': "invalid character (byte 6)",
    '{"id":.5}': "invalid character (byte 6)",
    '{"id":1.}': "invalid number (byte 8)",
    '{"id":1e}': "invalid number (byte 8)",
    '{"id":-}': "invalid number (byte 7)",
    '{"id":0x10}': "expected ',' or '}' (byte 7)",
    '{"data":True}': "invalid character (byte 8)",
    '{"data":nul}': "invalid character (byte 11)",
    '{"data":undefined}': "invalid character (byte 8)",
    '{"data":NaN}': "invalid character (byte 8)",
    '{"timeout":Infinity}': "invalid character (byte 11)",
    '{"event_name":-Infinity}': "invalid number (byte 15)",
    '{"args":{"a":NaN}}': "invalid character (byte 13)",
    "{}{}": "trailing characters (byte 2)",
    '{"url":"/hello"} ;': "trailing characters (byte 17)",
    "// a call\n{}": "invalid character (byte 0)",
    "\ufeff{}": "invalid character (byte 0)",
    "\x00": "invalid character (byte 0)",
    "{}\x00": "trailing characters (byte 2)",
    '{"url":"/hello\x00"}': "invalid character (byte 14)",
    '{"url":"/hello\n"}': "invalid character (byte 14)",
    '{"data":"\x1f"}': "invalid character (byte 9)",
    '{"\x01":1}': "invalid character (byte 2)",
    '{"data":"\\x41"}': "invalid escaped character (byte 10)",
    '{"data":"\\u12"}': "invalid character in unicode escape (byte 13)",
    "GET /hello": "invalid character (byte 0)",
    "<root/>": "invalid character (byte 0)",
}

NOT_AN_OBJECT = ("[]", '[{"method":"GET","url":"/hello"}]', "1", "-1.5", '"/hello"', "true", "null")

WRONG_TYPES = {
    "url": ("a string", {"1": "an integer", "1.5": "a number", "[]": "an array"}),
    "args": ("an object", {"1": "an integer", '"a"': "a string", "true": "a boolean"}),
    "timeout": ("a number", {'"1"': "a string", "true": "a boolean", "{}": "an object"}),
    "token": ("a string", {"1": "an integer", "false": "a boolean", "[]": "an array"}),
    "since": ("an object", {"1": "an integer", '"a"': "a string", "[]": "an array"}),
}

SINCE = "`since` must have a string `epoch` and an integer `offset` of 0 or more."
SENSELESS = {
    '"timeout":0': "`timeout` must be above 0.",
    '"timeout":-1': "`timeout` must be above 0.",
    '"timeout":-0.0': "`timeout` must be above 0.",
    '"timeout":1e-400': "`timeout` must be above 0.",
    '"timeout":1e999': "The value of 'timeout' is not valid JSON: number out of range.",
    '"timeout":-1e999': "The value of 'timeout' is not valid JSON: number out of range.",
    '"since":{}': SINCE,
    '"since":{"epoch":"e"}': SINCE,
    '"since":{"offset":1}': SINCE,
    '"since":{"epoch":"e","offset":-1}': SINCE,
    '"since":{"epoch":"e","offset":1.5}': SINCE,
    '"since":{"epoch":"e","offset":true}': SINCE,
    '"since":{"epoch":[],"offset":1}': SINCE,
}

LONG_ID = "`id` must not be longer than 128 bytes."
BAD_IDS = {
    "1.5": "`id` must be a string or an integer, not a number.",
    "true": "`id` must be a string or an integer, not a boolean.",
    "[]": "`id` must be a string or an integer, not an array.",
    '{"a":1}': "`id` must be a string or an integer, not an object.",
    f'"{"a" * 129}"': LONG_ID,
    # Bytes count, not characters: 43 of three bytes each.
    f'"{"€" * 43}"': LONG_ID,
    "1" * 129: LONG_ID,
    "-" + "1" * 128: LONG_ID,
}

NOT_FOUND = (
    '"/nowhere"',
    '"hello"',
    '"hello/"',
    '"//hello"',
    '"/hello//"',
    '"/HELLO"',
    '"/hello/there"',
    '"/hello?x=1"',
    '"/hello#x"',
    '"/%68ello"',
    '"/./hello"',
    '"/hello\\u0000"',
    '"ws://127.0.0.1/hello"',
    '"/user"',
    '"/user//"',
    '"/user/{id}"',
    '"/user/1/2"',
)

NOT_ALLOWED = (
    "POST",  # not registered, not defined
    "PUT",  # defined, not registered
    "DELETE",  # registered, not defined
    "dispatch",
    "__init__",
    "__class__",
    "__dict__",
    "get_renderer",
    "get renderer",
    "renderers",
    "methods",
    "blocking",
    "_route",
    "CONNECT",
    "CANCEL",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "GET,POST",
    "GET /hello",
    "GET\\u0000",
    "\\u200bGET",
    " ",
    "G" * 5000,
)

SHADOWING = (
    "get_argument",
    "to_representation",
    "adopt",
    "extra_names",
    "user",
    "token_payload",
    "factory",
    "connection",
    "_",
    "_data",
    "_args",
    "_method",
    "__class__",
    "__dict__",
    "__init__",
    "__repr__",
    "__slots__",
    "__struct_fields__",
)

# (url, method, args, detail)
BAD_ARGUMENTS = (
    ("/user/1", "GET", '{"id":"2"}', "The argument 'id' is already given by the URL."),
    ("/user/1", "GET", '{"user_id":"2"}', "The argument 'user_id' is already given by the URL."),
    ("/user/1", "POST", '{"id":"2"}', "The argument 'id' is already given by the URL."),
    ("/user/1", "GET", '{"self":1}', "The argument 'self' is reserved."),
    ("/user/1", "GET", '{"request":1}', "The argument 'request' is reserved."),
    ("/anything", "POST", '{"self":1}', "The argument 'self' is reserved."),
    ("/anything", "POST", '{"request":1}', "The argument 'request' is reserved."),
    ("/anything", "POST", '{"preferred_format":1}', "The argument 'preferred_format' is reserved."),
    ("/anything", "GET", '{"this":1}', "The argument 'this' is reserved."),
    ("/anything", "GET", '{"req":1}', "The argument 'req' is reserved."),
    ("/hello", "GET", '{"name":"Ada"}', "The argument 'name' is not taken here."),
    ("/hello", "GET", '{"":0}', "The argument '' is not taken here."),
    ("/hello", "GET", '{"*":0}', "The argument '*' is not taken here."),
    ("/hello", "GET", '{"\\u0000":0}', "The argument '\\x00' is not taken here."),
    ("/hello", "GET", f'{{"{"n" * 500}":0}}', f"The argument '{'n' * 100}' is not taken here."),
    ("/hello", "GET", '{"preferred_format":"xml"}', "The argument 'preferred_format' is reserved."),
    ("/sum", "GET", '{"a":1,"c":2}', "The argument 'c' is not taken here."),
    ("/sum", "GET", "{}", "The argument 'a' is missing."),
    ("/sum", "GET", "null", "The argument 'a' is missing."),
    ("/sum", "GET", '{"b":1}', "The argument 'a' is missing."),
    ("/sum", "POST", "{}", "The argument 'needed' is missing."),
    ("/sum", "POST", '{"a":1,"needed":2}', "The argument 'a' is not taken here."),
)


def bad_messages():
    """Yield (message, exact reply)."""
    for message, reason in MALFORMED.items():
        yield message, failure(400, f"The message is not valid JSON: {reason}.")
    for message in NOT_AN_OBJECT:
        yield message, failure(400, "The message must be a JSON object.")
    yield "", failure(400, "The message is empty.")
    yield " \r\n\t", failure(400, "The message is empty.")

    for name, (expected, values) in WRONG_TYPES.items():
        for value, found in values.items():
            message = f'{{"method":"GET","url":"/hello","{name}":{value},{SENT}}}'
            yield message, failure(400, f"`{name}` must be {expected}, not {found}.", SENT)
    for member, detail in SENSELESS.items():
        yield to_hello(f"{member},{SENT}"), failure(400, detail, SENT)
    for value, detail in BAD_IDS.items():
        yield to_hello(f'"id":{value},"event_name":"e"'), failure(400, detail, '"event_name":"e"')

    yield "{}", failure(400, NO_URL)
    for url in ("null", '""'):
        yield f'{{"method":"GET","url":{url},{SENT}}}', failure(400, NO_URL, SENT)
    for url in NOT_FOUND:
        yield f'{{"method":"GET","url":{url},{SENT}}}', failure(404, NO_HANDLER, SENT)

    yield '{"url":"/hello"}', failure(400, NO_METHOD)
    for method in ("null", '""'):
        yield f'{{"url":"/hello","method":{method},{SENT}}}', failure(400, NO_METHOD, SENT)
    for method in ("1", "0", "1.5", "true", "false", "[]", '["GET"]', "{}"):
        yield f'{{"url":"/hello","method":{method},{SENT}}}', failure(400, METHOD_TYPE, SENT)
    for method in NOT_ALLOWED:
        yield f'{{"url":"/hello","method":"{method}",{SENT}}}', failure(405, NO_HANDLER, SENT)
    # These have no `url`, and will have none when they are served.
    yield f'{{"method":"CANCEL",{SENT}}}', failure(405, NO_HANDLER, SENT)

    for name in SHADOWING:
        detail = f"The key {name!r} is reserved and cannot be sent."
        yield to_hello(f'"{name}":1,{SENT}'), failure(400, detail, SENT)
    for url, method, arguments, detail in BAD_ARGUMENTS:
        message = f'{{"method":"{method}","url":"{url}","args":{arguments},{SENT}}}'
        yield message, failure(400, detail, SENT)

    for name in ("data", "args", "event_name", "token", "colour"):
        yield to_hello(f'"{name}":{nested(10_000)}'), failure(400, TOO_DEEP)
    yield '{"a":' * 10_000 + "1" + "}" * 10_000, failure(400, TOO_DEEP)
    yield nested(10_000), failure(400, TOO_DEEP)
    for name, value in {"data": nested(128), "colour": nested(300)}.items():
        yield to_hello(f'"{name}":{value},{SENT}'), failure(400, TOO_DEEP, SENT)
    arguments = f'{{"name":{nested(127)}}}'
    yield to_hello(f'"args":{arguments},{SENT}'), failure(400, TOO_DEEP, SENT)

    huge = "9" * 5000
    for name in ("data", "event_name", "id", "timeout", "colour"):
        echo = '"event_name":null' if name == "event_name" else '"event_name":"e"'
        message = to_hello(f'"{name}":{huge}' + ("" if name == "event_name" else f",{echo}"))
        detail = f"The value of {name!r} is not valid JSON: integer value out of range."
        yield message, failure(400, detail, echo)
    for value in ("1e999", "-1e999"):
        detail = "The value of 'data' is not valid JSON: number out of range."
        yield to_hello(f'"data":{value},{SENT}'), failure(400, detail, SENT)

    # One fault at a time: the order of judgement.
    yield '{"url":"/nowhere","method":1}', failure(404, NO_HANDLER)
    yield '{"url":"/nowhere","method":"dispatch"}', failure(404, NO_HANDLER)
    yield '{"url":"/nowhere"}', failure(404, NO_HANDLER)
    yield '{"method":1}', failure(400, NO_URL)
    yield '{"args":1}', failure(400, "`args` must be an object, not an integer.")
    yield '{"_x":1,"timeout":0}', failure(400, "The key '_x' is reserved and cannot be sent.")
    yield '{"url":"/hello","args":{"name":1}}', failure(400, NO_METHOD)
    yield '{"url":"/hello","method":"POST","args":{"name":1}}', failure(405, NO_HANDLER)


BAD_MESSAGES = tuple(bad_messages())

BAD_BASE64 = {
    "=": "Leading padding not allowed",
    "a": "Invalid base64-encoded string: number of data characters (1) cannot be 1 more than a "
    "multiple of 4",
    "e3": "Incorrect padding",
    "e30": "Incorrect padding",
    "e30=e30=": "Excess data after padding",
    "e3=0": "Discontinuous padding not allowed",
    "e30-": "Only base64 data is allowed",
    "e30_": "Only base64 data is allowed",
    "{}": "Only base64 data is allowed",
    GOOD.decode(): "Only base64 data is allowed",
    "e30\x00": "Only base64 data is allowed",
    "e30\x7f": "Only base64 data is allowed",
    "\xff\xfe": "Only base64 data is allowed",
    "e30.": "Only base64 data is allowed",
}

# (payload of a binary message, exact reply before base64)
BAD_BINARY_MESSAGES = (
    *(
        (payload.encode("latin-1"), failure(400, f"The message is not valid base64: {reason}."))
        for payload, reason in BAD_BASE64.items()
    ),
    (b"", failure(400, "The message is empty.")),
    (b"\r\n", failure(400, "The message is empty.")),
    (base64.b64encode(b"\xff"), failure(400, "The message is not valid JSON: invalid character (byte 0).")),
    (base64.b64encode(b'{"data":"\xff"}'), failure(400, "The value of 'data' is not valid UTF-8.")),
    (base64.b64encode(b'{"\xff":1}'), failure(400, "The message is not valid UTF-8.")),
    # Encoded twice: what base64 hides is no JSON.
    (base64.b64encode(base64.b64encode(b"{}")), failure(400, "The message is not valid JSON: invalid character (byte 0).")),
)


def _name_of(value):
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return ascii(text[:60])


def test_the_table_has_no_message_twice():
    assert len({message for message, _ in BAD_MESSAGES}) == len(BAD_MESSAGES) >= 80


@pytest.mark.parametrize("binary", [False, True], ids=["text", "base64"])
@pytest.mark.parametrize(("message", "reply"), BAD_MESSAGES, ids=_name_of)
@pytest_twisted.ensureDeferred
async def test_a_bad_message_is_refused_and_the_next_one_answered(network, message, reply, binary):
    client = await network.connect(await network.serve(router_of_all()))
    form = base64.b64encode if binary else bytes
    assert await reply_to(client, form(message.encode()), binary) == (form(reply), binary)
    assert await reply_to(client, form(GOOD), binary) == (form(GOOD_REPLY), binary)


@pytest.mark.parametrize(("payload", "reply"), BAD_BINARY_MESSAGES, ids=_name_of)
@pytest_twisted.ensureDeferred
async def test_a_damaged_binary_message_is_refused_in_binary(network, payload, reply):
    client = await network.connect(await network.serve(hello_router()))
    assert await reply_to(client, payload, True) == (base64.b64encode(reply), True)
    expected = base64.b64encode(GOOD_REPLY), True
    assert await reply_to(client, base64.b64encode(GOOD), True) == expected


@pytest_twisted.ensureDeferred
async def test_one_connection_takes_all_bad_messages_at_once(network):
    client = await network.connect(await network.serve(router_of_all()))
    for number, (message, _) in enumerate(BAD_MESSAGES):
        payload, binary = message.encode(), bool(number % 2)
        client.sendMessage(base64.b64encode(payload) if binary else payload, binary)
        client.sendMessage(GOOD)
    for number, (_, reply) in enumerate(BAD_MESSAGES):
        binary = bool(number % 2)
        expected = base64.b64encode(reply) if binary else reply
        assert await client.replies.get() == (expected, binary)
        assert await client.replies.get() == (GOOD_REPLY, False)
