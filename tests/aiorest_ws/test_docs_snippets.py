"""The code and the exchanges that the documentation shows, run as they stand."""

import asyncio
import base64
import configparser
import contextlib
import datetime
import importlib.util
import ipaddress
import json
import os
import pkgutil
import re
import select
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import gatherResults
from websockets.sync.client import connect as websockets_connect

import aiorest_ws

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets"
PROCESS_SECONDS = 60

# What a page shows as an exchange, and the server that it is held with.
EXCHANGES = {
    "first_exchange.txt": "first_server",
    "function_views_exchange.txt": "function_views",
    "method_views_exchange.txt": "method_views",
    "error_handlers_exchange.txt": "error_handlers",
    "xml_exchange.txt": "xml_views",
    "wire_arguments.txt": "wire",
    "wire_base64.txt": "wire",
    "wire_order.txt": "wire",
    "wire_replies.txt": "wire",
    "wire_unreadable.txt": "wire",
    "wire_values.txt": "wire",
}


@pytest.fixture
def load(monkeypatch):
    """Import a snippet by path, anew for each test; its siblings are importable meanwhile."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SNIPPETS))

    def import_by_path(name):
        spec = importlib.util.spec_from_file_location(name, SNIPPETS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    yield import_by_path
    for name in {path.stem for path in SNIPPETS.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.fixture
def environment():
    """The environment of a process that a reader would start."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def exchanges(text):
    """Split an exchange into pairs of what is sent and what comes back, in lines of the page."""
    for part in text.strip("\n").split("\n\n"):
        sent, *received = part.splitlines()
        assert sent.startswith("--> "), part
        assert received, part
        assert all(line.startswith("<-- ") for line in received), part
        yield sent[4:], "\n".join(line[4:] for line in received)


async def hold(client, text):
    """Send each message of an exchange and compare each reply, to the byte."""
    held = 0
    for sent, expected in exchanges(text):
        is_binary = sent.startswith("(binary) ")
        client.sendMessage(sent.removeprefix("(binary) ").encode(), is_binary)
        reply, is_reply_binary = await client.replies.get()
        assert is_reply_binary is is_binary, sent
        if expected.startswith("(binary, decoded) "):
            reply, expected = base64.b64decode(reply), expected.removeprefix("(binary, decoded) ")
        assert reply.decode() == expected.removeprefix("(binary) "), sent
        held += 1
    return held


async def start(module, network):
    """Serve the application of a snippet."""
    return await network.serve(factory=module.app.generate_factory(None))


@pytest.mark.logs_errors
@pytest.mark.parametrize("name", sorted(EXCHANGES))
@pytest_twisted.ensureDeferred
async def test_an_exchange_is_what_its_server_answers(name, load, network):
    client = await network.connect(await start(load(EXCHANGES[name]), network))
    assert await hold(client, (SNIPPETS / name).read_text(encoding="utf-8"))


def test_every_exchange_is_held_with_a_server():
    assert {path.name for path in SNIPPETS.glob("*.txt")} == {*EXCHANGES, "notes_exchange.txt"}


@pytest.mark.parametrize(
    ("levels", "is_refused"), [(127, False), (128, True), (200, True), (10_000, True)]
)
@pytest_twisted.ensureDeferred
async def test_a_message_may_be_nested_to_the_depth_that_the_page_names(
    levels, is_refused, load, network
):
    page = (DOCS / "reference" / "wire-protocol.md").read_text(encoding="utf-8")
    (refusal,) = re.findall("The message is nested deeper than 128 levels.", page)
    client = await network.connect(await start(load("wire"), network))
    data = b"[" * levels + b"]" * levels
    reply = json.loads(await client.ask(b'{"method":"POST","url":"/echo","data":' + data + b"}"))
    assert (reply.get("detail") == refusal) is is_refused
    assert (reply.get("status") == 400) is is_refused


@pytest_twisted.ensureDeferred
async def test_the_notes_are_kept_in_the_database(load, network, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "notes.sqlite3"))
    service = load("notes").app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    try:
        client = await network.connect((await service.listening).getHost().port)
        assert await hold(client, (SNIPPETS / "notes_exchange.txt").read_text(encoding="utf-8"))
    finally:
        await service.stopService()
    assert not service.factory.pool.running


@pytest_twisted.ensureDeferred
async def test_views_may_wait_in_each_of_the_ways_shown(load, network):
    client = await network.connect(await start(load("async_views"), network))
    assert (await client.ask({"method": "GET", "url": "/both"}))[:14] == b'{"data":"both"'
    assert (await client.ask({"method": "GET", "url": "/deferred"}))[:15] == b'{"data":"later"'
    digest = json.loads(
        await client.ask({"method": "POST", "url": "/digest", "args": {"text": "a"}})
    )
    assert re.fullmatch("[0-9a-f]{64}", digest["data"])


@pytest_twisted.ensureDeferred
async def test_an_ordered_view_answers_one_call_after_another(load, network):
    module = load("async_views")
    client = await network.connect(await start(module, network))
    for number in range(5):
        call = {"method": "POST", "url": "/append", "args": {"line": f"line {number}"}}
        client.send({**call, "id": number})
    replies = [json.loads(await client.receive()) for _ in range(5)]
    assert [reply["data"] for reply in replies] == [1, 2, 3, 4, 5]
    assert module.Append.lines == tuple(f"line {number}" for number in range(5))


@pytest_twisted.ensureDeferred
async def test_a_blocking_view_does_not_hold_up_the_others(load, network, monkeypatch):
    module = load("async_views")
    released = threading.Event()
    monkeypatch.setattr(module.time, "sleep", lambda _: released.wait(PROCESS_SECONDS))
    client = await network.connect(await start(module, network))
    client.send({"method": "GET", "url": "/sleep", "args": {"seconds": 1}, "id": "slow"})
    try:
        reply = json.loads(await client.ask({"method": "GET", "url": "/deferred", "id": "fast"}))
    finally:
        released.set()
    assert reply["id"] == "fast"
    assert json.loads(await client.receive())["id"] == "slow"


@pytest_twisted.ensureDeferred
async def test_middlewares_time_and_refuse_calls(load, network):
    client = await network.connect(await start(load("middlewares"), network))
    call = {"method": "GET", "url": "/hello"}

    reply = json.loads(await client.ask(call))
    assert reply.pop("took_ms") >= 0
    assert list(reply.items()) == [
        ("detail", "An `api_key` is needed."),
        ("status", 401),
        ("event_name", None),
    ]

    reply = json.loads(await client.ask({**call, "api_key": "letmein", "id": 1}))
    assert list(reply) == ["data", "event_name", "id", "took_ms"]
    assert reply["data"] == "Hello, world!"

    reply = json.loads(await client.ask({**call, "started": 0}))
    assert reply["detail"] == "The key 'started' is reserved and cannot be sent."


@pytest_twisted.ensureDeferred
async def test_hooks_run_in_their_order_and_each_client_has_a_state(load, network):
    service = load("life_cycle").app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    port = (await service.listening).getHost().port
    call = {"method": "GET", "url": "/visit"}
    try:
        first, second = await gatherResults([open_client(network, port) for _ in range(2)])
        seen = [json.loads(await client.ask(call))["data"] for client in (first, first, second)]
        assert [visit["calls"] for visit in seen] == [1, 2, 1]
        assert {visit["visitor"] for visit in seen} == {1, 2}
        first.sendClose(1000)
        await first.is_closed
        # The server may hear of it after the client.
        for connection in list(service.factory.connections):
            if connection.state.visitor == seen[0]["visitor"]:
                await connection.is_closed
    finally:
        await service.stopService()
    gone, stayed = seen[0]["visitor"], seen[2]["visitor"]
    assert service.factory.log == [
        "open",
        f"{gone} left with 1000",
        f"{stayed} left with 1012",
        "closed",
    ]


def open_client(network, port):
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(network.connect(port))


@pytest_twisted.ensureDeferred
async def test_a_protocol_may_speak_messagepack(load, network, caplog):
    caplog.set_level("INFO", logger="clients")
    factory = load("custom_protocol").app.generate_factory(None)
    client = await network.connect(await network.serve(factory=factory))

    client.sendMessage(msgspec.msgpack.encode({"method": "GET", "url": "/hello"}), True)
    reply, is_binary = await client.replies.get()
    assert is_binary
    assert msgspec.msgpack.decode(reply) == {"data": "Hello, world!", "event_name": None}

    client.sendMessage(b"\xc1", True)
    reply, _ = await client.replies.get()
    assert msgspec.msgpack.decode(reply)["detail"].startswith("The message is not MessagePack: ")

    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"]

    (connection,) = factory.connections
    client.sendClose(1000)
    await connection.is_closed
    assert caplog.messages[-1].endswith("sent 3 messages, closed by 1000")
