"""Encode a reply."""

from collections.abc import Callable
from typing import Any

from aiorest_ws.codecs import encode_message
from aiorest_ws.dispatch.failures import internal_error_reply, render_failure
from aiorest_ws.exceptions import ReplyTooLarge
from aiorest_ws.wrappers import Request

__all__ = ("encode_reply", "encode_too_large")


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
    except Exception as exc:  # noqa: BLE001  an override may raise anything
        reply = internal_error_reply(request, exc)
        payload = encode_message(reply, is_binary)
    return payload, reply


def encode_too_large(request: Request | None, is_binary: bool, limit: int) -> tuple[bytes, bytes]:
    """Return the payload of a 413 with what fits of `event_name` and `id`, and the reply in it."""
    request_id = None if request is None else request.id
    for echoed in (request, Request(id=request_id)):
        reply = render_failure(echoed, ReplyTooLarge())
        payload = encode_message(reply, is_binary)
        if len(payload) <= limit:
            break
    return payload, reply
