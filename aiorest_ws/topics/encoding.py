"""The JSON of what is published, and of what subscribers tell of themselves."""

from aiorest_ws.codecs import encode_json
from aiorest_ws.exceptions import PresenceTooLarge, ReplyTooLarge, SerializerError
from aiorest_ws.limits import Limits
from aiorest_ws.topics.broker import ENVELOPE_BYTES
from aiorest_ws.values import Converter, with_converter

__all__ = ("encode_presence", "encode_publication")


def encode_publication(
    topic: str, data: object, limits: Limits, encoder: Converter | None
) -> bytes:
    """Return the JSON of a publication; raise SerializerError or ReplyTooLarge."""
    encoded = _encode("a publication to", topic, data, encoder)
    if len(encoded) + ENVELOPE_BYTES > limits.message_bytes:
        raise ReplyTooLarge(f"What is published has {len(encoded)} bytes.")
    return encoded


def encode_presence(topic: str, info: object, limits: Limits, encoder: Converter | None) -> bytes:
    """Return the JSON of presence information; raise SerializerError or PresenceTooLarge."""
    encoded = _encode("the presence information for", topic, info, encoder)
    if len(encoded) > limits.presence_bytes:
        raise PresenceTooLarge  # each other member of the topic gets a copy
    return encoded


def _encode(use: str, topic: str, value: object, encoder: Converter | None) -> bytes:
    try:
        encoded: bytes = with_converter(encoder, encode_json, value)
    except SerializerError as exc:
        exc.reason = f"{exc}, in {use} {topic!a}"
        raise
    return encoded
