"""Decode the `data` of a request straight into the type of its view."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from aiorest_ws.codecs import check_reserved, decode_base64, decode_message, is_too_deep
from aiorest_ws.contract.values import Value
from aiorest_ws.wrappers import Request, TypedRequest

__all__ = ("STRAIGHT_BYTES", "Body", "body_of", "decode_typed")

# A larger message is decoded straight into the type of its view. Of a small one, to look for the
# view first takes longer than to convert the values.
STRAIGHT_BYTES = 2048


class Body:
    """Decodes messages to a view with `Data[T]`; raises for a value that does not fit.

    For Decimals `every_message` is decoded so: a plain value has lost digits.
    """

    def __init__(self, value: Value) -> None:
        self.every_message = bool(value.decimals)
        self.plain_bytes = 0 if self.every_message else STRAIGHT_BYTES
        self._value = value
        others = [
            (field.name, field.type, msgspec.field(name=field.encode_name, default=None))
            for field in msgspec.structs.fields(Request)
            if field.name != "data"
        ]
        message = msgspec.defstruct(
            "Message",
            [*others, ("data", value.type)],
            kw_only=True,
            # Extra keys are attributes of a request. The ordinary way has seen to them by then.
            forbid_unknown_fields=not self.every_message,
        )
        # Returns an object with the fields of a Request.
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(message).decode

    def exactly(self, payload: bytes, data: object) -> Any:
        """Return what the type makes of `data` in the message, which is `data` but for digits."""
        made = self.decode(payload).data
        self._value.check_decimals(data)
        return made


def body_of(view_class: Any, word: str) -> Body | None:
    """Return what decodes messages to a method of a view class; None without `Data[T]`."""
    body = getattr(getattr(view_class, word, None), "body", None)
    return body if isinstance(body, Body) else None


class _Head(msgspec.Struct):
    method: Any = None
    url: Any = None


_START = re.compile(rb'\s*\{\s*"method"\s*:\s*"([A-Za-z]+)"\s*,\s*"url"\s*:\s*"([^"\\]*)"')

_head_decoder = msgspec.json.Decoder(_Head)


def decode_typed(
    payload: bytes,
    is_binary: bool,
    body_for: Callable[[object, object], Body | None],
) -> Request:
    """Return the request in `payload`, with `data` as the type of its view where that is better.

    `body_for` is asked with a method and a URL. What it cannot decode is left as it is: the
    view's own check finds the fault. Raises MalformedMessage.
    """
    if is_binary:
        payload = decode_base64(payload)
    if len(payload) > STRAIGHT_BYTES and _is_sound(payload, is_binary):
        try:
            method, url = _start_of(payload)
            body = body_for(method, url)
            if body is not None and not body.every_message:
                whole = body.decode(payload)
                is_sure = whole.method == method and whole.url == url
                if is_sure and not is_too_deep(payload):
                    return _typed_request(whole, {}, whole.data, payload)
        # Of msgspec, or of the program: its classes may check their values.
        except Exception:  # noqa: BLE001
            return decode_message(payload)
    request = decode_message(payload)
    body = None if request.data is None else body_for(request.method, request.url)
    if body is None or not body.every_message:
        return request
    try:
        made = body.exactly(payload, request.data)
    except Exception:  # noqa: BLE001  as above
        return request
    extra = {name: getattr(request, name) for name in request.extra_names}
    return _typed_request(request, extra, made, payload)


def _start_of(payload: bytes) -> tuple[Any, Any]:
    """Return the method and the URL of a message, without reading all of it if they come first.

    There may be others further on.
    """
    start = _START.match(payload)
    if start is not None:
        return start[1].decode(), start[2].decode()
    head = _head_decoder.decode(payload)
    return head.method, head.url


def _is_sound(payload: bytes, is_binary: bool) -> bool:
    """Tell whether text that the type leaves out, and is not decoded, is known to be valid.

    A number out of range is not looked for: that would take longer than to decode it.
    """
    # These may be half of a surrogate pair. To look for one byte takes a hundredth of the time.
    if b"\\" in payload and (b"\\ud" in payload or b"\\uD" in payload):
        return False
    if is_binary:  # the UTF-8 of a text message has been checked
        try:
            payload.decode()
        except UnicodeDecodeError:
            return False
    return True


def _typed_request(whole: Any, extra: dict[str, Any], made: Any, payload: bytes) -> Request:
    request = TypedRequest(
        *(whole.method, whole.url, whole._args, None, whole.event_name, whole.id, whole.timeout),
        *(whole.token, whole.since),
        **extra,
    )
    check_reserved(request)
    request.keep(made, lambda: decode_message(payload).data)
    return request
