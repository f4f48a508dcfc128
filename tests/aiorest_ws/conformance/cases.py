"""What a case is."""

from dataclasses import dataclass

from .wire import BINARY, CONTINUATION, PING, PONG, TEXT, chopped, frame

MiB = 1024 * 1024

PROTOCOL_ERROR = frozenset({1002})
INVALID_DATA = frozenset({1007})
TOO_BIG = frozenset({1009})

Frame = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """What a client sends, and what an echo server does about it.

    `sends` are pieces, each sent when the server has read the one before. `replies` are the frames
    that come back. `close` holds the codes that the server may close with, a None among them is a
    close frame without a code; without any the connection is expected to live. `rule` is where
    it is written.
    """

    name: str
    sends: tuple[bytes, ...]
    rule: str
    replies: tuple[Frame, ...] = ()
    close: frozenset[int | None] = frozenset()
    # Whether the client's own close frame is among what it sends.
    says_goodbye: bool = False
    # Whether the server cannot see the client's close frame: a frame is not finished, or the
    # server gave up in the middle of one. The client closes the connection then.
    breaks_off: bool = False
    message_bytes: int = MiB
    # What is known to be wrong with the server.
    fault: str = ""


@dataclass(frozen=True, slots=True)
class DeflateCase(Case):
    """A case on a connection with permessage-deflate.

    Replies are compared after inflation. `server` names how offers are accepted.
    """

    offer: str = "permessage-deflate"
    server: str = "as offered"
    agreed: str = "permessage-deflate"


def text(payload: bytes | str) -> bytes:
    """Return a text message in one frame."""
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload)


def fragments(opcode: int, *payloads: bytes, rsv: int = 0) -> list[bytes]:
    """Return the frames of one message; `rsv` is the first one's."""
    last = len(payloads) - 1
    return [
        frame(
            CONTINUATION if number else opcode,
            payload,
            fin=number == last,
            rsv=0 if number else rsv,
        )
        for number, payload in enumerate(payloads)
    ]


def octets(data: bytes) -> tuple[bytes, ...]:
    """Return each byte of `data` as a piece."""
    return chopped(data, 1)


__all__ = (
    "BINARY",
    "INVALID_DATA",
    "PING",
    "PONG",
    "PROTOCOL_ERROR",
    "TEXT",
    "TOO_BIG",
    "Case",
    "DeflateCase",
    "MiB",
    "fragments",
    "octets",
    "text",
)
