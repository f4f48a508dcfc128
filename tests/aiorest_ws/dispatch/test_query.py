"""The query of a URL joins `args`."""

import json

import pytest
import pytest_twisted

from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import InvalidPathArgument
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from support.routers import Passing, ask, success, view_of


def options(request, **options):
    return options


async def options_later(request, **options):
    return options


def paging(request, page=1, *, size=10):
    return [page, size]


VIEWS = {
    "plain": (options, {}),
    "coroutine": (options_later, {}),
    "blocking": (options, {"blocking": True}),
    "ordered": (options, {"ordered": True}),
}


async def opened(network, router):
    return await network.connect(await network.serve(factory=RequestHandlerFactory(router=router)))


@pytest.mark.parametrize(
    ("query", "args", "given"),
    [
        ("page=2", None, {"page": "2"}),
        ("page=2&size=5", {}, {"page": "2", "size": "5"}),
        ("page=2", {"page": 3}, {"page": 3}),
        ("page=2", {"page": None}, {"page": None}),
        ("page=2", {"size": 3}, {"page": "2", "size": 3}),
        ("tag=a&tag=b&tag=", None, {"tag": ["a", "b", ""]}),
        ("tag=a&tag=b", {"tag": "c"}, {"tag": "c"}),
        ("empty=&none", None, {"empty": "", "none": ""}),
        ("q=a+b%26c%3Dd&%C3%A9=%E2%82%AC", None, {"q": "a b&c=d", "é": "€"}),
        ("a=b?c=d", None, {"a": "b?c=d"}),
        ("a=b#c", None, {"a": "b#c"}),
        ("a=1/&b=/x/", None, {"a": "1/", "b": "/x/"}),
        ("", None, {}),
        ("&&", None, {}),
    ],
)
@pytest.mark.parametrize("has_middleware", [False, True])
@pytest.mark.parametrize("kind", VIEWS)
@pytest_twisted.ensureDeferred
async def test_a_query_joins_the_arguments(network, kind, has_middleware, query, args, given):
    function, attributes = VIEWS[kind]
    router = SimpleRouter()
    router.register_endpoint(endpoint("/x", "GET", **attributes)(function))
    if has_middleware:
        router.middlewares.append(Passing())
    client = await opened(network, router)
    for path in ("/x", "/x/", "/x"):
        call = {"method": "GET", "url": f"{path}?{query}", "args": args}
        assert json.loads(await client.ask(call)) == success(given)
    # The next call of the path has arguments of its own.
    assert json.loads(await client.ask({"method": "GET", "url": "/x"})) == success({})


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("other=1", "The argument 'other' is not taken here."),
        ("self=1", "The argument 'self' is reserved."),
        ("request=1&page=2", "The argument 'request' is reserved."),
        ("id=8", "The argument 'id' is already given by the URL."),
        ("a=" + "b" * 16_383, "The query has over 16384 characters; send `args` instead."),
        ("&" * 100_000, "The query has over 16384 characters; send `args` instead."),
    ],
)
@pytest.mark.parametrize("middlewares", [[], [Passing()]])
def test_names_are_checked_as_those_of_args(query, detail, middlewares):
    router = SimpleRouter()
    router.register("/x/{id}", view_of(lambda request, value, page=1: page), "GET")
    router.middlewares.extend(middlewares)
    for _ in range(2):
        reply = ask(router, url=f"/x/7?{query}")
        assert (reply["status"], reply["detail"]) == (400, detail)
        assert ask(router, url="/x/7?page=2") == success("2")


@pytest.mark.parametrize(
    ("values", "query"),
    [
        ([], {"page": 2}),
        ([], {"page": "a b&c=d?e#f%20", "size": ""}),
        ([], {"page": ["1", "2"], "size": "é€/"}),
        (["a#b"], {"page": "%3F"}),
        (["50%25"], {}),
    ],
)
def test_what_reverse_gives_is_answered(values, query):
    router = SimpleRouter()
    for name, path in (("plain", "/x"), ("template", "/x/{id}")):
        view = view_of(lambda request, *values, **options: [values, options])
        router.register(path, view, "GET", name)
    url = router.reverse("template" if values else "plain", *values, **query)
    given = {n: v if isinstance(v, list) else str(v) for n, v in query.items()}
    assert ask(router, url=url) == success([values, given])


@pytest.mark.parametrize("value", ["a?b", "?", "a?", "?x=1"])
def test_reverse_gives_no_path_with_a_question_mark(value):
    router = SimpleRouter()
    router.register("/x/{id}", view_of(options), "GET", "x")
    with pytest.raises(ValueError, match="cannot be a segment"):
        router.reverse("x", value)


@pytest.mark.parametrize("path", ["/x?", "/x?a=1", "/{id}?", "/?x/{id}"])
def test_a_path_with_a_question_mark_is_not_registered(path):
    with pytest.raises(InvalidPathArgument, match="starts a query"):
        SimpleRouter().register(path, view_of(options), "GET")


def test_a_path_is_not_decoded():
    router = SimpleRouter()
    router.register("/x/{id}", view_of(lambda request, value: value), "GET")
    for value in ("a%20b", "a#b", "%3Fc=d", "a+b", "a&b=c"):
        assert ask(router, url=f"/x/{value}") == success(value)


def test_a_middleware_sees_the_query_in_args():
    class Noting:
        def process_request(self, request, handler):
            seen.append((request.url, dict(request.args)))

    seen = []
    router = SimpleRouter()
    router.register("/x", view_of(paging), "GET")
    router.middlewares.append(Noting())
    assert ask(router, url="/x?page=2") == success(["2", 10])
    assert seen == [("/x?page=2", {"page": "2"})]


@pytest_twisted.ensureDeferred
async def test_a_topic_has_no_query(network):
    router = SimpleRouter()
    router.register_topic("orders")
    router.register("/orders", view_of(options), "GET")
    client = await opened(network, router)
    for method in ("SUBSCRIBE", "unsubscribe "):
        reply = json.loads(await client.ask({"method": method, "url": "orders?a=1"}))
        assert reply["status"] == 404


def test_a_router_that_reads_urls_in_its_own_way_may_read_the_query_too():
    class Own(SimpleRouter):
        def extract_url(self, request):
            return super().extract_url(request).replace("/old/", "/x/")

    router = Own()
    router.register("/x", view_of(options), "GET")
    assert ask(router, url="/old?a=1") == success({"a": "1"})
