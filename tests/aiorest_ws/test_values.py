"""What views return and what programs publish, as clients read it."""

import json
import subprocess
import sys
from collections import deque

import pytest
import pytest_twisted

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException, SerializerError
from aiorest_ws.limits import Limits
from aiorest_ws.renderers import BaseRenderer, JSONRenderer, XMLRenderer
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import connect
from support.routers import Passing
from support.values import VALUES


class Spacious(JSONRenderer):
    compact = False
    ensure_ascii = True


class Own(BaseRenderer):
    """A program's own, on top of ours."""

    format = "own"

    def render(self, data):
        return JSONRenderer().render(data)


def served(value, *, middlewares=(), **options):
    """A factory whose views answer with `value`, in each way that there is."""
    router = SimpleRouter()

    def at_once(request):
        return value

    async def later(request):
        return value

    async def stream(request):
        yield value

    def fail(request):
        raise BaseAPIException({"about": [value]}, status=409)

    def nested(request):
        return {"list": [{"deep": (value,)}]}

    for view in (at_once, later, stream, nested, fail):
        router.register_endpoint(
            endpoint(f"/{view.__name__}/{{id}}", "GET")(
                lambda request, key, view=view: view(request)
            )
        )
    for renderer in (Spacious, Own, XMLRenderer):
        router.register_endpoint(
            endpoint(f"/{renderer.__name__}/{{id}}", "GET", renderers=(renderer,))(
                lambda request, key: at_once(request)
            )
        )
    router.register_topic("news/{id}", presence=True)
    router.middlewares.extend(middlewares)
    return RequestHandlerFactory(
        router=router,
        presence_info=lambda request: value,
        limits=Limits(presence_bytes=4096),
        **options,
    )


def get(client, url):
    return client.ask({"method": "GET", "url": url}).addCallback(json.loads)


async def answers(network, factory):
    """Ask in each way; return what is read, by its way."""
    client = await network.connect(await network.serve(factory=factory))
    read = {}
    for way in ("at_once", "later", "Spacious", "Own", "stream"):
        read[way] = (await get(client, f"/{way}/1"))["data"]
    assert json.loads(await client.receive())["stream"] == "end"
    read["failure"] = (await get(client, "/fail/1"))["detail"]["about"][0]
    read["nested"] = (await get(client, "/nested/1"))["data"]["list"][0]["deep"][0]
    told = json.loads(await client.ask({"method": "SUBSCRIBE", "url": "news/1"}))["data"]
    read["presence"] = told["presence"][told["member"]]
    await factory.publish("news/1", factory.presence_info(None))
    read["push"] = json.loads(await client.receive())["data"]
    return read


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES)
@pytest_twisted.ensureDeferred
async def test_a_value_is_read_the_same_in_each_way(network, value, expected):
    read = await answers(network, served(value))
    assert read == dict.fromkeys(read, expected)


class Money:
    def __init__(self, cents):
        self.cents = cents


class Purse:
    def __init__(self, *coins):
        self.coins = coins


def convert(value):
    if isinstance(value, Money):
        return {"cents": value.cents}
    if isinstance(value, Purse):
        return deque(value.coins)
    if isinstance(value, complex):
        return [value.real, value.imag]
    raise TypeError("not ours")


CONVERTED = {
    "money": (Money(150), {"cents": 150}),
    "purse": (Purse(Money(1), 2j), [{"cents": 1}, [0.0, 2.0]]),
    "complex": ({"z": [1 + 2j]}, {"z": [[1.0, 2.0]]}),
    "array": (VALUES["array-of-bool"][0].astype("complex64"), [[1.0, 0.0], [0.0, 0.0]]),
}


@pytest.mark.parametrize("middlewares", [[], [Passing()]], ids=["plain", "middleware"])
@pytest.mark.parametrize(("value", "expected"), CONVERTED.values(), ids=CONVERTED)
@pytest_twisted.ensureDeferred
async def test_the_encoder_of_a_server_converts_the_rest(network, value, expected, middlewares):
    read = await answers(network, served(value, middlewares=middlewares, encoder=convert))
    assert read == dict.fromkeys(read, expected)


@pytest_twisted.ensureDeferred
async def test_two_servers_of_one_router_have_encoders_of_their_own(network):
    router = SimpleRouter()
    router.register_endpoint(endpoint("/money", "GET")(lambda request: Money(5)))
    read = []
    for encoder in (convert, lambda money: money.cents):
        factory = Application(router=router, encoder=encoder).generate_factory()
        client = await network.connect(await network.serve(factory=factory))
        read.append((client, factory))
    for expected in ({"cents": 5}, 5, {"cents": 5}):
        client, factory = read[0]
        assert (await get(client, "/money"))["data"] == expected
        read.reverse()


def not_ours(value):
    raise LookupError("not ours")


def itself(value):
    return value


def in_itself(value):
    return [value]


class Strange:
    __slots__ = ()


NAME = f"{__name__}.Strange"


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    ("encoder", "middlewares"),
    [(None, []), (convert, [Passing()]), (not_ours, []), (itself, [])],
    ids=["none", "refuses", "raises", "returns-it"],
)
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Strange(), NAME),
        ({"a": [Strange()]}, NAME),
        (iter(()), "tuple_iterator"),
        ({(1, 2): 3}, "tuple"),
        (VALUES["chain-map"][0].new_child({"c": Strange()}), NAME),
        ("\ud800", "str"),
    ],
    ids=["object", "nested", "iterator", "key", "mapping", "surrogate"],
)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_written_is_our_fault_and_the_log_says_which(
    network, caplog, value, name, encoder, middlewares
):
    factory = served(value, middlewares=middlewares, encoder=encoder)
    client = await network.connect(await network.serve(factory=factory))
    for way in ("at_once", "later", "Spacious", "Own", "stream"):
        caplog.clear()
        reply = await get(client, f"/{way}/1")
        assert (reply["status"], reply["detail"]) == (500, "The reply cannot be rendered.")
        (line,) = (r.getMessage() for r in caplog.records if r.levelname == "ERROR")
        assert f"the type {name}" in line
        assert f"/{way}/{{id}}/" in line
    caplog.clear()
    reply = json.loads(await client.ask({"method": "SUBSCRIBE", "url": "news/1"}))
    assert (reply["status"], reply["detail"]) == (500, "The reply cannot be rendered.")
    (line,) = (r.getMessage() for r in caplog.records if r.levelname == "ERROR")
    assert f"the type {name}" in line
    assert "news/1" in line
    with pytest.raises(SerializerError) as caught:
        factory.publish("news/1", value)
    assert f"the type {name}" in str(caught.value)
    assert "news/1" in str(caught.value)
    assert caught.value.detail == "The reply cannot be rendered."


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_an_encoder_without_end_is_our_fault(network):
    factory = served(Strange(), encoder=in_itself)
    client = await network.connect(await network.serve(factory=factory))
    assert (await get(client, "/at_once/1"))["status"] == 500
    assert (await get(client, "/XMLRenderer/1"))["status"] == 500


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model", "<name>tea</name><price>1.50</price><weight>1.5</weight>"),
        ("deque", "<list-item>1</list-item>"),
        ("matrix", "<list-item><list-item>0</list-item>"),
        ("row", "<id>7</id><name>tea</name>"),
        ("attrs", "<x>1</x><at>/p</at>"),
        ("derived-attrs", "<x>1</x><at>/p</at>"),
        ("dataclass", "<name>here</name><address>192.0.2.1</address>"),
        ("ipv6-interface", "<data>2001:db8::1/64</data>"),
        ("int8", "<data>-5</data>"),
        ("nat", "<data></data>"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_xml_has_the_same_list(network, name, text):
    client = await network.connect(await network.serve(factory=served(VALUES[name][0])))
    assert text.encode() in await client.ask({"method": "GET", "url": "/XMLRenderer/1"})


@pytest_twisted.ensureDeferred
async def test_xml_has_the_encoder_of_the_server(network):
    factory = served(Purse(Money(1)), encoder=convert)
    client = await network.connect(await network.serve(factory=factory))
    reply = await client.ask({"method": "GET", "url": "/XMLRenderer/1"})
    assert b"<data><list-item><cents>1</cents></list-item></data>" in reply


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_xml_of_what_an_encoder_refuses_is_our_fault(network, caplog):
    factory = served([Strange()], encoder=convert)
    client = await network.connect(await network.serve(factory=factory))
    assert (await get(client, "/XMLRenderer/1"))["status"] == 500
    assert NAME in caplog.text


async def asynchronous(value):
    return value


class Asynchronous:
    async def __call__(self, value):
        return value


@pytest.mark.parametrize(
    "encoder", [asynchronous, Asynchronous(), 7, "json"], ids=["coroutine", "object", "int", "str"]
)
def test_an_encoder_is_a_function_that_is_not_asynchronous(encoder):
    for make in (Application, RequestHandlerFactory):
        with pytest.raises(TypeError, match="encoder must be a function"):
            make(encoder=encoder)
    with pytest.raises(TypeError, match="encoder must be a function"):
        connect("redis://127.0.0.1:1/0", encoder=encoder)


def test_what_values_are_from_is_not_imported():
    """A server without these libraries does not load them, nor fail without them."""
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"  # coverage imports sqlite3
        "from aiorest_ws.app import Application\n"
        "from aiorest_ws.codecs import encode_json\n"
        "from collections import deque\n"
        "print(encode_json(deque([1])))\n"
        "names = {'attrs', 'numpy', 'pydantic', 'sqlite3'}\n"
        "print(sorted(names.intersection(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    # Twisted imports attrs.
    assert done.stdout.split() == [b"b'[1]'", b"['attrs']"]
