"""Messages to requests, replies to messages."""

import base64
import copy
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiorest_ws.codecs import (
    MAX_ID_BYTES,
    MAX_NESTING,
    decode_message,
    encode_failure,
    encode_internal_error,
    encode_json,
    encode_message,
    load_json,
)
from aiorest_ws.exceptions import BaseAPIException, MalformedMessage, SerializerError
from aiorest_ws.wrappers import Request

# No test hangs on the speed of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEYS = ("method", "url", "args", "data", "event_name", "id", "timeout", "token", "since")
SINCE = {"epoch": "e", "offset": 0}

texts = st.text(st.characters(codec="utf-8"), max_size=8)
integers = st.integers(-(2**63), 2**64 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | integers | finite | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(KEYS) | texts | st.sampled_from(["colour", "get_argument", "_x", "user"])
good_messages = st.fixed_dictionaries(
    {"method": st.sampled_from(["GET", "post"]), "url": texts},
    optional={
        "args": st.dictionaries(texts, values, max_size=3) | st.none(),
        "data": values,
        "event_name": values,
        "id": texts | integers,
        "timeout": st.floats(0.001, 1e9) | st.integers(1, 10**9),
        "token": texts,
        "since": st.just(SINCE),
        "colour": values,
        "a b": values,
    },
)


def as_json(value, **options):
    return json.dumps(value, ensure_ascii=False, **options).encode()


def refusal(payload, is_binary=False):
    """What a client is told about a message that cannot be read."""
    with pytest.raises(MalformedMessage) as caught:
        decode_message(payload, is_binary)
    return json.loads(encode_failure(caught.value))


def read_or_refused(payload, is_binary=False):
    """Read a message that may be anything; what is wrong with it must be sayable."""
    try:
        request = decode_message(payload, is_binary)
    except MalformedMessage as exc:
        reply = json.loads(encode_failure(exc))
        assert reply["status"] == 400
        assert reply["detail"].endswith(".")
        assert len(reply["detail"]) < 300
        assert list(reply)[:3] == ["detail", "status", "event_name"]
        return None
    assert isinstance(request, Request)
    assert isinstance(request.args, dict)
    return request


# Anything at all


@settings(UNHURRIED, max_examples=300)
@given(st.binary(max_size=300), st.booleans())
@example(b"\xff", False)
@example(b'{"\xff":1}', False)
@example(b'{"url":"\xed\xa0\x80"}', False)
@example(b'{"url":"\xed\xa0\x80","x":1}', False)
@example(b'{"event_name":"\xff"}', False)
@example(b"[" * 100_000, False)
@example(b'{"a":' * 100_000, False)
@example(b'{"url":' + b"[" * 100_000 + b"]" * 100_000 + b"}", False)
@example(b'{"id":' + b"9" * 100_000 + b"}", False)
@example(b'{"id":-' + b"9" * 100_000 + b',"x":1}', False)
def test_arbitrary_bytes_are_a_request_or_malformed(payload, is_binary):
    read_or_refused(payload, is_binary)


@settings(UNHURRIED, max_examples=200)
@given(st.text('{}[]":,0123456789eE+-. \\u\t\nadfilnrstxmhogvpk_', max_size=60))
def test_almost_json_is_a_request_or_malformed(text):
    read_or_refused(text.encode())


@settings(UNHURRIED, max_examples=300)
@given(values | st.dictionaries(names, values, max_size=6))
def test_any_json_is_a_request_or_malformed(value):
    for payload in (as_json(value), json.dumps(value, indent=1).encode()):
        request = read_or_refused(payload)
        if request is None:
            continue
        for name in set(value).difference(["args"]):
            assert getattr(request, name) == value[name]
        assert request.args == (value.get("args") or {})


@st.composite
def mutated(draw):
    payload = bytearray(as_json(draw(good_messages)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(payload)))
        end = draw(st.integers(start, min(len(payload), start + 6)))
        replacement = st.binary(max_size=4) | st.sampled_from(
            [
                b'"',
                b"\\",
                b"{",
                b"}",
                b"[",
                b"]",
                b",",
                b":",
                b"null",
                b"1e999",
                b"\\ud800",
                b"NaN",
            ]
        )
        payload[start:end] = draw(replacement | st.just(bytes(payload[start:end]) * 3))
    return bytes(payload)


@settings(UNHURRIED, max_examples=300)
@given(mutated(), st.booleans())
def test_a_damaged_message_is_a_request_or_malformed(payload, is_binary):
    request = read_or_refused(payload)
    in_base64 = read_or_refused(base64.b64encode(payload), is_binary=True)
    assert (request is None) == (in_base64 is None)
    if request is not None:
        # What was read is what the standard library reads.
        oracle = json.loads(payload)
        for name, value in oracle.items():
            assert getattr(request, name) == (value or {} if name == "args" else value)
    read_or_refused(payload, is_binary)


# Good messages


@UNHURRIED
@given(good_messages, st.booleans())
def test_a_good_message_is_read_as_it_was_meant(message, is_binary):
    payload = as_json(message)
    if len(str(message.get("id", "")).encode()) > MAX_ID_BYTES:
        return
    request = decode_message(base64.b64encode(payload) if is_binary else payload, is_binary)
    for name in KEYS:
        expected = message.get(name)
        if name == "args" and expected is None:
            expected = {}
        assert getattr(request, name) == expected
    extra = [name for name in message if name not in KEYS]
    assert set(request.extra_names) == set(extra)
    for name in extra:
        assert getattr(request, name) == message[name]


def test_keys_that_are_missing_and_keys_that_are_null_are_the_same():
    missing, null = decode_message(b"{}"), decode_message(as_json(dict.fromkeys(KEYS)))
    for name in KEYS:
        assert getattr(missing, name) == getattr(null, name)
    assert missing.args == null.args == {}
    assert decode_message(as_json({**dict.fromkeys(KEYS), "colour": None})).args == {}


def test_of_a_key_sent_twice_the_last_one_counts():
    assert decode_message(b'{"url":"/a","url":"/b"}').url == "/b"
    assert decode_message(b'{"url":"/a","x":1,"url":"/b","x":2}').x == 2


@pytest.mark.parametrize("name", ["event_name", "data"])
def test_what_was_sent_with_it_is_not_shared(name):
    payload = as_json({"url": "/", name: {"a": [1]}, "args": {"a": [1]}})
    first, second = decode_message(payload), decode_message(payload)
    getattr(first, name)["a"].append(2)
    first.args["a"].append(2)
    assert getattr(second, name) == second.args == {"a": [1]}


# Reserved keys

WRONG = [
    ("url", 1, "`url` must be a string, not an integer."),
    ("url", False, "`url` must be a string, not a boolean."),
    ("url", ["/"], "`url` must be a string, not an array."),
    ("args", [], "`args` must be an object, not an array."),
    ("args", 1.5, "`args` must be an object, not a number."),
    ("token", {}, "`token` must be a string, not an object."),
    ("timeout", "1", "`timeout` must be a number, not a string."),
    ("timeout", True, "`timeout` must be a number, not a boolean."),
    ("since", "e", "`since` must be an object, not a string."),
    ("id", 1.0, "`id` must be a string or an integer, not a number."),
    ("id", True, "`id` must be a string or an integer, not a boolean."),
    ("id", "é" * 65, "`id` must not be longer than 128 bytes."),
    ("timeout", 0, "`timeout` must be finite and above 0."),
    ("timeout", -0.5, "`timeout` must be finite and above 0."),
    *(
        (
            "since",
            since,
            (
                "`since` must have a string `epoch` and an integer `offset` of 0 or more, or only "
                "`last`, an integer of 0 or more."
            ),
        )
        for since in (
            {},
            {"epoch": "e"},
            {"offset": 0},
            {"epoch": "e", "offset": -1},
            {"epoch": "e", "offset": 1.0},
            {"epoch": "e", "offset": True},
            {"epoch": None, "offset": 0},
        )
    ),
]


@pytest.mark.parametrize("further", [{}, {"colour": 1}])
@pytest.mark.parametrize(("name", "value", "detail"), WRONG)
def test_a_reserved_key_of_the_wrong_kind_is_refused(name, value, detail, further):
    reply = refusal(as_json({"url": "/", name: value, "event_name": ["e"], **further}))
    assert reply == {"detail": detail, "status": 400, "event_name": ["e"]}


@pytest.mark.parametrize("further", [{}, {"colour": 1}])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", ""),
        ("id", "a" * 128),
        ("id", "é" * 64),
        ("id", 0),
        ("id", -(2**63)),
        ("id", 2**64 - 1),
        ("timeout", 1),
        ("timeout", 0.001),
        ("timeout", 1e300),
        ("since", {"epoch": "", "offset": 0}),
        ("since", {"epoch": "e", "offset": 2**63, "more": 1}),
        ("token", ""),
        ("url", ""),
        ("args", {"": None}),
        ("method", ["any", "thing"]),
    ],
)
def test_a_reserved_key_at_its_limit_is_taken(name, value, further):
    assert getattr(decode_message(as_json({name: value, **further})), name) == value


def test_a_refusal_repeats_event_name_and_id():
    reply = refusal(as_json({"url": 1, "event_name": {"n": 1}, "id": "c-7"}))
    assert list(reply) == ["detail", "status", "event_name", "id"]
    assert (reply["event_name"], reply["id"]) == ({"n": 1}, "c-7")


def test_an_id_that_is_refused_is_not_repeated():
    for bad in (1.5, [], "a" * 129):
        for further in ({}, {"x": 1}):
            assert "id" not in refusal(as_json({"id": bad, "event_name": 1, **further}))


# What is no JSON to us, and what can still be read of it

DEEP = "[" * 10_000 + "]" * 10_000
DEEP_OBJECT = '{"a":' * 5_000 + "1" + "}" * 5_000
NO_JSON = "The message is not valid JSON."
OUT_OF_RANGE = "The value of 'data' holds a number that is out of range."
UNNAMED = {"event_name": None}
HALF = "The message is not valid JSON: it holds half of a surrogate pair."
TOO_DEEP = "The message is nested deeper than 128 levels."


@pytest.mark.parametrize(
    ("message", "detail", "echo"),
    [
        ('{"data":NaN,"event_name":["e"],"id":7}', NO_JSON, {"event_name": ["e"], "id": 7}),
        ('{"event_name":Infinity,"id":7}', NO_JSON, {"event_name": None, "id": 7}),
        ('{"data":NaN,"event_name":"e","id":1.5}', NO_JSON, {"event_name": "e"}),
        ('{"data":NaN,"event_name":%s}' % ("[" * 129 + "]" * 129), NO_JSON, {"event_name": None}),
        ("[NaN]", "The message must be a JSON object.", {"event_name": None}),
        ('{"event_name":"e"', "The message is not valid JSON (line 1, column 18).", UNNAMED),
        ('{"data":\n1e999,"event_name":"e","id":7}', OUT_OF_RANGE, {"event_name": "e", "id": 7}),
        (f'{{"event_name":"e","data":[{"9" * 4301}]}}', OUT_OF_RANGE, {"event_name": "e"}),
        (r'{"data":"\ud800","event_name":"e","id":7}', HALF, {"event_name": "e", "id": 7}),
        (r'{"event_name":"\udfff","id":7}', HALF, {"event_name": None, "id": 7}),
        (r'{"event_name":"e","id":"\ud800"}', HALF, {"event_name": "e"}),
        (r'{"\ud800":1,"event_name":"e"}', HALF, {"event_name": "e"}),
        (f'{{"data":{DEEP},"event_name":"e","id":7}}', TOO_DEEP, {"event_name": "e", "id": 7}),
        (f'{{"event_name":["e"],"id":7,"data":{DEEP}}}', TOO_DEEP, {"event_name": ["e"], "id": 7}),
        (f'{{"id":7,"event_name":{DEEP}}}', TOO_DEEP, {"event_name": None, "id": 7}),
        (f'{{"data":{DEEP_OBJECT},"event_name":"e"}}', TOO_DEEP, {"event_name": "e"}),
        (
            f'{{"a":{DEEP},"event_name":{{"]":"[\\"{{\\\\"}},"b":{DEEP_OBJECT},"id":"[["}}',
            TOO_DEEP,
            {"event_name": {"]": '["{\\'}, "id": "[["},
        ),
        (f'{{"event_name":"e","id":{DEEP}}}', TOO_DEEP, {"event_name": "e"}),
    ],
)
@pytest.mark.parametrize("is_binary", [False, True])
def test_a_refusal_repeats_what_can_be_read_of_a_message(message, detail, echo, is_binary):
    payload = base64.b64encode(message.encode()) if is_binary else message.encode()
    reply = refusal(payload, is_binary)
    assert reply == {"detail": detail, "status": 400, **echo}


@pytest.mark.parametrize(
    ("payload", "subject", "echo"),
    [
        (b'{"data":"\xff","event_name":"e"}', "The value of 'data'", "e"),
        (b'{"event_name":"\xff","colour":1}', "The value of 'event_name'", None),
        (b'{"\xff":1,"event_name":"e"}', "The message", None),
    ],
)
def test_invalid_utf_8_says_so(payload, subject, echo):
    reply = refusal(base64.b64encode(payload), is_binary=True)
    assert (reply["detail"], reply["event_name"]) == (f"{subject} is not valid UTF-8.", echo)


def test_a_message_that_is_no_object_says_so():
    for payload in (b"[]", b"null", b'"{}"', b"1"):
        assert refusal(payload)["detail"] == "The message must be a JSON object."


# Base64


@UNHURRIED
@given(st.binary())
def test_a_reply_in_base64_is_read_back(reply):
    assert base64.b64decode(encode_message(reply, True), validate=True) == reply
    assert encode_message(reply, True) == base64.b64encode(reply)
    assert encode_message(reply) == encode_message(reply, False) == reply


@UNHURRIED
@given(good_messages, st.sampled_from([b"\r\n", b"\n", b" ", b"\t"]), st.integers(1, 80))
def test_line_breaks_in_base64_do_not_matter(message, blank, width):
    encoded = base64.b64encode(as_json(message))
    lines = blank.join(encoded[n : n + width] for n in range(0, len(encoded), width)) + blank
    assert decode_message(lines, True).url == message["url"]


@UNHURRIED
@given(st.binary(min_size=1).filter(lambda raw: raw.strip(b" \t\r\n")))
def test_what_is_not_base64_says_so(raw):
    compact = raw.translate(None, b" \t\r\n")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
    if any(byte not in alphabet for byte in compact):
        reply = refusal(raw, is_binary=True)
        assert reply["detail"] == "The message is not valid base64."


@pytest.mark.parametrize(
    "payload", [b"e30", b"e30==", b"=e30=", b"e30=e30=", b"e3=0", b"e", b"e30-"]
)
def test_damaged_padding_is_refused(payload):
    assert refusal(payload, True)["detail"] == "The message is not valid base64."


def test_a_binary_message_is_base64_and_a_text_message_is_not():
    assert decode_message(b"e30=", True).args == {}
    assert refusal(b"e30=")["detail"] == "The message is not valid JSON (line 1, column 1)."
    assert refusal(b"{}", True)["detail"] == "The message is not valid base64."
    assert refusal(b"", True)["detail"] == "The message is empty."


# Nesting


def naive_depth(text):
    """How deep a JSON text is nested, character by character."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


# Everything that could lead a counter astray.
misleading = st.text('[]{}"\\,:aé\n\x1f\u2028', max_size=40)


@st.composite
def nested_values(draw):
    """A value that is nested about as deep as it may be, with misleading text at every level."""
    value = draw(misleading)
    floors = draw(
        st.lists(
            st.tuples(misleading, misleading | st.just([]) | st.just({}), st.integers(0, 4)),
            min_size=1,
            max_size=5,
        )
    )
    for level in range(draw(st.integers(110, 140))):
        key, sibling, shape = floors[level % len(floors)]
        value = (
            [value],
            [sibling, value],
            [value, sibling],
            {key: value},
            {f"{key}a": sibling, key: value},
        )[shape]
    return value


EXACTLY_AT_THE_LIMIT = json.loads("[" * MAX_NESTING + '"]\\""' + "]" * MAX_NESTING)


@settings(UNHURRIED, max_examples=100)
@given(nested_values(), st.booleans(), st.sampled_from(["data", "event_name", "args", "colour"]))
@example(EXACTLY_AT_THE_LIMIT, False, "event_name")
@example([EXACTLY_AT_THE_LIMIT], False, "event_name")
@example(EXACTLY_AT_THE_LIMIT[0], False, "event_name")
def test_a_message_is_refused_when_a_naive_counter_says_it_is_too_deep(value, in_ascii, name):
    message = {"url": "/", name: {"in": value} if name == "args" else value}
    text = json.dumps(message, ensure_ascii=in_ascii)
    if naive_depth(text) > MAX_NESTING:
        reply = refusal(text.encode())
        assert reply["detail"] == "The message is nested deeper than 128 levels."
        # The message is too deep by a level, its event_name itself is not.
        echoed = name == "event_name" and naive_depth(json.dumps(value)) <= MAX_NESTING
        assert reply["event_name"] == (value if echoed else None)
    else:
        assert getattr(decode_message(text.encode()), name) == message[name]


@settings(UNHURRIED, max_examples=100)
@given(st.lists(misleading, min_size=20, max_size=40))
def test_brackets_in_strings_are_not_levels(strings):
    text = json.dumps({"data": ["[" * 200 + '{"\\', *strings, "\\" * 31 + '"' + "[{" * 100]})
    assert naive_depth(text) == 2
    assert decode_message(text.encode()).data[1:-1] == strings


@pytest.mark.parametrize("further", ["", ',"colour":1'])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    ("levels", "fits"), [(126, True), (127, True), (128, False), (129, False)]
)
def test_128_levels_are_taken_and_129_are_not(levels, fits, opening, closing, further):
    value = opening * levels + ("1" if opening != "[" else "") + closing * levels
    payload = f'{{"data":{value},"event_name":"e","id":7{further}}}'.encode()
    if fits:
        assert decode_message(payload).data == json.loads(value)
    else:
        assert refusal(payload) == {
            "detail": "The message is nested deeper than 128 levels.",
            "status": 400,
            "event_name": "e",
            "id": 7,
        }


def test_many_values_side_by_side_are_not_deep():
    data = [[], {}] * 5000
    assert decode_message(as_json({"data": data})).data == data


# Replies


@UNHURRIED
@given(values)
def test_what_was_encoded_is_read_back(value):
    encoded = encode_json(value)
    assert json.loads(encoded) == load_json(encoded) == value


def test_encoding_leaves_a_value_as_it_is():
    value = {"a": [1, float("nan"), "\u2028"], "b": {"c": ()}}
    before = copy.deepcopy(value)
    encode_json(value)
    assert str(value) == str(before)


@pytest.mark.parametrize("value", [object(), "\ud800", {(): 1}, [{"a": 1j}]])
def test_what_cannot_be_encoded_is_a_serializer_error(value):
    with pytest.raises(SerializerError) as caught:
        encode_json(value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("exc", "request_", "reply"),
    [
        (BaseAPIException("no"), None, b'{"detail":"no","status":400,"event_name":null}'),
        (
            BaseAPIException({"field": ["bad"]}, status=422),
            Request(event_name=[1], id=0),
            b'{"detail":{"field":["bad"]},"status":422,"event_name":[1],"id":0}',
        ),
        (
            MalformedMessage("no", event_name="e", request_id="c-7"),
            None,
            b'{"detail":"no","status":400,"event_name":"e","id":"c-7"}',
        ),
        # What is known of the request goes before what the exception could read of it.
        (
            MalformedMessage("no", event_name="e", request_id="c-7"),
            Request(event_name="r"),
            b'{"detail":"no","status":400,"event_name":"r"}',
        ),
    ],
)
def test_a_failure_on_the_wire(exc, request_, reply):
    assert encode_failure(exc, request_) == reply


def test_a_fault_of_ours_can_always_be_told():
    ours = b'{"detail":"Internal server error.","status":500,"event_name":%s}'
    assert encode_internal_error() == ours % b"null"
    assert encode_internal_error(Request(event_name="e", id=7)) == ours % b'"e","id":7'
    assert encode_internal_error(Request(event_name=object(), id=7)) == ours % b"null"


def test_a_failure_that_cannot_be_encoded_is_a_serializer_error():
    with pytest.raises(SerializerError):
        encode_failure(BaseAPIException(object()))


def levels(count):
    return b"[" * count + b"]" * count


@pytest.mark.parametrize("beside", [0, 1, 7, 8, 9, 30, 126])
@pytest.mark.parametrize("where", [0, 20, 40])
def test_one_value_among_many_is_too_deep(beside, where):
    def message(deepest):
        values = [levels(beside) or b'"["'] * 40
        values.insert(where, levels(deepest))
        return b'{"data":[' + b",".join(values) + b"]}"

    assert decode_message(message(126)).data[where]
    with pytest.raises(MalformedMessage, match="nested deeper than 128 levels"):
        decode_message(message(127))
