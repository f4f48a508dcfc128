"""TLS: versions, and handshakes and ends that fail."""

import socket
import ssl

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionLost

from aiorest_ws.transports import loop_port
from support.transports import RESET, Echo, in_thread, read_all, read_exactly


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_tls_of_this_version_is_spoken(server, version):
    await server.listen(Echo, tls=True)
    client, _ = await server.connect(minimum_version=version, maximum_version=version)
    client.sendall(b"secret")
    assert await in_thread(read_exactly, client, 6) == b"secret"
    assert client.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_tls_under_1_2_is_refused(server):
    await server.listen(Echo, tls=True)
    context = server.client_context(
        minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1
    )
    context.set_ciphers("ALL:@SECLEVEL=0")
    client = server.dial()
    with pytest.raises(ssl.SSLError):
        await in_thread(lambda: context.wrap_socket(client, server_hostname="localhost"))


def speak_http(client):
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    read_all(client)


def leave(client):
    client.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    client.close()


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    leave(client)


def leave_at_once(client):
    client.close()


@pytest.mark.parametrize("client_does", [speak_http, leave, reset, leave_at_once])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_fails_is_quiet(server, client_does, logged, caplog):
    await server.listen(Echo, tls=True)
    client = server.dial()
    await in_thread(client_does, client)
    other = server.dial()
    context = server.client_context()
    client = await in_thread(lambda: context.wrap_socket(other, server_hostname="localhost"))
    server.clients.append(client)
    client.sendall(b"next")
    assert await in_thread(read_exactly, client, 4) == b"next"
    assert logged == []
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_begins_tls_is_disconnected(native, monkeypatch, caplog):
    monkeypatch.setattr(loop_port, "TLS_HANDSHAKE_SECONDS", 0.1)
    factory = await native.listen(tls=True)
    client = native.dial()
    assert await in_thread(read_all, client) == b""
    assert factory.made.pending == []
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_end_tls_is_disconnected(native, monkeypatch):
    monkeypatch.setattr(loop_port, "TLS_SHUTDOWN_SECONDS", 0.1)
    await native.listen(tls=True)
    client, connection = await native.connect()
    connection.transport.loseConnection()
    assert type(await connection.gone()) is ConnectionLost
    client.close()
