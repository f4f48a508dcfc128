"""For random types and values: small and large messages, and msgspec, agree."""

import itertools
import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict, Union
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from aiorest_ws import Data, Request, SimpleRouter
from aiorest_ws.contract.bodies import STRAIGHT_BYTES
from support.contracts import Address, Colour, Level, Node, Pair, Person, Span

SIMPLE = [
    int,
    float,
    bool,
    str,
    None,
    UUID,
    date,
    datetime,
    timedelta,
    bytes,
    Decimal,
    Colour,
    Level,
    Literal["a", 1, None],  # noqa: PYI061  another type than the union
    Annotated[int, Meta(ge=-5, lt=100)],
    Annotated[int, Meta(multiple_of=3)],
    Annotated[float, Meta(gt=0)],
    Annotated[str, Meta(min_length=1, max_length=3)],
    Address,
    Node,
    Pair,
    Person,
    Span,
    Any,
]

# msgspec's schemas tell classes apart by name.
numbers = itertools.count()

NAMES = ["x", "name", "value"]


def struct_of(fields, **options):
    return msgspec.defstruct(
        f"Made{next(numbers)}", list(zip(NAMES, fields, strict=False)), **options
    )


def typed_dict_of(fields):
    return TypedDict(f"Made{next(numbers)}", dict(zip(NAMES, fields, strict=False)), total=False)


def union_of(types):
    """Return the union of types if msgspec takes it, else the first."""
    union = Union[tuple(types)]  # noqa: UP007  of a list
    try:
        msgspec.json.Decoder(union)
    except TypeError:
        return types[0]
    return union


types = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.one_of(
        inner.map(lambda one: list[one]),
        inner.map(lambda one: dict[str, one]),
        inner.map(lambda one: tuple[one, int]),
        inner.map(lambda one: Annotated[list[one], Meta(max_length=2)]),
        st.lists(inner, min_size=1, max_size=3).map(typed_dict_of),
        st.builds(
            struct_of,
            st.lists(inner, min_size=1, max_size=3),
            forbid_unknown_fields=st.booleans(),
            array_like=st.booleans(),
        ),
        st.lists(st.sampled_from([int, str, None, bool, list[int], Colour]), min_size=1).map(
            union_of
        ),
    ),
    max_leaves=4,
)

texts = st.sampled_from(
    [
        *("", "a", "red", "NaN", "1_0", "1.5", "2026-01-02", "2026-01-02T03:04:05Z", "PT5S"),
        *("YWI=", "12345678-1234-5678-1234-567812345678", "\u0665", "street"),
    ]
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-10, 200),
        st.sampled_from([10**25, -(10**25), 2**63, 0.5, -1.0, 1e300]),
        texts,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from([*NAMES, "age", "address", "street", "city", "next", "first", "last"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@st.composite
def fitting(draw, kind):
    """A value that nearly fits: what msgspec's schema of the type describes."""
    schema = msgspec.json.schema(kind)
    return draw(_described(schema, schema.get("$defs", {}), 4))


def _described(schema, definitions, depth):
    if "$ref" in schema:
        if depth < 0:
            return st.none()
        name = schema["$ref"].rpartition("/")[2]
        return _described(definitions[name], definitions, depth - 1)
    if "anyOf" in schema:
        return st.one_of([_described(one, definitions, depth) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "array":
            return _described_array(schema, definitions, depth)
        case "object":
            return _described_object(schema, definitions, depth)
        case kind:
            return PLAIN.get(kind, values)


PLAIN = {
    "integer": st.integers(0, 90).map(lambda number: number * 3),
    "number": st.floats(0.1, 100),
    "boolean": st.booleans(),
    "null": st.none(),
    "string": texts,
}


def _described_array(schema, definitions, depth):
    if "prefixItems" in schema:
        items = [_described(one, definitions, depth) for one in schema["prefixItems"]]
        return st.tuples(*items).map(list)
    item = schema.get("items")
    one = _described(item if isinstance(item, dict) else {}, definitions, depth)
    return st.lists(one, max_size=3)


def _described_object(schema, definitions, depth):
    fields = {
        name: _described(one, definitions, depth)
        for name, one in schema.get("properties", {}).items()
    }
    required = set(schema.get("required", ()))
    needed = {name: one for name, one in fields.items() if name in required}
    others = {name: one for name, one in fields.items() if name not in required}
    return st.fixed_dictionaries(needed, optional=others)


def reply_to(router, text, blanks):
    payload = f'{{"method": "POST", "url": "/x", "data": {text}{blanks}}}'.encode()
    return json.loads(router.process_request(router.decode(payload)))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_small_and_large_messages_are_answered_alike(data):
    kind = data.draw(types)
    made = []
    router = SimpleRouter()

    @router.post("/x")
    def view(request: Request, value: Data[kind]):
        made.append(value)

    for value in (data.draw(fitting(kind)), data.draw(values)):
        text = json.dumps(value)
        made.clear()
        small = reply_to(router, text, "")
        large = reply_to(router, text, " " * STRAIGHT_BYTES)
        assert small == large
        assert len(made) in (0, 2)
        if made:
            assert made[0] == made[1]
            assert small["data"] is None
        else:
            assert small["status"] == 422
            assert small["errors"] != []
            assert all(one["fault"] != "is not valid" for one in small["errors"])
            # msgspec agrees, but for the texts that are no Decimals here, and for no data.
            decimals = any("decimal" in one["fault"] for one in small["errors"])
            assert decimals or value is None or not _fits(text, kind)


def _fits(text, kind):
    try:
        msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError:
        return False
    return True
