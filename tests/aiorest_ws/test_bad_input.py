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
from twisted.internet.defer import Deferred, fail, gatherResults

from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.renderers import JSONRenderer, XMLRenderer
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

HANG_SECONDS = 60

GOOD = b'{"method":"GET","url":"/hello","event_name":"still there"}'
GOOD_REPLY = b'{"data":"Hello, world!","event_name":"still there"}'

NO_URL = "In query not specified `url` argument."
NO_HANDLER = "For URL, typed in request, handler not specified."
NO_ID = "`id` is missing: CANCEL ends the call that has it."
NO_METHOD = "In query not specified `method` argument."
METHOD_TYPE = "Method name should be a string type."
OUR_FAULT = "Internal server error."
UNRENDERABLE = "The reply cannot be rendered."
EMPTY = "The message is empty."
NOT_AN_OBJECT = "The message must be a JSON object."
RESERVED = "The argument 'preferred_format' is reserved."
FIRST_CHARACTER = "The message is not valid JSON (line 1, column 1)."
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


def within_reason(waiting: Deferred[Any], client: Any) -> Deferred[Any]:
    """Fail, long after any machine would have been done, instead of hanging."""
    return waiting.addTimeout(HANG_SECONDS, client.factory.reactor)


def reply_to(client: Any, payload: bytes, binary: bool = False) -> Deferred[Any]:
    """Send a message; the (payload, is_binary) of its reply, an error if there will be none."""
    client.sendMessage(payload, binary)
    waiting = within_reason(client.replies.get(), client)
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
    text = json.dumps(detail, ensure_ascii=False)
    return f'{{"detail":{text},"status":{status},{echo}}}'.encode()


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def to_hello(rest: str) -> str:
    return f'{{"method":"GET","url":"/hello",{rest}}}'


# What came as event_name and id comes back.
SENT = '"event_name":{"n":[1,null]},"id":"c-7"'


# From 3.13 on, Python's json says that a trailing comma is wrong, and not what comes behind it.
COMMA_IS_TOLD = sys.version_info >= (3, 13)

# The column of the fault, or None for what Python's json takes.
MALFORMED = {
    "{": 2,
    "}": 1,
    '{"url"': 7,
    '{"url":': 8,
    '{"url":"/hello': 8,
    '{"url":"/hello"': 16,
    '{"url":"/hello",}': 16 if COMMA_IS_TOLD else 17,
    '{"data":[1,]}': 11 if COMMA_IS_TOLD else 12,
    '{"data":[1': 11,
    '{"data":[1}': 11,
    '{"url" "/hello"}': 8,
    '{"url":"/hello" "id":1}': 17,
    "{'url':'/hello'}": 2,
    '{url:"/hello"}': 2,
    '{1:"/hello"}': 2,
    '{"id":01}': 8,
    '{"id":+1}': 7,
    '{"id":.5}': 7,
    '{"id":1.}': 8,
    '{"id":1e}': 8,
    '{"id":-}': 7,
    '{"id":0x10}': 8,
    '{"data":True}': 9,
    '{"data":nul}': 9,
    '{"data":undefined}': 9,
    '{"data":NaN}': None,
    '{"timeout":Infinity}': None,
    '{"event_name":-Infinity}': None,
    '{"args":{"a":NaN}}': None,
    "{}{}": 3,
    '{"url":"/hello"} ;': 18,
    "// a call\n{}": 1,
    "\ufeff{}": 1,
    "\x00": 1,
    "{}\x00": 3,
    '{"url":"/hello\x00"}': 15,
    '{"url":"/hello\n"}': 15,
    '{"data":"\x1f"}': 10,
    '{"\x01":1}': 3,
    '{"data":"\\x41"}': 10,
    '{"data":"\\u12"}': 11,
    "GET /hello": 1,
    "<root/>": 1,
}


NO_OBJECTS = ("[]", '[{"method":"GET","url":"/hello"}]', "1", "-1.5", '"/hello"', "true", "null")

WRONG_TYPES = {
    "url": ("a string", {"1": "an integer", "1.5": "a number", "[]": "an array"}),
    "args": ("an object", {"1": "an integer", '"a"': "a string", "true": "a boolean"}),
    "timeout": ("a number", {'"1"': "a string", "true": "a boolean", "{}": "an object"}),
    "token": ("a string", {"1": "an integer", "false": "a boolean", "[]": "an array"}),
    "since": ("an object", {"1": "an integer", '"a"': "a string", "[]": "an array"}),
}

SINCE = "`since` must have a string `epoch` and an integer `offset` of 0 or more."
SENSELESS = {
    '"timeout":0': "`timeout` must be finite and above 0.",
    '"timeout":-1': "`timeout` must be finite and above 0.",
    '"timeout":-0.0': "`timeout` must be finite and above 0.",
    '"timeout":1e-400': "`timeout` must be finite and above 0.",
    '"timeout":1e999': "The value of 'timeout' holds a number that is out of range.",
    '"timeout":-1e999': "The value of 'timeout' holds a number that is out of range.",
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
    ("/anything", "POST", '{"preferred_format":1}', RESERVED),
    ("/anything", "GET", '{"this":1}', "The argument 'this' is reserved."),
    ("/anything", "GET", '{"req":1}', "The argument 'req' is reserved."),
    ("/hello", "GET", '{"name":"Ada"}', "The argument 'name' is not taken here."),
    ("/hello", "GET", '{"":0}', "The argument '' is not taken here."),
    ("/hello", "GET", '{"*":0}', "The argument '*' is not taken here."),
    ("/hello", "GET", '{"\\u0000":0}', "The argument '\\x00' is not taken here."),
    ("/hello", "GET", f'{{"{"n" * 500}":0}}', f"The argument '{'n' * 100}' is not taken here."),
    ("/hello", "GET", '{"preferred_format":"xml"}', RESERVED),
    ("/sum", "GET", '{"a":1,"c":2}', "The argument 'c' is not taken here."),
    ("/sum", "GET", "{}", "The argument 'a' is missing."),
    ("/sum", "GET", "null", "The argument 'a' is missing."),
    ("/sum", "GET", '{"b":1}', "The argument 'a' is missing."),
    ("/sum", "POST", "{}", "The argument 'needed' is missing."),
    ("/sum", "POST", '{"a":1,"needed":2}', "The argument 'a' is not taken here."),
)


# Each of these yields (message, exact reply).


def unreadable_messages():
    for message, column in MALFORMED.items():
        place = "" if column is None else f" (line 1, column {column})"
        yield message, failure(400, f"The message is not valid JSON{place}.")
    message = '{\r\n  "url": "/é",\n  "id": é}'
    yield message, failure(400, "The message is not valid JSON (line 3, column 9).")
    for message in NO_OBJECTS:
        yield message, failure(400, NOT_AN_OBJECT)
    for message in ("", " \r\n\t"):
        yield message, failure(400, EMPTY)


def wrong_values():
    for name, (expected, values) in WRONG_TYPES.items():
        for value, found in values.items():
            message = f'{{"method":"GET","url":"/hello","{name}":{value},{SENT}}}'
            yield message, failure(400, f"`{name}` must be {expected}, not {found}.", SENT)
    for member, detail in SENSELESS.items():
        yield to_hello(f"{member},{SENT}"), failure(400, detail, SENT)
    for value, detail in BAD_IDS.items():
        yield to_hello(f'"id":{value},"event_name":"e"'), failure(400, detail, '"event_name":"e"')


def wrong_targets():
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
    # Not the `id` of a call that runs, which needs no answer: none at all.
    yield '{"method":"CANCEL"}', failure(400, NO_ID)


def wrong_names():
    for name in SHADOWING:
        detail = f"The key {name!r} is reserved and cannot be sent."
        yield to_hello(f'"{name}":1,{SENT}'), failure(400, detail, SENT)
    for url, method, arguments, detail in BAD_ARGUMENTS:
        message = f'{{"method":"{method}","url":"{url}","args":{arguments},{SENT}}}'
        yield message, failure(400, detail, SENT)


def excessive_messages():
    for name in ("data", "args", "event_name", "token", "colour"):
        yield to_hello(f'"{name}":{nested(10_000)}'), failure(400, TOO_DEEP)
    yield '{"a":' * 10_000 + "1" + "}" * 10_000, failure(400, TOO_DEEP)
    yield nested(10_000), failure(400, NOT_AN_OBJECT)
    for name, value in {"data": nested(128), "colour": nested(300)}.items():
        yield to_hello(f'"{name}":{value},{SENT}'), failure(400, TOO_DEEP, SENT)
    arguments = f'{{"name":{nested(127)}}}'
    yield to_hello(f'"args":{arguments},{SENT}'), failure(400, TOO_DEEP, SENT)

    huge = "9" * 5000
    for name in ("data", "event_name", "id", "timeout", "colour"):
        echo = '"event_name":null' if name == "event_name" else '"event_name":"e"'
        message = to_hello(f'"{name}":{huge}' + ("" if name == "event_name" else f",{echo}"))
        detail = f"The value of {name!r} holds a number that is out of range."
        yield message, failure(400, detail, echo)
    for value in ("1e999", "-1e999"):
        detail = "The value of 'data' holds a number that is out of range."
        yield to_hello(f'"data":{value},{SENT}'), failure(400, detail, SENT)


def messages_with_two_faults():
    yield '{"url":"/nowhere","method":1}', failure(404, NO_HANDLER)
    yield '{"url":"/nowhere","method":"dispatch"}', failure(404, NO_HANDLER)
    yield '{"url":"/nowhere"}', failure(404, NO_HANDLER)
    yield '{"method":1}', failure(400, NO_URL)
    yield '{"args":1}', failure(400, "`args` must be an object, not an integer.")
    yield '{"_x":1,"timeout":0}', failure(400, "The key '_x' is reserved and cannot be sent.")
    yield '{"url":"/hello","args":{"name":1}}', failure(400, NO_METHOD)
    yield '{"url":"/hello","method":"POST","args":{"name":1}}', failure(405, NO_HANDLER)


BAD_MESSAGES = (
    *unreadable_messages(),
    *wrong_values(),
    *wrong_targets(),
    *wrong_names(),
    *excessive_messages(),
    *messages_with_two_faults(),
)

BAD_BASE64 = (
    "=",
    "a",
    "e3",
    "e30",
    "e30=e30=",
    "e3=0",
    "e30-",
    "e30_",
    "{}",
    GOOD.decode(),
    "e30\x00",
    "e30\x7f",
    "\xff\xfe",
    "e30.",
)

# (payload of a binary message, detail)
BAD_BINARY_MESSAGES = (
    *((payload.encode("latin-1"), "The message is not valid base64.") for payload in BAD_BASE64),
    (b"", EMPTY),
    (b"\r\n", EMPTY),
    (base64.b64encode(b"\xff"), "The message is not valid UTF-8."),
    (base64.b64encode(b'{"data":"\xff"'), "The message is not valid UTF-8."),
    (base64.b64encode(b'{"data":"\xff"}'), "The value of 'data' is not valid UTF-8."),
    (base64.b64encode(b'{"\xff":1}'), "The message is not valid UTF-8."),
    # Encoded twice: what the first base64 hides is no JSON.
    (base64.b64encode(base64.b64encode(b"{}")), FIRST_CHARACTER),
)


def names_of(table):
    """Return names for the tests of a table."""
    messages = [message for message, _ in table]
    return [ascii(m.decode("latin-1") if isinstance(m, bytes) else m)[:60] for m in messages]


def test_the_table_has_no_message_twice():
    assert len({message for message, _ in BAD_MESSAGES}) == len(BAD_MESSAGES) >= 80


@pytest.mark.parametrize("binary", [False, True], ids=["text", "base64"])
@pytest.mark.parametrize(("message", "reply"), BAD_MESSAGES, ids=names_of(BAD_MESSAGES))
@pytest_twisted.ensureDeferred
async def test_a_bad_message_is_refused_and_the_next_one_answered(network, message, reply, binary):
    client = await network.connect(await network.serve(router_of_all()))
    form = base64.b64encode if binary else bytes
    assert await reply_to(client, form(message.encode()), binary) == (form(reply), binary)
    assert await reply_to(client, form(GOOD), binary) == (form(GOOD_REPLY), binary)


@pytest.mark.parametrize(
    ("payload", "detail"), BAD_BINARY_MESSAGES, ids=names_of(BAD_BINARY_MESSAGES)
)
@pytest_twisted.ensureDeferred
async def test_a_damaged_binary_message_is_refused_in_binary(network, payload, detail):
    client = await network.connect(await network.serve(hello_router()))
    expected = base64.b64encode(failure(400, detail)), True
    assert await reply_to(client, payload, binary=True) == expected
    expected = base64.b64encode(GOOD_REPLY), True
    assert await reply_to(client, base64.b64encode(GOOD), binary=True) == expected


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


# What looks bad and is not.

LEGAL_MESSAGES = {
    to_hello(f'"data":"{"[{" * 10_000}"'): '"event_name":null',
    to_hello('"data":"' + '\\"[' * 10_000 + '\\\\"'): '"event_name":null',
    to_hello(f'"data":{nested(127)},"event_name":1'): '"event_name":1',
    to_hello(f'"event_name":{nested(127)}'): f'"event_name":{nested(127)}',
    to_hello(f'"data":[{",".join(["[]"] * 10_000)}]'): '"event_name":null',
    to_hello(f'"data":{"9" * 400},"event_name":{"9" * 400}'): f'"event_name":{"9" * 400}',
    to_hello(f'"id":"{"a" * 128}"'): f'"event_name":null,"id":"{"a" * 128}"',
    to_hello(f'"id":{"1" * 128}'): f'"event_name":null,"id":{"1" * 128}',
    to_hello('"id":0'): '"event_name":null,"id":0',
    to_hello('"id":""'): '"event_name":null,"id":""',
    to_hello('"id":null,"timeout":null,"token":null,"since":null'): '"event_name":null',
    to_hello('"timeout":1e-3,"since":{"epoch":"e","offset":0}'): '"event_name":null',
    to_hello('"event_name":"\\u2028\\u0000\\ud83d\\ude00"'): '"event_name":"\\u2028\\u0000😀"',
    to_hello('"":1,"self":2,"cls":3,"extra":4,"a b":5,"\\u0000":6,"Data":7'): '"event_name":null',
    ' {"method":" get ","url":" /hello "}\r\n': '"event_name":null',
    '{"url":1,"url":"/hello","method":"GET"}': '"event_name":null',
    to_hello('"args":{"format":{"xml":1}}'): '"event_name":null',
}


@pytest.mark.parametrize("message", LEGAL_MESSAGES, ids=lambda message: ascii(message[:60]))
@pytest_twisted.ensureDeferred
async def test_a_strange_but_legal_message_is_answered(network, message):
    client = await network.connect(await network.serve(hello_router()))
    expected = f'{{"data":"Hello, world!",{LEGAL_MESSAGES[message]}}}'.encode()
    assert await reply_to(client, message.encode()) == (expected, False)


# The echo of what cannot be read as a whole.


@pytest.mark.parametrize("name", ["data", "args", "colour"])
@pytest_twisted.ensureDeferred
async def test_the_refusal_of_10_000_levels_tells_which_call_it_answers(network, name):
    client = await network.connect(await network.serve(hello_router()))
    message = to_hello(f'"{name}":{nested(10_000)},{SENT}').encode()
    assert await reply_to(client, message) == (failure(400, TOO_DEEP, SENT), False)


@pytest_twisted.ensureDeferred
async def test_an_event_name_that_is_too_deep_is_never_repeated(network):
    client = await network.connect(await network.serve(hello_router()))
    message = to_hello(f'"event_name":{nested(500)},"_x":1').encode()
    reply, _ = await reply_to(client, message)
    assert reply.endswith(b',"status":400,"event_name":null}')


@pytest.mark.parametrize("seconds", ["1" + "0" * 309, "1" + "0" * 400])
@pytest_twisted.ensureDeferred
async def test_a_timeout_beyond_every_finite_number_of_seconds_is_refused(network, seconds):
    client = await network.connect(await network.serve(hello_router()))
    reply, _ = await reply_to(client, to_hello(f'"timeout":{seconds},{SENT}').encode())
    assert reply.endswith(f',"status":400,{SENT}}}'.encode())


LONE_SURROGATES = ("\\ud800", "\\udfff", "a\\udc00b", "\\ud800\\ud800", "\\ud800\\u0041")


@pytest.mark.parametrize("text", LONE_SURROGATES)
@pytest.mark.parametrize("name", ["method", "url", "data", "event_name", "id", "token", "colour"])
@pytest_twisted.ensureDeferred
async def test_a_lone_surrogate_is_refused_and_the_next_message_answered(network, name, text):
    client = await network.connect(await network.serve(hello_router()))
    members = {"method": '"GET"', "url": '"/hello"', name: f'"{text}"'}
    message = "{" + ",".join(f'"{key}":{value}' for key, value in members.items()) + "}"
    reply, is_binary = await reply_to(client, message.encode())
    assert (reply[:11], is_binary) == (b'{"detail":"', False)
    assert reply.endswith(b',"status":400,"event_name":null}')
    assert await reply_to(client, GOOD) == (GOOD_REPLY, False)


@pytest.mark.parametrize(
    "text",
    [
        "\\ud800",
        "\\udc00",
        "\\ud800\\u0041",
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_refusal_of_a_lone_surrogate_says_what_is_wrong(network, text):
    client = await network.connect(await network.serve(hello_router()))
    reply = await reply_to(client, to_hello(f'"data":"{text}"').encode())
    detail = "The message is not valid JSON: it holds half of a surrogate pair."
    assert reply == (failure(400, detail), False)


# Invalid UTF-8 in a text message: the one fault that ends the connection.


@pytest.mark.parametrize(
    "payload",
    [b"\xff", b'{"url":"/hello\xc3"}', b'{"data":"\xed\xa0\x80"}', b"\xc0\xaf", GOOD + b"\x80"],
)
@pytest_twisted.ensureDeferred
async def test_invalid_utf_8_in_a_text_message_closes_with_1007(network, payload):
    port = await network.serve(hello_router())
    client, other = await network.connect(port), await network.connect(port)
    client.sendMessage(payload, False)
    await client.is_closed
    assert client.wasClean
    assert client.remoteCloseCode == 1007
    assert client.replies.pending == []
    assert await reply_to(other, GOOD) == (GOOD_REPLY, False)


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


# Nothing of one request is visible to another.


class Look(MethodBasedView):
    """Tell what a request has besides its own members."""

    def get(self, request, **options):
        own = set(dir(Request(method="GET")))
        return {
            "extra": sorted(name for name in dir(request) if name not in own),
            "token": request.token,
            "args": request.args,
            "data": request.data,
            "timeout": request.timeout,
        }


CLEAN = {"extra": [], "token": None, "args": {}, "data": None, "timeout": None}


@pytest_twisted.ensureDeferred
async def test_what_a_client_sends_is_on_its_own_request_only(network):
    router = SimpleRouter()
    router.register("/look", Look, "GET")
    port = await network.serve(router)
    client, other = await network.connect(port), await network.connect(port)
    before = dir(Request), dir(RequestHandlerProtocol), dir(Look)
    look = {"method": "GET", "url": "/look"}
    sent = {"token": "t", "args": {"a": 1}, "data": [1], "timeout": 9, "colour": "red", "size": 1}
    reply = await ask(client, **look, **sent, event_name="mine", id="i-1")
    assert reply == {
        "data": {
            "extra": ["colour", "size"],
            "token": "t",
            "args": {"a": 1},
            "data": [1],
            "timeout": 9,
        },
        "event_name": "mine",
        "id": "i-1",
    }
    for each in (client, other, await network.connect(port)):
        assert await ask(each, **look) == {"data": CLEAN, "event_name": None}
    assert (dir(Request), dir(RequestHandlerProtocol), dir(Look)) == before


@pytest_twisted.ensureDeferred
async def test_a_refused_message_leaves_nothing_behind(network):
    router = SimpleRouter()
    router.register("/look", Look, "GET")
    client = await network.connect(await network.serve(router))
    for bad in ({"get_argument": 1}, {"_data": 1}, {"user": "root"}, {"url": 1}, {"id": []}):
        message = {"method": "GET", "url": "/look", "token": "t", "colour": "red", **bad}
        assert (await ask(client, **message))["status"] == 400
    assert await ask(client, method="GET", url="/look") == {"data": CLEAN, "event_name": None}


@pytest_twisted.ensureDeferred
async def test_a_view_that_changes_its_request_changes_no_other(network):
    class Changes(MethodBasedView):
        def get(self, request, items=(), **options):
            seen = [list(request.args), getattr(self, "mark", None), options.get("mark")]
            request.args["mark"] = options["mark"] = self.mark = "set"
            request.mark = request.token = request.event_name = "set"
            return seen

    router = hello_router()
    router.register("/changes", Changes, "GET")
    client = await network.connect(await network.serve(router))
    for _ in range(2):
        assert (await ask(client, method="GET", url="/changes"))["data"] == [[], None, None]
        reply = await ask(client, method="GET", url="/changes", args={"items": [1]}, id=1)
        assert reply["data"] == [["items"], None, None]
    assert await reply_to(client, GOOD) == (GOOD_REPLY, False)


class Guard(AbstractMiddleware):
    """Set what a client may not."""

    request_attributes = ("role", "tenant")

    def process_request(self, request, handler):
        request.role = "guest"


class Role(MethodBasedView):
    def get(self, request):
        return request.role


@pytest.mark.parametrize("name", ["role", "tenant"])
@pytest_twisted.ensureDeferred
async def test_a_key_that_a_middleware_sets_cannot_be_sent(network, name):
    router = SimpleRouter()
    router.register("/role", Role, "GET")
    router.middlewares.append(Guard())
    client = await network.connect(await network.serve(router))
    message = f'{{"method":"GET","url":"/role","{name}":"admin",{SENT}}}'
    detail = f"The key {name!r} is reserved and cannot be sent."
    assert await reply_to(client, message.encode()) == (failure(400, detail, SENT), False)
    expected = b'{"data":"guest","event_name":null}'
    assert await reply_to(client, b'{"method":"GET","url":"/role"}') == (expected, False)


note: contextvars.ContextVar[str] = contextvars.ContextVar("note", default="clean")


class Notes(MethodBasedView):
    """Tell what the context variable holds, and leave something in it."""

    def get(self, request):
        found = note.get()
        note.set(request.event_name)
        return found


class NotesOfCoroutine(Notes):
    async def get(self, request):
        return super().get(request)


class NotesAcrossTurns(Notes):
    async def get(self, request):
        found = super().get(request)
        await soon(request)
        assert note.get() == request.event_name
        return found


class NotesOfDeferred(Notes):
    def get(self, request):
        found = super().get(request)
        return soon(request).addCallback(lambda _: found)


class NotesBeside(Notes):
    blocking = True


class NoteTaker(AbstractMiddleware):
    def process_request(self, request, handler):
        assert note.get() == "clean"
        note.set("middleware")


@pytest.mark.parametrize(
    "view",
    [
        Notes,
        NotesOfCoroutine,
        NotesAcrossTurns,
        NotesOfDeferred,
        NotesBeside,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_context_variable_is_for_one_request(network, view):
    router = SimpleRouter()
    router.register("/notes", view, "GET")
    # One thread, so that the second blocking call is in the thread of the first.
    factory = RequestHandlerFactory(router=router, blocking_threads=1)
    port = await network.serve(factory=factory)
    first, second = await network.connect(port), await network.connect(port)
    for client in (first, first, second):
        reply = await ask(client, method="GET", url="/notes", event_name="mine")
        assert reply == {"data": "clean", "event_name": "mine"}
    replies = await gatherResults(
        [
            reply_to(client, b'{"method":"GET","url":"/notes","event_name":"%d"}' % number)
            for number, client in enumerate([first, second])
        ]
    )
    assert replies == [
        (b'{"data":"clean","event_name":"%d"}' % number, False) for number in range(2)
    ]
    assert note.get() == "clean"


@pytest.mark.parametrize(
    "view",
    [
        Notes,
        NotesOfCoroutine,
        NotesAcrossTurns,
        NotesBeside,
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_view_sees_the_context_of_its_own_middlewares_only(network, view):
    router = SimpleRouter()
    router.register("/notes", view, "GET")
    router.middlewares.append(NoteTaker())
    client = await network.connect(await network.serve(router))
    for _ in range(2):
        reply = await ask(client, method="GET", url="/notes", event_name="mine")
        assert reply == {"data": "middleware", "event_name": "mine"}


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_what_is_kept_by_task_is_for_one_request(network):
    # SQLAlchemy's async_scoped_session(scopefunc=asyncio.current_task) keeps sessions so.
    import asyncio
    import weakref

    sessions: Any = weakref.WeakKeyDictionary()

    class Sessions(MethodBasedView):
        async def get(self, request):
            session = sessions.setdefault(asyncio.current_task(), [])
            session.append(request.event_name)
            await asyncio.sleep(0)
            return session

    router = SimpleRouter()
    router.register("/sessions", Sessions, "GET")
    client = await network.connect(await network.serve(router))
    for name in ("first", "second"):
        reply = await ask(client, method="GET", url="/sessions", event_name=name)
        assert reply == {"data": [name], "event_name": name}


@pytest.mark.logs_errors
@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
@pytest_twisted.ensureDeferred
async def test_an_exception_is_not_the_context_of_the_next(network, caplog, later):
    class Alternates(MethodBasedView):
        def get(self, request):
            raise ValueError(request.event_name)

        async def post(self, request):
            await soon(request)
            raise ValueError(request.event_name)

        def put(self, request):
            return repr(sys.exc_info()[1])

    router = SimpleRouter()
    router.register("/alternates", Alternates, ["GET", "POST", "PUT"])
    client = await network.connect(await network.serve(router))
    method = "POST" if later else "GET"
    for name in ("first", "second"):
        reply = await ask(client, method=method, url="/alternates", event_name=name)
        assert reply == {"detail": OUR_FAULT, "status": 500, "event_name": name}
    assert (await ask(client, method="PUT", url="/alternates"))["data"] == "None"
    raised = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [str(exc) for exc in raised] == ["first", "second"]
    assert [exc.__context__ for exc in raised] == [None, None]


@pytest_twisted.ensureDeferred
async def test_replies_that_overtake_each_other_reach_their_own_clients(network):
    class Overtakes(MethodBasedView):
        waiting: list[Any] = []

        def get(self, request):
            self.waiting.append((Deferred(), request))
            if len(self.waiting) == 4:
                # Later: a view that returns what has fired already may be answered last.
                request.factory.reactor.callLater(0, self.answer)
            return self.waiting[-1][0]

        def answer(self):
            for answer, of in reversed(self.waiting):
                port = of.connection.transport.getPeer().port
                answer.callback([of.token, port, of.colour])

    router = SimpleRouter()
    router.register("/overtakes", Overtakes, "GET")
    port = await network.serve(router)
    clients = [await network.connect(port) for _ in range(2)]
    for number in range(2):
        for index, client in enumerate(clients):
            message = {"token": f"t{index}", "colour": f"c{number}", "id": number}
            client.send({"method": "GET", "url": "/overtakes", **message})
            # In the order of sending, whichever connection is read first.
            if len(Overtakes.waiting) < 3:
                assert await reply_to(client, b"{}") == (failure(400, NO_URL), False)
    for index, client in enumerate(clients):
        port = client.transport.getHost().port
        for number in (1, 0):
            reply = json.loads(await client.receive())
            expected = [f"t{index}", port, f"c{number}"]
            assert reply == {"data": expected, "event_name": None, "id": number}
