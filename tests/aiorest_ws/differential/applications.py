"""What users' protocols do, and the plans by which they and their clients go."""

from dataclasses import dataclass, field
from typing import Any

from autobahn.exception import Disconnected, PayloadExceededError
from twisted.internet.error import ConnectionDone

DELAYED_REPLY_SECONDS = 0.5


@dataclass
class Plan:
    """What is sent to a server, in which pieces, and what the server is and does."""

    # Pieces of the stream that arrive in one step, None for time that passes.
    steps: list[list[bytes] | None]
    options: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    # What the application does with its n-th message, when it does not echo it.
    acts: dict[int, str] = field(default_factory=dict)
    usual_act: str = "echo"
    variant: str = "plain"
    is_tracked: bool = False
    # Options that the protocol sets for itself, and where.
    own_options: dict[str, Any] = field(default_factory=dict)
    own_options_in: str = "onConnect"
    ping_act: str = "ignore"
    is_deflate_offered: bool = False
    is_first_step_glued: bool = False
    # How the connection ends when the server does not end it; None: it does not.
    end: type[Exception] | None = ConnectionDone
    # How often a look at the clock finds the turn of the loop at its end.
    slowness: float = 0.0
    # How many pieces come although the protocol has paused the transport: TLS has such.
    late_pieces: int = 0
    seed: int = 0


class Refused(Exception):
    """What an application raises."""


def _echo(app: Any, payload: bytes, is_binary: bool) -> None:
    app.sendMessage(payload, is_binary)


def _stream(app: Any, payload: bytes, is_binary: bool) -> None:
    app.beginMessage(is_binary)
    app.beginMessageFrame(len(payload))
    app.sendMessageFrameData(payload)
    app.sendMessageFrame(b"more")
    app.endMessage()


def _write_raw(app: Any, payload: bytes, is_binary: bool) -> None:
    app.sendMessage(payload, is_binary)
    app.transport.write(b"\x8a\x03raw")
    app.sendMessage(b"after", False)


def _refuse(app: Any, payload: bytes, is_binary: bool) -> None:
    app.sendMessage(b"last words", False)
    raise Refused(len(payload))


def _delay(app: Any, payload: bytes, is_binary: bool) -> None:
    app.factory.reactor.callLater(DELAYED_REPLY_SECONDS, app.send_late, payload, is_binary)


def _send_prepared(app: Any, payload: bytes, is_binary: bool) -> None:
    app.sendPreparedMessage(app.factory.prepareMessage(payload, is_binary))


def _close_and_send(app: Any, payload: bytes, is_binary: bool) -> None:
    app.sendClose(3999, "enough é")
    app.sendMessage(payload, is_binary)


# What applications do with a message. `app` is the protocol.
ACTS: dict[str, Any] = {
    "echo": _echo,
    "ignore": lambda app, payload, is_binary: None,
    "echo twice": lambda app, p, b: [app.sendMessage(p, b), app.sendMessage(p, not b)],
    "fragments": lambda app, p, b: app.sendMessage(p, b, fragmentSize=max(3, len(p) // 50)),
    "large": lambda app, p, b: app.sendMessage(p[:1000] * 40, b),
    "huge": lambda app, p, b: app.sendMessage((p or b"x") * (70_000 // (len(p) or 1)), b),
    "synchronous": lambda app, p, b: [app.sendMessage(p, b, sync=True) for _ in range(2)],
    "uncompressed": lambda app, p, b: app.sendMessage(p, b, doNotCompress=True),
    "wrong type": lambda app, p, b: app.sendMessage(bytearray(p), b),
    "wrong flag": lambda app, p, b: app.sendMessage(p, 1),
    "ping": lambda app, p, b: [app.sendPing(p[:125]), app.sendMessage(p, b)],
    "stream": _stream,
    "raw": _write_raw,
    "prepared": _send_prepared,
    "delayed": _delay,
    "close": lambda app, p, b: app.sendClose(1000, "done"),
    "close and send": _close_and_send,
    "close frame": lambda app, p, b: app.sendCloseFrame(1012, None, isReply=False),
    "lose": lambda app, p, b: [app.sendMessage(p, b), app.transport.loseConnection()],
    "drop": lambda app, p, b: [app.sendMessage(p, b), app.dropConnection(abort=True)],
    "raise": _refuse,
    "listen": lambda app, p, b: app.on("message", app.heard),
}


class Application:
    """A user's protocol: note what comes, do what the plan says."""

    plan: Plan
    notes: list[Any]
    taken = 0

    def onConnect(self, request: Any) -> None:
        self.notes.append(("connect", request.path, request.params, request.extensions))
        self.configure("onConnect")

    def onOpen(self) -> None:
        self.configure("onOpen")
        # Autobahn's factory has an option for it, which has no effect.
        self.setTrackTimings(self.plan.is_tracked)

    def configure(self, where: str) -> None:
        if where == self.plan.own_options_in:
            for name, value in self.plan.own_options.items():
                setattr(self, name, value)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        stats = self.trafficStats
        counts = (
            *(stats.incomingWebSocketFrames, stats.incomingWebSocketMessages),
            *(stats.outgoingWebSocketFrames, stats.outgoingOctetsWireLevel),
        )
        if not self.plan.late_pieces:
            counts += (stats.incomingOctetsWebSocketLevel, stats.incomingOctetsAppLevel)
            counts += (stats.incomingOctetsWireLevel,)
        self.notes.append(("message", type(payload), payload, isBinary, int(self.state), counts))
        self.taken += 1
        self.configure("onMessage")
        self.do(self.plan.acts.get(self.taken, self.plan.usual_act), payload, isBinary)

    def do(self, act: str, payload: bytes, isBinary: bool) -> None:
        try:
            ACTS[act](self, payload, isBinary)
        except (AssertionError, Disconnected, PayloadExceededError) as exc:
            self.notes.append((act, type(exc).__name__, str(exc)))

    def send_late(self, payload: bytes, is_binary: bool) -> None:
        try:
            self.sendMessage(payload, is_binary)
        except (Disconnected, PayloadExceededError) as exc:
            self.notes.append(("late", type(exc).__name__, str(exc)))

    def heard(self, payload: bytes, is_binary: bool) -> None:
        self.notes.append(("heard", payload, is_binary))

    def onPing(self, payload: bytes) -> None:
        self.notes.append(("ping", payload))
        super().onPing(payload)
        self.do(self.plan.ping_act, payload, False)

    def onPong(self, payload: bytes) -> None:
        self.notes.append(("pong", payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.notes.append(("closed", wasClean, code, reason))


class InParts(Application):
    """A protocol that looks at the parts of messages."""

    def onMessageBegin(self, isBinary: bool) -> None:
        self.notes.append(("begin", isBinary))
        super().onMessageBegin(isBinary)

    def onMessageFrameData(self, payload: bytes) -> None:
        self.notes.append(("data", bytes(payload)))
        super().onMessageFrameData(payload)

    def onMessageEnd(self) -> None:
        self.notes.append(("end",))
        super().onMessageEnd()


class Sending(Application):
    """A protocol that looks at what it sends."""

    def sendMessage(self, payload: bytes, isBinary: bool = False, *args: Any, **more: Any) -> None:
        self.notes.append(("send message", payload, isBinary))
        super().sendMessage(payload, isBinary, *args, **more)

    def sendFrame(self, opcode: int, payload: bytes = b"", *args: Any, **more: Any) -> None:
        self.notes.append(("send frame", opcode, payload))
        super().sendFrame(opcode, payload, *args, **more)


class Listening(Application):
    """A protocol that something else listens to."""

    def onOpen(self) -> None:
        super().onOpen()
        self.on("message", self.heard)


class Limited(Application):
    """A protocol whose class has an option of the factory's."""

    maxMessagePayloadSize = 100


VARIANTS = {
    "plain": Application,
    "parts": InParts,
    "sending": Sending,
    "listening": Listening,
    "limited": Limited,
}
