"""What is refused before a connection is open, how, and what is let through."""

import asyncio
import logging

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor, tcp_endpoint

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


def request(
    *more: bytes, host: bytes = b"Host: localhost", first: bytes = b"GET / HTTP/1.1"
) -> bytes:
    """Return the opening handshake of the RFC, and further lines."""
    lines = (
        *(first, host),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        *more,
    )
    return b"".join(line + b"\r\n" for line in lines if line) + b"\r\n"


def factory_with(protocol=RequestHandlerProtocol, **limits):
    factory = RequestHandlerFactory(router=SimpleRouter(), limits=Limits(**limits))
    factory.protocol = protocol
    return factory


async def answer_to(network, data, factory=None):
    port = await network.serve(factory=factory or factory_with())
    raw = await network.raw(port, data)
    return await raw.until(b"\r\n\r\n")


def status(answer):
    return int(answer.split()[1])


@pytest_twisted.ensureDeferred
async def test_a_handshake_of_the_rfc_is_answered(network):
    answer = await answer_to(network, request())
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert ACCEPT in answer
    assert b"Server: aiorest-ws\r\n" in answer


@pytest_twisted.ensureDeferred
async def test_a_refusal_is_http_with_the_reason_and_an_end(network):
    port = await network.serve(factory=factory_with())
    raw = await network.raw(port, request(b"Origin: http://evil.example"))
    answer = await raw.end()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 The origin 'http://evil.example' is neither ")
    assert b"\r\nConnection: close\r\n" in head
    assert f"\r\nContent-Length: {len(body)}".encode() in head
    assert body.startswith(b"The origin 'http://evil.example' is neither the host that was asked")


# Not HTTP to the letter

FORBIDDEN = [*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0x85]


@pytest.mark.parametrize("byte", FORBIDDEN)
@pytest.mark.parametrize("place", ["line", "name", "value", "early"])
@pytest_twisted.ensureDeferred
async def test_a_control_character_is_refused(network, byte, place):
    it = bytes((byte,))
    data = {
        "line": request(first=b"GET /" + it + b" HTTP/1.1"),
        "name": request(b"X-A" + it + b"B: c"),
        "value": request(b"X-A: b" + it + b"c"),
        "early": b"GET /" + it,
    }[place]
    assert status(await answer_to(network, data)) == 400


@pytest.mark.parametrize(
    "data",
    [
        request().replace(b"\r\n", b"\n"),
        request().replace(b"\r\nUpgrade", b"\nUpgrade"),
        request().replace(b"\r\nUpgrade", b"\rUpgrade"),
        request(b"X-A: b\nOrigin: http://localhost"),
        request(b"X-A: b\rOrigin: http://localhost"),
        b"GET / HTTP/1.1\n",
        request(b"X-A : b"),
        request(b" X-A: b"),
        request(b"X-A: b", b" folded: c"),
        request(b"X-A: b", b"\tfolded"),
        request(b"no colon"),
        request(b": no name"),
        request(b"X(A): b"),
        request("X-Ä: b".encode()),
        request(b"Host: localhost"),
        request(b"HOST: other"),
        request(b"Origin: http://localhost", b"origin: http://localhost"),
        request(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        request(host=b""),
        b"\r\n\r\n",
        b"hello\r\n\r\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_http_to_the_letter_is_refused(network, data):
    answer = await answer_to(network, data)
    assert status(answer) == 400
    assert b"101" not in answer


@pytest.mark.parametrize(
    "line",
    [
        b"X-A:",
        b"X-A:b",
        b"X-A: b\tc ",
        "X-A: ä€".encode().replace(b"\x82", b"\xac"),
        b"X-A: \xff\xa0",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_http_allows_is_taken(network, line):
    assert status(await answer_to(network, request(line))) == 101


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest_twisted.ensureDeferred
async def test_a_request_may_come_in_pieces(network, size):
    port = await network.serve(factory=factory_with())
    raw = await network.raw(port)
    data = request(b"Origin: http://localhost")
    for begin in range(0, len(data), size):
        raw.transport.write(data[begin : begin + size])
        await deferLater(network.reactor, 0)
    assert status(await raw.until(b"\r\n\r\n")) == 101


# Size and time


@pytest_twisted.ensureDeferred
async def test_a_request_may_have_exactly_the_size_of_the_limit(network):
    padding = 16 * 1024 - len(request(b"X: "))
    assert status(await answer_to(network, request(b"X: " + b"x" * padding))) == 101


@pytest.mark.parametrize("is_whole", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_request_over_the_limit_is_refused(network, is_whole):
    factory = factory_with()
    padding = 16 * 1024 - len(request(b"X: ")) + 1
    data = request(b"X: " + b"x" * padding)
    answer = await answer_to(network, data if is_whole else data[:-4] + b"x" * 4, factory)
    assert status(answer) == 431
    assert factory.limit_hits == {"handshake_bytes": 1}


@pytest_twisted.ensureDeferred
async def test_twenty_mebibytes_of_headers_are_answered_and_not_kept(network):
    port = await network.serve(factory=factory_with())
    raw = await network.raw(port, b"GET / HTTP/1.1\r\n")
    for _ in range(20):
        raw.transport.write(b"X: " + b"x" * 2**20 + b"\r\n")
    connection = raw.received
    assert b" 431 " in (await raw.until(b"\r\n\r\n"))
    assert connection == b""


@pytest_twisted.ensureDeferred
async def test_a_slow_request_is_dropped(network, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = factory_with(handshake_seconds=0.1)
    port = await network.serve(factory=factory)
    raw = await network.raw(port, b"GET / HT")
    assert await raw.end() == b""
    assert factory.limit_hits == {"handshake_seconds": 1}
    [line] = [r.getMessage() for r in caplog.records if "handshake_seconds" in r.getMessage()]
    assert line.startswith("limit handshake_seconds: tcp4:127.0.0.1:")


# Plain HTTP


@pytest.mark.parametrize("uri", [b"/", b"/?redirect=http://evil.example&after=1"])
@pytest_twisted.ensureDeferred
async def test_a_plain_get_is_told_to_upgrade(network, uri):
    answer = await answer_to(network, b"GET " + uri + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(answer) == 426
    assert b"\r\nUpgrade: websocket\r\n" in answer
    assert b"evil" not in answer
    assert b"utobahn" not in answer


@pytest_twisted.ensureDeferred
async def test_health_is_told_until_the_server_stops(network):
    factory = factory_with()
    port = await network.serve(factory=factory)
    get = b"GET /healthz HTTP/1.1\r\nHost: any\r\n\r\n"
    assert (await (await network.raw(port, get)).end()).endswith(b"\r\n\r\nok\n")
    factory.is_stopping = True
    assert status(await (await network.raw(port, get)).end()) == 503
    assert status(await (await network.raw(port, request())).end()) == 503


# Origins and hosts


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "expected"),
    [
        (b"http://localhost", b"localhost", (), 101),
        (b"https://localhost", b"localhost", (), 101),
        (b"HTTP://LOCALHOST", b"localhost", (), 101),
        (b"http://localhost:8080", b"localhost:8080", (), 101),
        (b"http://localhost", b"localhost:80", (), 101),
        (b"https://localhost", b"localhost:443", (), 101),
        (b"http://[::1]:90", b"[::1]:90", (), 101),
        (b"http://localhost", b"localhost:8080", (), 403),
        (b"http://localhost:8081", b"localhost:8080", (), 403),
        (b"http://localhost.evil.example", b"localhost", (), 403),
        (b"http://evil.example", b"localhost", (), 403),
        (b"http://evil.example/localhost", b"localhost", (), 403),
        (b"http://localhost@evil.example", b"localhost", (), 403),
        (b"http://evil.example#localhost", b"localhost", (), 403),
        (b"null", b"localhost", (), 403),
        (b"file://", b"localhost", (), 403),
        (b"", b"localhost", (), 403),
        (b"localhost", b"localhost", (), 403),
        (b"null", b"localhost", ("null",), 101),
        (b"https://app.example", b"localhost", ("https://app.example",), 101),
        (b"https://APP.example", b"localhost", ("https://App.example",), 101),
        (b"http://app.example", b"localhost", ("https://app.example",), 403),
        (b"https://app.example:444", b"localhost", ("https://app.example",), 403),
        (b"https://a.app.example", b"localhost", ("https://*.app.example",), 101),
        (b"https://app.example", b"localhost", ("https://*.app.example",), 403),
        (b"https://evilapp.example", b"localhost", ("https://*.app.example",), 403),
        (b"https://evil.example/.app.example", b"localhost", ("https://*.app.example",), 403),
        (b"https://any.example", b"localhost", ("*",), 101),
        (b"null", b"localhost", ("*",), 403),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_origin_is_the_hosts_own_or_an_allowed_one(
    network, origin, host, allowed, expected
):
    factory = factory_with(allowed_origins=allowed)
    data = request(b"Origin: " + origin, host=b"Host: " + host)
    assert status(await answer_to(network, data, factory)) == expected
    assert factory.limit_hits == ({"allowed_origins": 1} if expected == 403 else {})


@pytest_twisted.ensureDeferred
async def test_an_option_of_autobahns_does_not_refuse_an_allowed_null(network):
    factory = factory_with(allowed_origins=("null",))
    factory.setProtocolOptions(autoPingSize=20)
    assert status(await answer_to(network, request(b"Origin: null"), factory)) == 101


@pytest.mark.parametrize(
    ("origin", "expected"), [(b"https://a.example", 101), (b"https://b", 400)]
)
@pytest_twisted.ensureDeferred
async def test_origins_given_to_autobahn_are_judged_by_autobahn(network, origin, expected):
    factory = factory_with()
    factory.setProtocolOptions(allowedOrigins=["https://a.example:*"])
    assert status(await answer_to(network, request(b"Origin: " + origin), factory)) == expected


@pytest_twisted.ensureDeferred
async def test_an_overridden_on_connect_does_not_open_the_door(network):
    class Open(RequestHandlerProtocol):
        def onConnect(self, request):
            return None

    data = request(b"Origin: http://evil.example")
    assert status(await answer_to(network, data, factory_with(Open))) == 403


@pytest.mark.parametrize(
    ("bound", "host", "allowed", "expected"),
    [
        ("127.0.0.1", b"localhost", None, 101),
        ("127.0.0.1", b"LocalHost:1234", None, 101),
        ("127.0.0.1", b"127.0.0.1:9", None, 101),
        ("127.0.0.1", b"[::1]", None, 101),
        ("127.0.0.1", b"rebound.evil.example", None, 403),
        ("127.0.0.1", b"localhost.evil.example", None, 403),
        ("127.0.0.1", b"192.168.0.1", None, 403),
        ("0.0.0.0", b"any.example", None, 101),
        ("0.0.0.0", b"any.example", ("api.example",), 403),
        ("0.0.0.0", b"api.example:8080", ("api.example",), 101),
        ("0.0.0.0", b"api.example.", ("api.example",), 101),
        ("127.0.0.1", b"api.example", ("api.example",), 101),
        ("127.0.0.1", b"localhost", ("api.example",), 403),
        ("127.0.0.1", b"a.api.example", ("*.api.example",), 101),
        ("127.0.0.1", b"api.example", ("*.api.example",), 403),
        ("127.0.0.1", b"any.example", ("*",), 101),
        ("127.0.0.1", b"a b", ("*",), 403),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_host_is_one_of_the_servers(network, bound, host, allowed, expected):
    factory = factory_with(allowed_hosts=allowed)
    network.factories.append(factory)
    listening = await tcp_endpoint(network.reactor, bound, 0).listen(factory)
    network.ports.append(listening)
    raw = await network.raw(listening.getHost().port, request(host=b"Host: " + host))
    assert status(await raw.until(b"\r\n\r\n")) == expected
    assert factory.limit_hits == ({"allowed_hosts": 1} if expected == 403 else {})


# How many


@pytest_twisted.ensureDeferred
async def test_connections_over_the_limit_are_refused_until_one_ends(network):
    factory = factory_with(connections=2)
    port = await network.serve(factory=factory)
    first = await network.connect(port)
    await network.connect(port)
    assert status(await (await network.raw(port, request())).end()) == 503
    assert factory.limit_hits == {"connections": 1}
    first.sendClose()
    await first.closed
    while factory.countConnections > 1:
        await deferLater(network.reactor, 0.01)
    await network.connect(port)


@pytest_twisted.ensureDeferred
async def test_many_more_than_the_limit_are_not_even_answered(network):
    factory = factory_with(connections=1, handshake_seconds=30)
    port = await network.serve(factory=factory)
    waiting = [await network.raw(port) for _ in range(51)]
    raw = await network.raw(port, request())
    assert await raw.end() == b""
    assert not any(one.closed.called for one in waiting)


@pytest_twisted.ensureDeferred
async def test_connections_of_one_address_are_counted_apart(network):
    factory = factory_with(
        connections_per_address=1, trusted_proxies=("127.0.0.0/8",), allowed_hosts=("*",)
    )
    port = await network.serve(factory=factory)

    async def answered(client):
        raw = await network.raw(port, request(b"X-Forwarded-For: " + client))
        return raw, status(await raw.until(b"\r\n\r\n"))

    first, code = await answered(b"192.0.2.1")
    assert code == 101
    assert (await answered(b"192.0.2.1"))[1] == 503
    assert (await answered(b"192.0.2.2"))[1] == 101
    assert factory.limit_hits == {"connections_per_address": 1}
    first.transport.loseConnection()
    await first.closed
    while factory.addresses["192.0.2.1"]:
        await deferLater(network.reactor, 0.01)
    assert (await answered(b"192.0.2.1"))[1] == 101


@pytest_twisted.ensureDeferred
async def test_an_address_is_counted_without_a_proxy_too(network):
    factory = factory_with(connections_per_address=2)
    port = await network.serve(factory=factory)
    for expected in (101, 101, 503):
        raw = await network.raw(port, request())
        assert status(await raw.until(b"\r\n\r\n")) == expected


@pytest_twisted.ensureDeferred
async def test_connections_that_say_nothing_are_counted_for_their_address(network):
    factory = factory_with(connections_per_address=2)
    port = await network.serve(factory=factory)
    silent = [await network.raw(port) for _ in range(2)]
    raw = await network.raw(port, request())
    assert status(await raw.until(b"\r\n\r\n")) == 503
    silent[0].transport.loseConnection()
    await silent[0].closed
    while factory.addresses["127.0.0.1"] > 1:
        await deferLater(network.reactor, 0.01)
    raw = await network.raw(port, request())
    assert status(await raw.until(b"\r\n\r\n")) == 101


@pytest_twisted.ensureDeferred
async def test_an_address_that_goes_on_opening_connections_is_not_answered(network):
    factory = factory_with(connections_per_address=2)
    port = await network.serve(factory=factory)
    waiting = [await network.raw(port) for _ in range(52)]
    assert await (await network.raw(port)).end() == b""
    assert not any(one.closed.called for one in waiting)
    assert factory.addresses["127.0.0.1"] <= 53


# Proxies


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        ((), [b"192.0.2.1"], "127.0.0.1"),
        (("10.0.0.0/8",), [b"192.0.2.1"], "127.0.0.1"),
        (("127.0.0.0/8",), [], "127.0.0.1"),
        (("127.0.0.1",), [b"192.0.2.1"], "192.0.2.1"),
        (("127.0.0.1",), [b"203.0.113.5, 192.0.2.1"], "192.0.2.1"),
        (("127.0.0.1", "192.0.2.0/24"), [b"203.0.113.5, 192.0.2.1"], "203.0.113.5"),
        (("127.0.0.1", "192.0.2.0/24"), [b"203.0.113.5", b"192.0.2.1"], "203.0.113.5"),
        (("127.0.0.1",), [b"203.0.113.5, nonsense"], "127.0.0.1"),
        (("127.0.0.1",), [b"192.0.2.1:4711"], "192.0.2.1"),
        (("127.0.0.1",), [b"[2001:db8::1]:4711"], "2001:db8::1"),
        (("127.0.0.1",), [b"2001:db8::1"], "2001:db8::1"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_forwarded_address_is_believed_from_a_trusted_proxy_only(
    network, trusted, forwarded, expected
):
    seen = []

    class Seen(RequestHandlerProtocol):
        def onOpen(self):
            seen.append(self.address)

    factory = factory_with(Seen, trusted_proxies=trusted)
    # Autobahn's own option believes everybody.
    factory.setProtocolOptions(trustXForwardedFor=1)
    lines = [b"X-Forwarded-For: " + value for value in forwarded]
    assert status(await answer_to(network, request(*lines), factory)) == 101
    assert seen == [expected]


# The decision of the application


@pytest_twisted.ensureDeferred
async def test_what_comes_while_on_connect_decides_waits_for_it(network):
    decision = Deferred()
    asked, connections = [], []

    class Slow(RequestHandlerProtocol):
        def onConnect(self, request):
            asked.append(request)
            connections.append(self)
            return decision

    router = SimpleRouter()
    factory = factory_with(Slow)
    factory.router = router
    port = await network.serve(factory=factory)
    raw = await network.raw(port, request())
    while not asked:
        await deferLater(network.reactor, 0.01)
    raw.transport.write(request())  # a second one, which Autobahn would answer, too
    await deferLater(network.reactor, 0.05)
    assert raw.received == b""
    connections[0].consumeData()
    decision.callback(None)
    # No frame begins like a request.
    assert (await raw.end()).count(b"HTTP/1.1 101 ") == 1
    assert len(asked) == 1


@pytest_twisted.ensureDeferred
async def test_little_is_held_while_on_connect_decides(network):
    decision, opened = Deferred(), Deferred()
    connections = []

    class Slow(RequestHandlerProtocol):
        def onConnect(self, request):
            connections.append(self)
            return decision

        def onMessage(self, payload, isBinary):
            opened.callback(len(payload))

    port = await network.serve(factory=factory_with(Slow, early_bytes=1000))
    size = 2**20 - 1
    raw = await network.raw(port, request())
    while not connections:
        await deferLater(network.reactor, 0.01)
    frame = b"\x82\xff" + size.to_bytes(8) + bytes(4) + bytes(size)
    raw.transport.write(frame)
    while len(connections[0].data) <= 1000:
        await deferLater(network.reactor, 0.01)
    await deferLater(network.reactor, 0.1)
    assert len(connections[0].data) < size / 2  # one chunk of the transport at most
    decision.callback(None)
    assert await opened == size


@pytest.mark.logs_errors
@pytest.mark.parametrize("is_late", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_fault_in_on_connect_is_ours_and_its_words_stay_here(network, caplog, is_late):
    class Broken(RequestHandlerProtocol):
        async def onConnect(self, request):
            if is_late:
                await deferLater(install_reactor(), 0.01)
            raise ValueError("s3cr3t")

    answer = await answer_to(network, request(), factory_with(Broken))
    assert status(answer) == 500
    assert b"s3cr3t" not in answer
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "onConnect failed" in line.getMessage()
    assert line.exc_info


@pytest_twisted.ensureDeferred
async def test_on_connect_may_deny(network):
    class Strict(RequestHandlerProtocol):
        def onConnect(self, request):
            raise ConnectionDeny(401, "who are you")

    answer = await answer_to(network, request(), factory_with(Strict))
    assert answer.startswith(b"HTTP/1.1 401 who are you\r\n")


@pytest_twisted.ensureDeferred
async def test_on_connect_of_a_mixin_may_deny(network):
    class Strict(WebSocketServerProtocol):
        def onConnect(self, request):
            raise ConnectionDeny(403, "not you")

    class Mixed(RequestHandlerProtocol, Strict):
        pass

    answer = await answer_to(network, request(), factory_with(Mixed))
    assert answer.startswith(b"HTTP/1.1 403 not you\r\n")


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_ends_the_decision(network):
    asked, ended = Deferred(), Deferred()

    class Slow(RequestHandlerProtocol):
        async def onConnect(self, request):
            asked.callback(None)
            try:
                await Deferred()
            except (CancelledError, asyncio.CancelledError):
                ended.callback("cancelled")
                raise

    port = await network.serve(factory=factory_with(Slow))
    raw = await network.raw(port, request())
    await asked
    raw.transport.abortConnection()
    assert await ended == "cancelled"


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_on_connect_may_await_asyncio(network):
    class Slow(RequestHandlerProtocol):
        async def onConnect(self, request):
            await asyncio.sleep(0.01)

    assert status(await answer_to(network, request(), factory_with(Slow))) == 101


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_an_on_open_that_raises_closes_with_1011(network):
    class Broken(RequestHandlerProtocol):
        def onOpen(self):
            raise ValueError("s3cr3t")

    port = await network.serve(factory=factory_with(Broken))
    client = await network.connect(port)
    assert (await client.closed)[1] == 1011


# What the log says of it


@pytest_twisted.ensureDeferred
async def test_no_line_has_what_only_the_client_may_know(network, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = (b"Authorization: Bearer s3cr3t", b"Cookie: session=s3cr3t")
    factory = factory_with()
    port = await network.serve(factory=factory)
    for data in (
        request(*secrets, first=b"GET /?token=s3cr3t HTTP/1.1"),
        request(*secrets, first=b"GET /?token=s3cr3t HTTP/1.1 more"),
        request(*secrets, first=b"GET /?token=s3cr3t#fragment HTTP/1.1"),
        request(*secrets, b"Sec-WebSocket-Version: s3cr3t"),
    ):
        raw = await network.raw(port, data)
        await raw.until(b"\r\n\r\n")
    assert "handshake refused" in caplog.text
    assert "s3cr3t" not in caplog.text
    levels = {r.levelname for r in caplog.records if r.name.startswith("aiorest-ws")}
    assert levels <= {"INFO", "DEBUG"}


@pytest_twisted.ensureDeferred
async def test_a_flood_of_refusals_is_counted_and_not_written_down_one_by_one(network, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = factory_with()
    for _ in range(1000):
        factory.limit_hits.note("connections", "tcp4:192.0.2.1:1", "503")
    assert factory.limit_hits["connections"] == 1000
    lines = [r for r in caplog.records if getattr(r, "limit", None) == "connections"]
    assert 1 <= len(lines) <= 30  # ten in a second, and this takes less than two
