"""Decode messages and encode replies: JSON in text messages, base64 of JSON in binary ones."""

import binascii
import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import accumulate
from operator import add
from typing import Any

import msgspec

from aiorest_ws.exceptions import (
    BaseAPIException,
    InternalError,
    MalformedMessage,
    SerializerError,
)
from aiorest_ws.values import UnwritableValue, encoder, type_name
from aiorest_ws.wrappers import Request, Response

__all__ = (
    "MAX_ID_BYTES",
    "MAX_NESTING",
    "check_reserved",
    "decode_base64",
    "decode_message",
    "encode_failure",
    "encode_internal_error",
    "encode_json",
    "encode_message",
    "for_javascript",
    "is_too_deep",
    "load_json",
)

MAX_ID_BYTES = 128
MAX_NESTING = 128

# Up to this size, a message that is nested too deep to parse is searched for what to echo.
_SEARCHED_BYTES = 64 * 1024
# Possessive, and an unterminated string is matched whole, so that it never backtracks.
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[\]{}]')

# No shorter payload is nested too deep: each level takes an opening and a closing byte.
_SHALLOW_BYTES = 2 * MAX_NESTING

_ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_AS_BITS = bytes.maketrans(b"[]{}", b"1010")

_TOO_DEEP = f"The message is nested deeper than {MAX_NESTING} levels."

_request_decoder = msgspec.json.Decoder(Request)
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value_decoder = msgspec.json.Decoder()


def decode_message(payload: bytes, is_binary: bool = False) -> Request:
    """Return the request in `payload`; raise MalformedMessage if it is not one."""
    if is_binary:
        payload = decode_base64(payload)
    try:
        request = _request_decoder.decode(payload)
    # The Struct rejects extra keys, and msgspec raises built-in exceptions for invalid UTF-8 and
    # for depth. Decoding once more either succeeds or finds out what is wrong.
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        request = _decode_member_by_member(payload)
    else:
        if len(payload) > _SHALLOW_BYTES and is_too_deep(payload):
            raise MalformedMessage(_TOO_DEEP, **_echo(request.event_name, request.id))
    if request.id is not None or request.timeout is not None or request.since is not None:
        check_reserved(request)
    return request


def encode_message(reply: bytes, is_binary: bool = False) -> bytes:
    """Return `reply` in the form of its request, text or binary."""
    return binascii.b2a_base64(reply, newline=False) if is_binary else reply


def encode_json(value: object) -> bytes:
    """Return `value` as compact JSON in UTF-8 that is also valid JavaScript.

    NaN and infinity become null. Raises SerializerError, which names the type, for a value that
    JSON cannot hold.
    """
    try:
        encoded = encoder.encode(value)
    # Values may run code of the program.
    except Exception as exc:
        raise SerializerError(reason=_why_unwritable(value, exc)) from exc
    return encoded if encoded.isascii() else for_javascript(encoded)


def _why_unwritable(value: object, exc: Exception) -> str:
    if isinstance(exc, UnwritableValue):
        return str(exc)
    if isinstance(exc, UnicodeEncodeError):
        return "JSON cannot hold half of a surrogate pair, as a value of the type str has"
    data = value["data"] if type(value) is dict and "data" in value else value
    if isinstance(exc, RecursionError):
        return f"a value of the type {type_name(data)} contains itself, or is nested too deep"
    return f"JSON cannot hold something in a value of the type {type_name(data)}"


def for_javascript(encoded: bytes) -> bytes:
    """Return JSON with U+2028 and U+2029 escaped: they end a line in JavaScript."""
    # Searching for one byte is a hundred times as fast as for two.
    if b"\xe2" in encoded:
        encoded = encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return encoded


def load_json(encoded: bytes) -> Any:
    """Return the value of JSON from `encode_json`."""
    return _value_decoder.decode(encoded)


def encode_failure(exc: BaseAPIException, request: Request | None = None) -> bytes:
    """Return the JSON of a failure, and note its status on the request.

    Without a request, `exc` may have the keys to echo.
    """
    response = Response()
    response.wrap_exception(exc)
    if request is None:
        request = Request(
            event_name=getattr(exc, "event_name", None), id=getattr(exc, "request_id", None)
        )
    else:
        request._status = exc.status
    response.append_request(request)
    return encode_json(response.to_representation())


def encode_internal_error(request: Request | None = None) -> bytes:
    """Return the JSON of an internal error, even if the request cannot be echoed."""
    try:
        return encode_failure(InternalError(), request)
    except SerializerError:
        return encode_failure(InternalError())


def decode_base64(payload: bytes) -> bytes:
    """Return what a binary message holds; raise MalformedMessage."""
    # MIME breaks lines. Any other byte outside the alphabet means that the message is damaged.
    compact = payload.translate(None, b" \t\r\n")
    try:
        return binascii.a2b_base64(compact, strict_mode=True)
    except binascii.Error:
        raise MalformedMessage("The message is not valid base64.") from None


def _decode_member_by_member(payload: bytes) -> Request:
    try:
        members = _members_decoder.decode(payload)
    except msgspec.ValidationError:
        raise MalformedMessage("The message must be a JSON object.") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise MalformedMessage(
            _describe(exc, "The message", payload), **_echo_of_other_json(payload)
        ) from None

    values: dict[str, Any] = {}
    broken: str | None = None
    for name in members:
        try:
            values[name] = _value_decoder.decode(members[name])
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
            subject = f"The value of {name[:MAX_ID_BYTES]!r}"
            broken = broken or _describe(exc, subject, members[name])
    is_deep = is_too_deep(payload)
    echo = _echo(values.get("event_name"), values.get("id"), is_deep=is_deep)
    if not broken and is_deep:
        broken = _TOO_DEEP
    if broken:
        raise MalformedMessage(broken, **echo)
    for name, (expected, accepts) in _MEMBER_TYPES.items():
        if values.get(name) is not None and not accepts(values[name]):
            raise MalformedMessage(
                f"`{name}` must be {expected}, not {_json_type(values[name])}.", **echo
            )
    return Request(**values)


def _echo(event_name: object, request_id: object, *, is_deep: bool = True) -> dict[str, Any]:
    """Return the keys of a rejected message that the failure may echo."""
    return {
        "event_name": _if_echoable(event_name, is_deep),
        "request_id": request_id if _is_id(request_id) else None,
    }


def _echo_of_other_json(payload: bytes) -> dict[str, Any]:
    """Return the echo of JSON that msgspec rejects: NaN, half a surrogate pair, depth."""
    try:
        members = json.loads(payload)
    except RecursionError:
        members = _members_without_depth(payload)
    except ValueError:
        return {}
    if not isinstance(members, dict):
        return {}
    return _echo(members.get("event_name"), members.get("id"))


def _describe(exc: Exception, subject: str, payload: bytes | msgspec.Raw) -> str:
    """Return what is wrong with JSON that msgspec rejects, in words of ours."""
    encoded = bytes(payload)
    too_deep = f"{subject} is nested deeper than {MAX_NESTING} levels."
    if isinstance(exc, RecursionError):
        return too_deep
    if not encoded.strip():
        return f"{subject} is empty."
    try:
        text = encoded.decode()
    except UnicodeDecodeError:
        return f"{subject} is not valid UTF-8."
    try:
        value = json.loads(text, parse_constant=_as_null)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as fault:
        return f"{subject} is not valid JSON (line {fault.lineno}, column {fault.colno})."
    except UnicodeEncodeError:
        return f"{subject} is not valid JSON: it holds half of a surrogate pair."
    # A float became infinite, or an integer has more digits than Python converts.
    except ValueError:
        return f"{subject} holds a number that is out of range."
    except RecursionError:
        return too_deep
    return f"{subject} is not valid JSON."


def _as_null(constant: str) -> None:
    """Replace NaN and Infinity, so that only a number out of range is infinite."""


def _members_without_depth(payload: bytes) -> object:
    """Return the members of a JSON object; None for those that are nested too deep."""
    if len(payload) > _SEARCHED_BYTES:
        return None
    kept: list[bytes] = []
    level = deepest = begin = end = 0
    for token in _STRUCTURE.finditer(payload):
        if token[0] in (b"[", b"{"):
            level += 1
            if level == 2:
                begin, deepest = token.start(), level
            deepest = max(deepest, level)
        elif token[0] in (b"]", b"}"):
            if level == 2 and deepest > MAX_NESTING:
                kept += [payload[end:begin], b"null"]
                end = token.end()
            level -= 1
    kept.append(payload[end:])
    try:
        return json.loads(b"".join(kept))
    except (ValueError, RecursionError):
        return None


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        try:
            return len(value) <= MAX_ID_BYTES and len(value.encode()) <= MAX_ID_BYTES
        except UnicodeEncodeError:
            return False
    # 10 ** 128 has 426 bits. Larger numbers are slow to convert to text.
    return type(value) is int and value.bit_length() < 450 and len(str(value)) <= MAX_ID_BYTES


_MEMBER_TYPES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "url": ("a string", lambda value: isinstance(value, str)),
    "args": ("an object", lambda value: isinstance(value, dict)),
    "id": ("a string or an integer", lambda value: type(value) in (str, int)),
    "timeout": ("a number", _is_number),
    "token": ("a string", lambda value: isinstance(value, str)),
    "since": ("an object", lambda value: isinstance(value, dict)),
}


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "a string", int: "an integer", float: "a number", list: "an array"}
    return names.get(type(value), "an object")


def check_reserved(request: Request) -> None:
    """Raise MalformedMessage for a reserved key with an invalid value of the right type."""
    detail = None
    request_id = request.id
    if request_id is not None and not _is_id(request_id):
        detail = f"`id` must not be longer than {MAX_ID_BYTES} bytes."
        request_id = None
    elif request.timeout is not None and not 0 < request.timeout <= sys.float_info.max:
        detail = "`timeout` must be finite and above 0."
    elif request.since is not None and not _is_position(request.since):
        detail = (
            "`since` must have a string `epoch` and an integer `offset` of 0 or more, or only "
            "`last`, an integer of 0 or more."
        )
    if detail is not None:
        raise MalformedMessage(detail, event_name=request.event_name, request_id=request_id)


def _is_position(since: dict[str, Any]) -> bool:
    if "last" in since:
        return len(since) == 1 and type(since["last"]) is int and since["last"] >= 0
    offset = since.get("offset")
    return type(since.get("epoch")) is str and type(offset) is int and offset >= 0


def _if_echoable(value: object, is_deep: bool) -> object:
    """Return `value` if a reply may echo it, else None."""
    try:
        encoded = encode_json(value)
    except SerializerError:
        return None
    return None if is_deep and is_too_deep(encoded) else value


def is_too_deep(payload: bytes | msgspec.Raw) -> bool:
    """Tell whether arrays and objects of a valid JSON text are nested deeper than MAX_NESTING.

    Takes time in proportion to the size, whatever is in it.
    """
    text = bytes(payload)
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = text.translate(_AS_BITS, _ALL_BUT_BRACKETS)
    if brackets.count(b"1") <= MAX_NESTING:
        return False
    # Most strings have no brackets in them.
    brackets = brackets.replace(b'""', b"")
    if b'"' in brackets:
        brackets = b"".join(brackets.split(b'"')[::2])
    # Eight brackets are a byte, so that the loop below has an eighth of the steps.
    brackets += b"0" * (-len(brackets) % 8)
    octets = int(brackets, 2).to_bytes(len(brackets) // 8) if brackets else b""
    rises = memoryview(octets.translate(_RISES)).cast("b")
    deepest = map(add, accumulate(rises, initial=0), octets.translate(_PEAKS))
    return any(map(MAX_NESTING.__lt__, deepest))


def _steps(octet: int) -> Iterator[int]:
    """Return how deep the nesting is after each of eight brackets; a bit is set for `[`."""
    return accumulate(1 if octet >> bit & 1 else -1 for bit in reversed(range(8)))


# By how much eight brackets change the depth, as signed bytes, and how deep they get.
_RISES = bytes((2 * octet.bit_count() - 8) & 0xFF for octet in range(256))
_PEAKS = bytes(max(0, *_steps(octet)) for octet in range(256))
