"""A return annotation makes replies of rows: objects of other classes, with attributes."""

import collections
import dataclasses
import datetime
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import msgspec
import pytest
from twisted.internet.defer import succeed

from aiorest_ws import MethodBasedView, Request, SimpleRouter
from aiorest_ws.dispatch.streams import Stream, discard
from support.routers import ask, success

if TYPE_CHECKING:
    from elsewhere import Unknown

T = TypeVar("T")


class Row:
    """As an ORM makes them: with more than a client may see."""

    def __init__(self, id=1, name="Ada", **more):
        self.id = id
        self.name = name
        self.password = "secret"
        self.born = datetime.date(1815, 12, 10)
        vars(self).update(more)


class Person(msgspec.Struct):
    id: int
    name: str
    born: datetime.date


class Renamed(msgspec.Struct, rename="upper"):
    name: str


@dataclasses.dataclass
class Point:
    id: int


@attrs.define
class Box:
    name: str


class Family(msgspec.Struct):
    name: str
    children: list[Person]


class Page(msgspec.Struct, Generic[T]):
    name: T


PERSON = {"id": 1, "name": "Ada", "born": "1815-12-10"}
ROWS = [
    (Person, Row(), PERSON),
    (Person, Person(1, "Ada", datetime.date(1815, 12, 10)), PERSON),
    (Renamed, Row(), {"NAME": "Ada"}),
    (Point, Row(), {"id": 1}),
    (Box, Row(), {"name": "Ada"}),
    (Family, Row(children=[Row(), Row()]), {"name": "Ada", "children": [PERSON, PERSON]}),
    (Page[str], Row(), {"name": "Ada"}),
    (Person | None, Row(), PERSON),
    (Person | None, None, None),
    (list[Person], [Row()], [PERSON]),
    (list[Person] | None, [Row()], [PERSON]),
    (Sequence[Point], (Row(), Point(2)), [{"id": 1}, {"id": 2}]),
    (tuple[Point, ...], {Row()}, [{"id": 1}]),
    (list[Point], (one for one in [Row()]), [{"id": 1}]),
    ("Person", Row(), PERSON),
    # An annotation only describes what JSON has.
    (Person, {"id": "x"}, {"id": "x"}),
    (Person, None, None),
    (Person, "text", "text"),
    (list[Person], [{"id": "x"}], [{"id": "x"}]),
    (list[Person], collections.Counter("a"), {"a": 1}),
    (list[int], ["x"], ["x"]),
    (dict[str, Person], {"a": 1}, {"a": 1}),
    (Person | Point, {"a": 1}, {"a": 1}),
    (int, "x", "x"),
    (Any, 1, 1),
]  # fmt: skip


def views(annotation, value):
    router = SimpleRouter()

    @router.get("/sync")
    def sync(request) -> annotation:
        return value

    @router.get("/coroutine/{id}")
    async def coroutine(request, id: int) -> annotation:
        return value

    @router.get("/deferred")
    def deferred(request) -> annotation:
        return succeed(value)

    class View(MethodBasedView):
        def get(self, request) -> annotation:
            return value

    router.register("/class", View, "GET")
    return router


@pytest.mark.parametrize(("annotation", "value", "expected"), ROWS)
@pytest.mark.parametrize("url", ["/sync", "/coroutine/1", "/deferred", "/class"])
def test_a_row_is_sent_as_the_class_that_is_annotated(annotation, value, expected, url):
    if hasattr(value, "__next__"):
        value = (one for one in [Row()])
    reply = ask(views(annotation, value), url=url)
    assert reply == success(expected)
    assert "secret" not in str(reply)


def test_a_row_of_sqlite_is_a_mapping():
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row = connection.execute("SELECT 1 AS id").fetchone()
    connection.close()
    assert ask(views(Point, row), url="/sync") == success({"id": 1})


@pytest.mark.parametrize("annotation", [Person, list[Person]])
def test_a_stream_is_left_alone(annotation):
    router = SimpleRouter()

    @router.get("/x")
    async def view(request: Request) -> annotation:
        yield 1

    stream = router.process_request(Request("GET", "/x"))
    assert isinstance(stream, Stream)
    discard(stream)


@pytest.mark.logs_errors
def test_a_row_that_does_not_fit_is_500():
    for row in (Row(id="x"), object()):
        assert ask(views(Person, row), url="/sync")["status"] == 500


def test_a_name_for_type_checkers_is_no_fault():
    router = SimpleRouter()

    @router.get("/x")
    def view(request: Request) -> "Unknown":
        return 1

    @router.get("/y")
    def other(request: Request) -> "list[Unknown]":
        return 1

    assert ask(router) == ask(router, url="/y") == success(1)
