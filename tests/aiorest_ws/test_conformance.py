"""RFC 6455 and RFC 7692 from the client's side: what is sent, and what must come back.

The cases are those of Autobahn's test suite, 1 to 7, 9, 10, 12 and 13, and more, in the tables of
`conformance`; each is played to an echo server on both of its ways. "Short" is the way past
Autobahn's state machine, "whole" is that machine itself.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.defer import maybeDeferred

from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.transports import install_reactor, tcp_endpoint
from aiorest_ws.utils.websocket import deflate_offer_accept


def _load_parts() -> Any:
    # Tests are no package: importlib mode knows no siblings.
    folder = Path(__file__).parent / "conformance"
    spec = importlib.util.spec_from_file_location("conformance", folder / "__init__.py")
    assert spec is not None
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    names = ("wire", "cases", *(f"{name}_table" for name in TABLES))
    return [importlib.import_module(f"conformance.{name}") for name in names]


TABLES = ("framing", "fragments", "utf8", "close", "deflate", "handshake")
wire, cases, framing, fragments, utf8, close, deflate, handshake = _load_parts()

PLAIN_CASES = [*framing.CASES, *fragments.CASES, *utf8.CASES, *close.CASES]


class Short(RequestHandlerProtocol):
    """Send each message back."""

    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


class Whole(Short):
    """Take messages from Autobahn's own machine: who looks at their beginnings gets them all."""

    def onMessageBegin(self, isBinary):
        super().onMessageBegin(isBinary)


WAYS = {"short": Short, "whole": Whole}
# `make check` leaves Autobahn's own machine out: half of the time, and little of ours.
each_way = pytest.mark.parametrize("way", ["short", pytest.param("whole", marks=pytest.mark.slow)])


def _first_offer(offers):
    return next(offer for offer in offers if isinstance(offer, PerMessageDeflateOffer))


def _accept_forgetful(offers):
    return PerMessageDeflateOfferAccept(
        _first_offer(offers), request_no_context_takeover=True, no_context_takeover=True
    )


def _accept_small(offers):
    return PerMessageDeflateOfferAccept(
        _first_offer(offers), request_max_window_bits=9, window_bits=9
    )


ACCEPTS = {
    "as offered": deflate_offer_accept,
    "forgetful": _accept_forgetful,
    "small": _accept_small,
}


class Servers:
    """An echo server for each way and each setting, made when it is first asked for."""

    def __init__(self) -> None:
        self.reactor = install_reactor()
        self._open: dict[Any, tuple[Any, RequestHandlerFactory]] = {}

    async def get(
        self, way: str, message_bytes: int = cases.MiB, accept: str | None = None, **options: Any
    ) -> tuple[int, RequestHandlerFactory]:
        """Return the port and the factory of a server."""
        key = (way, message_bytes, accept, *options.items())
        if key not in self._open:
            limits = Limits(
                message_bytes=message_bytes, unsent_bytes=4 * message_bytes + cases.MiB
            )
            factory = RequestHandlerFactory(limits=limits)
            factory.protocol = WAYS[way]
            if accept is not None:
                options["perMessageCompressionAccept"] = ACCEPTS[accept]
            if options:
                factory.setProtocolOptions(**options)
            port = await tcp_endpoint(self.reactor, "127.0.0.1", 0).listen(factory)
            self._open[key] = (port, factory)
        port, factory = self._open[key]
        return port.getHost().port, factory

    async def close(self) -> None:
        for port, factory in self._open.values():
            await maybeDeferred(port.stopListening)
            await factory.last_closed()
            factory.stopFactory()


@pytest_twisted.async_yield_fixture(scope="module")
async def servers():
    all_of_them = Servers()
    yield all_of_them
    await all_of_them.close()


LAST_PING = b"is anybody there"


async def play(case: Any, port: int, factory: Any, *headers: bytes) -> tuple[Any, ...]:
    """Play a case; return its replies, the server's close code, and the rest behind it.

    A case that is expected to leave the connection open is ended by a ping and a close, so that
    nothing has to be waited for that may come late.
    """
    peer = await wire.connect(factory.reactor, port)
    try:
        answer = await peer.open(wire.request_of(wire.new_key(), *headers))
        assert answer[""] == "101", answer
        agreed = answer.get("sec-websocket-extensions", "")
        server = peer.server_side(factory)
        pieces = case.sends
        if not case.close:
            pieces = (*pieces, wire.frame(wire.PING, LAST_PING) + wire.close(1000))
        sending = peer.send(pieces, server)
        inflater = wire.Inflater(agreed)
        replies, code = [], None
        await sending
        while True:
            frame = await peer.next_frame()
            if frame.opcode == wire.CLOSE:
                code = int.from_bytes(frame.payload[:2]) if frame.payload else None
                frame.payload[2:].decode()
                break
            if frame.rsv and agreed:
                assert frame.rsv == wire.RSV1
                assert frame.opcode in (wire.TEXT, wire.BINARY)
                frame = frame._replace(payload=inflater.inflate(frame.payload), rsv=0)
            assert frame.rsv == 0
            replies.append((frame.opcode, frame.payload))
        if case.breaks_off:
            peer.end_writing()
        elif case.close and not case.says_goodbye:
            peer.write(wire.close(1000))
        rest = await peer.end()
        # RFC 6455, 7.1.1: a clean close, unless something is wrong or still unread.
        assert case.close or not peer.was_reset
        return replies, code, rest, agreed
    finally:
        peer.abort()


def judge(case: Any, outcome: tuple[Any, ...]) -> None:
    """Compare what came with what the case says."""
    replies, code, rest, _ = outcome
    expected = list(case.replies)
    if not case.close:
        expected.append((wire.PONG, LAST_PING))
    shown = [(opcode, payload[:80], len(payload)) for opcode, payload in replies]
    assert replies == expected, (case.rule, shown, code)
    assert code in (case.close or {1000}), (case.rule, code)
    assert rest == b"", (case.rule, rest[:80])


def each(table: Any) -> Any:
    """Parametrise with the cases of a table; a known fault that has gone must leave the table."""
    cases = []
    for case in table:
        marks = ()
        if case.fault:
            marks = pytest.mark.xfail(strict=True, raises=AssertionError, reason=case.fault)
        cases.append(pytest.param(case, id=case.name.replace(" ", "_"), marks=marks))
    return pytest.mark.parametrize("case", cases)


@each_way
@each(PLAIN_CASES)
@pytest_twisted.ensureDeferred
async def test_frames_get_the_verdict_of_rfc_6455(servers, case, way):
    port, factory = await servers.get(way, case.message_bytes)
    judge(case, await play(case, port, factory))


@pytest.mark.slow
@each_way
@each(deflate.CASES)
@pytest_twisted.ensureDeferred
async def test_compressed_frames_get_the_verdict_of_rfc_7692(servers, case, way):
    port, factory = await servers.get(way, case.message_bytes, case.server)
    offer = f"Sec-WebSocket-Extensions: {case.offer}".encode()
    outcome = await play(case, port, factory, offer)
    agreed = outcome[-1]
    assert _parameters(agreed) == _parameters(case.agreed)
    judge(case, outcome)


def _parameters(extension: str) -> list[str]:
    return sorted(part.strip() for part in extension.split(";"))


@each(handshake.PLAIN)
@pytest_twisted.ensureDeferred
async def test_opening_handshake_gets_the_verdict_of_rfc_6455(servers, case):
    await shake_hands(case, *await servers.get("short"))


@each(handshake.OFFERS)
@pytest_twisted.ensureDeferred
async def test_offer_of_compression_gets_the_verdict_of_rfc_7692(servers, case):
    await shake_hands(case, *await servers.get("short", accept="as offered"))


async def shake_hands(case: Any, port: int, factory: Any) -> None:
    peer = await wire.connect(factory.reactor, port)
    try:
        answer = await peer.open(case.request())
        assert int(answer[""]) in case.status, (case.rule, answer)
        for name, expected in case.answers.items():
            members = {member.strip() for member in answer.get(name, "").split(",")} - {""}
            # A server may speak more versions than one.
            assert expected <= members if case.status != handshake.OPEN else expected == members
        if case.status == handshake.OPEN:
            assert answer["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert answer["upgrade"].lower() == "websocket"
            assert answer["connection"].lower() == "upgrade"
            peer.write(wire.close(1000))
            assert (await peer.next_frame()).opcode == wire.CLOSE
        await peer.end()
    finally:
        peer.abort()


@pytest.mark.parametrize(("way", "expected"), [("short", 3), ("whole", 0)])
@pytest_twisted.ensureDeferred
async def test_each_server_takes_the_way_that_it_is_named_for(servers, way, expected):
    port, factory = await servers.get(way)
    peer = await wire.connect(factory.reactor, port)
    assert (await peer.open(wire.request_of(wire.new_key())))[""] == "101"
    server = peer.server_side(factory)
    peer.write(b"".join(cases.text(word) for word in ("one", "two", "three")))
    for _ in range(3):
        await peer.next_frame()
    assert server.trafficStats.ordinary_in == expected
    peer.write(wire.close(1000))
    assert (await peer.next_frame()).opcode == wire.CLOSE
    await peer.end()


def test_names_of_cases_are_their_own():
    for table in (PLAIN_CASES, deflate.CASES, handshake.PLAIN, handshake.OFFERS):
        names = [case.name for case in table]
        assert len(set(names)) == len(names), sorted({n for n in names if names.count(n) > 1})
    assert len(PLAIN_CASES) + len(deflate.CASES) >= 250
