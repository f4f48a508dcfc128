"""Autobahn's record of a transport, for one of the loop's as well."""

import os
import threading
from typing import Any

from autobahn.twisted.util import create_transport_details, extract_peer_certificate, peer2str
from autobahn.wamp.types import TransportDetails
from twisted.internet.interfaces import ISSLTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ("transport_details",)


def transport_details(transport: Any) -> TransportDetails:
    """Return what Autobahn tells of a transport; it demands Twisted's own TLS of a secure one."""
    if not ISSLTransport.providedBy(transport) or isinstance(transport, TLSMemoryBIOProtocol):
        details = create_transport_details(transport, True)
    else:
        details = TransportDetails(
            channel_type=TransportDetails.CHANNEL_TYPE_TLS,
            peer=peer2str(transport),
            is_server=True,
            own_pid=os.getpid(),
            own_tid=threading.get_native_id(),
            own_fd=-1,
            is_secure=True,
            channel_id={},
            peer_cert=extract_peer_certificate(transport),
        )
    details.channel_framing = TransportDetails.CHANNEL_FRAMING_WEBSOCKET
    return details
