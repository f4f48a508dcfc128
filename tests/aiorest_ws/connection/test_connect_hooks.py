"""Hooks of a connection, and its end."""

import json

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.defer import Deferred

from aiorest_ws.request import CloseReason, RequestHandlerFactory
from support.hello import HELLO
from support.views import ForeignRouter, router_of, view

# The end of a connection


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_has_no_close_code_of_the_peer(network):
    factory = RequestHandlerFactory(router=router_of())
    client = await network.connect(await network.serve(factory=factory))
    await client.ask(HELLO)
    [connection] = factory.connections
    assert connection.close_reason is None
    client.transport.abortConnection()
    await factory.last_closed()
    assert connection.close_reason.was_clean is False
    assert connection.close_reason.code == WebSocketServerProtocol.CLOSE_STATUS_CODE_ABNORMAL_CLOSE
    assert not factory.connections


@pytest_twisted.ensureDeferred
async def test_invalid_utf8_closes_with_1007(network):
    client = await network.connect(await network.serve(router_of()))
    client.sendMessage(b"\xff\xfe", False)
    assert (await client.closed)[1] == 1007


@pytest_twisted.ensureDeferred
async def test_a_call_ends_with_its_connection(network):
    cancelled = Deferred()
    waiting = Deferred(lambda _: cancelled.callback(None))
    factory = RequestHandlerFactory(router=router_of(slow=view(lambda request: waiting)))
    client = await network.connect(await network.serve(factory=factory))
    client.send({"method": "GET", "url": "/slow"})
    await client.ask(HELLO)
    client.sendClose()
    await cancelled


@pytest_twisted.ensureDeferred
async def test_a_reply_to_a_connection_that_is_gone_is_dropped(network):
    """A Deferred that will not be cancelled fires when nobody is there any more."""
    waiting = Deferred(lambda deferred: None)
    factory = RequestHandlerFactory(router=ForeignRouter(lambda: waiting))
    client = await network.connect(await network.serve(factory=factory))
    client.send(HELLO)
    client.sendClose()
    await factory.last_closed()
    if not waiting.called:
        waiting.callback(b"too late")


# Hooks


@pytest_twisted.ensureDeferred
async def test_messages_wait_for_the_connect_hooks(network):
    ready = Deferred()

    async def greet(connection):
        await ready
        connection.state.name = "Ada"

    factory = RequestHandlerFactory(
        router=router_of(name=view(lambda request: request.connection.state.name))
    )
    factory.connect_hooks.append(greet)
    client = await network.connect(await network.serve(factory=factory))
    for number in range(3):
        client.send({"method": "GET", "url": "/name", "id": number})
    # A second client is a turn of the loop, and more, in which the first could be answered.
    other = await network.connect(network.ports[0].getHost().port)
    assert not client.replies.pending
    ready.callback(None)
    replies = [json.loads(await client.receive()) for _ in range(3)]
    assert [(reply["id"], reply["data"]) for reply in replies] == [(n, "Ada") for n in range(3)]
    assert json.loads(await other.ask({"method": "GET", "url": "/name"}))["data"] == "Ada"


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_connect_hook_that_fails_closes_with_1011(network, caplog):
    def refuse(connection):
        raise KeyError("no database")

    left = []
    factory = RequestHandlerFactory(router=router_of())
    factory.connect_hooks.append(refuse)
    factory.disconnect_hooks.append(left.append)
    client = await network.connect(await network.serve(factory=factory))
    assert (await client.closed)[1] == 1011
    assert "no database" in caplog.text
    assert left == []


@pytest_twisted.ensureDeferred
async def test_a_connect_hook_may_close_after_a_while(network):
    async def refuse(connection):
        step = Deferred()
        connection.factory.reactor.callLater(0, step.callback, None)
        await step
        connection.sendClose(3000)

    factory = RequestHandlerFactory(router=router_of())
    factory.connect_hooks.append(refuse)
    client = await network.connect(await network.serve(factory=factory))
    assert await client.closed == (True, 3000, None)


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_early_ends_its_connect_hook(network):
    cancelled = Deferred()
    factory = RequestHandlerFactory(router=router_of())
    factory.connect_hooks.append(lambda connection: Deferred(lambda _: cancelled.callback(None)))
    client = await network.connect(await network.serve(factory=factory))
    client.transport.abortConnection()
    [connection] = factory.connections
    # Reading was paused while the hook ran, so the server looks again when it writes.
    connection.transport.abortConnection()
    await cancelled


@pytest_twisted.ensureDeferred
async def test_disconnect_hooks_know_why(network):
    reasons = Deferred()

    async def part(connection):
        reasons.callback(connection.close_reason)

    factory = RequestHandlerFactory(router=router_of())
    factory.disconnect_hooks.append(part)
    client = await network.connect(await network.serve(factory=factory))
    client.sendClose(1000, "enough")
    assert await reasons == CloseReason(True, 1000, "enough")


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_disconnect_hook_that_fails_does_not_stop_the_next(network, caplog):
    called = Deferred()

    def fail(connection):
        raise KeyError("surprise")

    factory = RequestHandlerFactory(router=router_of())
    factory.disconnect_hooks += [fail, lambda connection: called.callback(None)]
    client = await network.connect(await network.serve(factory=factory))
    client.sendClose()
    await called
    assert "surprise" in caplog.text


@pytest_twisted.ensureDeferred
async def test_a_disconnect_hook_may_take_its_time(network):
    step, done = Deferred(), Deferred()

    async def part(connection):
        await step
        done.callback(None)

    factory = RequestHandlerFactory(router=router_of())
    factory.disconnect_hooks.append(part)
    client = await network.connect(await network.serve(factory=factory))
    client.sendClose()
    await factory.last_closed()
    step.callback(None)
    await done
