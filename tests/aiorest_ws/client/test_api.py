"""The Python client against a real server."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiorest_ws.client import (
    CallError,
    ConnectionLost,
    Gap,
    Message,
    ReconnectPolicy,
    connect,
    connect_blocking,
)
from support.programs import Server

HERE = Path(__file__).parent
CASES = json.loads((HERE / "behaviour.json").read_text())
QUICK = ReconnectPolicy(initial_delay_seconds=0.01, max_delay_seconds=0.05)


@pytest.fixture(scope="module")
def url():
    server = Server(["-m", "aiorest_ws", "run", "behaviour_server:app", "--port", "0"], HERE)
    try:
        yield server.url()
    finally:
        server.kill()


def run(work):
    """Run a coroutine on a loop of its own, beside the reactor's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asyncio.wait_for(work, 60)).result()


async def take_call(client, step):
    method, path = step["call"].split(" ")
    names = ("args", "data", "idempotent", "timeout", "event_name")
    options = {name: step[name] for name in names if name in step}
    try:
        return {"data": await client.call(method, path, **options)}
    except CallError as error:
        return {"status": error.status, "error": type(error).__name__}
    except ConnectionLost as error:
        return {"lost": {"maybe_executed": error.maybe_executed}}
    except TimeoutError:
        return {"timeout": True}


async def take_stream(client, step):
    items = []
    stream = client.stream(step["stream"], args=step.get("args"))
    try:
        async for item in stream:
            items.append(item)
            if len(items) == step.get("leave_after"):
                await stream.aclose()
    except CallError as error:
        return {"items": items, "status": error.status}
    except ConnectionLost as error:
        return {"items": items, "lost": {"maybe_executed": error.maybe_executed}}
    return {"items": items}


async def take_pushes(subscription, count):
    items = []
    while len(items) < count:
        item = await anext(subscription)
        items.append("gap" if isinstance(item, Gap) else item.data)
    return {"items": items}


async def run_case(url, case):
    subscription = None
    async with connect(url, reconnect=QUICK, **case.get("client", {})) as client:
        for step in case["steps"]:
            if "call" in step:
                got = await take_call(client, step)
                while step.get("until") and got != step["expect"]:
                    got = await take_call(client, step)
            elif "stream" in step:
                got = await take_stream(client, step)
            elif "subscribe" in step:
                subscription = client.subscribe(step["subscribe"], since=step.get("since"))
                first = asyncio.create_task(anext(subscription))
                got = step["expect"]
                continue
            else:
                count = len(step["expect"]["items"]) - 1
                item = await first
                head = "gap" if isinstance(item, Gap) else item.data
                rest = await take_pushes(subscription, count)
                got = {"items": [head, *rest["items"]]}
            assert got == step["expect"], step
        if subscription is not None:
            await subscription.aclose()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_behaviour(url, case):
    """Every row of behaviour.json holds, over real sockets."""
    run(run_case(url, case))


def test_slow_consumer_loses_nothing_in_silence(url):
    """Each number of 3,000 pushes arrives in order, or a gap stands in its place."""

    async def follow():
        async with connect(url, reconnect=QUICK) as client:
            seen = []
            news = client.subscribe("news/slow")
            first = asyncio.create_task(anext(news))
            await client.get("/count/nothing")
            publishing = asyncio.create_task(client.post("/publish/slow", args={"count": 3000}))
            seen.append(await first)
            while not isinstance(seen[-1], Message) or seen[-1].data != 2999:
                await asyncio.sleep(0.0005)
                if len(seen) % 500 == 0:
                    assert await client.get("/add", args={"a": 1}) == 2
                seen.append(await anext(news))
            await publishing
            await news.aclose()
        return seen

    expected = 0
    for item in run(follow()):
        if isinstance(item, Gap):
            expected = None
            continue
        assert expected is None or item.data == expected
        expected = item.data + 1


def test_connect_blocking(url):
    """Scripts call and stream without a loop."""
    with connect_blocking(url) as client:
        assert client.get("/add", args={"a": 2}) == 3
        assert list(client.stream("/numbers", args={"count": 3})) == [0, 1, 2]
