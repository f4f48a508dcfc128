"""Negotiation of the WebSocket handshake."""

from collections.abc import Iterable
from typing import Any

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

__all__ = ("deflate_offer_accept",)


def deflate_offer_accept(offers: Iterable[Any]) -> PerMessageDeflateOfferAccept | None:
    """Accept the first offer of permessage-deflate (RFC 7692), if there is one."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None
