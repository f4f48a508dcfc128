"""JSON text to Python objects and back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ("JSONCodec", "encode_json")


def encode_json(payload: Any) -> bytes:
    """Encode as compact JSON; NaN becomes null. Raise TypeError for what JSON does not have."""
    try:
        return msgspec.json.encode(payload)
    except (TypeError, ValueError):
        # Subclasses of str and int, keys that are None or bool, lone surrogates.
        return json.dumps(payload, separators=(",", ":")).encode()


@dataclass(frozen=True)
class JSONCodec:
    """How a connection reads and writes JSON.

    A text for which `decode` raises ValueError or RecursionError is handed out as it came. With
    the default `decode` the standard library has a try before that: it takes NaN, Infinity, lone
    surrogates and numbers out of range, which RFC 8259 leaves out and some servers send.
    """

    decode: Callable[[str], Any] = msgspec.json.decode
    encode: Callable[[Any], str | bytes] = encode_json

    def decode_leniently(self, text: str) -> Any:
        """Return what a text stands for that `decode` has refused."""
        if self.decode is msgspec.json.decode:
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                pass
        return text
