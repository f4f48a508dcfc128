"""Negotiation of the WebSocket handshake."""

from collections.abc import Iterable
from typing import Any

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

__all__ = ("deflate_offer_accept",)


# A compressor of zlib's defaults is 256 KiB for as long as its connection lasts, this one 32.
WINDOW_BITS = 12
MEMORY_LEVEL = 5


def deflate_offer_accept(offers: Iterable[Any]) -> PerMessageDeflateOfferAccept | None:
    """Accept the first offer of permessage-deflate (RFC 7692), if there is one.

    What is sent is compressed with a window of 4 KiB at most.
    """
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            most = offer.request_max_window_bits or WINDOW_BITS
            return PerMessageDeflateOfferAccept(
                offer, window_bits=min(most, WINDOW_BITS), mem_level=MEMORY_LEVEL
            )
    return None
