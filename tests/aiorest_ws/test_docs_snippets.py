"""The code and the exchanges that the documentation shows, run as they stand."""

import base64
import configparser
import contextlib
import dataclasses
import datetime
import http.server
import importlib
import importlib.util
import ipaddress
import json
import os
import pkgutil
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from websockets.sync.client import connect as websockets_connect

import aiorest_ws
import aiorest_ws.exceptions
from aiorest_ws.auth.token.middlewares import BaseTokenMiddleware
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.limits import Limits
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import connect as publisher_for
from aiorest_ws.topics.routes import POLICIES
from aiorest_ws.wrappers import Request

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets"
PROCESS_SECONDS = 20

# What a page shows as an exchange, and the server that it is held with.
EXCHANGES = {
    "first_exchange.txt": "first_server",
    "function_views_exchange.txt": "function_views",
    "injected_exchange.txt": "injected",
    "method_views_exchange.txt": "method_views",
    "csv_exchange.txt": "csv_views",
    "error_handlers_exchange.txt": "error_handlers",
    "declared_errors_exchange.txt": "declared_errors",
    "dependencies_exchange.txt": "dependencies",
    "typed_topics_exchange.txt": "typed_topics",
    "orm_rows_exchange.txt": "orm_rows",
    "reply_values_exchange.txt": "reply_values",
    "validation_exchange.txt": "validation",
    "xml_exchange.txt": "xml_views",
    "wire_arguments.txt": "wire",
    "wire_base64.txt": "wire",
    "wire_cancel.txt": "wire",
    "wire_ping.txt": "wire",
    "wire_deadline.txt": "wire",
    "wire_order.txt": "wire",
    "wire_replies.txt": "wire",
    "wire_unreadable.txt": "wire",
    "wire_values.txt": "wire",
}

# Exchanges with pushes in them, line by line; those of one row are held one after the other.
CONVERSATIONS = (("wire_topics.txt", "wire_resume.txt"), ("wire_presence.txt",))


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


def wire_protocol():
    """The page in one line: where it is wrapped does not matter."""
    return " ".join((DOCS / "reference" / "wire-protocol.md").read_text(encoding="utf-8").split())


def exchanges(text):
    """Split an exchange into what is sent and the one reply to it, in lines of the page.

    Only a CANCEL has no reply of its own, so that more than one line may be sent.
    """
    for part in text.strip("\n").split("\n\n"):
        lines = part.splitlines()
        sent = [line for line in lines if line.startswith("--> ")]
        received = lines[len(sent) :]
        assert sent, part
        assert len([line for line in sent if "CANCEL" not in line]) <= 1, part
        assert received, part
        assert all(line.startswith("<-- ") for line in received), part
        yield [line[4:] for line in sent], "\n".join(line[4:] for line in received)


async def hold(client, text):
    """Send each message of an exchange and compare each reply, to the byte."""
    held = 0
    for messages, expected in exchanges(text):
        for sent in messages:
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
    elsewhere = {"notes_exchange.txt", "wire_streams.txt", *sum(CONVERSATIONS, ())}
    assert {path.name for path in SNIPPETS.glob("*.txt")} == {*EXCHANGES, *elsewhere}


RANDOM = re.compile("[0-9a-f]{16}")


async def hold_lines(clients, text, known):
    """Send and expect each line of a conversation; `known` is what its random parts are here."""
    for line in text.splitlines():
        client = clients[line.startswith("(another) ")]
        direction, line = line.removeprefix("(another) ").split(" ", 1)
        line = RANDOM.sub(lambda found: known.get(found[0], found[0]), line)
        if direction == "-->":
            client.send(line.encode())
            continue
        assert direction == "<--"
        received = (await client.receive()).decode()
        for shown, real in zip(RANDOM.findall(line), RANDOM.findall(received), strict=True):
            # What is named once is the same from then on.
            if shown not in known.values():
                known[shown] = real
                line = line.replace(shown, real)
        assert received == line


@pytest.mark.parametrize("names", CONVERSATIONS, ids=" ".join)
@pytest_twisted.ensureDeferred
async def test_a_conversation_on_a_topic_is_that_of_its_server(names, load, network):
    port = await start(load("topics"), network)
    clients, known = (await network.connect(port), await network.connect(port)), {}
    for name in names:
        await hold_lines(clients, (SNIPPETS / name).read_text(encoding="utf-8"), known)
    assert known


@pytest_twisted.ensureDeferred
async def test_the_streams_of_the_page_are_those_of_its_server_and_end(load, network):
    module = load("streams")
    client = await network.connect(await start(module, network))
    await hold_lines((client,), (SNIPPETS / "wire_streams.txt").read_text(encoding="utf-8"), {})
    assert json.loads(await client.ask({"method": "GET", "url": "/countdown/1001"})) == {
        "detail": "That is too far away.",
        "status": 422,
        "event_name": None,
    }
    assert module.Countdown.ended == 2


@pytest.mark.parametrize(
    ("levels", "is_refused"), [(127, False), (128, True), (200, True), (10_000, True)]
)
@pytest_twisted.ensureDeferred
async def test_a_message_may_be_nested_to_the_depth_that_the_page_names(
    levels, is_refused, load, network
):
    page = wire_protocol()
    (refusal,) = re.findall("The message is nested deeper than 128 levels.", page)
    client = await network.connect(await start(load("wire"), network))
    data = b"[" * levels + b"]" * levels
    reply = json.loads(await client.ask(b'{"method":"POST","url":"/echo","data":' + data + b"}"))
    assert (reply.get("detail") == refusal) is is_refused
    assert (reply.get("status") == 400) is is_refused


@pytest_twisted.ensureDeferred
async def test_an_id_is_refused_while_its_first_call_runs(load, network):
    page = wire_protocol()
    client = await network.connect(await start(load("async_views"), network))
    for _ in range(2):
        client.send({"method": "GET", "url": "/deferred", "id": 7})
    refused, answered = json.loads(await client.receive()), json.loads(await client.receive())
    assert (refused["status"], refused["id"]) == (400, 7)
    assert f"`` {refused['detail']} ``" in page
    assert (answered["data"], answered["id"]) == ("later", 7)
    # It is free again.
    reply = json.loads(await client.ask({"method": "GET", "url": "/deferred", "id": 7}))
    assert reply["data"] == "later"


@pytest_twisted.ensureDeferred
async def test_an_id_may_have_the_length_that_the_page_names(load, network):
    page = wire_protocol()
    client = await network.connect(await start(load("wire"), network))
    for longest in ("x" * 128, "\u00e9" * 64, 10**127):
        reply = json.loads(await client.ask({"method": "GET", "url": "/hello", "id": longest}))
        assert reply["id"] == longest
    for too_long in ("x" * 129, "\u00e9" * 65, 10**128):
        reply = json.loads(await client.ask({"method": "GET", "url": "/hello", "id": too_long}))
        assert reply["status"] == 400
        assert "id" not in reply
        assert f"`` {reply['detail']} ``" in page


@pytest.mark.parametrize(
    ("digits", "is_refused"), [(4300, False), (4301, True)], ids=["longest", "too long"]
)
@pytest_twisted.ensureDeferred
async def test_an_integer_may_have_as_many_digits_as_the_page_says(
    digits, is_refused, load, network
):
    page = wire_protocol()
    assert "Integers have any size up to 4,300 digits" in page
    client = await network.connect(await start(load("wire"), network))
    message = b'{"method":"POST","url":"/echo","data":' + b"9" * digits + b"}"
    assert (b'"status":400' in await client.ask(message)) is is_refused


@pytest_twisted.ensureDeferred
async def test_a_text_message_that_is_not_utf8_closes_with_the_code_of_the_page(load, network):
    client = await network.connect(await start(load("wire"), network))
    client.sendMessage(b'{"url": "\xff"}', False)
    await client.is_closed
    # What the server sent; Autobahn keeps it on the client.
    assert client.remoteCloseCode == 1007


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


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_views_may_wait_in_each_of_the_ways_shown(load, network):
    client = await network.connect(await start(load("async_views"), network))
    assert (await client.ask({"method": "GET", "url": "/both"}))[:14] == b'{"data":"both"'
    assert (await client.ask({"method": "GET", "url": "/deferred"}))[:15] == b'{"data":"later"'
    digest = json.loads(
        await client.ask({"method": "POST", "url": "/digest", "args": {"text": "a"}})
    )
    assert re.fullmatch("[0-9a-f]{64}", digest["data"])


@pytest.mark.asyncio_reactor
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
        first, second = await network.connect(port), await network.connect(port)
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
        f"{stayed} left with 1000",
        "closed",
    ]


@pytest_twisted.ensureDeferred
async def test_a_protocol_may_speak_messagepack(load, network, monkeypatch):
    module = load("custom_protocol")
    logged = Deferred()
    monkeypatch.setattr(module.logger, "info", lambda *line: logged.callback(line))
    factory = module.app.generate_factory(None)
    client = await network.connect(await network.serve(factory=factory))

    client.sendMessage(msgspec.msgpack.encode({"method": "GET", "url": "/hello"}), True)
    reply, is_binary = await client.replies.get()
    assert is_binary
    assert msgspec.msgpack.decode(reply) == {"data": "Hello, world!", "event_name": None}

    client.sendMessage(b"\xc1", True)
    reply, _ = await client.replies.get()
    assert msgspec.msgpack.decode(reply)["detail"] == "The message is not MessagePack."

    assert json.loads(await client.ask({"method": "GET", "url": "/hello"}))["data"]

    client.sendClose(1000)
    text, peer, messages, code = await logged
    assert text % (peer, messages, code) == f"{peer} sent 3 messages, closed by 1000"


@pytest_twisted.ensureDeferred
async def test_topics_are_published_to_in_each_of_the_ways_shown(load, network):
    service = load("topics").app.service(listen="tcp:0:interface=127.0.0.1")
    service.startService()
    try:
        client = await network.connect((await service.listening).getHost().port)
        topics = {"method": "POST", "url": "/basket", "data": [1, 2], "event_name": "basket"}
        assert json.loads(await client.ask(topics))["data"] == ["orders/1", "orders/2"]
        client.send({"method": "PUT", "url": "/orders/2", "data": "paid"})
        push, reply = json.loads(await client.receive()), json.loads(await client.receive())
        assert (push["event_name"], push["topic"], push["data"]) == ("basket", "orders/2", "paid")
        assert reply["data"] == {"published": push["offset"]}

        assert "data" in json.loads(await client.ask({"method": "SUBSCRIBE", "url": "ticks"}))
        assert json.loads(await client.receive())["topic"] == "ticks"
        client.send({"method": "UNSUBSCRIBE", "url": "ticks", "id": "end"})
        for _ in range(10):  # ticks that were on the way
            if json.loads(await client.receive()).get("id") == "end":
                break

        assert "data" in json.loads(await client.ask({"method": "SUBSCRIBE", "url": "reports"}))
        client.send({"method": "POST", "url": "/reports", "id": "reply"})
        seen = [json.loads(await client.receive()) for _ in range(2)]
        pushed = [said["data"] for said in seen if said.get("topic") == "reports"]
        assert pushed == [{"rows": 100_000}]
    finally:
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_topic_is_closed_to_whom_its_hook_refuses(load, network):
    client = await network.connect(await start(load("topics"), network))
    for topic, status in (("orders/13", 403), ("orders", 404), ("orders/12", None)):
        reply = json.loads(await client.ask({"method": "SUBSCRIBE", "url": topic}))
        assert reply.get("status") == status


@pytest_twisted.ensureDeferred
async def test_a_topic_of_each_policy_is_published_to(load, network):
    module = load("policies")
    client = await network.connect(await start(module, network))
    assert {route.policy for route in module.router.topics} == set(POLICIES)
    for topic in ("prices", "export"):
        assert "data" in json.loads(await client.ask({"method": "SUBSCRIBE", "url": topic}))
    client.send({"method": "PUT", "url": "/prices/ABC", "args": {"price": 7}})
    assert json.loads(await client.receive())["data"] == ["ABC", 7]
    await client.receive()
    client.send({"method": "POST", "url": "/export", "args": {"rows": 3}})
    said = [json.loads(await client.receive())["data"] for _ in range(4)]
    assert said == [{"row": 0}, {"row": 1}, {"row": 2}, 3]


# From here on, processes: what a reader would type.


@pytest.fixture
def processes():
    """Processes that a test starts; those that it leaves behind are killed."""
    with contextlib.ExitStack() as stack:

        def spawn(*arguments, **options):
            process = subprocess.Popen(
                arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
            )
            stack.callback(end, process)
            return process

        yield spawn


def end(process):
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_for_line(process, stream, pattern):
    """Return the first line of a process in which the pattern is found."""
    read = []
    timer = threading.Timer(PROCESS_SECONDS, process.kill)
    timer.start()
    try:
        for line in stream:
            read.append(line)
            if re.search(pattern, line):
                return line.strip()
    finally:
        timer.cancel()
    raise AssertionError(f"no {pattern!r} in {read}")


def served_url(server):
    return wait_for_line(server, server.stdout, "^Server started at ").split()[-1]


REFUSALS = (
    r"\S+ \S+ INFO aiorest-ws: "
    r"(\S+: handshake refused, 4\d\d: .*|limit (allowed_origins|call_seconds): .*)\n"
)


def stop(server):
    server.send_signal(signal.SIGTERM)
    out, err = server.communicate(timeout=PROCESS_SECONDS)
    # What a client was refused is in the log, at info; nothing else is.
    unexpected = re.sub(REFUSALS, "", err)
    assert (server.returncode, unexpected) == (0, ""), out


@pytest.fixture
def run_app(processes, environment, tmp_path):
    """Run `aiorest-ws run` in a directory that holds the snippets, as a reader's would."""
    directory = tmp_path / "project"
    shutil.copytree(SNIPPETS, directory, ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments, **variables):
        command = (sys.executable, "-m", "aiorest_ws", "run", *arguments)
        return processes(*command, cwd=directory, env={**environment, **variables})

    run.directory = directory
    return run


def ask(url, message, **options):
    with websockets_connect(url, **options) as client:
        client.send(json.dumps(message))
        return json.loads(client.recv(timeout=PROCESS_SECONDS))


def test_the_first_client_prints_what_the_tutorial_shows(run_app, processes, environment):
    server = run_app("first_server:app", "--port", "0")
    command = (sys.executable, SNIPPETS / "first_client.py", served_url(server))
    client = processes(*command, env=environment)
    out, err = client.communicate(timeout=PROCESS_SECONDS)
    assert (out, err) == ((SNIPPETS / "first_client.out").read_text(encoding="utf-8"), "")
    stop(server)


def test_the_python_client_prints_what_its_page_shows(run_app, processes, environment):
    server = run_app("first_server:app", "--port", "0")
    command = (sys.executable, SNIPPETS / "python_client.py", served_url(server))
    client = processes(*command, env=environment)
    out, err = client.communicate(timeout=PROCESS_SECONDS)
    assert (out, err) == ((SNIPPETS / "python_client.out").read_text(encoding="utf-8"), "")
    stop(server)


def test_the_readers_tests_pass(environment, tmp_path):
    for path in SNIPPETS.glob("*.py"):
        shutil.copy(path, tmp_path)
    command = [sys.executable, "-m", "pytest", "-p", "no:twisted", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-W", "error", "-q", "."],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * PROCESS_SECONDS,
        check=False,
    )
    written = sum(
        path.read_text(encoding="utf-8").count("def test_") for path in SNIPPETS.glob("test_*.py")
    )
    # One of them is run with two URLs.
    assert re.search(rf"^{written + 1} passed", done.stdout, re.MULTILINE), done.stdout
    assert done.returncode == 0


def test_the_watcher_of_the_lesson_sees_what_it_shows_and_outlives_its_server(
    run_app, processes, environment
):
    server = run_app("order_book:app", "--port", "0")
    url = served_url(server)
    watcher = processes(
        *(sys.executable, SNIPPETS / "watch_book.py", url), env=environment, start_new_session=True
    )
    first, *changes = (SNIPPETS / "watch_book.out").read_text(encoding="utf-8").splitlines()
    assert wait_for_line(watcher, watcher.stdout, "") == first
    sender = processes(sys.executable, SNIPPETS / "send_orders.py", url, env=environment)
    sent, complaints = sender.communicate(timeout=PROCESS_SECONDS)
    assert (len(sent.splitlines()), complaints) == (len(changes), "")
    assert [wait_for_line(watcher, watcher.stdout, "") for _ in changes] == changes

    stop(server)
    assert wait_for_line(watcher, watcher.stdout, "") == "the server is away"
    server = run_app("order_book:app", "--port", port_of(url))
    assert served_url(server) == url
    # The book was in the memory of the first one.
    assert wait_for_line(watcher, watcher.stdout, "^the whole book") == first
    watcher.send_signal(signal.SIGINT)
    _, complaints = watcher.communicate(timeout=PROCESS_SECONDS)
    assert (watcher.returncode, complaints) == (0, "")
    stop(server)


@pytest_twisted.ensureDeferred
async def test_an_order_book_refuses_what_it_cannot_hold(load, network):
    client = await network.connect(await start(load("order_book"), network))
    order = {"side": "buy", "price": 95, "size": 10}
    post = {"method": "POST", "url": "/books/tea/orders"}
    for wrong in ({"side": "lend"}, {"price": "95"}, {"size": 0.5}):
        reply = json.loads(await client.ask({**post, "args": {**order, **wrong}}))
        assert reply["status"] == 422
    for method, url in (("GET", "/books/gold"), ("SUBSCRIBE", "books/gold")):
        reply = json.loads(await client.ask({"method": method, "url": url}))
        assert (reply["status"], reply["detail"]) == (404, "There is no such good.")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture
def redis_url(processes, tmp_path):
    """The URL of a Redis that runs as the guide says, for the user that it tells of."""
    if shutil.which("redis-server") is None:
        missing = "needs Redis (Debian package redis-server)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    directory = tmp_path / "redis"
    directory.mkdir()
    configuration = (SNIPPETS / "redis.conf").read_text(encoding="utf-8")
    port, users = free_port(), directory / "users.acl"
    for shown, here in (("port 6379", f"port {port}"), ("/etc/redis/users.acl", str(users))):
        assert configuration.count(shown) == 1
        configuration = configuration.replace(shown, here)
    (directory / "redis.conf").write_text(configuration, encoding="utf-8")
    rights = (SNIPPETS / "redis.acl").read_text(encoding="utf-8")
    users.write_text(f"user default off\n{rights}", encoding="utf-8")
    server = processes("redis-server", "redis.conf", cwd=directory)
    wait_for_line(server, server.stdout, "Ready to accept connections")
    user, password = re.match(r"user (\S+) on >(\S+) ", rights).groups()
    return f"redis://{user}:{password}@127.0.0.1:{port}/0"


def urls_of_redis():
    page = (DOCS / "how-to" / "redis-in-production.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\S+://\S+)` \|", page, re.MULTILINE)


@pytest.mark.parametrize("url", urls_of_redis())
def test_a_url_of_the_guide_is_one_that_topics_can_be_on(url):
    from aiorest_ws.topics.urls import REDIS_SCHEMES

    assert {one.partition("://")[0] for one in urls_of_redis()} == set(REDIS_SCHEMES)
    with publisher_for(url) as publisher:
        assert "password" not in repr(publisher)


def test_another_process_publishes_to_the_clients_of_a_server_on_redis(
    run_app, processes, environment, redis_url
):
    server = run_app("redis_server:app", "--port", "0", TOPICS_URL=redis_url)
    command = (sys.executable, SNIPPETS / "publish_elsewhere.py")
    with websockets_connect(served_url(server)) as client:

        def receive():
            return json.loads(client.recv(timeout=PROCESS_SECONDS))

        client.send('{"method": "SUBSCRIBE", "url": "orders/42"}')
        assert receive()["data"]["offset"] == 0
        environment["TOPICS_URL"] = redis_url
        script = processes(*command, "42", "paid", env=environment)
        assert script.communicate(timeout=PROCESS_SECONDS) == ("1\n", "")
        assert receive()["data"] == {"state": "paid"}
        client.send('{"method": "PUT", "url": "/orders/42", "data": "sent", "id": "reply"}')
        said = [receive(), receive()]
        assert {reply.get("offset"): reply["data"] for reply in said} == {2: "sent", None: None}
    environment["TOPICS_URL"] = f"{redis_url}?prefix=another"
    script = processes(*command, "42", "paid", env=environment)
    _, complaint = script.communicate(timeout=PROCESS_SECONDS)
    # The user of the guide may use one prefix only.
    assert script.returncode == 1
    assert complaint.splitlines()[-1].startswith("aiorest_ws.exceptions.TopicsUnavailable")
    stop(server)


def make_certificate(directory):
    """Write server.pem and server.key, good for localhost, to a directory."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "server.pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.key").write_bytes(private)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tls_server:app",),
        ("first_server:app", "--certificate", "server.pem", "--key", "server.key"),
    ],
)
def test_a_server_with_a_certificate_speaks_wss(arguments, run_app):
    make_certificate(run_app.directory)
    server = run_app(*arguments, "--port", "0")
    url = served_url(server)
    assert url.startswith("wss://")
    context = ssl.create_default_context(cafile=run_app.directory / "server.pem")
    reply = ask(url, {"method": "GET", "url": "/hello"}, ssl=context)
    assert reply["data"] == "Hello, world!"
    stop(server)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("compressed_server", {}, "small"),
        ("first_server", {}, "any"),
        ("first_server", {"compress": False}, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_compression_is_negotiated_as_the_page_says(name, options, expected, load, network):
    from autobahn.websocket.compress import (
        PerMessageDeflateOffer,
        PerMessageDeflateResponse,
        PerMessageDeflateResponseAccept,
    )

    module = load(name)
    negotiated = []

    def accept(response):
        assert isinstance(response, PerMessageDeflateResponse)
        negotiated.append(response.server_max_window_bits or response.client_max_window_bits)
        return PerMessageDeflateResponseAccept(response)

    options = {"compress": True, **options}
    if expected == "small":
        options["accept_function"] = module.accept_small_windows
    factory = module.app.generate_factory(None, **options)
    client = await network.connect(
        await network.serve(factory=factory),
        perMessageCompressionOffers=[PerMessageDeflateOffer(accept_max_window_bits=True)],
        perMessageCompressionAccept=accept,
    )
    reply = json.loads(await client.ask({"method": "GET", "url": "/hello/" + "a" * 500}))
    assert reply["data"] == f"Hello, {'a' * 500}!"
    assert negotiated == {"small": [10], "any": [0], None: []}[expected]


def test_a_token_opens_the_account_of_its_user(run_app, tmp_path):
    server = run_app(
        "auth_server:app",
        "--port",
        "0",
        AIORESTWS_SETTINGS_MODULE="auth_settings",
        API_SECRET_KEY="s" * 32,
        API_DATABASE=str(tmp_path / "users.sqlite3"),
    )
    url = served_url(server)
    ada = {"username": "ada", "password": "correct horse"}
    create = {"method": "POST", "url": "/users", "args": ada}
    assert ask(url, create) == {"data": None, "event_name": None}
    assert ask(url, create)["status"] == 409

    log_in = {"method": "POST", "url": "/tokens"}
    refused = ask(url, {**log_in, "args": {**ada, "password": "wrong"}})
    assert (refused["status"], refused["detail"]) == (401, "Wrong username or password.")
    assert ask(url, {**log_in, "args": {**ada, "username": "nobody"}})["status"] == 401
    token = ask(url, {**log_in, "args": ada})["data"]

    account = {"method": "GET", "url": "/account"}
    assert ask(url, {**account, "token": token})["data"] == {"username": "ada", "id": "1"}
    assert ask(url, account)["status"] == 401
    assert ask(url, {**account, "token": token[:-2] + "AA"})["status"] == 401
    stop(server)


def test_the_client_that_cancels_prints_what_the_page_shows(run_app, processes, environment):
    server = run_app("deadlines:app", "--port", "0")
    command = (sys.executable, SNIPPETS / "cancel_client.py", served_url(server))
    client = processes(*command, env=environment)
    out, err = client.communicate(timeout=PROCESS_SECONDS)
    assert (out, err) == ((SNIPPETS / "cancel_client.out").read_text(encoding="utf-8"), "")
    stop(server)


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_is_cancelled_in_the_view(load, network):
    module = load("deadlines")
    client = await network.connect(await start(module, network))
    client.send({"method": "GET", "url": "/reports/long", "id": 1})
    client.send({"method": "CANCEL", "id": 1})
    assert json.loads(await client.receive())["status"] == 499
    call = {"method": "GET", "url": "/reports/long", "timeout": 0.05}
    assert json.loads(await client.ask(call))["status"] == 408
    assert module.Report.undone == ("long", "long")


@pytest_twisted.ensureDeferred
async def test_the_limits_of_the_guide_are_those_of_its_server(load, network):
    module = load("limits_server")
    factory = module.app.generate_factory(None)
    client = await network.connect(await network.serve(factory=factory))
    # The same name is in a little less than it is in the reply.
    name = b"a" * (64 * 1024 - 33)
    reply = json.loads(await client.ask(b'{"method":"GET","url":"/hello/' + name + b'"}'))
    assert reply["status"] == 413
    client.sendMessage(b" " * (64 * 1024 + 1))
    await client.is_closed
    assert client.remoteCloseCode == 1009
    assert factory.limit_hits == {"message_bytes": 2}


@pytest.mark.parametrize("tool", ["run", "twist"])
def test_limits_can_be_given_in_each_of_the_ways_that_the_guide_shows(tool, load, monkeypatch):
    from aiorest_ws import cli, tap

    guide = (DOCS / "how-to" / "limits.md").read_text(encoding="utf-8")
    command, plugin, application, *options = re.search(
        rf"^(\S+) ({tool}|aiorest-ws) (--app )?limits_server:app (.*)$", guide, re.MULTILINE
    ).groups()
    assert (command, plugin) in {("aiorest-ws", "run"), ("twist", "aiorest-ws")}
    app = load("limits_server").app
    before = app.limits
    options = options[-1].split()
    if tool == "run":
        monkeypatch.setattr(type(app), "run", lambda self, **_: None)
        assert cli.main(["run", "limits_server:app", *options]) == 0
    else:
        assert application == "--app "
        tap.Options().parseOptions(["--app", "limits_server:app", *options])
    assert app.limits == dataclasses.replace(before, call_seconds=30, messages_per_second=None)


def seconds_to_stop():
    return Limits().drain_seconds + 2 * Limits().closing_seconds


def test_the_pod_starts_the_server_and_leaves_it_the_time_to_stop(run_app):
    pod = (SNIPPETS / "pod.yaml").read_text(encoding="utf-8")
    (grace,) = re.findall("terminationGracePeriodSeconds: (.+)", pod)
    assert int(grace) > seconds_to_stop()
    (command,) = re.findall("command: \\[(.+)\\]", pod)
    program, word, *arguments = command.replace('"', "").split(", ")
    assert (program, word) == ("aiorest-ws", "run")
    arguments[arguments.index("--port") + 1] = "0"
    server = run_app(*arguments)
    (path,) = re.findall("path: (.+)", pod)
    port = served_url(server).rstrip("/").rpartition(":")[2]
    assert fetched(f"http://127.0.0.1:{port}{path}", Host="10.0.0.7:8080") == (200, "ok\n")
    stop(server)


def fetched(url, **headers):
    """Return the status and the text of a page."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=PROCESS_SECONDS
        ) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_a_server_behind_the_proxy_of_the_guide_knows_its_name_and_its_client(run_app):
    proxy = (SNIPPETS / "nginx.conf").read_text(encoding="utf-8")
    (name,) = re.findall("server_name (.+);", proxy)
    sent = dict(re.findall("proxy_set_header (\\S+) (.+);", proxy))
    assert sent == {
        "Upgrade": "$http_upgrade",
        "Connection": '"upgrade"',
        "Host": "$http_host",
        "X-Forwarded-For": "$proxy_add_x_forwarded_for",
    }
    server = run_app("behind_proxy:app", "--port", "0", "--access-log")
    port = served_url(server).rstrip("/").rpartition(":")[2]
    call = {"method": "GET", "url": "/hello"}
    # What nginx makes of a client that has written a header of its own.
    forwarded = {"Host": name, "X-Forwarded-For": "192.0.2.1, 203.0.113.7"}
    assert call_behind_proxy(port, call, **forwarded, Origin=f"https://{name}")["data"]
    assert call_behind_proxy(port, call, **forwarded, Origin="https://www.example.com")["data"]
    for origin in ("https://example.com", f"https://{name}:8443"):
        refused = call_behind_proxy(port, call, **forwarded, Origin=origin)
        assert refused.startswith("HTTP/1.1 403 "), origin
    for _ in range(2):
        line = wait_for_line(server, server.stderr, " aiorest-ws.access: ")
        assert " aiorest-ws.access: 203.0.113.7 " in line
    server.terminate()
    server.communicate(timeout=PROCESS_SECONDS)
    assert server.returncode == 0


def call_behind_proxy(port, message, **headers):
    """Return the reply to a message, or the answer to a handshake that was refused."""
    head = [
        "GET / HTTP/1.1",
        *("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    with socket.create_connection(("127.0.0.1", int(port)), PROCESS_SECONDS) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        answer = connection.makefile("rb")
        status = answer.readline().decode()
        if " 101 " not in status:
            return status
        while answer.readline().strip():
            pass
        payload = json.dumps(message).encode()
        assert len(payload) < 126
        # Masked with zeros: RFC 6455, 5.3.
        connection.sendall(bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        _, size = answer.read(2)
        return json.loads(answer.read(size))


def test_the_log_of_the_guide_is_json_with_the_fields_that_it_names(run_app):
    server = run_app("json_log:app", "--port", "0")
    url = served_url(server)
    assert ask(url, {"method": "GET", "url": "/hello", "id": "mine"})["data"]
    assert fetched(url.replace("ws://", "http://"))[0] == 426
    server.terminate()
    lines = [
        json.loads(line) for line in server.communicate(timeout=PROCESS_SECONDS)[1].splitlines()
    ]
    by_event = {line["event"]: line for line in lines}
    guide = (DOCS / "how-to" / "logging.md").read_text(encoding="utf-8")
    for event in ("reply", "handshake"):
        (row,) = re.findall(rf"^\| `{event}`.*?\| (.*) \|$", guide, re.MULTILINE)
        always = {"time", "level", "logger", "message", "event"}
        assert set(by_event[event]) == always | set(re.findall("`(\\w+)`", row))
    assert by_event["reply"]["logger"] == "aiorest-ws.access"
    assert "mine" not in str(lines)


def test_the_unit_for_systemd_starts_the_server(run_app):
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(SNIPPETS / "aiorest-ws.service", encoding="utf-8")
    assert int(unit["Service"]["TimeoutStopSec"]) > seconds_to_stop()
    program, command, *arguments = unit["Service"]["ExecStart"].split()
    assert (Path(program).name, command) == ("aiorest-ws", "run")
    arguments[arguments.index("--port") + 1] = "0"
    server = run_app(*arguments)
    assert ask(served_url(server), {"method": "GET", "url": "/hello"})["data"] == "Hello, world!"
    stop(server)


def test_a_factory_works_without_an_application(processes, environment, tmp_path):
    for name in ("first_server.py", "without_application.py"):
        code = (SNIPPETS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(code.replace("8080", "0"), encoding="utf-8")
    server = processes(sys.executable, "without_application.py", cwd=tmp_path, env=environment)
    port = wait_for_line(server, server.stdout, "^Port ").split()[-1]
    reply = ask(f"ws://127.0.0.1:{port}/", {"method": "GET", "url": "/hello"})
    assert reply["data"] == "Hello, world!"
    server.terminate()
    assert server.communicate(timeout=PROCESS_SECONDS) == ("", "")


def test_settings_are_read_from_the_module_that_is_named(run_app):
    options = {"AIORESTWS_SETTINGS_MODULE": "my_settings"}
    server = run_app("first_server:app", "--port", "0", **options)
    with websockets_connect(served_url(server)) as client:
        client.send(json.dumps({"method": "GET", "url": "/hello/\u00c9va"}))
        reply = client.recv(timeout=PROCESS_SECONDS)
    assert reply == '{"data": "Hello, \\u00c9va!", "event_name": null}'
    stop(server)


class OneUser(BaseTokenMiddleware):
    """Takes everybody for the same user."""

    user = User()

    def init_credentials(self, request):
        request.user = self.user


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({"is_staff": True}, {"data": "for ada"}),
        ({"is_user": True}, {"detail": "Permission denied.", "status": 403}),
    ],
)
def test_a_permission_of_ones_own_is_asked(roles, expected, load):
    router = SimpleRouter()
    router.register("/report", load("staff_permission").Report, methods="GET")
    middleware = OneUser()
    middleware.user = User(username="ada", **roles)
    router.middlewares.append(middleware)
    reply = router.process_request(Request(method="GET", url="/report", token="known"))
    assert json.loads(reply) == {**expected, "event_name": None}


# The README.


def readme_block(first_line):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(f"{first_line}\n")]
    return block


def with_port(block, port):
    assert block.count("8080") == 1
    return block.replace("8080", str(port))


@pytest.fixture
def readme_url(processes, environment, tmp_path):
    """The URL of the README's server, running."""
    (tmp_path / "server.py").write_text(with_port(readme_block("# server.py"), 0))
    server = processes(sys.executable, "server.py", cwd=tmp_path, env=environment)
    yield served_url(server)
    stop(server)


def port_of(url):
    return re.fullmatch(r"ws://127\.0\.0\.1:(\d+)/", url).group(1)


def test_the_server_of_the_readme_has_ten_lines():
    lines = readme_block("# server.py").splitlines()
    assert len([line for line in lines if line]) == 10


def test_the_python_client_of_the_readme_is_greeted(readme_url, processes, environment, tmp_path):
    code = with_port(readme_block("# client.py"), port_of(readme_url))
    (tmp_path / "client.py").write_text(code, encoding="utf-8")
    client = processes(sys.executable, "client.py", cwd=tmp_path, env=environment)
    out, err = client.communicate(timeout=PROCESS_SECONDS)
    assert (out, err) == ("Hello, Ada!\n", "")


@pytest.fixture
def serve_page(tmp_path):
    """Serve a page over HTTP: browsers give one that is opened as a file no origin."""

    class Pages(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def serve(text):
            (tmp_path / "page.html").write_text(text, encoding="utf-8")
            return f"{serve.origin}/page.html"

        serve.origin = f"http://127.0.0.1:{server.server_port}"
        yield serve
        server.shutdown()
        thread.join()


@pytest.fixture
def browse(processes, tmp_path):
    """Open a page in Chromium, which logs what the page writes to its console."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        missing = "needs the browser Chromium (Debian package chromium)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
        *("--disable-dev-shm-usage", "--enable-logging=stderr", "--remote-debugging-port=0"),
    ]

    @contextlib.contextmanager
    def open_page(url):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        browser = processes(chromium, *flags, profile, url, start_new_session=True)
        try:
            yield browser
        finally:
            # Its helpers hold the pipes, too.
            os.killpg(browser.pid, signal.SIGKILL)

    return open_page


@pytest.fixture
def console_line(browse):
    """Open a page; return the first line that it writes to its console."""

    def open_page(url):
        with browse(url) as browser:
            return wait_for_line(browser, browser.stderr, "CONSOLE").replace('\\"', '"')

    return open_page


def paste_in_console(browser, url, script):
    """Run a script in the console of the tab that shows a URL; return the first line there."""
    line = wait_for_line(browser, browser.stderr, "^DevTools listening on ")
    tabs = line.split()[-1].replace("ws://", "http://").partition("/devtools/")[0] + "/json"
    deadline = time.monotonic() + PROCESS_SECONDS
    while True:  # until the tab has left the empty page
        with urllib.request.urlopen(tabs, timeout=PROCESS_SECONDS) as listed:
            found = [tab for tab in json.load(listed) if tab["url"] == url]
        if found:
            break
        assert time.monotonic() < deadline, "the browser does not show the page"
        time.sleep(0.05)
    with websockets_connect(found[0]["webSocketDebuggerUrl"]) as tab:
        tab.send(json.dumps({"id": 1, "method": "Runtime.enable"}))
        evaluate = {"method": "Runtime.evaluate", "params": {"expression": script}}
        while True:
            event = json.loads(tab.recv(timeout=PROCESS_SECONDS))
            assert "exceptionDetails" not in event.get("result", {}), event
            if event.get("method") == "Runtime.executionContextCreated":
                # The first one may be that of the empty page before.
                if url.startswith(f"{event['params']['context']['origin']}/"):
                    tab.send(json.dumps({"id": 2, **evaluate}))
            elif event.get("method") == "Runtime.consoleAPICalled":
                return event["params"]["args"][0]["value"]


def test_the_javascript_client_of_the_readme_is_greeted(readme_url, browse):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "Open `http://127.0.0.1:8080/healthz` in a browser, and paste this" in readme
    port = port_of(readme_url)
    url = f"http://127.0.0.1:{port}/healthz"
    with browse(url) as browser:
        line = paste_in_console(browser, url, with_port(readme_block("// client.js"), port))
    assert line == '{"data":"Hello, Ada!","event_name":null,"id":1}'


# Pages are not told why.
SAY_WHEN_REFUSED = '<script>socket.onerror = () => console.log("refused");</script>'


def test_a_page_of_another_origin_is_refused_as_the_readme_says(
    readme_url, serve_page, console_line
):
    script = with_port(readme_block("// client.js"), port_of(readme_url))
    page = f"<!doctype html><script>\n{script}</script>{SAY_WHEN_REFUSED}"
    assert '"refused"' in console_line(serve_page(page))


@pytest.mark.parametrize("is_named", [True, False])
def test_the_page_of_the_tutorial_is_greeted_if_its_origin_is_named(
    is_named, run_app, serve_page, console_line
):
    lesson = (DOCS / "tutorial" / "first-server.md").read_text(encoding="utf-8")
    (page,) = re.findall(r"^```html\n(.*?)^```$", lesson, re.MULTILINE | re.DOTALL)
    (command,) = re.findall("^aiorest-ws run (.* --allowed-origins .*)$", lesson, re.MULTILINE)
    assert "open\n`http://127.0.0.1:8000/page.html`" in lesson
    arguments = command.replace("http://127.0.0.1:8000", serve_page.origin).split()
    server = run_app(*(arguments if is_named else arguments[:1]), "--port", "0")
    page = with_port(page, port_of(served_url(server))) + SAY_WHEN_REFUSED
    line = console_line(serve_page(page))
    assert ('"Hello, Ada!"' if is_named else '"refused"') in line
    stop(server)


def test_the_page_that_cancels_is_told_what_became_of_its_calls(run_app, serve_page, console_line):
    server = run_app("deadlines:app", "--port", "0", "--allowed-origins", serve_page.origin)
    script = (SNIPPETS / "cancel_client.js").read_text(encoding="utf-8")
    script = with_port(script, port_of(served_url(server)))
    line = console_line(serve_page(f"<!doctype html><script>\n{script}</script>"))
    assert '"499 408 The short report"' in line
    stop(server)


def test_the_readme_names_the_two_commands():
    assert readme_block("python3 -m pip install . && python3 -m aiorest_ws demo")
    assert readme_block("python3 -m pip install tox && python3 -m tox")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_to_files_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [
        target
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
        if not target.startswith("https://")
    ]
    assert [target for target in targets if not (ROOT / target).exists()] == []


# The reference.


def public_modules():
    for module in pkgutil.walk_packages(aiorest_ws.__path__, "aiorest_ws."):
        is_private = any(part.startswith("_") for part in module.name.split(".")[1:])
        if not is_private and getattr(importlib.import_module(module.name), "__all__", ()):
            yield module.name


def test_every_module_that_programs_import_is_in_the_reference():
    listed = tomllib.loads((DOCS / "reference.toml").read_text(encoding="utf-8"))
    documented = [name for page in listed["page"] for name in page["modules"]]
    expected = [
        name for name in public_modules() if not name.startswith(tuple(listed["internal"]))
    ]
    assert sorted(name for name in documented if name.startswith("aiorest_ws")) == sorted(expected)


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    ("head", "expected", "reason"),
    [
        (b"GET /healthz HTTP/1.1\r\n", 200, "healthy"),
        (HANDSHAKE + b"Cookie : a\r\n", 400, "malformed HTTP"),
        (
            HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: close"),
            400,
            "not a handshake of RFC 6455",
        ),
        (HANDSHAKE + b"Origin: https://localhost:8443\r\n", 403, "`Origin`"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", 426, "a plain GET"),
        (HANDSHAKE + b"Cookie: " + b"a" * 16 * 1024 + b"\r\n", 431, "over 16 KiB"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_of_http_has_the_status_of_the_page(head, expected, reason, load, network):
    raw = await network.raw(await start(load("wire"), network), head + b"\r\n")
    answer = await raw.end()
    assert answer.startswith(b"HTTP/1.1 %d " % expected)
    assert answer.count(b"HTTP/1.1") == 1
    page = (DOCS / "reference" / "wire-protocol.md").read_text(encoding="utf-8")
    (section,) = re.findall("^## HTTP responses\n(.*)", page, re.MULTILINE | re.DOTALL)
    assert re.search(rf"^\\| {expected} \\| .*{re.escape(reason)}", section, re.MULTILINE)


def test_every_setting_is_in_the_reference():
    from aiorest_ws.conf import global_settings

    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", page))
    assert named == {*global_settings.__all__, "AIORESTWS_SETTINGS_MODULE"}


@pytest.mark.parametrize("command", ["run", "demo"])
def test_every_option_of_the_command_is_in_the_reference(command, environment):
    shown = subprocess.run(
        [sys.executable, "-m", "aiorest_ws", command, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        check=True,
    ).stdout
    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    (section,) = re.findall(
        rf"^## aiorest-ws {command}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL
    )
    options = set(re.findall("--[a-z][a-z-]+", shown)) - {"--help"}
    assert set(re.findall("--[a-z][a-z-]+", section)) == options


def test_every_option_for_twist_is_in_the_reference():
    from aiorest_ws.tap import Options

    page = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## twist aiorest-ws\n(.*)", page, re.MULTILINE | re.DOTALL)
    named = {name for name, *_ in (*Options.optParameters, *Options.optFlags)}
    table = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    assert set(re.findall("--([a-z-]+)", table)) == named


UNITS = {"": 1, " s": 1, " KiB": 2**10, " MiB": 2**20}


def default_on_page(text):
    """Return the value that a page writes as `16 KiB`, `5 s`, `64`, `1-2`, `none` or `empty`."""
    if "-" in text:
        return tuple(map(int, text.split("-")))
    if text in ("none", "empty"):
        return {"none": None, "empty": ()}[text]
    number, unit = re.fullmatch(r"([\d,]+)( \w+)?", text).groups()
    return int(number.replace(",", "")) * UNITS[unit or ""]


@pytest.mark.parametrize("page", ["reference/limits.md", "explanation/security.md"])
def test_every_limit_is_on_the_page_with_its_default(page):
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \|", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    on_page = {name: default_on_page(text) for name, text in rows}
    assert len(rows) == len(on_page)
    assert on_page == {field.name: field.default for field in dataclasses.fields(Limits)}


def test_every_status_of_an_error_is_in_the_reference():
    page = (DOCS / "reference" / "wire-protocol.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Status\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    listed = {int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    for name in public_modules():
        importlib.import_module(name)
    kinds = [aiorest_ws.exceptions.BaseAPIException]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    ours = {kind.status for kind in kinds if kind.__module__.startswith("aiorest_ws.")}
    assert ours == listed
