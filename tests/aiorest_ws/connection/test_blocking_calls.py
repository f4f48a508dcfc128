"""Blocking calls of many clients share the threads of a server."""

import json
import threading

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor
from support.routers import Passing
from support.waiting import until


class Work:
    """Views that block a thread until they are released."""

    def __init__(self, *middlewares, threads=2, per_connection=None, **attributes):
        self.begun = []
        self.gates = {}
        router = SimpleRouter()
        router.middlewares.extend(middlewares)

        @endpoint("/work/{name}", "GET", blocking=True, **attributes)
        def work(request, name):
            self.begun.append(name)
            self.gates.setdefault(name, threading.Event()).wait(30)
            return name

        @endpoint("/now/{name}", "GET", blocking=True)
        def now(request, name):
            self.begun.append(name)
            return name

        for one in (work, now):
            router.register_endpoint(one)
        self.factory = RequestHandlerFactory(
            router=router,
            blocking_threads=threads,
            limits=Limits(blocking_per_connection=per_connection),
        )

    def release(self, *names):
        for name in names or list(self.gates):
            self.gates.setdefault(name, threading.Event()).set()


def send(client, name, path="work", **keys):
    client.send({"method": "GET", "url": f"/{path}/{name}", "id": name, **keys})


async def name_of(client):
    return json.loads(await client.receive()).get("data")


async def vanish(client):
    client.transport.abortConnection()


async def close(client):
    client.sendClose(1000)
    await client.closed


async def cancel(client):
    for number in range(1, 4):
        client.send({"method": "CANCEL", "id": f"a{number}"})


async def wait(client):
    """The calls have a `timeout`."""
    for _ in range(3):
        assert json.loads(await client.receive())["status"] == 408


@pytest.mark.parametrize("leave", [vanish, close, cancel, wait])
@pytest.mark.parametrize("middlewares", [(), (Passing(),)])
@pytest_twisted.ensureDeferred
async def test_calls_that_wait_for_a_thread_go_with_who_made_them(network, leave, middlewares):
    work = Work(*middlewares, threads=1)
    port = await network.serve(factory=work.factory)
    client, other = await network.connect(port), await network.connect(port)
    send(client, "a0")
    await until(lambda: work.begun == ["a0"])
    for number in range(1, 4):
        send(client, f"a{number}", **({"timeout": 0.01} if leave is wait else {}))
    await leave(client)
    if leave in (vanish, close):
        await until(lambda: work.factory.countConnections == 1)
    else:
        await client.ask({})  # what was sent before has been handled
    send(other, "b", "now")
    work.release("a0")
    assert await name_of(other) == "b"
    assert work.begun == ["a0", "b"]


@pytest.mark.parametrize(
    ("threads", "per_connection", "expected"),
    [(1, None, 1), (2, None, 1), (5, None, 2), (6, None, 3), (4, 1, 1), (4, 3, 3), (3, 8, 3)],
)
@pytest_twisted.ensureDeferred
async def test_one_connection_has_a_share_of_the_threads(
    network, threads, per_connection, expected
):
    work = Work(threads=threads, per_connection=per_connection)
    port = await network.serve(factory=work.factory)
    client, other = await network.connect(port), await network.connect(port)
    for number in range(threads + 2):
        send(client, f"a{number}")
    await until(lambda: len(work.begun) == expected)
    if expected < threads:
        send(other, "b", "now")
        assert await name_of(other) == "b"
    await deferLater(install_reactor(), 0.05)
    assert sorted(set(work.begun) - {"b"}) == [f"a{number}" for number in range(expected)]
    work.release(*(f"a{number}" for number in range(threads + 2)))
    assert {await name_of(client) for _ in range(threads + 2)} == {
        f"a{number}" for number in range(threads + 2)
    }


@pytest_twisted.ensureDeferred
async def test_free_threads_go_to_the_connections_in_turn(network):
    work = Work(threads=1)
    port = await network.serve(factory=work.factory)
    greedy, second, third = [await network.connect(port) for _ in range(3)]
    send(greedy, "a0")
    await until(lambda: work.begun == ["a0"])
    for client, name, count in ((greedy, "a", 9), (second, "b", 2), (third, "c", 1)):
        for number in range(1, count):
            send(client, f"{name}{number}", "now")
        send(client, f"{name}{count}", "now")
        await client.ask({})
    work.release("a0")
    await until(lambda: len(work.begun) == 13)
    assert work.begun[:7] == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]


@pytest_twisted.ensureDeferred
async def test_many_endless_calls_of_one_client_leave_room_for_others(network):
    work = Work(threads=4)
    port = await network.serve(factory=work.factory)
    client, other = await network.connect(port), await network.connect(port)
    for number in range(64):
        send(client, f"a{number}")
    for number in range(20):
        send(other, f"b{number}", "now")
        assert await name_of(other) == f"b{number}"
    client.transport.abortConnection()
    await until(lambda: work.factory.countConnections == 1)
    work.release()
    assert len([name for name in work.begun if name.startswith("a")]) == 2
