"""Services in this process: start, hooks, stop, TLS."""

import gc

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.ssl import CertificateOptions
from zope.interface.verify import verifyObject

from aiorest_ws.app import Application
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerProtocol
from aiorest_ws.transports import install_reactor
from support.hello import HELLO, HELLO_REPLY, hello_router

# Services


def service_on_any_port(app, **options):
    return app.service(listen="tcp:0:interface=127.0.0.1", **options)


@pytest_twisted.ensureDeferred
async def test_a_service_starts_answers_and_stops(network):
    events = []
    app = Application(router=hello_router())

    @app.on_startup
    async def start(factory):
        step = Deferred()
        factory.reactor.callLater(0, step.callback, None)
        await step
        events.append("startup")

    @app.on_connect
    def connect(connection):
        events.append("connect")

    @app.on_disconnect
    def disconnect(connection):
        events.append("disconnect")

    @app.on_shutdown
    async def stop(factory):
        events.append("shutdown")

    service = service_on_any_port(app)
    service.startService()
    port = await service.listening
    assert events == ["startup"]
    client = await network.connect(port.getHost().port)
    assert await client.ask(HELLO) == HELLO_REPLY
    await service.stopService()
    assert events == ["startup", "connect", "disconnect", "shutdown"]
    assert (await client.closed)[1] == 1012


@pytest_twisted.ensureDeferred
async def test_a_service_listens_at_once_when_it_may_not_later(network):
    service = service_on_any_port(Application(router=hello_router()))
    service.privilegedStartService()
    assert service.port is not None
    service.startService()
    client = await network.connect(service.port.getHost().port)
    assert await client.ask(HELLO) == HELLO_REPLY
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_service_on_a_unix_socket(network, tmp_path):
    path = tmp_path / "server.sock"
    service = Application(router=hello_router()).service(listen=f"unix:{path}")
    service.startService()
    await service.listening
    client = await network.connect(UNIXClientEndpoint(network.reactor, str(path)))
    assert await client.ask(HELLO) == HELLO_REPLY
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_service_that_was_never_started_stops(network):
    app = Application(router=hello_router())
    stopped = []
    app.on_shutdown(stopped.append)
    service = service_on_any_port(app)
    service.startService()
    await service.stopService()
    assert stopped == [service.factory]
    assert service.port is None


@pytest_twisted.ensureDeferred
async def test_disconnect_hooks_end_before_the_shutdown_hooks_begin(network):
    events = []
    app = Application(router=hello_router())

    @app.on_disconnect
    async def part(connection):
        step = Deferred()
        connection.factory.reactor.callLater(0.01, step.callback, None)
        await step
        events.append("parted")

    app.on_shutdown(lambda factory: events.append("shutdown"))
    service = service_on_any_port(app)
    service.startService()
    port = await service.listening
    client = await network.connect(port.getHost().port)
    assert await client.ask(HELLO) == HELLO_REPLY
    await service.stopService()
    assert events == ["parted", "shutdown"]


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_ends_after_the_service_is_closed_with_1012(network, monkeypatch):
    greeted = []
    app = Application(router=hello_router())
    app.on_connect(greeted.append)
    service = service_on_any_port(app)
    service.startService()
    port = await service.listening

    def stop(connection, request):
        connection.factory.is_stopping = True

    monkeypatch.setattr(RequestHandlerProtocol, "onConnect", stop)
    client = await network.connect(port.getHost().port)
    assert (await client.closed)[1] == 1012
    assert greeted == []
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_stopping_ends_a_startup_hook_that_still_runs(network):
    begun, cancelled = Deferred(), Deferred()
    app = Application(router=hello_router())

    @app.on_startup
    def wait(factory):
        factory.reactor.callLater(0, begun.callback, None)
        return Deferred(lambda _: cancelled.callback(None))

    service = service_on_any_port(app)
    service.startService()
    await begun
    await service.stopService()
    await cancelled
    assert service.port is None
    gc.collect()  # a failure that nobody handled would be logged here


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_shutdown_hook_that_fails_does_not_stop_the_next(network, caplog):
    app = Application(router=hello_router())
    stopped = []

    @app.on_shutdown
    def fail(factory):
        raise KeyError("surprise")

    app.on_shutdown(stopped.append)
    service = service_on_any_port(app)
    service.startService()
    await service.listening
    await service.stopService()
    assert stopped == [service.factory]
    assert "surprise" in caplog.text


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_startup_hook_that_fails_stops_the_reactor(network, caplog, monkeypatch):
    app = Application(router=hello_router())
    stopped = Deferred()

    @app.on_startup
    def fail(factory):
        raise KeyError("no database")

    service = service_on_any_port(app)
    monkeypatch.setattr(service.factory, "reactor", StoppableReactor(stopped), raising=False)
    service.startService()
    await stopped
    assert isinstance(service.failure, KeyError)
    assert service.port is None
    assert "no database" in caplog.text


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_busy_port_stops_the_reactor_with_a_clear_error(network, caplog):
    port = await network.serve(hello_router())
    stopped = Deferred()
    service = Application(router=hello_router()).service(listen=f"tcp:{port}:interface=127.0.0.1")
    service.factory.reactor = StoppableReactor(stopped)
    service.startService()
    await stopped
    assert isinstance(service.failure, CannotListenError)
    assert str(port) in caplog.text


class StoppableReactor:
    """The real reactor, but for `stop`, which would end the test run."""

    def __init__(self, stopped):
        self._stopped = stopped

    def __getattr__(self, name):
        return getattr(install_reactor(), name)

    def stop(self):
        self._stopped.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_answer_the_close_is_dropped(network):
    class Deaf(network.client_class):
        def onCloseFrame(self, code, reasonRaw):
            pass

    app = Application(router=hello_router(), limits=Limits(closing_seconds=0.05))
    service = service_on_any_port(app)
    service.factory.setProtocolOptions(closeHandshakeTimeout=60)
    service.startService()
    port = await service.listening
    client = await network.connect(port.getHost().port, Deaf)
    await client.ask(HELLO)
    await service.stopService()
    assert (await client.closed)[0] is False


# TLS


@pytest_twisted.ensureDeferred
async def test_tls_serves_wss_with_the_whole_chain(network, tls_files):
    certificate, key = tls_files
    app = Application(certificate=certificate, key=key, router=hello_router())
    service = service_on_any_port(app)
    service.startService()
    port = (await service.listening).getHost().port
    client = await network.connect(port, tls=CertificateOptions())
    assert await client.ask(HELLO) == HELLO_REPLY
    chain = client.transport.getHandle().get_peer_cert_chain(as_cryptography=True)
    names = [certificate.subject.rfc4514_string() for certificate in chain]
    assert names == ["CN=localhost", "CN=test authority"]
    await service.stopService()


# The line is that of the client, in the same process.
@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_tls_before_1_2_is_refused(network, tls_files):
    certificate, key = tls_files
    app = Application(certificate=certificate, key=key, router=hello_router())
    service = service_on_any_port(app)
    service.startService()
    port = (await service.listening).getHost().port

    class OldTLS(CertificateOptions):
        def getContext(self):
            context = super().getContext()
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(SSL.TLS1_VERSION)
            context.set_max_proto_version(SSL.TLS1_1_VERSION)
            return context

    with pytest.raises(ConnectionError):
        await network.connect(port, tls=OldTLS())
    await service.stopService()


# load_application


def test_a_service_is_a_twisted_service():
    assert verifyObject(IService, service_on_any_port(Application(router=hello_router())))
