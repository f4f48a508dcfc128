"""The first server, with permessage-deflate and a small window."""

from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
)

from aiorest_ws import Application
from first_server import router


def accept_small_windows(offers):
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer) and offer.accept_max_window_bits:
            return PerMessageDeflateOfferAccept(offer, request_max_window_bits=10)
    return None


app = Application(router=router)

if __name__ == "__main__":
    app.run(port=8080, compress=True, accept_function=accept_small_windows)
