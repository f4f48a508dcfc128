"""Annotations, JSON for them, and what a view gets or a client is told."""

import dataclasses
import enum
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
from msgspec import Meta, Struct
from pydantic import BaseModel, ConfigDict, Field, field_validator


class Colour(enum.Enum):
    RED = "red"
    DARK = "dark red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class City(Struct):
    name: str
    zip: Annotated[str, Meta(pattern="^[0-9]{5}$")] | None = None


class Address(Struct, forbid_unknown_fields=True):
    street: str
    city: City


class Person(Struct, rename={"full_name": "name"}):
    full_name: Annotated[str, Meta(min_length=1, max_length=5)]
    age: Annotated[int, Meta(ge=0, lt=150)]
    address: Address
    tags: Annotated[list[str], Meta(max_length=2)] = []


class Cat(Struct, tag=True):
    lives: int


class Dog(Struct, tag=True):
    name: str


class Node(Struct):
    value: int
    next: "Node | None" = None


class Pair(Struct, array_like=True):
    x: int
    y: int = 0


class Closed(Struct, array_like=True, forbid_unknown_fields=True):
    x: int


class Span(Struct):
    first: int
    last: int

    def __post_init__(self):
        if self.first > self.last:
            raise ValueError("must end after it begins")


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0

    def __post_init__(self):
        if self.x < 0:
            raise ValueError("has a negative x " + "x" * 200)


@attrs.define
class Box:
    width: int = attrs.field(validator=attrs.validators.gt(0))


class Film(TypedDict, total=False):
    title: str
    year: int


class Row(NamedTuple):
    id: int
    name: str = ""


class Price(Struct):
    amount: Decimal
    note: str = ""


class Account(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=2, pattern="^[a-z]+$")
    age: int = Field(ge=18)
    id: UUID | None = None
    tags: list[str] = []
    friends: list["Account"] = []

    @field_validator("name")
    @classmethod
    def is_free(cls, value):
        if value == "admin":
            raise ValueError("is taken")
        return value


class Payment(BaseModel):
    amount: Decimal


UUID_TEXT = "12345678-1234-5678-1234-567812345678"
LONG = "0.123456789012345678901234567890123456789"
DEEP = '{"value": 1, "next": {"value": 2, "next": {"value": 3, "next": {"value": 4, "next": %s}}}}'
IN_DEEP = "data.next.next.next.next"
CITY = '{"name": "x", "age": 1, "address": {"street": "s", "city": %s}}'
WRONG_PERSON = (
    '{"age": -1, "name": "toolong", "address": {"x": 1, "street": 2, "city": null}, '
    '"tags": ["a", "b", 3]}'
)
INTEGER = "must be an integer"
ONE_OF = "must be one of 'red', 'dark red'"


class Fits(NamedTuple):
    """What the view returns, as JSON."""

    value: Any


# By annotation: JSON texts, each with Fits, a fault of `data`, or a list of paths and faults.
TABLE: list[tuple[Any, list[tuple[str, Any]]]] = [
    (int, [
        ("5", Fits(5)),
        ("-5", Fits(-5)),
        ("123456789012345678901234567890", Fits(123456789012345678901234567890)),
        ('"5"', f"{INTEGER}, not a string"),
        ('"\u0665"', f"{INTEGER}, not a string"),
        ("5.0", f"{INTEGER}, not a number"),
        ("1e3", f"{INTEGER}, not a number"),
        ("true", f"{INTEGER}, not a boolean"),
        ("[]", f"{INTEGER}, not an array"),
        ("{}", f"{INTEGER}, not an object"),
        ("null", "is missing"),
        ('"NaN"', f"{INTEGER}, not a string"),
    ]),
    (int | None, [
        ("null", Fits(None)),
        ("7", Fits(7)),
        ('"7"', "must be an integer or null, not a string"),
    ]),
    (Annotated[int, Meta(ge=1, le=10, multiple_of=2)], [
        ("4", Fits(4)),
        ("0", "must be at least 1"),
        ("12", "must be at most 10"),
        ("3", "must be a multiple of 2"),
        ("11", [("data", "must be at most 10"), ("data", "must be a multiple of 2")]),
        ("-1", [("data", "must be at least 1"), ("data", "must be a multiple of 2")]),
    ]),
    (Annotated[float, Meta(gt=0, lt=1)], [
        ("0.5", Fits(0.5)),
        ("0", "must be greater than 0"),
        ("1", "must be less than 1"),
        ("1.5", "must be less than 1"),
    ]),
    (float, [
        ("5", Fits(5.0)),
        ("-0.25", Fits(-0.25)),
        ("1e3", Fits(1000.0)),
        ('"1.5"', "must be a number, not a string"),
        ("false", "must be a number, not a boolean"),
        ("null", "is missing"),
        ('"Infinity"', "must be a number, not a string"),
    ]),
    (bool, [
        ("true", Fits(True)),
        ("false", Fits(False)),
        ("1", "must be true or false, not an integer"),
        ('"true"', "must be true or false, not a string"),
    ]),
    (str, [
        ('""', Fits("")),
        ('"\u00e9\u0665"', Fits("\u00e9\u0665")),
        ("5", "must be a string, not an integer"),
        ('["a"]', "must be a string, not an array"),
    ]),
    (Annotated[str, Meta(min_length=2, max_length=3, pattern="^[a-z]*$")], [
        ('"abc"', Fits("abc")),
        ('"a"', "must have at least 2 characters"),
        ('"abcd"', "must have at most 3 characters"),
        ('"AB"', "must match the pattern '^[a-z]*$'"),
        ('"A"', [
            ("data", "must have at least 2 characters"),
            ("data", "must match the pattern '^[a-z]*$'"),
        ]),
    ]),
    (Annotated[str, Meta(min_length=1)], [('""', "must have at least 1 character")]),
    (Annotated[bytes, Meta(max_length=2)], [
        ('"YWI="', Fits("YWI=")),
        ('"YWJj"', "must have at most 2 bytes"),
        ('"?"', "must be bytes in base64"),
        ("5", "must be bytes in base64, not an integer"),
    ]),
    (Decimal, [
        ("1.10", Fits("1.10")),
        (LONG, Fits(LONG)),
        ('"1.10"', Fits("1.10")),
        ("5", Fits("5")),
        ('"NaN"', "must be a decimal number"),
        ('"Infinity"', "must be a decimal number"),
        ('"1_000"', "must be a decimal number"),
        ('" 1"', "must be a decimal number"),
        ('"\u0665"', "must be a decimal number"),
        ('"x"', "must be a decimal number"),
        ("true", "must be a decimal number, not a boolean"),
    ]),
    (list[Price], [
        (f'[{{"amount": {LONG}, "note": "NaN"}}]', Fits([{"amount": LONG, "note": "NaN"}])),
        ('[{"amount": "1_0"}, {"amount": "NaN"}]', [
            ("data[0].amount", "must be a decimal number"),
            ("data[1].amount", "must be a decimal number"),
        ]),
        (f'[{{"amount": 1, "amount": {LONG}}}]', Fits([{"amount": LONG, "note": ""}])),
        ("[{}]", [("data[0].amount", "is missing")]),
    ]),
    (dict[str, Decimal | None], [
        (f'{{"a": {LONG}, "b": null}}', Fits({"a": LONG, "b": None})),
        ('{"a": "-1e5"}', Fits({"a": "-1E+5"})),
        ('{"a": "1e5_0"}', [("data.a", "must be a decimal number")]),
    ]),
    (UUID, [
        (f'"{UUID_TEXT}"', Fits(UUID_TEXT)),
        (f'"{UUID_TEXT.upper()}"', Fits(UUID_TEXT)),
        ('"12345678"', "must be a UUID"),
        ("5", "must be a UUID, not an integer"),
    ]),
    (datetime, [
        ('"2026-01-02T03:04:05Z"', Fits("2026-01-02T03:04:05Z")),
        ('"2026-01-02T03:04:05+02:00"', Fits("2026-01-02T03:04:05+02:00")),
        ('"2026-02-30T00:00:00Z"', "must be a date and time (RFC 3339)"),
        ('"2026-01-02"', "must be a date and time (RFC 3339)"),
        ("5", "must be a date and time (RFC 3339), not an integer"),
    ]),
    (Annotated[datetime, Meta(tz=True)], [
        ('"2026-01-02T03:04:05Z"', Fits("2026-01-02T03:04:05Z")),
        ('"2026-01-02T03:04:05"', "must have a time zone"),
    ]),
    (Annotated[time, Meta(tz=False)], [
        ('"03:04:05"', Fits("03:04:05")),
        ('"03:04:05Z"', "must have no time zone"),
        ('"25:00:00"', "must be a time (RFC 3339)"),
    ]),
    (date, [
        ('"2026-01-02"', Fits("2026-01-02")),
        ('"2026-13-02"', "must be a date (RFC 3339)"),
        ("20260102", "must be a date (RFC 3339), not an integer"),
    ]),
    (timedelta, [
        ('"PT90S"', Fits("PT90S")),
        ('"90"', "must be a duration (ISO 8601)"),
        ("90", "must be a duration (ISO 8601), not an integer"),
    ]),
    (Colour, [
        ('"red"', Fits("red")),
        ('"Red"', ONE_OF),
        ('"RED"', ONE_OF),
        ("1", f"{ONE_OF}, not an integer"),
    ]),
    (Level, [
        ("2", Fits(2)),
        ("3", "must be one of 1, 2"),
        ('"1"', "must be one of 1, 2, not a string"),
        ("true", "must be one of 1, 2, not a boolean"),
    ]),
    (Literal["a", 1, None], [  # noqa: PYI061  another type than the union
        ('"a"', Fits("a")),
        ("1", Fits(1)),
        ("null", Fits(None)),
        ('"b"', "must be one of 'a', 1, null"),
        ("2", "must be one of 'a', 1, null"),
        ("true", "must be one of 'a', 1, null, not a boolean"),
    ]),
    (Literal["on"], [('"off"', "must be 'on'")]),
    (list[int], [
        ("[]", Fits([])),
        ("[1, 2]", Fits([1, 2])),
        ('[1, "2", null, 3.5]', [
            ("data[1]", f"{INTEGER}, not a string"),
            ("data[2]", f"{INTEGER}, not null"),
            ("data[3]", f"{INTEGER}, not a number"),
        ]),
        ('{"0": 1}', "must be an array, not an object"),
        ('["x"' + ', "x"' * 30 + "]", [
            (f"data[{index}]", f"{INTEGER}, not a string") for index in range(20)
        ]),
    ]),
    (Annotated[set[int], Meta(min_length=1, max_length=2)], [
        ("[1, 1]", Fits([1])),
        ("[]", "must have at least 1 item"),
        ("[1, 2, 3]", "must have at most 2 items"),
    ]),
    (Sequence[bool], [
        ("[true]", Fits([True])),
        ("[0]", [("data[0]", "must be true or false, not an integer")]),
    ]),
    (tuple[int, str], [
        ('[1, "a"]', Fits([1, "a"])),
        ("[1]", "must have 2 items"),
        ('[1, "a", 2]', "must have 2 items"),
        ('["a", 1]', [
            ("data[0]", f"{INTEGER}, not a string"),
            ("data[1]", "must be a string, not an integer"),
        ]),
    ]),
    (tuple[int, ...], [("[1, 2, 3]", Fits([1, 2, 3]))]),
    (dict[str, int], [
        ('{"a": 1}', Fits({"a": 1})),
        ('{"a": 1, "a": 2}', Fits({"a": 2})),
        ('{"a": "x", "b": 1.5}', [
            ("data.a", f"{INTEGER}, not a string"),
            ("data.b", f"{INTEGER}, not a number"),
        ]),
        ('{"' + "k" * 300 + '": "x"}',
         [("data." + "k" * 100 + "...", f"{INTEGER}, not a string")]),
        ("[]", "must be an object, not an array"),
    ]),
    (dict[int, str], [
        ('{"1": "a"}', Fits({"1": "a"})),
        ('{"01": "a"}', [("data.01", f"has a name that {INTEGER}")]),
        ('{"x": "a"}', [("data.x", f"has a name that {INTEGER}")]),
    ]),
    (Mapping[UUID, Colour], [
        (f'{{"{UUID_TEXT}": "red"}}', Fits({UUID_TEXT: "red"})),
        ('{"x": "blue"}', [("data.x", "has a name that must be a UUID"), ("data.x", ONE_OF)]),
    ]),
    (int | str, [
        ("1", Fits(1)),
        ('"1"', Fits("1")),
        ("1.5", "must be an integer or a string, not a number"),
        ("null", "is missing"),
    ]),
    (int | float | None, [
        ("1", Fits(1)),
        ("1.5", Fits(1.5)),
        ('"x"', "must be an integer, a number or null, not a string"),
    ]),
    (list[int] | int | None, [
        ("5", Fits(5)),
        ("[5]", Fits([5])),
        ('["x"]', [("data[0]", f"{INTEGER}, not a string")]),
    ]),
    (Person, [
        (CITY % '{"name": "c", "zip": "12345"}', Fits({
            "name": "x", "age": 1, "tags": [],
            "address": {"street": "s", "city": {"name": "c", "zip": "12345"}},
        })),
        (CITY % "{}", [("data.address.city.name", "is missing")]),
        (CITY % '{"name": "c", "zip": "1234x"}', [
            ("data.address.city.zip", "must match the pattern '^[0-9]{5}$'")
        ]),
        (CITY % '{"name": "c", "more": 1}', Fits({
            "name": "x", "age": 1, "tags": [],
            "address": {"street": "s", "city": {"name": "c", "zip": None}},
        })),
        ("{}", [(f"data.{name}", "is missing") for name in ("name", "age", "address")]),
        (WRONG_PERSON, [
            ("data.name", "must have at most 5 characters"),
            ("data.age", "must be at least 0"),
            ("data.address.street", "must be a string, not an integer"),
            ("data.address.city", "must be an object, not null"),
            ("data.address.x", "is unknown"),
            ("data.tags", "must have at most 2 items"),
            ("data.tags[2]", "must be a string, not an integer"),
        ]),
        ('{"full_name": "x"}',
         [(f"data.{name}", "is missing") for name in ("name", "age", "address")]),
        ('"x"', "must be an object, not a string"),
        ("null", "is missing"),
    ]),
    (Node, [
        (DEEP % "null", Fits(json.loads(DEEP % "null"))),
        (DEEP % '{"value": "5"}', [(f"{IN_DEEP}.value", f"{INTEGER}, not a string")]),
        (DEEP % "[]", [(IN_DEEP, "must be an object or null, not an array")]),
    ]),
    (Cat | Dog, [
        ('{"type": "Cat", "lives": 9}', Fits({"type": "Cat", "lives": 9})),
        ('{"lives": 9, "type": "Cat"}', Fits({"type": "Cat", "lives": 9})),
        ('{"lives": 9}', [("data.type", "is missing")]),
        ('{"type": "Cow"}', [("data.type", "must be one of 'Cat', 'Dog'")]),
        ('{"type": 1}', [("data.type", "must be one of 'Cat', 'Dog'")]),
        ('{"type": "Dog", "lives": 9}', [("data.name", "is missing")]),
    ]),
    (Cat | None, [
        ("null", Fits(None)),
        ('{"lives": 9}', Fits({"type": "Cat", "lives": 9})),
        ('{"type": "Dog", "lives": 9}', [("data.type", "must be 'Cat'")]),
    ]),
    (Pair, [
        ("[1]", Fits([1, 0])),
        ("[1, 2, 3]", Fits([1, 2])),
        ("[]", "must have at least 1 item"),
        ('["x"]', [("data[0]", f"{INTEGER}, not a string")]),
        ('{"x": 1}', "must be an array, not an object"),
    ]),
    (Closed, [("[1, 2]", "must have at most 1 item")]),
    (list[Span], [
        ('[{"first": 1, "last": 2}]', Fits([{"first": 1, "last": 2}])),
        ('[{"first": 3, "last": 2}, {"first": 5, "last": 4}, {"first": 1}]', [
            ("data[0]", "must end after it begins"),
            ("data[1]", "must end after it begins"),
            ("data[2].last", "is missing"),
        ]),
    ]),
    (Point, [
        ('{"x": 1, "y": 2}', Fits({"x": 1.0, "y": 2.0})),
        ('{"x": -1}', "has a negative x " + "x" * 83 + "..."),
        ('{"y": "1"}', [("data.x", "is missing"), ("data.y", "must be a number, not a string")]),
    ]),
    (Box, [
        ('{"width": 1}', Fits({"width": 1})),
        ('{"width": 0}', "is not valid"),
        ('{"width": "1"}', [("data.width", f"{INTEGER}, not a string")]),
    ]),
    (Film, [
        ("{}", Fits({})),
        ('{"title": "x", "more": 1}', Fits({"title": "x"})),
        ('{"year": "x"}', [("data.year", f"{INTEGER}, not a string")]),
    ]),
    (Row, [
        ("[1]", Fits([1, ""])),
        ("[]", "must have at least 1 item"),
        ('[1, "a", 2]', "must have at most 2 items"),
        ('["x", 1]', [
            ("data[0]", f"{INTEGER}, not a string"),
            ("data[1]", "must be a string, not an integer"),
        ]),
    ]),
    (Any, [("[1, {}]", Fits([1, {}])), ("null", Fits(None))]),
    (Account, [
        ('{"name": "ada", "age": 18}',
         Fits({"name": "ada", "age": 18, "id": None, "tags": [], "friends": []})),
        ('{"name": "a", "age": 17, "more": 1}', [
            ("data.name", "must have at least 2 characters"),
            ("data.age", "must be at least 18"),
            ("data.more", "is unknown"),
        ]),
        ('{"name": "admin", "age": 20}', [("data.name", "is taken")]),
        ('{"name": "ADA", "age": "x", "id": "x", "tags": [1]}', [
            ("data.name", "must match the pattern '^[a-z]+$'"),
            ("data.age", INTEGER),
            ("data.id", "must be a UUID"),
            ("data.tags[0]", "must be a string"),
        ]),
        ('{"name": "ada", "age": 18, "friends": [{"name": "bob"}]}',
         [("data.friends[0].age", "is missing")]),
        ("[]", "must be an object"),
        ("null", "is missing"),
    ]),
    (list[Payment], [
        ('[{"amount": "1.10"}]', Fits([{"amount": "1.10"}])),
        ('[{"amount": "x"}]', [("data[0].amount", "must be a decimal number")]),
    ]),
]  # fmt: skip

CASES = [
    (annotation, text, expected if isinstance(expected, (Fits, list)) else [("data", expected)])
    for annotation, cases in TABLE
    for text, expected in cases
]


def reply_of(expected):
    """Return the reply without `event_name` to a call whose view returns its `data`."""
    if isinstance(expected, Fits):
        return {"data": expected.value}
    (path, fault), *others = expected
    more = f" (and {len(others)} more)" if others else ""
    errors = [{"path": path, "fault": fault} for path, fault in expected]
    return {"detail": f"{path} {fault}{more}", "status": 422, "errors": errors}
