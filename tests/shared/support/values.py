"""Values that programs have, and how JSON writes them."""

import array
import collections
import dataclasses
import datetime
import decimal
import ipaddress
import pathlib
import sqlite3
import types

import attrs
import numpy
import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass


class Item(pydantic.BaseModel):
    name: str
    price: decimal.Decimal
    weight: float = 1.5


class Basket(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    items: list[Item]
    seen: datetime.datetime = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    scores: numpy.ndarray | None = None


class Tags(pydantic.RootModel[list[str]]):
    pass


class Camel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    first_name: str = pydantic.Field(alias="firstName")


class WithConstants(pydantic.BaseModel):
    """Its own JSON has NaN and Infinity in it, which no JSON parser takes."""

    model_config = pydantic.ConfigDict(ser_json_inf_nan="constants")

    numbers: list[float]
    words: str = "NaN"


class Indented(pydantic.BaseModel):
    size: int

    def model_dump_json(self) -> str:
        return super().model_dump_json(indent=2)


@pydantic_dataclass
class Order:
    item: Item
    count: int


@attrs.define
class Point:
    x: int
    at: pathlib.PurePath


class Derived(Point):
    """Not decorated itself."""


@dataclasses.dataclass
class Place:
    name: str
    address: ipaddress.IPv4Address


class DerivedPlace(Place):
    pass


class Stamp(datetime.datetime):
    """A subclass, such as those of libraries that freeze the time in tests."""


def row(sql, *values):
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    try:
        return database.execute(sql, values).fetchone()
    finally:
        database.close()


PATH = pathlib.PurePosixPath("/p")
INSTANT = "2024-02-29T12:00:00.000000001"
ITEM = {"name": "tea", "price": "1.50", "weight": 1.5}
TEA = Item(name="tea", price=decimal.Decimal("1.50"))
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]

# By name: what a program has, and what its client reads.
VALUES = {
    "model": (TEA, ITEM),
    "model-in-model": (
        Basket(items=[TEA]),
        {"items": [ITEM], "seen": "2024-02-29T12:00:00Z", "scores": None},
    ),
    "array-in-model": (
        Basket(items=[], scores=numpy.array([1.5, numpy.nan])),
        {"items": [], "seen": "2024-02-29T12:00:00Z", "scores": [1.5, None]},
    ),
    "root-model": (Tags(["a", "b"]), ["a", "b"]),
    "alias": (Camel(firstName="Ada"), {"firstName": "Ada"}),
    "nan-in-model": (
        Item(name="x", price=1, weight=float("nan")),
        {**ITEM, "name": "x", "price": "1", "weight": None},
    ),
    "constants-in-model": (
        WithConstants(numbers=[*NOT_FINITE, 1.0]),
        {"numbers": [None, None, None, 1.0], "words": "NaN"},
    ),
    "own-dump": (Indented(size=7), {"size": 7}),
    "lines-in-model": (Tags(["a\u2028b\u2029"]), ["a\u2028b\u2029"]),
    "pydantic-dataclass": (Order(TEA, 2), {"item": ITEM, "count": 2}),
    "int8": (numpy.int8(-5), -5),
    "uint64": (numpy.uint64(2**64 - 1), 2**64 - 1),
    "float32": (numpy.float32(0.5), 0.5),
    "float64-nan": (numpy.float64("nan"), None),
    "float16-inf": (numpy.float16("inf"), None),
    "longdouble": (numpy.longdouble(1.5), 1.5),
    "bool_": (numpy.bool_(True), True),
    "str_": (numpy.str_("é"), "é"),
    "bytes_": (numpy.bytes_(b"abc"), "YWJj"),
    "datetime64": (
        numpy.datetime64("2024-02-29T12:00:00.000000001"),
        "2024-02-29T12:00:00.000000001",
    ),
    "nat": (numpy.datetime64("NaT"), None),
    "timedelta64": (numpy.timedelta64(1_500_000_000, "ns"), "PT1.5S"),
    "matrix": (numpy.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    "no-dimension": (numpy.array(7), 7),
    "array-of-nan": (numpy.array([numpy.nan, numpy.inf, 2.0]), [None, None, 2.0]),
    "array-of-longdouble": (numpy.array([1.5], dtype=numpy.longdouble), [1.5]),
    "array-of-str": (numpy.array(["a", "bc"]), ["a", "bc"]),
    "array-of-bool": (numpy.array([True, False]), [True, False]),
    "array-of-datetime64": (
        numpy.array([["2024-02-29", "NaT"]], dtype="datetime64[ns]"),
        [["2024-02-29T00:00:00.000000000", None]],
    ),
    "array-of-objects": (numpy.array([TEA, None], dtype=object), [ITEM, None]),
    "masked-array": (numpy.ma.array([1, 2], mask=[False, True]), [1, None]),
    "record": (numpy.rec.array([(1, "a")], names="n,s")[0], [1, "a"]),
    "posix-path": (pathlib.PurePosixPath("/srv/a b"), "/srv/a b"),
    "windows-path": (pathlib.PureWindowsPath("C:/a"), "C:\\a"),
    "path": (pathlib.Path("a/é"), "a/é"),
    "ipv4-address": (ipaddress.ip_address("192.0.2.1"), "192.0.2.1"),
    "ipv6-address": (ipaddress.ip_address("2001:db8::1"), "2001:db8::1"),
    "ipv4-network": (ipaddress.ip_network("192.0.2.0/24"), "192.0.2.0/24"),
    "ipv6-interface": (ipaddress.ip_interface("2001:db8::1/64"), "2001:db8::1/64"),
    "deque": (collections.deque([1, collections.deque("ab")], maxlen=5), [1, ["a", "b"]]),
    "range": (range(2, 8, 3), [2, 5]),
    "array": (array.array("d", [1.5, float("nan")]), [1.5, None]),
    "user-list": (collections.UserList([1, TEA]), [1, ITEM]),
    "keys": ({"a": 1}.keys(), ["a"]),
    "values": ({"a": 1}.values(), [1]),
    "items": ({"a": 1}.items(), [["a", 1]]),
    "row": (row("SELECT 7 AS id, ? AS name", "tea"), {"id": 7, "name": "tea"}),
    "row-of-bytes": (row("SELECT x'616263' AS raw, NULL AS none"), {"raw": "YWJj", "none": None}),
    "user-dict": (collections.UserDict(a=TEA), {"a": ITEM}),
    "chain-map": (collections.ChainMap({"a": 1}, {"b": numpy.int32(2)}), {"a": 1, "b": 2}),
    "mapping-proxy": (types.MappingProxyType({"a": {"b": range(1)}}), {"a": {"b": [0]}}),
    "user-string": (collections.UserString("abc"), "abc"),
    "attrs": (Point(1, PATH), {"x": 1, "at": "/p"}),
    "derived-attrs": (Derived(1, PATH), {"x": 1, "at": "/p"}),
    "dataclass": (
        Place("here", ipaddress.IPv4Address("192.0.2.1")),
        {"name": "here", "address": "192.0.2.1"},
    ),
    "derived-dataclass": (
        DerivedPlace("here", ipaddress.IPv4Address("192.0.2.1")),
        {"name": "here", "address": "192.0.2.1"},
    ),
    "datetime-subclass": (
        Stamp(2024, 2, 29, 12, tzinfo=datetime.UTC),
        "2024-02-29T12:00:00Z",
    ),
    "date-subclass": (type("Day", (datetime.date,), {})(2024, 2, 29), "2024-02-29"),
    "time-subclass": (type("Clock", (datetime.time,), {})(12, 30), "12:30:00"),
    "timedelta-subclass": (type("Span", (datetime.timedelta,), {})(seconds=90), "PT90S"),
    "decimal-subclass": (type("Money", (decimal.Decimal,), {})("1.50"), "1.50"),
    "bytes-subclass": (type("Blob", (bytes,), {})(b"abc"), "YWJj"),
    "key": (
        {numpy.int64(7): 1, ipaddress.IPv4Address("192.0.2.1"): 2, PATH: 3},
        {"7": 1, "192.0.2.1": 2, "/p": 3},
    ),
}
