"""Who may open a connection: origins, hosts, numbers, proxies."""

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import tcp_endpoint
from support.handshakes import answer_to, factory_with, request, status

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


@pytest.mark.parametrize("is_stopping", [False, True])
@pytest.mark.parametrize(
    ("folder", "uri", "is_health"),
    [
        ("", b"/healthz/", True),
        ("", b"/healthz?probe=1", True),
        ("", b"/api/healthz", False),
        ("", b"/healthzz", False),
        ("/api", b"/healthz", True),
        ("/api", b"/api/healthz", True),
        ("/api/", b"/api/healthz/?x", True),
        ("/api/v1", b"/api/v1/healthz", True),
        ("/api/v1", b"/api/healthz", False),
        ("", b"/health%7A", True),
        ("/a%20b", b"/a%20b/healthz", True),
        ("", b"http://any:80/healthz", True),
        ("/api", b"https://any/api/healthz/", True),
        ("", b"http://any/x/healthz", False),
        ("", b"http://any", False),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest_twisted.ensureDeferred
async def test_health_is_told_to_any_probe(network, method, folder, uri, is_health, is_stopping):
    factory = RequestHandlerFactory(f"ws://localhost:80{folder}", router=SimpleRouter())
    port = await network.serve(factory=factory)
    factory.is_stopping = is_stopping
    answer = await (
        await network.raw(port, method + b" " + uri + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    ).end()
    head, _, body = answer.partition(b"\r\n\r\n")
    if is_health:
        assert status(answer) == (503 if is_stopping else 200)
        assert (b"Content-Length: %d" % len(b"stopping\n" if is_stopping else b"ok\n")) in head
    else:
        assert status(answer) in {503, 405, 426}
    assert bool(body) == (method == b"GET")


# Subprotocols


def chosen_in(answer):
    assert status(answer) == 101
    lines = answer.lower().split(b"\r\n")
    return [line for line in lines if line.startswith(b"sec-websocket-protocol")]


@pytest.mark.parametrize(
    ("ours", "offered", "chosen"),
    [
        (["chat"], b"chat", b"chat"),
        (["v2.chat", "v1.chat"], b"v1.chat, v2.chat", b"v2.chat"),
        (["v2.chat", "v1.chat"], b"v0.chat ,v1.chat", b"v1.chat"),
        (("soap", "wamp"), b"wamp", b"wamp"),
        (["chat"], b"superchat", None),
        (["chat"], b"CHAT", None),
        (["chat"], None, None),
        ([], b"chat", None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_first_subprotocol_of_the_server_that_is_offered_is_chosen(
    network, ours, offered, chosen
):
    factory = RequestHandlerFactory(router=SimpleRouter(), protocols=ours)
    more = [b"Sec-WebSocket-Protocol: " + offered] if offered else []
    answer = await answer_to(network, request(*more), factory)
    assert chosen_in(answer) == ([b"sec-websocket-protocol: " + chosen] if chosen else [])


class Chooses(RequestHandlerProtocol):
    def onConnect(self, request):
        return "mine"


class ChoosesLater(RequestHandlerProtocol):
    async def onConnect(self, request):
        await deferLater(self.factory.reactor, 0)
        return "mine", {"X-Mine": "1"}


class ChoosesNone(RequestHandlerProtocol):
    def onConnect(self, request):
        return None


@pytest.mark.parametrize(
    ("protocol", "chosen"),
    [(Chooses, b"mine"), (ChoosesLater, b"mine"), (ChoosesNone, None)],
)
@pytest_twisted.ensureDeferred
async def test_an_on_connect_of_the_application_decides_about_the_subprotocol(
    network, protocol, chosen
):
    factory = RequestHandlerFactory(router=SimpleRouter(), protocols=["chat"])
    factory.protocol = protocol
    answer = await answer_to(network, request(b"Sec-WebSocket-Protocol: mine, chat"), factory)
    assert chosen_in(answer) == ([b"sec-websocket-protocol: " + chosen] if chosen else [])


def test_subprotocols_are_a_list():
    with pytest.raises(TypeError, match="protocols must be a list"):
        RequestHandlerFactory(router=SimpleRouter(), protocols="chat")


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
        *(
            (scheme + b"://localhost", b"localhost", allowed, expected)
            for scheme in (b"app", b"capacitor", b"ionic", b"tauri", b"chrome-extension", b"ws")
            for allowed, expected in (
                ((), 403),
                (("http://localhost", "https://localhost"), 403),
                ((f"{scheme.decode()}://localhost",), 101),
                ((f"{scheme.decode().upper()}://LOCALHOST",), 101),
            )
        ),
        (b"app://localhost:80", b"localhost:80", (), 403),
        (b"capacitor://", b"localhost", (), 403),
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


@pytest.mark.parametrize(
    "host",
    [b"", b" ", b"\t", b":", b":80", b"[]", b"[]:80", b"a b", b"a@b", b"a/b", b"a,b", b"a?"],
)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("allowed", [None, ("*",)])
@pytest_twisted.ensureDeferred
async def test_a_host_that_is_none_is_refused(network, host, bound, allowed):
    factory = factory_with(allowed_hosts=allowed)
    network.factories.append(factory)
    listening = await tcp_endpoint(network.reactor, bound, 0).listen(factory)
    network.ports.append(listening)
    data = request(b"Origin: http://" + host, host=b"Host:" + host)
    raw = await network.raw(listening.getHost().port, data)
    assert status(await raw.until(b"\r\n\r\n")) == 400


@pytest.mark.parametrize("host", [b"[fe80::1%eth0]:80", b"b\xfccher.example", b"a_b"])
@pytest_twisted.ensureDeferred
async def test_a_host_may_be_unusual(network, host):
    factory = factory_with(allowed_hosts=("*",))
    assert status(await answer_to(network, request(host=b"Host: " + host), factory)) == 101


# Versions


@pytest.mark.parametrize("version", [b"8", b"7", b"0", b"12", b"14", b"013", b"x", b"", b"\xb2"])
@pytest_twisted.ensureDeferred
async def test_another_version_is_told_the_right_one(network, version):
    # In version 8 the origin was in a header of its own.
    data = request(b"Sec-WebSocket-Origin: http://evil.example")
    data = data.replace(b"Version: 13", b"Version: " + version)
    answer = await answer_to(network, data)
    assert status(answer) == 426
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
    assert b"\r\nUpgrade: websocket\r\n" in answer


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
async def test_an_address_is_counted_once_however_it_is_spelled(network):
    factory = factory_with(connections_per_address=1, trusted_proxies=("127.0.0.0/8",))
    port = await network.serve(factory=factory)
    for spelling, expected in (
        *((b"2001:db8::a", 101), (b"2001:DB8::A", 503), (b"2001:db8:0:0::0:a", 503)),
        *((b"[2001:0db8::000a]:99", 503), (b"2001:db8::b", 101), (b"2001:db8::0.0.0.11", 503)),
        *((b"192.0.2.1", 101), (b"::ffff:192.0.2.1", 503), (b"::FFFF:c000:201", 503)),
    ):
        raw = await network.raw(port, request(b"X-Forwarded-For: " + spelling))
        assert status(await raw.until(b"\r\n\r\n")) == expected, spelling


@pytest_twisted.ensureDeferred
async def test_a_client_of_ipv4_is_counted_once_on_a_socket_of_both_families(network):
    factory = factory_with(connections_per_address=1)
    network.factories.append(factory)
    listening = await tcp_endpoint(network.reactor, "::", 0).listen(factory)
    network.ports.append(listening)
    port = listening.getHost().port
    raw = await network.raw(port, request())
    assert status(await raw.until(b"\r\n\r\n")) == 101
    assert factory.addresses == {"127.0.0.1": 1}
    raw.transport.loseConnection()
    await raw.closed
    while factory.addresses["127.0.0.1"]:
        await deferLater(network.reactor, 0.01)


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
        (("127.0.0.1",), [b"192.0.2.1,"], "192.0.2.1"),
        (("127.0.0.1",), [b"192.0.2.1, ,\t,"], "192.0.2.1"),
        (("127.0.0.1",), [b",192.0.2.1"], "192.0.2.1"),
        (("127.0.0.1",), [b"192.0.2.1", b""], "192.0.2.1"),
        (("127.0.0.1",), [b" , "], "127.0.0.1"),
        (("127.0.0.1", "192.0.2.0/24"), [b"203.0.113.5,, 192.0.2.1,"], "203.0.113.5"),
        (("127.0.0.1",), [b"192.0.2.1\xa0"], "127.0.0.1"),
        (("127.0.0.1",), [b"2001:DB8:0:0:0:0:0:1"], "2001:db8::1"),
        (("127.0.0.1",), [b"[2001:0db8::0001]:80"], "2001:db8::1"),
        (("127.0.0.1",), [b"::ffff:192.0.2.1"], "192.0.2.1"),
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
