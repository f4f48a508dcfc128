"""Header values: what an application reads is what the client has sent."""

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from aiorest_ws.request import RequestHandlerProtocol
from aiorest_ws.utils.websocket import deflate_offer_accept
from support.handshakes import ACCEPT, answer_to, factory_with, request, status


def recording(seen):
    """Return a protocol class that notes what it reads of its opening handshake."""

    class Recording(RequestHandlerProtocol):
        def onConnect(self, request):
            seen["shown"] = request
            seen["early"] = dict(self.http_headers)

        def onOpen(self):
            seen["open"] = dict(self.http_headers)
            seen["data"] = self.http_request_data
            seen["connection"] = self

    return Recording


async def headers_of(network, *lines, **options):
    """Open a connection with further lines; return what the application sees of it."""
    seen = {}
    answer = await answer_to(network, request(*lines, **options), factory_with(recording(seen)))
    assert status(answer) == 101
    assert ACCEPT in answer
    assert seen["shown"].headers == seen["early"] == seen["open"]
    assert seen["connection"].http_headers == seen["open"]
    assert seen["data"] == request(*lines, **options)
    return seen


VALUES = [
    "name=Михаил".encode(),  # 85
    "name=Иван".encode(),
    "name=à".encode(),  # A0, at the end
    "à la carte".encode(),  # A0, before a blank
    b"\xd0\x85",  # nothing but a Cyrillic letter
    "a\u00a0b\u00a0".encode(),  # no-break spaces in UTF-8
    b"\xa0first and last\xa0",
    b"\x85\x85",
    b"a\x85b: c\x85X-B: d",
    "a\u2028b\u2029c…".encode(),
    b"\xff\xfe\x80",
    b"a\tb",
    b"",
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", [b"Cookie", b"Authorization", b"X-Name"])
@pytest_twisted.ensureDeferred
async def test_a_value_is_read_as_it_was_sent(network, name, value):
    seen = await headers_of(network, name + b": \t" + value + b" \t ")
    found = seen["open"][name.decode().lower()]
    assert found.encode("latin-1") == value
    assert len(seen["open"]) == 6


@pytest_twisted.ensureDeferred
async def test_cookies_are_joined_as_cookies_and_others_as_lists(network):
    seen = await headers_of(
        *(
            network,
            b"Cookie: a=1",
            b"X-A: 1",
            b"cookie: b=2; c=3",
            b"x-a:2",
            b"X-a:",
            b"COOKIE: d=4",
        )
    )
    assert seen["open"]["cookie"] == "a=1; b=2; c=3; d=4"
    assert seen["open"]["x-a"] == "1, 2, "


@pytest.mark.parametrize(
    ("target", "params"),
    [
        ("/à?a=à".encode(), {"a": ["Ã\xa0"]}),
        (b"/\xa0x\xa0", {}),
        (b"/\xa0?\xa0", {}),
        ("/%C3%A0?x=%C3%A0&x=à".encode(), {"x": ["à", "Ã\xa0"]}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_path_is_read_as_it_was_sent(network, target, params):
    seen = await headers_of(network, first=b"GET  " + target + b" HTTP/1.1 ")
    shown, connection = seen["shown"], seen["connection"]
    assert connection.http_request_uri.encode("latin-1") == target
    path = target.partition(b"?")[0].decode("latin-1")
    assert shown.path == connection.http_request_path == path
    assert shown.params == connection.http_request_params == params


@pytest_twisted.ensureDeferred
async def test_host_origin_and_subprotocols_are_read_as_they_were_sent(network):
    factory = factory_with(recording(seen := {}), allowed_hosts=("*",), allowed_origins=("*",))
    data = request(
        *(b"Origin: http://caf\xa0.example", b"Sec-WebSocket-Protocol: a\xa0, \tb\t,c"),
        host=b"Host: caf\xa0.example:80",
    )
    assert status(await answer_to(network, data, factory)) == 101
    shown, connection = seen["shown"], seen["connection"]
    assert shown.host == connection.http_request_host == "caf\xa0.example"
    assert shown.origin == connection.websocket_origin == "http://caf\xa0.example"
    assert shown.protocols == connection.websocket_protocols == ["a\xa0", "b", "c"]


@pytest.mark.parametrize("byte", [b"\x85", b"\xa0"])
@pytest.mark.parametrize(
    "line",
    [
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Host: localhost:80",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_value_that_means_something_is_no_other_one_with_a_byte_more(network, line, byte):
    name, blank, value = line.partition(b" ")
    whole = request(host=b"Host: localhost:80")
    for changed in (byte + value, value + byte, value[:-2] + byte + value[-2:]):
        data = whole.replace(line, name + blank + changed)
        assert data != whole
        answer = await answer_to(network, data, factory_with(allowed_hosts=("localhost",)))
        assert status(answer) in (400, 403)


@pytest_twisted.ensureDeferred
async def test_an_extension_with_a_byte_more_is_another_one(network):
    factory = factory_with()
    factory.setProtocolOptions(perMessageCompressionAccept=deflate_offer_accept)
    line = b"Sec-WebSocket-Extensions: permessage-deflate"
    assert b"permessage-deflate" in await answer_to(network, request(line), factory)
    answer = await answer_to(network, request(line + b"\xa0"), factory)
    assert status(answer) == 101
    assert b"permessage-deflate" not in answer


@pytest.mark.parametrize("size", [7, 10_000])
@pytest_twisted.ensureDeferred
async def test_what_follows_a_head_stays_as_it_is(network, size):
    taken = []

    class Taking(RequestHandlerProtocol):
        def onMessage(self, payload, isBinary):
            taken.append(payload)
            self.sendClose(1000)

    body = bytes(range(0x80, 0x100))
    frame = b"\x82\xfe" + len(body).to_bytes(2) + bytes(4) + body
    data = request("Cookie: à".encode()) + frame
    port = await network.serve(factory=factory_with(Taking))
    raw = await network.raw(port)
    for begin in range(0, len(data), size):
        raw.transport.write(data[begin : begin + size])
        await deferLater(network.reactor, 0)
    await raw.until(b"\x88\x02\x03\xe8")
    assert taken == [body]
