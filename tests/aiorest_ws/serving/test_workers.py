"""What workers need, without processes: options, pauses, a shared socket."""

import os
import socket

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.serving import supervisor
from aiorest_ws.serving.banner import Banner
from aiorest_ws.serving.service import ApplicationService, ServerProcess
from aiorest_ws.serving.supervisor import Supervisor
from aiorest_ws.transports import install_reactor, tcp_endpoint
from aiorest_ws.transports.loop_port import LoopServerEndpoint
from aiorest_ws.transports.sockets import InheritedSocket
from support.workers import SECONDS

# The start


@endpoint("/hello", "GET")
def hello(request):
    return "hello"


def application(**options):
    router = SimpleRouter()
    router.register_endpoint(hello)
    return Application(router=router, **options)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two"])
def test_a_number_of_workers_that_cannot_be_is_refused(workers):
    with pytest.raises(ImproperlyConfigured, match="workers must be a positive integer"):
        application().service(workers=workers)


def test_an_endpoint_of_twisteds_cannot_have_workers():
    with pytest.raises(ImproperlyConfigured, match="Workers share a socket of the asyncio"):
        application().service(workers=2, listen="haproxy:tcp:0")


def test_topics_on_memory_cannot_have_workers():
    app = application()
    app.router.register_topic("orders/{id}")
    with pytest.raises(ImproperlyConfigured, match="not shared by workers: give topics='redis:"):
        app.service(workers=2)


@pytest.mark.asyncio_reactor
def test_an_application_with_workers_is_a_supervisors_service():
    service = application().service(workers=2, listen="tcp:0:interface=127.0.0.1")
    assert isinstance(service.server, Supervisor)


# A worker that dies


def test_the_pause_before_a_replacement_has_a_bound_and_begins_anew():
    slot = supervisor.Slot(1)
    pauses = [slot.next_pause(lived=0) for _ in range(10)]
    assert pauses[-3:] == [10, 10, 10]
    assert slot.next_pause(lived=10) == 0.1


# A socket that is shared, in this process


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("is_last", [False, True])
@pytest_twisted.ensureDeferred
async def test_who_stops_leaves_those_that_wait_to_the_others_unless_it_is_the_last(is_last):
    with socket.create_server(("127.0.0.1", 0)) as shared:
        shared.setblocking(False)
        given = InheritedSocket(os.dup(shared.fileno()), 5, lambda: is_last)
        endpoint = LoopServerEndpoint(install_reactor(), given)
        port = await endpoint.listen(Factory.forProtocol(Protocol))
        with socket.create_connection(shared.getsockname(), SECONDS):
            await port.stopListening()
            if is_last:
                with pytest.raises(BlockingIOError):
                    shared.accept()
            else:
                shared.accept()[0].close()


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest_twisted.ensureDeferred
async def test_who_has_been_accepted_is_let_in_by_a_worker_that_stops(network):
    factory = RequestHandlerFactory(router=application().router)
    banner = Banner(network.reactor, str)
    endpoint = tcp_endpoint(network.reactor, "127.0.0.1", 0)
    service = ApplicationService(ServerProcess(factory, endpoint, banner, is_replaced=True))
    service.startService()
    raw = await network.raw((await service.listening).getHost().port)
    while not factory.countConnections:
        await deferLater(network.reactor, 0.01)
    stopped = service.stopService()
    raw.transport.write(HANDSHAKE)
    assert b" 101 " in await raw.until(b"\x03\xf4")  # the code 1012
    raw.transport.loseConnection()
    await stopped
