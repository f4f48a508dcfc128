"""However a hook ends: it is logged, what follows still happens, and the client is answered."""

import asyncio
import logging
from contextlib import suppress

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from aiorest_ws.app import Application
from aiorest_ws.awaiting import maybe_await
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from support.hello import HELLO, HELLO_REPLY, hello_router
from support.waiting import until

pytestmark = [pytest.mark.asyncio_reactor, pytest.mark.logs_errors]


async def awaits_a_cancelled_task(connection):
    job = asyncio.ensure_future(asyncio.sleep(60))
    job.cancel()
    await job


async def awaits_a_cancelled_future(connection):
    await asyncio.sleep(0)
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


def returns_a_cancelled_deferred(connection):
    waiting = Deferred()
    waiting.cancel()
    return waiting


def raises_cancelled(connection):
    raise asyncio.CancelledError


async def cancels_itself(connection):
    asyncio.current_task().cancel()


async def cancels_itself_later(connection):
    await asyncio.sleep(0)
    asyncio.current_task().cancel()


def exits(connection):
    raise SystemExit(3)


async def exits_later(connection):
    await asyncio.sleep(0)
    raise SystemExit(3)


def interrupts(connection):
    raise KeyboardInterrupt


def closes_a_generator(connection):
    raise GeneratorExit


async def fails_in_a_group(connection):
    raise BaseExceptionGroup("a", [asyncio.CancelledError(), ValueError()])


ENDS = [
    awaits_a_cancelled_task,
    awaits_a_cancelled_future,
    returns_a_cancelled_deferred,
    raises_cancelled,
    cancels_itself,
    cancels_itself_later,
    exits,
    exits_later,
    interrupts,
    closes_a_generator,
    fails_in_a_group,
]


def errors(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("end", ENDS)
@pytest_twisted.ensureDeferred
async def test_a_connect_hook_closes_with_1011(network, caplog, end):
    factory = RequestHandlerFactory(router=hello_router())
    called = []
    factory.connect_hooks += [end, called.append]
    client = await network.connect(await network.serve(factory=factory))
    assert (await client.closed)[1] == 1011
    await factory.last_closed()
    [error] = errors(caplog)
    assert "on_connect" in error.getMessage()
    assert error.exc_info
    assert not called


@pytest.mark.parametrize("end", ENDS)
@pytest_twisted.ensureDeferred
async def test_a_disconnect_hook_is_forgotten_and_the_next_runs(network, caplog, end):
    factory = RequestHandlerFactory(router=hello_router())
    called = []
    factory.disconnect_hooks += [end, called.append]
    port = await network.serve(factory=factory)
    client = await network.connect(port)
    client.sendClose()
    await client.closed
    await until(lambda: errors(caplog) and called)
    await factory.last_closed()
    await factory.hooks_done()
    [error] = errors(caplog)
    assert "on_disconnect" in error.getMessage()
    other = await network.connect(port)
    assert await other.ask(HELLO) == HELLO_REPLY
    other.sendClose()
    await factory.last_closed()
    await until(lambda: len(called) == 2)
    await factory.hooks_done()


@pytest.mark.parametrize(
    "end", [raises_cancelled, exits, interrupts, returns_a_cancelled_deferred]
)
@pytest_twisted.ensureDeferred
async def test_on_connect_of_a_protocol_refuses(network, caplog, end):
    class Broken(RequestHandlerProtocol):
        def onConnect(self, request):
            return end(self)

    factory = RequestHandlerFactory(router=hello_router())
    factory.protocol = Broken
    with pytest.raises(ConnectionError):
        await network.connect(await network.serve(factory=factory))
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("end", [raises_cancelled, exits, interrupts])
@pytest.mark.parametrize("name", ["onOpen", "onClose"])
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_is_forgotten(network, caplog, name, end):
    factory = RequestHandlerFactory(router=hello_router())
    factory.protocol = type(
        "Broken", (RequestHandlerProtocol,), {name: lambda self, *arguments: end(self)}
    )
    called = []
    factory.disconnect_hooks.append(called.append)
    client = await network.connect(await network.serve(factory=factory))
    client.sendClose()
    await client.closed
    await factory.last_closed()
    assert not factory.connections
    assert len(errors(caplog)) == 1


# Hooks of the service

EXITS = [exits, exits_later, interrupts, closes_a_generator]


def service_of(app):
    return app.service(listen="tcp:0:interface=127.0.0.1")


@pytest.mark.parametrize("end", ENDS)
@pytest_twisted.ensureDeferred
async def test_a_shutdown_hook_is_logged_and_the_next_runs(caplog, end):
    app = Application(router=hello_router())
    called = []
    app.on_shutdown(end)
    app.on_shutdown(called.append)
    service = service_of(app)
    service.startService()
    await service.listening
    await service.stopService()
    [error] = errors(caplog)
    assert "on_shutdown" in error.getMessage()
    assert error.exc_info
    assert called == [service.factory]


@pytest.mark.parametrize("end", ENDS)
@pytest_twisted.ensureDeferred
async def test_a_startup_hook_ends_the_start(monkeypatch, end):
    app = Application(router=hello_router())
    called, stopped = [], []
    app.on_startup(end)
    app.on_startup(called.append)
    service = service_of(app)
    monkeypatch.setattr(service.factory.reactor, "stop", lambda: stopped.append(True))
    service.startService()
    await until(lambda: stopped)
    assert service.failure is not None
    assert service.port is None
    await service.stopService()
    assert not called


def returns(argument):
    """End in the usual way."""


@pytest.mark.parametrize("end", [*ENDS, returns])
@pytest_twisted.ensureDeferred
async def test_a_startup_hook_that_a_stop_ends_is_no_failure(monkeypatch, caplog, end):
    """However it ends when it is cancelled: the server stops, and does not listen."""
    app = Application(router=hello_router())
    called, stopped, begun, ended = [], [], [], []

    @app.on_startup
    async def waits(factory):
        begun.append(True)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await maybe_await(end(factory))
        ended.append(True)

    app.on_startup(called.append)
    app.on_shutdown(stopped.append)
    service = service_of(app)
    service.startService()
    await until(lambda: begun)
    await service.stopService()
    assert stopped == [service.factory]
    assert bool(ended) == (end in (returns, cancels_itself, cancels_itself_later))
    assert len(errors(caplog)) == (end in (*EXITS, fails_in_a_group))
    assert service.failure is None
    assert service.port is None
    assert not called
