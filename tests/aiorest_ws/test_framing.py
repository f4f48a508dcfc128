"""Which bytes are ordinary messages, and what is in them."""

import importlib.util
import struct
import sys
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorest_ws import framing
from aiorest_ws.framing import (
    BINARY,
    TEXT,
    apply_mask,
    header_of,
    messages,
    only_message,
)

MASK = b"\x37\xfa\x21\x3d"
NO_LIMIT = sys.maxsize

# Around each border of the three forms of a length.
SIZES = (0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537)

MASKS = st.binary(min_size=4, max_size=4)


def masked(payload, mask):
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def frame(first, payload, mask=MASK, form=None):
    """Return a frame; `form` is the struct code of a length that is not in its own form."""
    size = len(payload)
    form = form or ("B" if size < 126 else "H" if size < 65536 else "Q")
    mark = {"B": size, "H": 126, "Q": 127}[form]
    longer = b"" if form == "B" else struct.pack(f"!{form}", size)
    return bytes((first, 0x80 | mark)) + longer + mask + masked(payload, mask)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("first", [TEXT, BINARY])
def test_ordinary_message_of_any_length_is_taken(first, size):
    payload = (b"abcdefg" * (size // 7 + 1))[:size]
    data = frame(first, payload)
    assert only_message(data, NO_LIMIT) == payload
    assert messages(data, NO_LIMIT, 1) == [(payload, first == BINARY, len(data))]


@given(st.binary(max_size=300), MASKS)
def test_binary_payload_is_unmasked(payload, mask):
    assert only_message(frame(BINARY, payload, mask), NO_LIMIT) == payload


@given(st.text(), MASKS)
def test_text_payload_is_unmasked(text, mask):
    assert only_message(frame(TEXT, text.encode(), mask), NO_LIMIT) == text.encode()


def is_utf8(payload):
    try:
        return payload.decode("utf-8", "strict").encode() == payload
    except UnicodeDecodeError:
        return False


UTF8_PIECES = (
    *(b"a", b"\x80", b"\xbf", b"\xc0", b"\xc3", b"\xa9", b"\xe2\x82", b"\xe2\x82\xac"),
    *(
        b"\xed\xa0\x80",
        b"\xf0\x9f\x90",
        b"\xf0\x9f\x90\x8e",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"\x00",
    ),
)


@given(st.lists(st.sampled_from(UTF8_PIECES), max_size=6).map(b"".join))
def test_text_is_taken_exactly_when_it_is_utf8(payload):
    data = frame(TEXT, payload)
    assert only_message(data, NO_LIMIT) == (payload if is_utf8(payload) else None)
    assert bool(messages(data, NO_LIMIT, 1)) == is_utf8(payload)


@pytest.mark.parametrize("payload", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_left(payload):
    assert not is_utf8(payload)
    assert only_message(frame(TEXT, b"begin " + payload), NO_LIMIT) is None


@pytest.mark.parametrize("first", sorted(set(range(256)) - {TEXT, BINARY}))
def test_frame_with_any_other_first_byte_is_left(first):
    data = frame(first, b"payload")
    assert only_message(data, NO_LIMIT) is None
    assert messages(data, NO_LIMIT, 1) == []
    assert messages(frame(BINARY, b"") + data, NO_LIMIT, 2) == [(b"", True, 6)]


@pytest.mark.parametrize(
    ("size", "form"),
    [(0, "H"), (4, "H"), (125, "H"), (0, "Q"), (125, "Q"), (126, "Q"), (65535, "Q")],
)
def test_length_in_more_bytes_than_it_needs_is_left(size, form):
    data = frame(BINARY, b"x" * size, form=form)
    assert only_message(data, NO_LIMIT) is None
    assert messages(data, NO_LIMIT, 1) == []


@pytest.mark.parametrize("size", [2**63 - 1, 2**63, 2**64 - 1])
def test_huge_length_is_left_until_it_has_come(size):
    data = bytes((BINARY, 0xFF)) + struct.pack("!Q", size) + MASK + b"a beginning"
    assert only_message(data, NO_LIMIT) is None
    assert messages(data, NO_LIMIT, 1) == []


@pytest.mark.parametrize("size", [0, 4, 5, 125, 126, 300, 65536])
def test_unmasked_frame_is_left(size):
    data = header_of(size, True) + b"x" * size
    assert only_message(data, NO_LIMIT) is None
    assert messages(data, NO_LIMIT, 1) == []
    assert messages(data * 2, NO_LIMIT, 2) == []


@pytest.mark.parametrize("size", [0, 4, 125, 126, 300, 65536])
def test_frame_that_has_a_mask_and_says_that_it_has_none_is_left(size):
    data = frame(BINARY, b"x" * size)
    data = data[:1] + bytes((data[1] & 0x7F,)) + data[2:]
    assert only_message(data, NO_LIMIT) is None
    assert messages(data, NO_LIMIT, 1) == []


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536])
def test_limit_is_the_largest_payload_that_is_taken(size):
    data = frame(BINARY, b"x" * size)
    assert only_message(data, size) == b"x" * size
    assert only_message(data, size - 1) is None
    assert len(messages(data, size, 1)) == 1
    assert messages(data, size - 1, 1) == []


def test_nothing_is_taken_below_a_limit_of_nothing():
    assert only_message(frame(BINARY, b""), 0) == b""
    assert only_message(frame(BINARY, b""), -1) is None
    assert messages(frame(BINARY, b""), -1, 1) == []


@pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 130, 65536])
def test_part_of_a_frame_is_left(size):
    data = frame(BINARY, b"x" * size)
    ends = {*range(min(len(data), 20)), len(data) - 1}
    assert [end for end in ends if only_message(data[:end], NO_LIMIT) is not None] == []
    assert [end for end in ends if messages(data[:end], NO_LIMIT, 1)] == []


@given(st.binary(max_size=140), st.binary(min_size=1, max_size=20))
def test_only_message_leaves_more_than_one_frame(payload, rest):
    assert only_message(frame(BINARY, payload) + rest, NO_LIMIT) is None


ORDINARY = st.one_of(
    st.tuples(st.just(BINARY), st.binary(max_size=200), MASKS),
    st.tuples(st.just(TEXT), st.text(max_size=60).map(str.encode), MASKS),
)


@given(st.lists(ORDINARY, max_size=8), st.integers(0, 10), st.data())
def test_messages_at_the_head_are_taken_in_order_and_the_rest_is_left(sent, most, data):
    frames = [frame(*one) for one in sent]
    ends = list(accumulate(map(len, frames)))
    tail = data.draw(
        st.sampled_from([b"", b"\x82", b"\x89\x80abcd", b"\x01\x80abcd", b"\x81\x00"])
    )
    expected = [
        (payload, first == BINARY, end)
        for (first, payload, _), end in zip(sent, ends, strict=True)
    ]
    assert messages(b"".join(frames) + tail, NO_LIMIT, most) == expected[:most]


def damaged(data, at, turned):
    at %= len(data)
    return data[:at] + bytes((data[at] ^ turned,)) + data[at + 1 :]


@given(ORDINARY, st.integers(0, 20), st.integers(1, 255), st.integers(0, 300))
def test_what_is_taken_is_the_message_that_was_sent_however_bytes_are_damaged(
    one, at, turned, limit
):
    data = damaged(frame(*one), at, turned)
    payload = only_message(data, limit)
    found = messages(data, limit, 1)
    if payload is None:
        # A damaged length may leave a shorter message and a rest.
        assert not found or found[0][2] < len(data)
        return
    assert data[0] in {TEXT, BINARY}
    assert len(payload) <= limit
    start = len(data) - len(payload)
    assert frame(data[0], payload, data[start - 4 : start]) == data
    assert data[0] == BINARY or is_utf8(payload)
    assert found == [(payload, data[0] == BINARY, len(data))]


@given(st.binary(max_size=40))
def test_any_bytes_at_all_are_taken_or_left(data):
    for payload, is_binary, end in messages(data, NO_LIMIT, 10):
        assert len(payload) <= end <= len(data)
        assert is_binary or is_utf8(payload)
    assert only_message(data, NO_LIMIT) is None or len(messages(data, NO_LIMIT, 1)) == 1


@pytest.mark.parametrize("size", [*SIZES, 2**20, 2**32, 2**63 - 1])
@pytest.mark.parametrize("first", [TEXT, BINARY])
def test_header_says_the_length_in_the_fewest_bytes(first, size):
    header = header_of(size, first == BINARY)
    if size < 126:
        assert header == bytes((first, size))
    elif size < 65536:
        assert header == bytes((first, 126)) + struct.pack("!H", size)
    else:
        assert header == bytes((first, 127)) + struct.pack("!Q", size)


def without_speedups(monkeypatch):
    """Return the module as it is where websockets has no C extension."""
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.spec_from_file_location("framing_without_speedups", framing.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 1000, 65537])
@pytest.mark.parametrize("mask", [MASK, b"\x00\x00\x00\x00", b"\xff\x00\x00\x01"])
def test_mask_is_applied_without_the_c_extension_too(size, mask, monkeypatch):
    slow = without_speedups(monkeypatch)
    payload = bytes(at * 7 % 256 for at in range(size))
    assert slow.apply_mask is not apply_mask
    assert slow.apply_mask(payload, mask) == masked(payload, mask) == apply_mask(payload, mask)
    assert slow.only_message(frame(BINARY, payload, mask), NO_LIMIT) == payload
