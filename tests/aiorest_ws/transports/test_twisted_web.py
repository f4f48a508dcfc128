"""twisted.web on our transports."""

import http.client

import pytest_twisted
from twisted.web.resource import Resource
from twisted.web.server import Site

from support.transports import SECONDS, in_thread, read_all, turns, with_and_without_tls


class Large(Resource):
    isLeaf = True

    def render_GET(self, request):
        return b"g" * 300_000

    def render_POST(self, request):
        return str(len(request.content.read())).encode() + request.path


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_web_site_answers_large_requests(server, tls):
    await server.listen(factory=Site(Large()), tls=tls)
    host = server.port.getHost()

    def talk():
        if tls:
            client = http.client.HTTPSConnection(
                "localhost", host.port, timeout=SECONDS, context=server.client_context()
            )
        else:
            client = http.client.HTTPConnection("127.0.0.1", host.port, timeout=SECONDS)
        try:
            for _ in range(2):
                client.request("GET", "/")
                assert client.getresponse().read() == b"g" * 300_000
                client.request("POST", "/p", body=b"p" * 300_000)
                assert client.getresponse().read() == b"300000/p"
        finally:
            client.close()

    await in_thread(talk)
    await turns(5)


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_web_site_answers_pipelined_requests_in_their_order(server, tls):
    await server.listen(factory=Site(Large()), tls=tls)
    client = server.dial()
    if tls:
        context = server.client_context()
        context.set_alpn_protocols(["spdy/1", "http/1.1"])
        client = await in_thread(lambda: context.wrap_socket(client, server_hostname="localhost"))
        server.clients.append(client)
        assert client.selected_alpn_protocol() == "http/1.1"
    posts = b"".join(
        b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n%s\r\nx"
        % (i, b"Connection: close\r\n" if i == 49 else b"")
        for i in range(50)
    )
    client.sendall(posts)
    bodies = [
        part.rsplit(b"\r\n")[-1]
        for part in (await in_thread(read_all, client)).split(b"HTTP/1.1 ")
    ]
    assert [body.strip() for body in bodies[1:]] == [b"1/%d" % i for i in range(50)]
