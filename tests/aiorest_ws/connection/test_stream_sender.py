"""Streams on a connection: their pace, their limits, and how they end."""

import gc
import json
import logging

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred

from aiorest_ws.connection.stream_sender import ITEMS_PER_TURN
from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.serving.drain import drain
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request
from support.streams import (
    KINDS,
    LATER,
    Endless,
    Iterator,
    Stubborn,
    Waiting,
    ask,
    fresh,
    has_ended,
    is_idle,
    last,
    router_of,
    served,
    sleep,
    whole,
)
from support.waiting import until


@pytest.fixture(params=KINDS)
def view(request):
    """A view class of one kind."""
    kind = fresh(request.param, go_on=Deferred())
    yield kind
    if not kind.go_on.called:
        kind.go_on.callback(None)


async def stuck(view, connection):
    """Wait until the client's buffers are full; return how many items have been asked for."""
    for _ in range(500):
        given = len(view.given)
        for _ in range(50):
            await sleep(0)
        if connection.is_write_paused and len(view.given) == given:
            return given
    raise AssertionError(f"{given} items, and it goes on")


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_gets_no_more_items_and_who_reads_again_gets_all(network):
    stop = []

    class View(Endless):
        item = "x" * 16384

        async def items(self, request):
            while not stop:
                yield f"{len(self.given)} {self.item}"

    view = fresh(View)
    client, connection = await served(network, view)
    client.transport.pauseProducing()
    ask(client)
    given = await stuck(view, connection)
    assert [repr(one) for one in connection.running] == ["<Request 'GET' '/view'>"]
    client.transport.resumeProducing()
    await until(lambda: len(view.given) > given)
    stop.append(True)
    for number in range(given):
        assert json.loads(await client.receive())["data"].startswith(f"{number} ")
    assert (await last(client))["stream"] == "end"
    await until(lambda: is_idle(connection))
    assert view.ended == ["done"]


@pytest_twisted.ensureDeferred
async def test_a_generator_that_never_waits_leaves_turns_to_others(network):
    view = fresh(Endless)
    client, connection = await served(network, view)
    others = await network.connect(network.ports[0].getHost().port)
    ask(client)
    for _ in range(20):
        assert json.loads(await others.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    assert client.send({"method": "CANCEL", "id": 1}) is None
    assert (await last(client))["status"] == 499
    await until(lambda: is_idle(connection))


@pytest_twisted.ensureDeferred
async def test_the_items_of_a_turn_are_bounded_and_leave_in_one_write(network, monkeypatch):
    view = fresh(Endless)
    client, connection = await served(network, view)
    writes = []
    write = connection._transport.write

    def noted(data):
        writes.append(data.count(b'"next"'))
        write(data)

    monkeypatch.setattr(connection._transport, "write", noted)
    # A turn is over after 64 items, on a machine that makes them in time.
    monkeypatch.setattr("aiorest_ws.connection.stream_sender.SECONDS_PER_TURN", LATER)
    ask(client)
    await until(lambda: len(writes) >= 3)
    client.send({"method": "CANCEL", "id": 1})
    await last(client)
    assert writes[:3] == [ITEMS_PER_TURN] * 3


@pytest.mark.parametrize("binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_cancelled_stream_ends_with_499_and_is_closed(network, view, binary):
    client, connection = await served(network, view)
    client.send({"method": "GET", "url": "/view", "id": 1}, binary)
    await client.receive()
    client.send({"method": "CANCEL", "id": 1}, binary)
    reply = await last(client)
    assert (reply["status"], reply["id"]) == (499, 1)
    assert "id" not in json.loads(await client.ask({"method": "GET", "url": "/hello"}))
    if issubclass(view, Stubborn):
        await until(lambda: "cancelled" in view.ended)
        assert connection.calls_in_flight == 1
        assert connection.running == []
        view.go_on.callback(None)
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended.count("cancelled") <= 1


@pytest.mark.slow
@pytest.mark.parametrize("by", ["request", "limit", "view"])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_takes_too_long_ends_with_408_and_is_closed(network, view, by):
    limits = Limits(call_seconds=0.1) if by == "limit" else Limits()
    if by == "view":
        view.call_seconds = 0.1
    client, connection = await served(network, view, limits)
    ask(client, **({"timeout": 0.1} if by == "request" else {}))
    assert (await last(client))["status"] == 408
    view.go_on.callback(None)
    await until(lambda: is_idle(connection) and has_ended(view))


@pytest.mark.parametrize("how", ["close frame", "abort"])
@pytest_twisted.ensureDeferred
async def test_the_end_of_a_connection_closes_its_streams(network, view, how):
    client, connection = await served(network, view)
    ask(client)
    await client.receive()
    if how == "abort":
        client.transport.abortConnection()
    else:
        client.sendClose()
    await client.closed
    # Else it may be cancelled while it ends by itself.
    await until(lambda: connection.state == connection.STATE_CLOSED)
    view.go_on.callback(None)
    await until(lambda: has_ended(view))
    assert is_idle(connection)


@pytest_twisted.ensureDeferred
async def test_the_id_of_a_stream_is_in_use_until_its_last_reply(network):
    view = fresh(Waiting)
    client, connection = await served(network, view)
    ask(client, 7)
    assert json.loads(await client.receive())["data"] == "first"
    ask(client, 7)
    refused = json.loads(await client.receive())
    assert (refused["status"], refused["id"]) == (400, 7)
    client.send({"method": "CANCEL", "id": 7})
    assert (await last(client))["status"] == 499
    ask(client, 7)
    assert json.loads(await client.receive())["data"] == "first"
    client.send({"method": "CANCEL", "id": 7})
    assert (await last(client))["status"] == 499
    await until(lambda: is_idle(connection))


@pytest_twisted.ensureDeferred
async def test_streams_have_a_limit_of_their_own(network, caplog):
    view = fresh(Waiting)
    begun = []

    class Others(MethodBasedView):
        def get(self, request):
            begun.append(Iterator("a"))
            return begun[-1]

    gate = Deferred()

    class Gate(MethodBasedView):
        async def get(self, request):
            return await gate

    limits = Limits(streams=2, calls_in_flight=2)
    client, connection = await served(network, view, limits)
    connection.factory.router.register("/others", Others, "GET")
    connection.factory.router.register("/gate", Gate, "GET")
    for number in range(2):
        ask(client, number)
        assert json.loads(await client.receive())["data"] == "first"
    reply = json.loads(await client.ask({"method": "GET", "url": "/others", "id": 3}))
    assert (reply["status"], reply["id"]) == (429, 3)
    assert ([one.closed for one in begun], begun[0].items) == ([1], ["a"])
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    # Nor do they take the places of calls: with one that runs, there is one left.
    client.send({"method": "GET", "url": "/gate", "id": 9})
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    gate.callback("open")
    assert json.loads(await client.receive())["data"] == "open"
    client.send({"method": "CANCEL", "id": 0})
    assert (await last(client))["status"] == 499
    await until(lambda: connection.calls_in_flight == 1)
    client.send({"method": "GET", "url": "/others", "id": 3})
    assert [one.get("data") for one in await whole(client, 3)] == ["a", None]
    await until(lambda: connection.calls_in_flight == 1)
    assert [one.closed for one in begun] == [1, 1]


@pytest.mark.parametrize("end", ["cancel", "abort", "drain"])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_waits_for_its_client_can_be_ended(network, end):
    view = fresh(Endless, item="x" * 16384)
    client, connection = await served(network, view)
    client.transport.pauseProducing()
    ask(client)
    await stuck(view, connection)
    if end == "cancel":
        connection.cancel_call(Request(id=1))
    elif end == "drain":
        assert connection.cut_calls() == 1
    else:
        client.transport.abortConnection()
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended == ["closed", "done"]
    client.transport.resumeProducing()
    if end != "abort":
        assert (await last(client))["status"] == (499 if end == "cancel" else 503)


@pytest_twisted.ensureDeferred
async def test_a_drain_lets_a_stream_go_on_and_takes_no_other(network):
    view = fresh(Stubborn, go_on=Deferred())
    client, connection = await served(network, view)
    ask(client)
    assert json.loads(await client.receive())["data"] == "first"
    connection.drain()
    ask(client, 2)
    assert json.loads(await client.receive())["status"] == 503
    assert len(connection.running) == connection.unanswered == 1
    view.go_on.callback(None)
    assert [one.get("data") for one in await whole(client, 1)] == ["late", None]
    await until(lambda: is_idle(connection))


@pytest_twisted.ensureDeferred
async def test_an_item_over_the_limit_ends_the_stream_with_413(network):
    view = fresh(Endless, item="x" * 2000)
    client, connection = await served(network, view, Limits(message_bytes=1500))
    ask(client)
    assert [one["status"] for one in await whole(client, 1)] == [413]
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended == ["closed", "done"]


@pytest.mark.logs_errors
@pytest.mark.parametrize("waits", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_generator_that_yields_in_finally_costs_nobody_else_anything(
    network, caplog, waits
):
    class View(MethodBasedView):
        async def get(self, request):
            try:
                while True:
                    yield "first"
                    if waits:
                        await sleep(LATER)
            finally:
                yield "one more"

    client, connection = await served(network, View)
    ask(client)
    await client.receive()
    client.send({"method": "CANCEL", "id": 1})
    assert (await last(client))["status"] == 499
    await until(lambda: is_idle(connection))
    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"] == "hello"
    gc.collect()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    # One that is cancelled is told by that, and its item is in nobody's way.
    assert ["could not be closed" in one.getMessage() for one in errors] == [True] * (not waits)


@pytest.mark.parametrize("how", ["abort", "cancel"])
@pytest_twisted.ensureDeferred
async def test_a_view_may_end_its_own_connection_or_its_own_stream(network, how):
    class Ending(Endless):
        async def items(self, request):
            yield "first"
            if how == "abort":
                await sleep(0.01)
                request.connection.transport.abortConnection()
            else:
                request.connection.cancel_call(request)
            await sleep(LATER)
            yield "second"

    view = fresh(Ending)
    client, connection = await served(network, view)
    ask(client)
    if how == "abort":
        await client.closed
    else:
        assert [one.get("data") for one in await whole(client, 1)] == ["first", None]
    await until(lambda: is_idle(connection) and has_ended(view))
    assert view.ended == ["cancelled", "done"]


@pytest_twisted.ensureDeferred
async def test_all_streams_of_a_connection_have_one_turn_together(network):
    made = []

    @endpoint("/endless", "GET")
    async def endless(request):
        while True:
            made.append(request.id)
            yield 1

    client = await network.connect(await network.serve(router_of(endless)))
    for number in range(10):
        client.send({"method": "GET", "url": "/endless", "id": number})
    await until(lambda: set(made) == set(range(10)))
    most = 0
    for _ in range(50):
        made.clear()
        await sleep(0)
        most = max(most, len(made))
    # A turn of this test may be before or behind one of the server's.
    assert 0 < most <= 2 * ITEMS_PER_TURN
    client.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_a_stream_without_an_end_does_not_hold_up_a_stop(network):
    @endpoint("/endless", "GET")
    async def endless(request):
        while True:
            yield 1
            await sleep(0.01)

    factory = RequestHandlerFactory(
        router=router_of(endless), limits=Limits(closing_seconds=0.3, drain_seconds=LATER)
    )
    client = await network.connect(await network.serve(factory=factory))
    client.send({"method": "GET", "url": "/endless", "id": 1})
    assert json.loads(await client.receive())["stream"] == "next"
    stopping = ensureDeferred(drain(factory))
    while "stream" in (told := json.loads(await client.receive())):
        assert not stopping.called
    assert (told["id"], told["status"]) == (1, 503)
    assert (await client.closed)[1] == 1012
    assert await stopping == 0
