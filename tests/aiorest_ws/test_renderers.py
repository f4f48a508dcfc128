"""Replies to bytes: JSON against the standard library's, XML against its parser."""

import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import json
import math
import re
import types
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.exceptions import SerializerError
from aiorest_ws.renderers import BaseRenderer, JSONRenderer, XMLRenderer
from aiorest_ws.test.utils import override_settings

# No test hangs on the speed of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LINE_ENDS = "a\u2028b\u2029c\u2027\u202a"


class Spacious(JSONRenderer):
    compact = False


class ASCIIOnly(JSONRenderer):
    ensure_ascii = True


class SpaciousASCII(JSONRenderer):
    compact = False
    ensure_ascii = True


ALL_JSON = (JSONRenderer, Spacious, ASCIIOnly, SpaciousASCII)

texts = st.text(st.characters(codec="utf-8"))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts
finite = st.floats(allow_nan=False, allow_infinity=False)


def json_values(leaves):
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20
    )


def standard(value, renderer):
    text = json.dumps(
        value,
        ensure_ascii=renderer.ensure_ascii,
        separators=(",", ":") if renderer.compact else (", ", ": "),
    )
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


# JSON


@UNHURRIED
@given(json_values(scalars))
def test_json_is_the_standard_librarys(value):
    for renderer in ALL_JSON:
        assert renderer().render(value) == standard(value, renderer)


@UNHURRIED
@given(json_values(scalars | finite))
def test_json_is_read_back_as_it_was(value):
    for renderer in ALL_JSON:
        assert json.loads(renderer().render(value)) == value


@UNHURRIED
@given(json_values(st.floats()))
def test_what_is_no_number_is_null(value):
    def with_nulls(inner):
        if isinstance(inner, list):
            return [with_nulls(item) for item in inner]
        if isinstance(inner, dict):
            return {key: with_nulls(item) for key, item in inner.items()}
        return inner if math.isfinite(inner) else None

    for renderer in ALL_JSON:
        assert json.loads(renderer().render(value)) == with_nulls(value)


def test_a_reply_in_the_forms_of_the_contract():
    reply = {"data": "Hello, wörld!", "event_name": None, "list": [1, math.nan, -math.inf]}
    assert JSONRenderer().render(reply) == (
        '{"data":"Hello, wörld!","event_name":null,"list":[1,null,null]}'.encode()
    )
    assert Spacious().render(reply) == (
        '{"data": "Hello, wörld!", "event_name": null, "list": [1, null, null]}'.encode()
    )
    assert ASCIIOnly().render(reply) == (
        rb'{"data":"Hello, w\u00f6rld!","event_name":null,"list":[1,null,null]}'
    )
    assert SpaciousASCII().render(reply) == (
        rb'{"data": "Hello, w\u00f6rld!", "event_name": null, "list": [1, null, null]}'
    )


@pytest.mark.parametrize("renderer", ALL_JSON)
def test_what_ends_a_line_in_javascript_is_escaped(renderer):
    encoded = renderer().render({LINE_ENDS: [LINE_ENDS]})
    assert b"\xe2\x80\xa8" not in encoded
    assert b"\xe2\x80\xa9" not in encoded
    assert encoded.count(rb"\u2028") == encoded.count(rb"\u2029") == 2
    assert json.loads(encoded) == {LINE_ENDS: [LINE_ENDS]}


def test_only_what_ends_a_line_is_escaped():
    assert JSONRenderer().render(LINE_ENDS) == (
        b'"a\\u2028b\\u2029c' + "\u2027\u202a".encode() + b'"'
    )


class Shout(str):
    """A string that shows itself otherwise."""

    __slots__ = ()

    def __str__(self):
        return "SHOUTED"


class Number(int):
    def __int__(self):
        return -1


class Ratio(float):
    __slots__ = ()


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Place:
    name: str
    at: Point


@pytest.mark.parametrize("renderer", ALL_JSON)
@pytest.mark.parametrize(
    "value",
    [
        Shout("quiet"),
        Number(7),
        Ratio(1.5),
        Colour.RED,
        Level.LOW,
        Point(1, 2),
        (1, (2,)),
        collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, a=[1]),
        collections.Counter("aab"),
        {Shout("key"): Shout("value")},
        {1: "a", 2.5: "b"},
        {Colour.RED: Level.LOW},
        {None: 1, True: 2, False: 3},
        type("Items", (list,), {})([1]),
    ],
)
def test_what_the_standard_library_takes_is_taken(renderer, value):
    assert json.loads(renderer().render(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize("renderer", ALL_JSON)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (types.MappingProxyType({"a": 1}), '{"a":1}'),
        ({1}, "[1]"),
        (frozenset(), "[]"),
        (decimal.Decimal("1.50"), '"1.50"'),
        (datetime.date(2024, 2, 29), '"2024-02-29"'),
        (Place("here", Point(1, 2)), '{"name":"here","at":[1,2]}'),
    ],
)
def test_some_more_is_taken(renderer, value, text):
    assert json.loads(renderer().render(value)) == json.loads(text)


def endless():
    value = []
    value.append(value)
    return value


class Unwilling(collections.abc.Mapping):
    def __getitem__(self, key):
        raise KeyError(key)

    def __iter__(self):
        raise RuntimeError("no keys for you")

    def __len__(self):
        return 1


@pytest.mark.parametrize("renderer", ALL_JSON)
@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"data": object()},
        [lambda: 1],
        endless(),
        "\ud800",
        {"\udfff": 1},
        {(1, 2): 3},
        1j,
        (item for item in ()),
        Unwilling(),
        JSONRenderer,
    ],
)
def test_what_json_cannot_hold_is_a_serializer_error(renderer, value):
    with pytest.raises(SerializerError) as caught:
        renderer().render(value)
    assert caught.value.status == 500
    assert caught.value.detail == "The reply cannot be rendered."
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("renderer", ALL_JSON)
@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 3**200, 10**308])
def test_a_huge_integer_is_rendered_digit_by_digit(renderer, number):
    assert renderer().render({"data": number}) == standard({"data": number}, renderer)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("unicode", [True, False])
def test_the_settings_give_the_defaults(compact, unicode):
    before = JSONRenderer().render(["é", 1])
    with override_settings(COMPACT_JSON=compact, UNICODE_JSON=unicode):
        assert JSONRenderer.compact is JSONRenderer().compact is compact
        assert JSONRenderer.ensure_ascii is JSONRenderer().ensure_ascii is not unicode
        assert JSONRenderer().render(["é", {"a": 1}]) == standard(["é", {"a": 1}], JSONRenderer)
    assert JSONRenderer().render(["é", 1]) == before == '["é",1]'.encode()


def test_a_subclass_does_not_ask_the_settings():
    with override_settings(COMPACT_JSON=True, UNICODE_JSON=True):
        assert SpaciousASCII().render(["é", 1]) == b'["\\u00e9", 1]'
    with override_settings(COMPACT_JSON=False, UNICODE_JSON=False):
        assert (
            type("Own", (JSONRenderer,), {"compact": True, "ensure_ascii": False})().render(
                ["é", 1]
            )
            == '["é",1]'.encode()
        )


def test_one_renderer_can_be_set_alone():
    renderer = JSONRenderer()
    renderer.compact = False
    assert renderer.render([1, 2]) == b"[1, 2]"
    assert JSONRenderer().render([1, 2]) == b"[1,2]"


def test_formats():
    assert JSONRenderer.format == "json"
    assert XMLRenderer.format == "xml"
    assert BaseRenderer.format is None


def test_render_is_for_subclasses_to_define():
    with pytest.raises(NotImplementedError):
        BaseRenderer().render({})


# XML

# What XML can hold; a carriage return is tested on its own.
xml_characters = st.characters(
    exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff", include_characters="\t\n"
)
xml_texts = st.text(xml_characters)
tags = st.from_regex(r"[A-Za-z_À-ÖØ-öø-ÿ][A-Za-z0-9_.\-À-ÖØ-öø-ÿ]*", fullmatch=True)
xml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | xml_texts,
    lambda inner: st.lists(inner) | st.dictionaries(tags, inner),
    max_leaves=20,
)


def assert_is(element, value):
    """Compare an element with the value that it was made of."""
    if isinstance(value, dict):
        assert [child.tag for child in element] == list(value)
        for child, member in zip(element, value.values(), strict=True):
            assert_is(child, member)
    elif isinstance(value, (list, tuple)):
        assert {child.tag for child in element} <= {"list-item"}
        for child, item in zip(element, value, strict=True):
            assert_is(child, item)
    else:
        assert len(element) == 0
        assert (element.text or "") == ("" if value is None else str(value))


@UNHURRIED
@given(xml_values)
def test_xml_is_read_back_as_it_was(value):
    root = ElementTree.fromstring(XMLRenderer().render(value))
    assert root.tag == "root"
    assert_is(root, value)


def test_xml_byte_by_byte():
    value = {"data": [1, "a<b>&\"'", None, {"x": "é"}, ()], "event_name": None}
    assert (
        XMLRenderer().render(value)
        == (
            '<?xml version="1.0" encoding="utf-8"?>\n'
            "<root><data><list-item>1</list-item><list-item>a&lt;b&gt;&amp;\"'</list-item>"
            "<list-item></list-item><list-item><x>é</x></list-item><list-item></list-item></data>"
            "<event_name></event_name></root>"
        ).encode()
    )


def test_a_subclass_names_root_and_items():
    class Feed(XMLRenderer):
        root_name = "feed"
        item_name = "entry"

    assert Feed().render([1]).endswith(b"\n<feed><entry>1</entry></feed>")


def test_a_subclass_chooses_the_charset():
    class Latin(XMLRenderer):
        charset = "iso-8859-1"

    class Unnamed(XMLRenderer):
        charset = None

    encoded = Latin().render("é")
    assert b'encoding="iso-8859-1"' in encoded
    assert b"<root>\xe9</root>" in encoded
    assert ElementTree.fromstring(encoded).text == "é"
    assert Unnamed().render("é") == XMLRenderer().render("é")
    with pytest.raises(SerializerError):
        Latin().render("€")


# Productions 4 and 4a, the colon left out.
NAME_START = (
    r"A-Z_a-z\xC0-\xD6\xD8-\xF6\xF8-\u02FF\u0370-\u037D\u037F-\u1FFF\u200C-\u200D"
    r"\u2070-\u218F\u2C00-\u2FEF\u3001-\uD7FF\uF900-\uFDCF\uFDF0-\uFFFD\U00010000-\U000EFFFF"
)
FIFTH_EDITION_NAME = rf"[{NAME_START}][{NAME_START}\-.0-9\xB7\u0300-\u036F\u203F-\u2040]*"


@UNHURRIED
@given(st.text(max_size=4))
def test_a_key_is_written_if_it_is_a_name_and_refused_if_not(key):
    if re.fullmatch(FIFTH_EDITION_NAME, key):
        assert f"<root><{key}></{key}></root>".encode() in XMLRenderer().render({key: None})
    else:
        with pytest.raises(SerializerError):
            XMLRenderer().render({key: None})


@pytest.mark.parametrize(
    "name",
    ["", "a b", "1a", "-a", ".a", "a:b", "a>", "<a", "a/b", 'a="b"', "a\n", "é é", 1, None, (1,)],
)
def test_a_key_that_is_no_xml_name_is_a_serializer_error(name):
    with pytest.raises(SerializerError) as caught:
        XMLRenderer().render({"data": {name: 1}})
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "name", ["µ", "ª", "²", "a²", "a\u0301", "٣", "a٣", "ʰ", "\xd7", "\u037e"]
)
def test_a_letter_to_python_is_not_always_one_to_xml(name):
    """By the fifth edition; Python's own parser goes by the fourth, which allows less."""
    if re.fullmatch(FIFTH_EDITION_NAME, name):
        assert f"<root><{name}>1</{name}></root>".encode() in XMLRenderer().render({name: 1})
    else:
        with pytest.raises(SerializerError):
            XMLRenderer().render({name: 1})


@pytest.mark.parametrize(
    "text", ["\x00", "a\x0bb", "\x1f", "\ud800", "\ufffe", "a\uffff", "\x08\x0c"]
)
def test_a_character_that_xml_cannot_hold_is_a_serializer_error(text):
    with pytest.raises(SerializerError):
        XMLRenderer().render({"data": text})


@pytest.mark.parametrize(
    "text", ["\t\n", "\x7f", "\x85", "\u2028\u2029", "\ud7ff\ue000\ufffd", "𝄞"]
)
def test_an_odd_character_that_xml_can_hold_is_kept(text):
    assert ElementTree.fromstring(XMLRenderer().render(text)).text == text


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "\r"])
def test_a_carriage_return_is_kept(text):
    assert ElementTree.fromstring(XMLRenderer().render(text)).text == text


@pytest.mark.parametrize(
    ("value", "items"),
    [({"one"}, ["one"]), (types.MappingProxyType({"a": "one"}), ["one"])],
)
def test_what_json_takes_as_a_container_xml_does_too(value, items):
    assert [e.text for e in ElementTree.fromstring(XMLRenderer().render(value))] == items


class Unspeakable:
    def __str__(self):
        raise RuntimeError("not a word")


@pytest.mark.parametrize("value", [endless(), Unspeakable(), {"data": [Unspeakable()]}])
def test_a_value_that_xml_cannot_hold_is_a_serializer_error(value):
    with pytest.raises(SerializerError) as caught:
        XMLRenderer().render(value)
    assert isinstance(caught.value.__cause__, RuntimeError)
