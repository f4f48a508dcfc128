"""Ports, and programs that fail on them."""

import asyncio
import gc
import os
import socket
import stat

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol

from aiorest_ws.transports import install_reactor, unix_endpoint
from support.transports import (
    RESET,
    SECONDS,
    Echo,
    Recorder,
    in_thread,
    read_all,
    read_exactly,
    turns,
    with_and_without_tls,
)

# Twisted forgets the socket of a port that it cannot listen on.
forgotten_sockets = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
collected = pytest.mark.usefixtures("_collect_garbage")


@pytest.fixture
def _collect_garbage():
    yield
    gc.collect()


# Ports


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_a_busy_port_fails_at_once_and_starts_no_factory(server):
    first = await server.listen()
    second = Factory.forProtocol(Recorder)
    second.noisy = False
    endpoint = server.endpoint(port=server.port.getHost().port)
    with pytest.raises(CannotListenError):
        await endpoint.listen(second)
    assert first.numPorts == 1
    if server.is_native:  # Twisted's is started and stays so
        assert second.numPorts == 0


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_an_address_that_is_not_ours_cannot_be_listened_on(server):
    with pytest.raises(CannotListenError):
        await server.endpoint(host="192.0.2.1").listen(Factory())


@pytest_twisted.ensureDeferred
async def test_a_port_that_stops_is_free_and_its_connections_go_on(server):
    factory = await server.listen(Echo)
    client, _ = await server.connect()
    number = server.port.getHost().port
    await maybeDeferred(server.port.stopListening)
    assert factory.numPorts == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number), SECONDS)
    client.sendall(b"still here")
    assert await in_thread(read_exactly, client, 10) == b"still here"
    again = await server.endpoint(port=number).listen(factory)
    server.ports.append(again)
    assert again.getHost().port == number
    await maybeDeferred(server.port.stopListening)  # a second time


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_gone_before_it_is_accepted_disturbs_nobody(server, logged):
    await server.listen(Echo)
    for _ in range(3):
        client = server.dial()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
    client = server.dial()
    client.sendall(b"alive")
    assert await in_thread(read_exactly, client, 5) == b"alive"
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_has_its_mode_and_is_removed(server, tmp_path):
    path = tmp_path / "s"
    await server.listen(Echo, path=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client, connection = await server.connect()
    client.sendall(b"local")
    assert await in_thread(read_exactly, client, 5) == b"local"
    transport = connection.transport
    names = transport.getHost().name, transport.getPeer().name
    assert names == (os.fsencode(path), None)
    assert server.port.getHost().name == os.fsencode(path)
    client.close()
    assert isinstance(await connection.gone(), ConnectionDone)
    await maybeDeferred(server.port.stopListening)
    assert not path.exists()


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_a_unix_socket_that_is_in_use_is_left_alone(server, tmp_path):
    path = str(tmp_path / "s")
    await server.listen(Echo, path=path)
    with pytest.raises(CannotListenError):
        await server.endpoint(path=path).listen(Factory())
    client, _ = await server.connect()
    client.sendall(b"mine")
    assert await in_thread(read_exactly, client, 4) == b"mine"


@forgotten_sockets
@collected
@pytest_twisted.ensureDeferred
async def test_a_file_that_is_no_socket_is_left_alone(server, tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(CannotListenError):
        await server.endpoint(path=str(path)).listen(Factory())
    assert path.read_text() == "precious"


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_that_a_killed_server_left_is_replaced(native, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    await native.listen(Echo, path=path)
    client, _ = await native.connect()
    client.sendall(b"new")
    assert await in_thread(read_exactly, client, 3) == b"new"


# Programs that fail


class Failing(Recorder):
    error = KeyError("surprise")

    def dataReceived(self, data):
        raise self.error


@pytest.mark.parametrize(
    "error", [KeyError("surprise"), FileNotFoundError("a"), ConnectionResetError("of mine")]
)
@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_is_logged_once_and_loses_its_connection(
    server, tls, error, logged, caplog
):
    await server.listen(Failing, tls=tls)
    client, connection = await server.connect()
    connection.error = error
    client.sendall(b"x")
    reason = await connection.gone()
    if tls and not server.is_native:
        assert type(reason) is ConnectionLost
    else:
        assert reason is error
    await turns(3)
    assert connection.reasons == [reason]
    assert logged == [error]
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


class FailingAtTheEnd(Recorder):
    def connectionLost(self, reason):
        super().connectionLost(reason)
        raise KeyError("at the end")


@with_and_without_tls
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_at_its_end_is_logged_once(native, tls, logged, caplog):
    await native.listen(FailingAtTheEnd, tls=tls)
    client, connection = await native.connect()
    client.close()
    await connection.gone()
    await turns(3)
    assert [str(error) for error in logged] == ["'at the end'"]
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


class FailingAtFirst(Recorder):
    def connectionMade(self):
        super().connectionMade()
        raise KeyError("at first")


class FailingFactory(Factory):
    def buildProtocol(self, addr):
        raise KeyError("at first")


class RefusingFactory(Factory):
    def buildProtocol(self, addr):
        return None


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_at_its_beginning_loses_its_connection(native, logged):
    await native.listen(FailingAtFirst)
    client, connection = await native.connect()
    assert str(await connection.gone()) == "'at first'"
    assert await in_thread(read_all, client) == b""
    assert [str(error) for error in logged] == ["'at first'"]


@pytest_twisted.ensureDeferred
async def test_a_factory_that_raises_is_logged_and_the_client_is_closed(native, logged):
    await native.listen(factory=FailingFactory())
    assert await in_thread(read_all, native.dial()) == b""
    assert [str(error) for error in logged] == ["'at first'"]


@pytest_twisted.ensureDeferred
async def test_a_client_that_the_factory_refuses_is_closed(server, logged):
    await server.listen(factory=RefusingFactory())
    assert await in_thread(read_all, server.dial()) == b""
    assert logged == []


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_what_fails_on_the_loop_besides_goes_where_it_went_before(native, logged):
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    seen = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context["message"]))
    try:
        await native.listen()
        loop.call_exception_handler({"message": "not ours"})
        assert (seen, logged) == (["not ours"], [])
    finally:
        loop.set_exception_handler(before)


# Endpoint strings


@pytest_twisted.ensureDeferred
async def test_a_lock_file_keeps_a_second_server_away(tmp_path):
    reactor, path = install_reactor(), str(tmp_path / "s")
    first = await unix_endpoint(reactor, path, lockfile=True).listen(Factory.forProtocol(Protocol))
    with pytest.raises(CannotListenError):
        await unix_endpoint(reactor, path, lockfile=True).listen(Factory.forProtocol(Protocol))
    await maybeDeferred(first.stopListening)
    assert list(tmp_path.iterdir()) == []
    again = await unix_endpoint(reactor, path, lockfile=True).listen(Factory.forProtocol(Protocol))
    await maybeDeferred(again.stopListening)
