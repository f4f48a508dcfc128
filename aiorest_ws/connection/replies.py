"""Encode a reply, or the failure that takes its place."""

from collections.abc import Callable
from typing import Any

from aiorest_ws.codecs import encode_failure, encode_message, load_json
from aiorest_ws.dispatch.failures import internal_error_reply
from aiorest_ws.exceptions import ReplyTooLarge
from aiorest_ws.interfaces import Connection
from aiorest_ws.status import WS_MESSAGE_TOO_BIG
from aiorest_ws.wrappers import Request

__all__ = ("encode_reply", "too_large_reply")


def encode_reply(
    encode: Callable[[Any, bool], Any], request: Request | None, reply: Any, is_binary: bool
) -> tuple[bytes, Any]:
    """Return the payload of a message, and the reply in it.

    That is a failure where `encode` raises, or returns something else than bytes.
    """
    try:
        payload = encode(reply, is_binary)
        if type(payload) is not bytes:
            # Autobahn takes no subclass, and bytes(42) would be 42 zeros.
            payload = bytes(memoryview(payload))
    except BaseException as exc:  # noqa: BLE001  an override may raise anything
        reply = internal_error_reply(request, exc)
        payload = encode_message(reply, is_binary)
    return payload, reply


def too_large_reply(
    connection: Connection, request: Request | None, reply: Any, is_binary: bool, size: int
) -> tuple[bytes, bytes | None]:
    """Return the payload of a failure for a reply of `size` bytes, and the failure in it.

    It echoes what fits of `event_name` and `id`. If not even a failure without them fits, the
    connection is closed, and the failure is None.
    """
    connection.factory.limit_hits.note("message_bytes", connection.peer, f"413: {size} bytes")
    echoed = _echoed(reply) if request is None else request
    if request is not None:
        request._status = ReplyTooLarge.status
    for names in (("event_name", "id"), ("id",), ("event_name",), ()):
        kept = Request(**{name: getattr(echoed, name) for name in names})
        failure = encode_failure(ReplyTooLarge(), kept)
        payload = encode_message(failure, is_binary)
        if len(payload) <= connection.maxMessagePayloadSize:
            return payload, failure
    connection.sendCloseFrame(WS_MESSAGE_TOO_BIG, None, isReply=False)
    return b"", None


def _echoed(failure: bytes) -> Request:
    """Return what the failure for a message without a request echoes."""
    members = load_json(failure)
    return Request(event_name=members.get("event_name"), id=members.get("id"))
