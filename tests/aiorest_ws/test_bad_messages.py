"""Bad messages over a real socket: the exact failure each gets.

Every reply is judged by the wire protocol, and after each of them the same connection has to
answer a good request.
"""

import base64
import sys

import pytest
import pytest_twisted

from aiorest_ws.views import MethodBasedView
from support.bad_input import GOOD, GOOD_REPLY, NO_URL, SENT, failure, hello_router, reply_to

NO_HANDLER = "For URL, typed in request, handler not specified."
NO_ID = "`id` is missing: CANCEL ends the call that has it."
NO_METHOD = "In query not specified `method` argument."
METHOD_TYPE = "Method name should be a string type."


EMPTY = "The message is empty."
NOT_AN_OBJECT = "The message must be a JSON object."
RESERVED = "The argument 'preferred_format' is reserved."
FIRST_CHARACTER = "The message is not valid JSON (line 1, column 1)."
TOO_DEEP = "The message is nested deeper than 128 levels."


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


def router_of_all():
    router = hello_router()
    router.register("/user/{id}", User, ["GET", "POST"])
    router.register("/sum", Sum, ["GET", "POST"])
    router.register("/anything", Anything, ["GET", "POST"])
    return router


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def to_hello(rest: str) -> str:
    return f'{{"method":"GET","url":"/hello",{rest}}}'


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


SINCE = (
    "`since` must have a string `epoch` and an integer `offset` of 0 or more, or only `last`, an "
    "integer of 0 or more."
)
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
    ("/hello?x=1", "GET", "{}", "The argument 'x' is not taken here."),
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


@pytest.mark.slow
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
