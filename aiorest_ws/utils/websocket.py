"""Negotiation of the WebSocket handshake."""

import re
from collections.abc import Iterable
from typing import Any

from autobahn.websocket.compress import (
    PERMESSAGE_COMPRESSION_EXTENSION,
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
)

__all__ = ("deflate_offer_accept", "is_offer")


# A compressor has 32 KiB with these, 256 KiB with zlib's defaults, while its connection is open.
WINDOW_BITS = 12
MEMORY_LEVEL = 5


def deflate_offer_accept(offers: Iterable[Any]) -> PerMessageDeflateOfferAccept | None:
    """Accept the first offer of permessage-deflate (RFC 7692), if there is one.

    Sent messages are compressed with a window of at most 4 KiB.
    """
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            most = offer.request_max_window_bits or WINDOW_BITS
            return PerMessageDeflateOfferAccept(
                offer, window_bits=min(most, WINDOW_BITS), mem_level=MEMORY_LEVEL
            )
    return None


def is_offer(extension: tuple[str, dict[str, list[Any]]]) -> bool:
    """Tell whether an extension that a client offers is valid (RFC 7692, 7.1)."""
    name, parameters = extension
    # Autobahn accepts every text that `int` does.
    for value in (value for values in parameters.values() for value in values):
        if isinstance(value, str) and not re.fullmatch("[1-9][0-9]?", value):
            return False
    kinds: Any = PERMESSAGE_COMPRESSION_EXTENSION.get(name)
    try:
        kinds["Offer"].parse(parameters)
    except Exception:  # noqa: BLE001  Autobahn raises plain exceptions
        return False
    return True
