"""JSON of WebSocket messages."""

import enum
import json
from typing import Any

import msgspec
import pytest

from networkpype.websocket.json_codec import JSONCodec, encode_json


class Symbol(str):
    """A str of the program's own."""


class Side(enum.StrEnum):
    BUY = "buy"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"a": [1, None, True]}, b'{"a":[1,null,true]}'),
        ({"s": Symbol("BTC")}, b'{"s":"BTC"}'),
        ({None: 1, True: 2}, b'{"null":1,"true":2}'),
        ({"side": Side.BUY}, b'{"side":"buy"}'),
        ({"n": 10**30}, b'{"n":1000000000000000000000000000000}'),
        ({"ü": "\ud800"}, '{"ü":"\\ud800"}'.encode()),
    ],
)
def test_what_the_standard_library_can_encode_is_encoded(payload: Any, text: bytes) -> None:
    """Encoding is compact, and takes what json.dumps takes."""
    assert encode_json(payload) == text


def test_what_is_not_json_is_a_type_error() -> None:
    """An object that JSON does not have is refused."""
    with pytest.raises(TypeError):
        encode_json({"x": object()})


@pytest.mark.parametrize("text", ['{"x": NaN}', '"\\ud800"', "1e400", "-Infinity"])
def test_leniently_takes_what_the_standard_library_takes(text: str) -> None:
    """JSON beyond RFC 8259 is not handed out as a str."""
    codec = JSONCodec()
    with pytest.raises(msgspec.DecodeError):
        codec.decode(text)
    # repr, because NaN is not equal to itself.
    assert repr(codec.decode_leniently(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["", "hello", "{", "[" * 100_000])
def test_leniently_gives_back_what_is_no_json(text: str) -> None:
    """Text that is not JSON is handed out as it came."""
    assert JSONCodec().decode_leniently(text) == text


def test_the_standard_library_has_no_try_after_another_codec() -> None:
    """An injected decoder decides alone."""

    def refuse(text: str) -> Any:
        raise ValueError(text)

    assert JSONCodec(decode=refuse).decode_leniently("12") == "12"
