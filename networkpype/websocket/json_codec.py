"""Encode and decode JSON messages."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ("JSONCodec", "encode_json")


def encode_json(payload: object) -> bytes:
    """Encode as compact JSON; NaN becomes null. Raise TypeError for unsupported types."""
    try:
        return msgspec.json.encode(payload)
    except (TypeError, ValueError):
        # msgspec refuses subclasses of str and int, None and bool keys, and lone surrogates.
        return json.dumps(payload, separators=(",", ":")).encode()


@dataclass(frozen=True)
class JSONCodec:
    """How a connection encodes and decodes JSON.

    If `decode` raises ValueError or RecursionError, the message is received as text. With the
    default `decode`, the standard library is tried first: it accepts NaN, Infinity, lone
    surrogates and numbers out of range, which some servers send although RFC 8259 excludes them.
    """

    decode: Callable[[str], Any] = msgspec.json.decode
    encode: Callable[[Any], str | bytes] = encode_json

    def decode_leniently(self, text: str) -> Any:
        """Return the value of a text that `decode` has refused, or the text itself."""
        if self.decode is msgspec.json.decode:
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                pass
        return text
