"""Calls of views with annotations: where values come from, and what a client is told."""

import enum
import json
import operator
import threading
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import pytest
import pytest_twisted
from msgspec import Meta
from pydantic import BaseModel
from twisted.internet.defer import Deferred, succeed

from aiorest_ws import Data, MethodBasedView, Request, SimpleRouter, ValidationError, endpoint
from aiorest_ws.abstract import AbstractMiddleware
from aiorest_ws.contract.bodies import STRAIGHT_BYTES
from aiorest_ws.exceptions import BaseAPIException, InvalidHandler
from support.contracts import UUID_TEXT, Colour, Level
from support.routers import ask, failure, success


def invalid(*errors):
    (path, fault), *others = errors
    more = f" (and {len(others)} more)" if others else ""
    return {
        **failure(422, f"{path} {fault}{more}"),
        "errors": [{"path": path, "fault": fault} for path, fault in errors],
    }


# Values in a path, and in a query

INTEGER = "must be an integer"

TEXTS = [
    (int, "5", 5),
    (int, "-5", -5),
    (int, "0", 0),
    (int, "12345678901234567890", 12345678901234567890),
    *(
        (int, text, INTEGER)
        for text in ("05", "+5", "5.0", "1e3", "1_0", "-0x1", "\u0665", "five")
    ),
    (int, "9" * 5000, INTEGER),
    (Annotated[int, Meta(ge=1)], "0", "must be at least 1"),
    (int | None, "5", 5),
    (int | None, "null", "must be an integer or null"),
    (float, "5", 5.0),
    (float, "-1.5e2", -150.0),
    *((float, text, "must be a number") for text in ("NaN", "inf", ".5", "5.", "1e999", "\u0665")),
    (bool, "true", True),
    (bool, "false", False),
    *((bool, text, "must be true or false") for text in ("1", "True", "yes", "on")),
    (Decimal, "0.123456789012345678901234567890", "0.123456789012345678901234567890"),
    *((Decimal, text, "must be a decimal number") for text in ("NaN", "1_0", "x", "\u0665")),
    (UUID, UUID_TEXT, UUID_TEXT),
    (UUID, UUID_TEXT.upper(), UUID_TEXT),
    (UUID, UUID_TEXT.replace("-", ""), "must be a UUID"),
    (UUID, "5", "must be a UUID"),
    (datetime, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    (datetime, "5", "must be a date and time (RFC 3339)"),
    (date, "2026-01-02", "2026-01-02"),
    (date, "20260102", "must be a date (RFC 3339)"),
    (time, "03:04:05", "03:04:05"),
    (timedelta, "PT5S", "PT5S"),
    (timedelta, "5", "must be a duration (ISO 8601)"),
    (Colour, "red", "red"),
    (Colour, "RED", "must be one of 'red', 'dark red'"),
    (Level, "1", 1),
    (Level, "01", "must be one of 1, 2"),
    (Level, "LOW", "must be one of 1, 2"),
    (Level, "3", "must be one of 1, 2"),
    (Literal["a", 1, True], "a", "a"),
    (Literal["a", 1, True], "1", 1),
    (Literal["a", 1, True], "true", True),
    (Literal["a", 1, True], "b", "must be one of 'a', 1, true"),
    (Literal["a", 1, True], "True", "must be one of 'a', 1, true"),
    (int | str, "5", 5),
    (int | str, "05", "05"),
    (str, "\u0665", "\u0665"),
    (Annotated[str, Meta(min_length=2)], "x", "must have at least 2 characters"),
]


@pytest.mark.parametrize(("annotation", "text", "expected"), TEXTS)
def test_a_text_in_a_path_or_a_query_is_spelled_strictly(annotation, text, expected):
    def view(request: Request, value: annotation):
        return value

    router = SimpleRouter()
    router.get("/path/{value}")(view)
    router.get("/query")(view)
    for place, url in (("url", f"/path/{text}"), ("args", f"/query?value={text}")):
        reply = ask(router, url=url.replace("+", "%2B") if place == "args" else url)
        if isinstance(expected, str) and expected.startswith("must"):
            assert reply == invalid((f"{place}.value", expected))
        else:
            assert reply == success(expected)
            assert type(reply["data"]) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "query", "expected"),
    [
        (list[int], "v=1&v=2", [1, 2]),
        (list[int], "v=1", [1]),
        (list[int], "v=1&v=x", ("args.v", "must be an array")),
        (list[int] | int, "v=1", 1),
        (list[int] | int, "v=1&v=2", [1, 2]),
        (tuple[int, bool], "v=1&v=true", [1, True]),
        (set[Colour], "v=red&v=red", ["red"]),
        (int, "v=1&v=2", ("args.v", "must be an integer, not an array")),
        (dict[str, int], "v=1", ("args.v", "must be an object, not a string")),
        (str, "v=", ""),
    ],
)
def test_a_repeated_name_in_a_query_is_a_list(annotation, query, expected):
    router = SimpleRouter()

    @router.get("/x")
    def view(request: Request, v: annotation):
        return v

    wanted = invalid(expected) if isinstance(expected, tuple) else success(expected)
    assert ask(router, url=f"/x?{query}") == wanted


def test_only_what_is_from_the_query_is_text():
    router = SimpleRouter()

    @router.get("/x")
    def view(request: Request, a: int = 0, b: int = 0, c=None):
        return [a, b, c]

    assert ask(router, url="/x?a=1&c=3", args={"b": 2}) == success([1, 2, "3"])
    assert ask(router, url="/x?a=1", args={"b": "2"}) == invalid(
        ("args.b", "must be an integer, not a string")
    )
    assert ask(router, url="/x?a=1", args={"a": "2"}) == invalid(
        ("args.a", "must be an integer, not a string")
    )


# Names


class NewOrder(msgspec.Struct):
    item: str
    count: Annotated[int, Meta(ge=1)] = 1


def create(request: Request, shop: int, order: Data[NewOrder], *, dry_run: bool = False, tag=None):
    return [shop, order.item, order.count, dry_run, tag]


class Orders(MethodBasedView):
    def post(self, request, shop: int, order: Data[NewOrder], dry_run: bool = False, tag=None):
        return create(request, shop, order, dry_run=dry_run, tag=tag)


def by_decorator():
    router = SimpleRouter()
    router.post("/shops/{shop}/orders")(create)
    return router


def by_class():
    router = SimpleRouter()
    router.register("/shops/{shop}/orders", Orders, "POST")
    return router


def by_endpoint():
    router = SimpleRouter()
    router.register_endpoint(endpoint("/shops/{shop}/orders", "POST")(create))
    return router


def by_include():
    inner, router = SimpleRouter(), SimpleRouter(auth_required=False)
    inner.post("/{shop}/orders")(create)
    router.include(inner, "/shops")
    return router


TEA = {"item": "tea"}


@pytest.mark.parametrize("made", [by_decorator, by_class, by_endpoint, by_include])
def test_path_values_arguments_and_data_reach_their_parameters(made):
    router = made()

    def post(url="/shops/7/orders", data=TEA, **args):
        return ask(router, "POST", url, args, data=data)

    assert post() == success([7, "tea", 1, False, None])
    assert post(dry_run=True, tag=[1]) == success([7, "tea", 1, True, [1]])
    assert post("/shops/7/orders?dry_run=true&tag=x") == success([7, "tea", 1, True, "x"])
    assert post("/shops/x/orders", {"count": 0}, dry_run=1) == invalid(
        ("url.shop", INTEGER),
        ("data.item", "is missing"),
        ("data.count", "must be at least 1"),
        ("args.dry_run", "must be true or false, not an integer"),
    )
    assert post(data=None) == invalid(("data", "is missing"))
    # Names come first, as before.
    assert post("/shops/x/orders", more=1) == failure(
        400, "The argument 'more' is not taken here."
    )
    assert post(order={"item": "x"}) == failure(400, "The argument 'order' is reserved.")
    assert post(shop=1) == failure(400, "The argument 'shop' is already given by the URL.")
    assert ask(router, "POST", "/nowhere")["status"] == 404
    assert ask(router, "GET", "/shops/7/orders")["status"] == 405


def test_a_missing_argument_is_400():
    router = SimpleRouter()

    @router.get("/x")
    def view(request: Request, limit: int, *, other: int):
        return [limit, other]

    assert ask(router, args={"limit": "x"}) == failure(400, "The argument 'other' is missing.")
    assert ask(router, args={"other": 1}) == failure(400, "The argument 'limit' is missing.")
    assert ask(router, args={"other": 1, "limit": 2}) == success([2, 1])


def test_path_values_are_bound_by_name_or_in_the_order_of_1_1():
    def view(request, *, b: int, a: str):
        return [a, b]

    router = SimpleRouter()
    router.get("/x/{a}/{b}")(view)
    assert ask(router, url="/x/one/2") == success(["one", 2])
    assert ask(router, url="/x/one/two") == invalid(("url.b", INTEGER))

    class View(MethodBasedView):
        def get(self, request, first: str, second: int):
            return [first, second]

        def put(self, request, b: int, a: str):
            pass

    router.register("/y/{a}/{b}", View, "GET")
    assert ask(router, url="/y/one/2") == success(["one", 2])
    # The path of a fault names what the template names.
    assert ask(router, url="/y/one/two") == invalid(("url.b", INTEGER))
    with pytest.raises(InvalidHandler, match="order of the path"):
        router.register("/z/{a}/{b}", View, "PUT")


def test_a_view_class_may_have_several_paths():
    class View(MethodBasedView):
        def get(self, request, id: int, shop: int = 0):
            return [id, shop]

    router = SimpleRouter()
    router.register("/a/{id}", View, "GET")
    router.register("/b/{id}/{shop}", View, "GET")
    router.register("/c/{number}", View, "GET")
    assert ask(router, url="/a/1", args={"shop": 5}) == success([1, 5])
    assert ask(router, url="/b/1/2") == success([1, 2])
    assert ask(router, url="/b/1/x") == invalid(("url.shop", INTEGER))
    assert ask(router, url="/c/x") == invalid(("url.number", INTEGER))


def test_further_values_and_keywords_are_passed_on():
    router = SimpleRouter()

    class View(MethodBasedView):
        def get(self, request, id: int, *more: str, limit: int = 1, **others):
            return [id, more, limit, others]

    router.register("/x/{a}/{b}/{c}", View, "GET")
    assert ask(router, url="/x/1/2/3", args={"limit": 2, "z": 3}) == success(
        [1, ["2", "3"], 2, {"z": 3}]
    )
    assert ask(router, url="/x/1/2/3", args={"limit": "2", "z": 3}) == invalid(
        ("args.limit", "must be an integer, not a string")
    )


def test_defaults_are_passed_as_they_are():
    default = object()
    router = SimpleRouter()

    @router.post("/x")
    def view(
        request: Request,
        a: int = "not an int",
        b: list[int] = default,
        order: Data[NewOrder | None] = default,
    ):
        return [a, b is default, order is default]

    assert ask(router, "POST") == success(["not an int", True, True])
    assert ask(router, "POST", args={"a": 1, "b": [1]}, data={"item": "x"}) == success(
        [1, False, False]
    )


def test_a_positional_only_parameter_without_a_value_keeps_its_default():
    router = SimpleRouter()

    @router.get("/x/{id}")
    def view(request, id: int, other: int = 5, /, *, limit: int = 1):
        return [id, other, limit]

    assert ask(router, url="/x/1", args={"limit": 2}) == success([1, 5, 2])
    assert ask(router, url="/x/1", args={"other": 2})["status"] == 400


def test_what_is_injected_is_not_checked():
    class Session:
        pass

    class View(MethodBasedView):
        injected = ("session",)

        def dispatch(self, request, *values, **arguments):
            return super().dispatch(request, *values, session=Session(), **arguments)

        def get(self, request, id: int, session: Session, limit: int = 1):
            return [id, type(session).__name__, limit]

    router = SimpleRouter()
    router.register("/x/{id}", View, "GET")
    assert ask(router, url="/x/1", args={"limit": 2}) == success([1, "Session", 2])
    assert ask(router, url="/x/x", args={"limit": 2}) == invalid(("url.id", INTEGER))
    assert ask(router, url="/x/1", args={"session": 2})["status"] == 400

    def decorate(function):
        def wrapper(*values, **arguments):
            return function(*values, session=Session(), **arguments)

        wrapper.__wrapped__ = function
        return wrapper

    @router.get("/y/{id}", injected=("session",))
    @decorate
    def view(request, id: int, session: "Nowhere", limit: int = 1):  # noqa: F821
        return [id, type(session).__name__, limit]

    assert ask(router, url="/y/1", args={"limit": 2}) == success([1, "Session", 2])
    assert ask(router, url="/y/1", args={"limit": "2"})["status"] == 422


def test_a_value_that_fits_is_no_fault_beside_one_that_does_not():
    router = SimpleRouter()

    @router.post("/x")
    def view(
        request: Request,
        id: UUID,
        price: Decimal,
        order: Data[NewOrder],
        tags: list[Colour] = (),
        day: date | None = None,
    ):
        return [id, price, tags, day]

    args = {"id": UUID_TEXT, "price": "1.10", "tags": ["red"], "day": "2026-01-02"}
    data = {"item": "x"}
    assert ask(router, "POST", args=args, data=data) == success(
        [UUID_TEXT, "1.10", ["red"], "2026-01-02"]
    )
    assert ask(router, "POST", args=args, data={}) == invalid(("data.item", "is missing"))
    assert ask(router, "POST", args={**args, "day": "x"}, data=data) == invalid(
        ("args.day", "must be a date (RFC 3339)")
    )
    assert ask(router, "POST", args={**args, "price": "1_0"}, data={}) == invalid(
        ("args.price", "must be a decimal number"), ("data.item", "is missing")
    )


def test_a_view_may_take_the_request_among_others():
    router = SimpleRouter()

    @router.get("/x/{id}")
    def view(*values, id: int, limit: int = 1):
        return [type(values[0]).__name__, id, limit]

    assert ask(router, url="/x/5", args={"limit": 2}) == success(["Request", 5, 2])
    assert ask(router, url="/x/x", args={"limit": 2}) == invalid(("url.id", INTEGER))


def test_models_of_pydantic_are_made_of_arguments_too():
    class Filter(BaseModel):
        name: str

    router = SimpleRouter()

    @router.get("/x")
    def view(request: Request, by: Filter | None = None, *, limit: int = 1):
        return [None if by is None else by.name, limit]

    assert ask(router, args={"by": {"name": "x"}}) == success(["x", 1])
    assert ask(router) == success([None, 1])
    assert ask(router, args={"by": {"name": 1}, "limit": "x"}) == invalid(
        ("args.by.name", "must be a string"), ("args.limit", "must be an integer, not a string")
    )


def test_at_most_20_faults_and_100_characters_of_the_client_are_sent():
    class Strict(msgspec.Struct, forbid_unknown_fields=True):
        x: int = 0

    router = SimpleRouter()

    @router.post("/x")
    def view(request: Request, value: Data[Strict], colour: Colour = Colour.RED):
        pass

    data = {f"{index}{'k' * 500}": 1 for index in range(50)}
    reply = ask(router, "POST", data=data, args={"colour": "c" * 500})
    assert len(reply["errors"]) == 20
    assert max(len(one["path"]) for one in reply["errors"]) == len("data.") + 100 + len("...")
    assert "ccc" not in json.dumps(reply)


def test_a_fault_late_in_a_large_message_is_found_without_a_look_at_all_of_it():
    router = SimpleRouter()

    @router.post("/x")
    def view(request: Request, rows: Data[list[dict[str, int]]], limit: int = 1):
        return len(rows)

    rows = [{"a": 1}] * 60_000
    assert ask(router, "POST", data=rows) == success(60_000)
    assert ask(router, "POST", data=[*rows, {"a": "x"}], args={"limit": "x"}) == invalid(
        ("data[60000][...]", "is not valid"), ("args.limit", "must be an integer, not a string")
    )
    assert ask(router, "POST", data=[{"a": "x"}, *rows]) == invalid(
        ("data[0].a", "must be an integer, not a string")
    )


@pytest.mark.logs_errors
def test_a_fault_of_the_program_in_a_type_is_500():
    class Broken(msgspec.Struct):
        x: int

        def __post_init__(self):
            raise KeyError(self.x)

    router = SimpleRouter()

    @router.post("/x")
    def view(request: Request, value: Data[Broken]):
        pass

    payload = b'{"method": "POST", "url": "/x", "data": {"x": 1}%s}'
    for blanks in (b"", b" " * STRAIGHT_BYTES):
        reply = router.process_request(router.decode(payload % blanks))
        assert json.loads(reply)["status"] == 500


def test_a_view_may_be_called_as_it_is():
    assert by_decorator() is not None
    assert create(None, 1, NewOrder("tea")) == [1, "tea", 1, False, None]


def test_what_has_no_annotations_stays_as_it_is():
    class View(MethodBasedView):
        def get(self, request: Request, id: str, limit=1) -> int:
            return [id, limit]

    router = SimpleRouter()
    router.register("/x/{id}", View, "GET")
    assert router.urls[0].handler is View
    assert ask(router, url="/x/1", args={"limit": "2"}) == success(["1", "2"])


# Middlewares


class Noting(AbstractMiddleware):
    def __init__(self, change=None):
        self.seen = []
        self.change = change

    def process_request(self, request, handler):
        if self.change is not None:
            self.change(request)
            self.seen.append(request.data)


@pytest.mark.parametrize("blanks", ["", " " * STRAIGHT_BYTES], ids=["small", "large"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, ["tea", 2]),
        (lambda request: request.data["item"], ["tea", 2]),
        (lambda request: request.data.update(item="milk"), ["milk", 2]),
        (
            lambda request: operator.setitem(request.data, "count", 0),
            "data.count must be at least 1",
        ),
        (lambda request: setattr(request, "data", {"item": "milk"}), ["milk", 1]),
    ],
    ids=["none", "reads", "changes", "breaks", "replaces"],
)
def test_middlewares_see_and_change_what_was_sent(change, expected, blanks):
    router = SimpleRouter()

    @router.post("/x")
    def view(request: Request, order: Data[NewOrder]):
        assert type(request.data) is dict
        return [order.item, order.count]

    noting = Noting(change)
    router.middlewares.append(noting)
    text = '{"method": "POST", "url": "/x", "data": {"item": "tea", "count": 2}%s, "more": 1}'
    request = router.decode((text % blanks).encode())
    assert request.more == 1
    reply = json.loads(router.process_request(request))
    assert reply.get("data", reply.get("detail")) == expected


def test_values_are_judged_after_the_middlewares():
    class Refusing(AbstractMiddleware):
        def process_request(self, request, handler):
            raise BaseAPIException("No.", status=403)

    router = by_decorator()
    router.middlewares.append(Refusing())
    assert ask(router, "POST", "/shops/x/orders")["status"] == 403


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_message_that_is_wrong_otherwise_is_refused_as_ever(large):
    typed, untyped = SimpleRouter(), SimpleRouter()

    @typed.post("/x")
    def view(request: Request, order: Data[NewOrder]):
        return 1

    untyped.post("/x")(lambda request: 1)
    blanks = " " * STRAIGHT_BYTES if large else ""
    order = '"data": {"item": "x"}'
    for text in (
        f'{{"method": "POST", "url": "/x", {order}, "connection": 1}}',
        f'{{"method": "POST", "url": "/x", {order}, "id": {{}}}}',
        f'{{"method": "POST", "url": "/x", {order}, "id": "{"i" * 200}"}}',
        f'{{"method": "POST", "url": "/x", {order}, "timeout": -1}}',
        f'{{"method": "POST", "url": 5, {order}}}',
        f'{{"method": "POST", "url": "/x", {order}, "args": 5}}',
        f'{{"method": "POST", "url": "/x", "data": {"[" * 200}{"]" * 200}}}',
        f'{{"method": "POST", "url": "/x", "data": {{"item": "x", "n": {"[" * 200}{"]" * 200}}}}}',
        '{"method": "POST", "url": "/x", "data": {"item": "\\ud800"}}',
        '{"method": "POST", "url": "/x", "data": {"item": "x", "n": "\\ud800"}}',
        '{"method": "POST", "url": "/x", "data": {"item": "x", "count": 1e999}}',
        f'{{"method": "POST", "url": "/x", {order}',
        f"[{order}]",
    ):
        payload = text.replace('"data":', f'"data":{blanks}').encode()
        refusals = []
        for router in (typed, untyped):
            with pytest.raises(BaseAPIException) as caught:
                router.decode(payload)
            refusals.append((caught.value.detail, caught.value.status))
        assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    "keys",
    [
        ["method", "url", "data"],
        ["data", "url", "method"],
        ["url", "data", "method"],
        ["method", "url", "data", "url"],
        ["method", "url", "data", "method"],
    ],
)
def test_the_last_of_repeated_keys_counts_in_large_messages(keys):
    router = SimpleRouter()

    @router.post("/x")
    def typed(request: Request, order: Data[NewOrder]):
        return "typed"

    router.put("/x")(lambda request: "put")
    router.post("/y")(lambda request: "y")
    first = {"method": '"POST"', "url": '"/x"', "data": '{"item": "x"}' + " " * STRAIGHT_BYTES}
    last = {"method": '"PUT"', "url": '"/y"'}
    pairs = [
        f'"{key}": {last[key] if key in keys[:index] else first[key]}'
        for index, key in enumerate(keys)
    ]
    payload = f"{{{', '.join(pairs)}}}".encode()
    expected = {"url": "y", "method": "put"}[keys[-1]] if len(keys) > 3 else "typed"
    assert json.loads(router.process_request(router.decode(payload))) == success(expected)


# All kinds of views, over sockets


def kinds():
    router = SimpleRouter()
    main = threading.current_thread()

    def told(order, limit):
        return [order.item, order.count, limit]

    @router.post("/sync/{id}")
    def sync(request: Request, id: int, order: Data[NewOrder], limit: int = 1):
        return told(order, limit)

    @router.post("/coroutine/{id}")
    async def coroutine(request: Request, id: int, order: Data[NewOrder], limit: int = 1):
        return told(order, limit)

    @router.post("/waiting/{id}")
    async def waiting(request: Request, id: int, order: Data[NewOrder], limit: int = 1):
        later = Deferred()
        request.factory.reactor.callLater(0, later.callback, None)
        await later
        return told(order, limit)

    @router.post("/deferred/{id}")
    def deferred(request: Request, id: int, order: Data[NewOrder], limit: int = 1):
        return succeed(told(order, limit))

    @router.post("/blocking/{id}", blocking=True)
    def blocking(request: Request, id: int, order: Data[NewOrder], limit: int = 1):
        assert threading.current_thread() is not main
        return told(order, limit)

    class View(MethodBasedView):
        ordered = True

        async def post(self, request, id: int, order: Data[NewOrder], limit: int = 1):
            return told(order, limit)

    router.register("/ordered/{id}", View, "POST")

    @router.post("/stream/{id}")
    async def stream(request: Request, id: int, order: Data[NewOrder], limit: int = 1):
        yield told(order, limit)

    return router


KINDS = ["sync", "coroutine", "waiting", "deferred", "blocking", "ordered", "stream"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blanks", ["", " " * STRAIGHT_BYTES], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_all_kinds_of_views_are_checked(network, kind, blanks):
    client = await network.connect(await network.serve(kinds()))

    async def replied(id, args, data):
        text = (
            f'{{"method": "POST", "url": "/{kind}/{id}", "args": {args}, "data": {data}{blanks}}}'
        )
        reply = json.loads(await client.ask(text.encode()))
        if kind == "stream" and "data" in reply:
            assert json.loads(await client.receive())["stream"] == "end"
            del reply["stream"]
        return reply

    assert await replied("5", '{"limit": 3}', '{"item": "x"}') == success(["x", 1, 3])
    assert await replied("x", '{"limit": "3"}', '{"count": 0}') == invalid(
        ("url.id", INTEGER),
        ("data.item", "is missing"),
        ("data.count", "must be at least 1"),
        ("args.limit", "must be an integer, not a string"),
    )
    assert await replied("5", '{"limits": 3}', '{"item": "x"}') == failure(
        400, "The argument 'limits' is not taken here."
    )


@pytest_twisted.ensureDeferred
async def test_an_ordered_class_with_two_paths_takes_turns(network):
    begun, gates = [], [Deferred(), Deferred()]

    class View(MethodBasedView):
        ordered = True

        async def get(self, request, id: int, shop: int = 0):
            begun.append(id)
            await gates[id]
            return id

    router = SimpleRouter()
    router.register("/a/{id}", View, "GET")
    router.register("/b/{id}/{shop}", View, "GET")
    router.get("/last")(lambda request: list(begun))
    client = await network.connect(await network.serve(router))
    client.send({"method": "GET", "url": "/a/0"})
    client.send({"method": "GET", "url": "/b/1/2"})
    assert json.loads(await client.ask({"method": "GET", "url": "/last"})) == success([0])
    gates[0].callback(None)
    assert json.loads(await client.receive()) == success(0)
    gates[1].callback(None)
    assert json.loads(await client.receive()) == success(1)


@pytest.mark.parametrize("kind", ["blocking", "ordered", "sync"])
@pytest_twisted.ensureDeferred
async def test_a_query_is_text_for_each_kind_of_view(network, kind):
    client = await network.connect(await network.serve(kinds()))
    call = {"method": "POST", "url": f"/{kind}/5?limit=7", "data": {"item": "x"}}
    assert json.loads(await client.ask(call)) == success(["x", 1, 7])
    call["url"] = f"/{kind}/5?limit=x"
    assert json.loads(await client.ask(call)) == invalid(("args.limit", INTEGER))


def test_an_error_handler_may_answer_for_what_does_not_fit():
    router = by_decorator()
    router.error_handlers[ValidationError] = lambda request, exc: BaseAPIException(
        f"{len(exc.errors)} faults", status=400
    )
    assert ask(router, "POST", "/shops/x/orders") == failure(400, "2 faults")


def test_an_enumeration_with_its_own_rules_is_asked():
    class Loose(enum.Enum):
        A = "a"

        @classmethod
        def _missing_(cls, value):
            return cls.A if value == "alpha" else None

    router = SimpleRouter()

    @router.get("/x/{value}")
    def view(request: Request, value: Loose):
        return value

    assert ask(router, url="/x/alpha") == success("a")
    assert ask(router, url="/x/beta") == invalid(("url.value", "must be 'a'"))
