"""A drain in this process: what is answered, and how connections are closed."""

import json
import signal
import threading

import pytest
import pytest_twisted
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.serving import drain
from aiorest_ws.transports import install_reactor
from support.drain import REFUSED, call, hello
from support.waiting import until


def service_of(views, **limits):
    router = SimpleRouter()
    for view in views:
        router.register_endpoint(view)
    app = Application(router=router, limits=Limits(**limits))
    return app.service(listen="tcp:0:interface=127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_running_calls_are_answered_and_new_ones_refused(network):
    go_on, begun = Deferred(), []

    @endpoint("/wait", "GET")
    async def wait(request):
        begun.append(request.id)
        await deferLater(install_reactor(), 0)
        await go_on
        return "done"

    service = service_of([hello, wait], calls_in_flight=1)
    service.startService()
    port = (await service.listening).getHost().port
    busy, idle = await network.connect(port), await network.connect(port)
    for message in (call("/wait", "running"), call("/hello", "held")):
        busy.send(message.encode())
    await until(lambda: begun)
    stopped = service.stopService()
    assert (await idle.closed)[1] == 1012
    late = json.dumps({"method": "GET", "url": "/hello", "id": "late"})
    busy.send(late.encode())
    await until(lambda: next(iter(service.factory.connections)).unanswered == 3)
    go_on.callback(None)
    answers = {}
    for _ in range(3):
        answer = json.loads(await busy.receive())
        answers[answer["id"]] = answer.get("data") or answer["status"]
    assert answers == {"running": "done", "held": 503, "late": 503}
    assert (await busy.closed)[1] == 1012
    await stopped
    assert service.cut_off == 0
    with pytest.raises(error.ConnectionRefusedError):
        await network.connect(port)


@pytest_twisted.ensureDeferred
async def test_a_service_that_stops_leaves_its_program_alive(network):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    service = service_of([hello], drain_seconds=0, closing_seconds=0.05)
    service.startService()
    await service.listening
    assert signal.getsignal(signal.SIGTERM) != handlers[1]
    await service.stopService()
    await until(lambda: "aiorest-ws end" not in {one.name for one in threading.enumerate()})
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    await deferLater(network.reactor, 0.2)  # the bound is over, and this test goes on


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_connections_are_closed_in_batches(network, monkeypatch):
    monkeypatch.setattr(drain, "BATCH_SIZE", 2)
    monkeypatch.setattr(drain, "BATCH_PAUSE_SECONDS", 0.2)
    service = service_of([hello])
    service.startService()
    port = (await service.listening).getHost().port
    clients = [await network.connect(port) for _ in range(5)]
    stopped = service.stopService()
    closed = []
    for client in clients:
        client.closed.addCallback(lambda how: closed.append(network.reactor.seconds()) or how)
    await stopped
    await until(lambda: len(closed) == 5)
    times = sorted(closed)
    assert times[2] - times[1] > 0.1
    assert times[4] - times[3] > 0.1


@pytest.mark.parametrize("by", ["client", "server"])
@pytest_twisted.ensureDeferred
async def test_a_call_after_the_close_frame_does_not_run(network, by):
    ran = []

    @endpoint("/run", "GET")
    def run(request):
        ran.append(request.id)

    service = service_of([run])
    service.startService()
    port = (await service.listening).getHost().port
    client = await network.connect(port)
    await client.ask(call("/run", "before").encode())
    [connection] = service.factory.connections
    if by == "server":
        connection.sendCloseFrame(1012, None, isReply=False)
    else:
        client.sendCloseFrame(1000)
    client.sendFrame(1, call("/run", "after").encode())
    await client.closed
    assert ran == ["before"]
    await service.stopService()


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_an_on_message_that_raises_does_not_end_the_drain_of_the_others(network):
    class Broken(RequestHandlerProtocol):
        def onMessage(self, payload, isBinary):
            if payload == b"bad":
                raise ValueError("mine")
            super().onMessage(payload, isBinary)

    @endpoint("/never", "GET")
    def never(request):
        return Deferred()

    service = service_of([hello, never], calls_in_flight=1, drain_seconds=0.3, closing_seconds=0.5)
    service.factory.protocol = Broken
    service.startService()
    port = (await service.listening).getHost().port
    one, other = await network.connect(port), await network.connect(port)
    for client in (one, other):
        client.send(call("/never").encode())
    one.send(b"bad")
    await until(lambda: sum(c.unanswered for c in service.factory.connections) == 3)
    await service.stopService()
    assert json.loads(await other.receive()) == REFUSED
    assert (await other.closed)[1] == 1012
