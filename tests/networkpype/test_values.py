"""Numbers and other values arrive exactly as they were written, or the call raises."""

import datetime
import enum
import io
import json
import math
import uuid
from collections import ChainMap, OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from urllib.parse import parse_qsl

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from websocket_servers import connected

from networkpype.auth import HMACHeaderAuth, HMACQueryAuth
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler
from networkpype.websocket.json_codec import encode_json
from networkpype.websocket.request import WebSocketJSONRequest

ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime.datetime(2026, 12, 1, 12, 0, 0, 250_000, tzinfo=datetime.UTC)


class Side(enum.Enum):
    BUY = "buy"


class Level(enum.IntEnum):
    HIGH = 3


class Step(Decimal, enum.Enum):
    TICK = "1E-8"


class Word(str, enum.Enum):  # noqa: UP042  (a StrEnum prints itself in another way)
    LIMIT = "limit"


class Price(Decimal):
    """A number of the program's own."""


class Whole:
    """An integer that is no int, as those of numpy are."""

    def __index__(self) -> int:
        return 7


NUMBERS = [
    (Decimal("0.5"), "0.5"),
    (Decimal("1.50"), "1.50"),
    (Decimal("1E-7"), "0.0000001"),
    (Decimal("1E+5"), "100000"),
    (Decimal("-0"), "-0"),
    (
        Decimal("123456789012345678901234567890.123456789"),
        "123456789012345678901234567890.123456789",
    ),
    (Price("10.10"), "10.10"),
    (1e-7, "0.0000001"),
    (-2.5e-300, "-0." + "0" * 299 + "25"),
    (1e22, "1" + "0" * 22),
    (0.1 + 0.2, "0.30000000000000004"),
    (1.0, "1.0"),
    (5, "5"),
    (-(10**40), "-1" + "0" * 40),
    (Level.HIGH, "3"),
    (Step.TICK, "0.00000001"),
    (Whole(), "7"),
]
TEXTS = [
    ("0.50", "0.50"),
    ("NaN", "NaN"),
    (Side.BUY, "buy"),
    (Word.LIMIT, "limit"),
    (ID, "12345678-1234-5678-1234-567812345678"),
    (NOON, "2026-12-01T12:00:00.250000Z"),
    (NOON.replace(tzinfo=None), "2026-12-01T12:00:00.250000"),
    (datetime.date(2026, 12, 1), "2026-12-01"),
    (datetime.time(12, 30), "12:30:00"),
]
NOT_NUMBERS = [
    math.nan,
    math.inf,
    -math.inf,
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("-Infinity"),
    Decimal("1E+1000000000"),
]
WITHOUT_A_FORM = [True, None, Fraction(1, 3), 1j, datetime.timedelta(seconds=1), object(), {1: 2}]


SECRET = b"secret"
AUTHS = [None, lambda: HMACHeaderAuth("key", SECRET), lambda: HMACQueryAuth("key", SECRET)]


@dataclass
class Order:
    quantity: Decimal
    price: float


class Fill(msgspec.Struct):
    order: Order
    sides: list[Side]


class Pair(NamedTuple):
    a: Decimal
    b: float


@pytest.fixture
def send(run, serve):
    """Send one request; return what the server got, and whether the call raised instead."""

    def send_one(request, auth=None):
        async def main():
            throttler = AsyncThrottler([RateLimit("any", 100, 60)])
            async with serve() as server, ConnectionManagersFactory(throttler, auth) as factory:
                manager = await factory.get_rest_manager()
                request.url = server.url()
                request.is_auth_required = auth is not None
                error = None
                try:
                    (await manager.call(request)).release()
                except (TypeError, ValueError) as raised:
                    error = raised
            return server.seen, error

        return run(main())

    return send_one


@pytest.mark.parametrize("make_auth", AUTHS, ids=["unsigned", "header", "query"])
@pytest.mark.parametrize("container", [dict, list, MultiDict, lambda pairs: ChainMap(dict(pairs))])
def test_a_query_has_each_value_exactly(send, make_auth, container):
    pairs = [(f"v{number}", value) for number, (value, _) in enumerate(NUMBERS + TEXTS)]
    (seen,), _ = send(
        RESTRequest(RESTMethod.GET, params=container(pairs)), make_auth and make_auth()
    )
    assert [text for _, text in parse_qsl(seen["query"])][: len(pairs)] == [
        text for _, text in NUMBERS + TEXTS
    ]


@pytest.mark.parametrize("make_auth", AUTHS, ids=["unsigned", "header", "query"])
@pytest.mark.parametrize("container", [dict, list, MultiDict, OrderedDict])
def test_a_form_has_each_value_exactly(send, make_auth, container):
    pairs = [(f"v{number}", value) for number, (value, _) in enumerate(NUMBERS + TEXTS)]
    (seen,), _ = send(
        RESTRequest(RESTMethod.POST, data=container(pairs)), make_auth and make_auth()
    )
    assert seen["headers"]["Content-Type"] == "application/x-www-form-urlencoded"
    assert [text for _, text in parse_qsl(seen["body"].decode())] == [
        text for _, text in NUMBERS + TEXTS
    ]


def test_lists_repeat_their_name_and_files_stay_files(send):
    amounts = [Decimal("1E-7"), 1e-7]
    (seen,), _ = send(
        RESTRequest(RESTMethod.POST, params={"a": amounts}, data={"a": amounts, "b": ID})
    )
    assert seen["query"] == "a=0.0000001&a=0.0000001"
    assert seen["body"] == f"a=0.0000001&a=0.0000001&b={ID}".encode()
    (seen,), _ = send(
        RESTRequest(RESTMethod.POST, data={"q": Decimal("1E-7"), "f": io.BytesIO(b"content")})
    )
    assert seen["headers"]["Content-Type"].startswith("multipart/form-data")
    assert b"\r\n\r\n0.0000001\r\n" in seen["body"]
    assert b"\r\n\r\ncontent\r\n" in seen["body"]


def values_as_json(is_compact):
    """Give a value with everything in it, and its JSON."""
    value = {
        "numbers": [value for value, _ in NUMBERS],
        "texts": tuple(value for value, _ in TEXTS),
        "others": [True, None, {}, [], "ü\u2028", {"deep": [{"q": Price("0.10")}]}],
        "objects": [Order(Decimal("1E-7"), 1e-7), Fill(Order(Decimal("2.50"), 2.0), [Side.BUY])],
        "pair": Pair(Decimal(1), 1e22),
        Level.HIGH: ChainMap({1e-7: 1, Decimal("0.50"): 2, None: 3, False: 4, ID: 5}),
    }
    numbers = ", ".join(text for _, text in NUMBERS)
    texts = ", ".join(f'"{text}"' for _, text in TEXTS)
    unicode = "\\u00fc\\u2028"
    text = (
        f'{{"numbers": [{numbers}], "texts": [{texts}], '
        f'"others": [true, null, {{}}, [], "{unicode}", {{"deep": [{{"q": 0.10}}]}}], '
        '"objects": [{"quantity": 0.0000001, "price": 0.0000001}, '
        '{"order": {"quantity": 2.50, "price": 2.0}, "sides": ["buy"]}], '
        f'"pair": [1, 1{"0" * 22}], "3": {{"0.0000001": 1, "0.50": 2, "null": 3, "false": 4, '
        f'"{ID}": 5}}}}'
    )
    if is_compact:
        text = text.replace(": ", ":").replace(", ", ",").replace(unicode, "ü\u2028")
    return value, text.encode()


def test_json_of_a_request_has_each_value_exactly(run, serve):
    value, text = values_as_json(is_compact=False)

    async def main():
        throttler = AsyncThrottler([RateLimit("any", 100, 60)])
        async with serve() as server, ConnectionManagersFactory(throttler) as factory:
            manager = await factory.get_rest_manager()
            for body in (value, [value], (value,)):
                await manager.execute_request(
                    server.url(), "any", data=body, method=RESTMethod.POST
                )
            request = RESTRequest(RESTMethod.POST, server.url(), data=[value])
            (await manager.call(request)).release()
        whole, *lists = [seen["body"] for seen in server.seen]
        assert whole == text
        assert lists == [b"[" + text + b"]"] * 3

    run(main())


def test_json_of_a_message_has_each_value_exactly(run, serve):
    value, text = values_as_json(is_compact=True)

    async def main():
        async with connected(serve, "/talk") as (connection, server):
            await connection.send(WebSocketJSONRequest(value))
            await connection.receive()
            assert server.seen == [(aiohttp.WSMsgType.TEXT, text.decode())]
            for bad in NOT_NUMBERS:
                with pytest.raises(ValueError, match="cannot be sent"):
                    await connection.send(WebSocketJSONRequest({"a": [{"b": bad}]}))
            await connection.send(WebSocketJSONRequest({"a": 1}))
            await connection.receive()
            assert server.seen[1:] == [(aiohttp.WSMsgType.TEXT, '{"a":1}')]

    run(main())


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=str)
@pytest.mark.parametrize("make_auth", AUTHS, ids=["unsigned", "header", "query"])
@pytest.mark.parametrize(
    "part",
    [
        {"params": "{}"},
        {"params": "[]"},
        {"data": "{}"},
        {"data": "[]"},
        {"data": "json"},
    ],
    ids=str,
)
def test_what_is_no_number_is_not_sent(send, value, make_auth, part):
    """NaN has no form that a server could not take for something else."""
    ((name, form),) = part.items()
    parts = {"{}": {"price": value}, "[]": [("price", value)], "json": [{"price": value}]}
    request = RESTRequest(RESTMethod.POST, **{name: parts[form]})
    seen, error = send(request, make_auth and make_auth())
    assert seen == []
    assert isinstance(error, ValueError)
    assert form == "json" or str(error).startswith("'price': ")


@pytest.mark.parametrize("value", WITHOUT_A_FORM, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["params", "data"])
def test_a_value_of_several_forms_is_a_type_error(send, name, value):
    seen, error = send(RESTRequest(RESTMethod.POST, **{name: {"price": value}}))
    assert seen == []
    assert isinstance(error, TypeError)
    assert str(error).startswith("'price': a value of type ")


def test_a_value_inside_itself_is_a_value_error():
    inside: list[object] = []
    inside.append(inside)
    with pytest.raises(ValueError, match="nested too deeply"):
        encode_json(inside)


@given(
    st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(),
    )
)
def test_every_number_survives(number):
    """A number is read back as it was, from a query and from JSON, and has no exponent."""
    if isinstance(number, Decimal) and abs(number.adjusted()) > 1000:
        return
    text = encode_json([number]).decode()[1:-1]
    assert "e" not in text.lower()
    (from_json,) = json.loads(f"[{text}]", parse_float=Decimal, parse_int=Decimal)
    url = RESTRequest(RESTMethod.GET, "http://h/", params={"q": number}).wire_url()
    assert url.raw_query_string == f"q={text}"
    kind = type(number)
    assert kind(from_json) == number
    assert not isinstance(number, Decimal) or (
        from_json.is_signed(),
        from_json == number,
    ) == (number.is_signed(), True)
