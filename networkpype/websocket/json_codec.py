"""Encode and decode JSON messages."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from networkpype import _values

__all__ = ("JSONCodec", "encode_json")


def encode_json(payload: object) -> bytes:
    """Encode as compact JSON, with numbers exact and in fixed point.

    Raises ValueError for NaN and infinity, TypeError for unsupported types.
    """
    return _values.encode_json(payload, is_compact=True).encode()


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
