"""Annotations that cannot be checked are refused at registration, and all others are resolved."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import re
import typing
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, Literal, Never, Protocol, TypeVar

import annotated_types
import msgspec
import pydantic
import pytest
from msgspec import Meta

from aiorest_ws import DATA, Data, MethodBasedView, Request, Response, SimpleRouter, endpoint
from aiorest_ws.exceptions import InvalidHandler
from support.routers import ask, success

if TYPE_CHECKING:
    from elsewhere import Unknown

T = TypeVar("T")


class Readable(Protocol):
    def read(self) -> str: ...


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x


class Mixed(enum.Enum):
    A = "a"
    B = 1


class Fractions(enum.Enum):
    A = 1.5


class NoColours(enum.Enum):
    pass


class Holding(msgspec.Struct):
    inner: list[Plain]


@dataclasses.dataclass
class Keeping:
    inner: Plain


class Unfinished(msgspec.Struct):
    inner: Nowhere  # noqa: F821


class First(msgspec.Struct):
    a: int


class Second(msgspec.Struct):
    a: int


class Model(pydantic.BaseModel):
    a: int


class Mixture(msgspec.Struct):
    model: Model


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


REFUSED = {
    "a Protocol": Readable,
    "a bare Callable": Callable,
    "a Callable": Callable[[int], int],
    "a plain class": Plain,
    "a plain class in a list": list[Plain],
    "a plain class in a Struct": Holding,
    "a plain class in a dataclass": Keeping,
    "a plain class in a union": int | Plain,
    "a plain class in a generic": Page[Plain],
    "two kinds of text": str | uuid.UUID,
    "text and bytes": bytes | str,
    "two kinds of array": list[int] | set[int],
    "two Structs without tags": First | Second,
    "a dict and a Struct": dict[str, int] | First,
    "complex": complex,
    "a type": type[int],
    "msgspec.Raw": msgspec.Raw,
    "msgspec's Ext": msgspec.msgpack.Ext,
    "limits of a Decimal": Annotated[decimal.Decimal, Meta(ge=0)],
    "a number's limit for text": Annotated[str, Meta(ge=1)],
    "a text's limit for a number": Annotated[int, Meta(min_length=1)],
    "names that are no text": dict[tuple[int, int], int],
    "a set of what has no hash": set[dict[str, int]],
    "a set of Structs that can change": frozenset[First],
    "a range": range,
    "an Iterator": Iterator[int],
    "a Generator": Generator,
    "an AsyncIterator": AsyncIterator[int],
    "an Awaitable": Awaitable[int],
    "a deque": collections.deque[int],
    "a time zone": datetime.tzinfo,
    "a pattern": re.Pattern,
    "a type variable": T,
    "a type variable in a list": list[T],
    "ClassVar": ClassVar[int],
    "Self": typing.Self,
    "Never": Never,
    "Optional without a type": typing.Optional,
    "a choice of bytes": Literal[b"x"],
    "a choice of fractions": Literal[1.5],
    "a number": 5,
    "a function": print,
    "a tuple": (),
    "a list": [int],
    "an enumeration of several types": Mixed,
    "an enumeration of fractions": Fractions,
    "an enumeration without members": NoColours,
    "a Struct with a name that is not defined": Unfinished,
    "a name that is not defined": "Nowhere",
    "a name in brackets that is not defined": "list[Nowhere]",
    "no expression": "int and",
    "a model of pydantic beside a Struct": Model | First,
    "a model of pydantic in a Struct": Mixture,
    "a limit of pydantic's": Annotated[int, pydantic.Field(ge=1)],
    "a limit of annotated_types": Annotated[int, annotated_types.Gt(3)],
    "Data without a type": Data,
    "the marker alone": DATA,
    "Data in a list": list[Data[int]],
    "Data in a union": Data[int] | None,
    "a response": Response,
}


def annotated(annotation, name="value"):
    def view(request, value):
        return value

    view.__annotations__ = {name: annotation}
    return view


@pytest.mark.parametrize("annotation", REFUSED.values(), ids=list(REFUSED))
@pytest.mark.parametrize("is_data", [False, True], ids=["argument", "data"])
def test_what_cannot_be_checked_is_refused_in_one_sentence(annotation, is_data):
    if is_data and not isinstance(annotation, str):
        try:
            annotation = Annotated[annotation, DATA]
        except (TypeError, AttributeError):
            pytest.skip("typing itself refuses it")
    elif is_data:
        annotation = f"Data[{annotation}]"
    view = annotated(annotation)
    view.__globals__["Data"] = Data
    with pytest.raises(InvalidHandler) as caught:
        SimpleRouter().post("/x")(view)
    text = str(caught.value)
    assert "'value'" in text
    assert "view" in text
    assert text.endswith(".")
    assert "\n" not in text


def test_at_least_40_annotations_are_refused():
    assert len(REFUSED) >= 40


def refused(register, *words):
    with pytest.raises(InvalidHandler) as caught:
        register()
    text = str(caught.value)
    assert [word for word in words if word not in text] == []


def test_a_name_for_type_checkers_only_is_refused_where_it_counts():
    def view(request: Unknown, value: int) -> Unknown:
        return value

    router = SimpleRouter()
    router.get("/fine")(view)
    assert ask(router, url="/fine", args={"value": 1}) == success(1)

    def other(request, value: Unknown):
        return value

    refused(lambda: router.get("/x")(other), "'Unknown' is not defined", "above this line")


# Parameters that fit each other badly


def two_datas(request, a: Data[int], b: Data[int]):
    pass


def data_in_path(request, id: Data[int]):
    pass


def any_text(request, *values: int):
    pass


def any_name(request, **options: int):
    pass


def data_by_any_name(request, **options: Data[int]):
    pass


@pytest.mark.parametrize(
    ("path", "view", "words"),
    [
        ("/x", two_datas, ("twice", "'a'", "'b'")),
        ("/x/{id}", data_in_path, ("`data`", "'id'", "/x/{id}")),
        ("/x", any_text, ("'values'", "its own parameter")),
        ("/x", any_name, ("'options'", "its own parameter")),
        ("/x", data_by_any_name, ("'options'", "its own parameter")),
    ],
)
def test_parameters_that_cannot_be_filled_are_refused(path, view, words):
    refused(lambda: SimpleRouter().post(path)(view), *words)


@pytest.mark.parametrize(
    "annotation",
    [list[int], tuple[int, int], dict[str, int], First, Keeping, Model, None, int | list[int]],
    ids=str,
)
def test_what_no_text_spells_is_refused_in_a_path(annotation):
    if annotation is Keeping:
        annotation = dataclasses.make_dataclass("Made", [("x", int)])
    view = annotated(annotation)
    refused(lambda: SimpleRouter().get("/x/{value}")(view), "'value'", "/x/{value}")


def test_a_view_class_is_refused_like_a_function():
    class View(MethodBasedView):
        def get(self, request, limit: Plain):
            pass

        def post(self, request, a, b: int):
            pass

    refused(lambda: SimpleRouter().register("/x", View, "GET"), "View.get", "'limit'", "Plain")
    SimpleRouter().register("/x/{a}/{b}", View, "POST")
    refused(lambda: SimpleRouter().register("/x/{a}/{b}/{c}", View, "POST"), "3 values", "takes 2")


def test_an_endpoint_is_refused_like_a_function():
    @endpoint("/x", "GET")
    def view(request, limit: Plain):
        pass

    refused(lambda: SimpleRouter().register_endpoint(view), "'limit'", "Plain")


# What is resolved


def test_names_of_the_function_that_registers_count():
    class Local(msgspec.Struct):
        a: int

    router = SimpleRouter()

    @router.post("/x")
    def view(request: Request, value: Data[Local], limit: Annotated[int, Meta(le=3)] = 1):
        return [type(value) is Local, value.a, limit]

    assert ask(router, "POST", data={"a": 1}, args={"limit": 3}) == success([True, 1, 3])
    assert ask(router, "POST", data={"a": 1}, args={"limit": 4})["status"] == 422

    class View(MethodBasedView):
        def post(self, request: Request, value: Data[Local]):
            return type(value) is Local

    router.register("/y", View, "POST")
    assert ask(router, "POST", url="/y", data={"a": 1}) == success(True)


def test_names_survive_an_include_from_elsewhere():
    def made():
        class Local(msgspec.Struct):
            a: int

        inner = SimpleRouter()

        class View(MethodBasedView):
            def put(self, request: Request, shop: int, value: Data[Local]):
                return [shop, value.a]

        @inner.post("/x")
        def view(request: Request, shop: int, value: Data[Local]):
            return [shop, value.a]

        with pytest.raises(InvalidHandler):
            inner.post("/x/{other}")(view)
        inner.register("/y", View, "PUT")
        return inner

    def unnamed():
        inner = SimpleRouter("/{shop}")

        class Local(msgspec.Struct):
            a: int

        @inner.post("/x")
        def view(request: Request, shop: int, value: Data[Local]):
            return [shop, value.a]

        return inner

    router = SimpleRouter()
    router.include(unnamed(), "/api")
    assert ask(router, "POST", "/api/5/x", data={"a": 1}) == success([5, 1])
    router.include(made(), "/shops/{shop}")
    assert ask(router, "PUT", "/shops/5/y", data={"a": 1}) == success([5, 1])


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def plain(request, id: int, limit: int = 5):
    return [id, limit]


class Answering:
    def __call__(self, request, id: int, limit: int = 5):
        return [id, limit]

    def method(self, request, id: int, limit: int = 5):
        return [id, limit]

    @classmethod
    def of_class(cls, request, id: int, limit: int = 5):
        return [id, limit]


def with_more(request, session, id: int, limit: int = 5):
    return [id, limit]


FORMS = {
    "function": plain,
    "wraps": decorated(plain),
    "wraps twice": decorated(decorated(plain)),
    "object": Answering(),
    "method": Answering().method,
    "class method": Answering.of_class,
    "partial": functools.partial(with_more, session=1),
    "partial of a method": functools.partial(Answering().method),
    "positional-only": lambda request, id, /, limit=5: [id, limit],
}
FORMS["positional-only"].__annotations__ = {"id": "int", "limit": "int"}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_any_callable_is_read(form):
    router = SimpleRouter()
    router.get("/x/{id}")(form)
    assert ask(router, url="/x/7") == success([7, 5])
    assert ask(router, url="/x/7", args={"limit": 6}) == success([7, 6])
    assert [ask(router, url=url, args=args)["detail"] for url, args in (
        ("/x/seven", None), ("/x/7", {"limit": "6"}), ("/x/7", {"more": 1}))
    ] == [
        "url.id must be an integer",
        "args.limit must be an integer, not a string",
        "The argument 'more' is not taken here.",
    ]  # fmt: skip


KINDS = {
    "method": lambda self, request, id, limit=5: [id, limit],
    "static": staticmethod(plain),
    "class": classmethod(lambda cls, request, id, limit=5: [id, limit]),
    "object": Answering(),
    "wraps": decorated(lambda self, request, id, limit=5: [id, limit]),
    "partial method": functools.partialmethod(
        lambda self, request, id, limit=5, more=None: [id, limit], more=1
    ),
}
for made in (KINDS["method"], KINDS["class"].__func__, KINDS["wraps"].__wrapped__):
    made.__annotations__ = {"id": int, "limit": "int"}
KINDS["partial method"].func.__annotations__ = {"id": int, "limit": "int"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_any_method_of_a_view_class_is_read(kind):
    view = type("View", (MethodBasedView,), {"get": kind})
    router = SimpleRouter()
    router.register("/x/{id}", view, "GET")
    assert ask(router, url="/x/7", args={"limit": 6}) == success([7, 6])
    assert ask(router, url="/x/x", args={"limit": "6"})["detail"] == (
        "url.id must be an integer (and 1 more)"
    )


def test_a_handler_that_is_inherited_is_read():
    class Base(MethodBasedView):
        def get(self, request, id: int):
            return [id, self.name]

    class View(Base):
        name = "view"

    router = SimpleRouter()
    router.register("/x/{id}", View, "GET")
    assert ask(router, url="/x/7") == success([7, "view"])
    assert ask(router, url="/x/x")["status"] == 422
