"""The code that the pages about networkpype show, run as it stands."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import importlib
import importlib.util
import os
import pkgutil
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

import networkpype
from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    HTTPStatusError,
    RateLimit,
    RetryPolicy,
    WebSocketJSONRequest,
)
from networkpype.exceptions import BufferOverflowError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "networkpype"
SNIPPETS = DOCS / "snippets"

# How long a process that hangs is waited for.
PATIENCE_SECONDS = 60


@pytest.fixture
def load():
    """Import a snippet by path, anew for each test."""

    def import_by_path(name):
        spec = importlib.util.spec_from_file_location(f"shown_{name}", SNIPPETS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return import_by_path


def any_factory(**options):
    return ConnectionManagersFactory(
        AsyncThrottler([RateLimit(name, 1000, 1.0) for name in ("api", "order", "ticker")]),
        **options,
    )


@contextlib.asynccontextmanager
async def a_manager(**options):
    async with any_factory(**options) as factory:
        yield await factory.get_rest_manager()


def websocket(handle):
    """Return a route whose connections `handle` holds; they are numbered from 1."""
    count = 0

    async def route(request):
        nonlocal count
        count += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await handle(socket, count)
        return socket

    return route


# The tutorial: processes, as a reader starts them.


@pytest.fixture
def environment():
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "no_proxy": "*"}


@contextlib.contextmanager
def serving(program, environment, errors):
    """Start a server on a free port and give its URL; at the end it must have had no trouble."""
    with errors.open("w") as sink:
        server = subprocess.Popen(
            [sys.executable, program, "--port", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
    watchdog = threading.Timer(PATIENCE_SECONDS, server.kill)
    watchdog.start()
    try:
        yield re.fullmatch(r"Serving (\S+)\n", server.stdout.readline()).group(1)
        server.send_signal(signal.SIGTERM)
        assert (server.wait(), errors.read_text()) == (0, "")
    finally:
        watchdog.cancel()
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.fixture
def weather_url(environment, tmp_path):
    """The URL of the tutorial's server, running."""
    with serving(SNIPPETS / "weather_server.py", environment, tmp_path / "errors") as url:
        yield url


@pytest.fixture
def shop_url(environment, tmp_path):
    """The URL of the server that the README names, running."""
    program = ROOT / "examples" / "rest_connector" / "server.py"
    with serving(program, environment, tmp_path / "errors") as url:
        yield url


def run_program(command, environment, cwd=None):
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", ["weather_first", "weather_many", "weather_program"])
def test_a_program_of_the_tutorial_prints_what_the_page_shows(name, weather_url, environment):
    printed = run_program([SNIPPETS / f"{name}.py", weather_url], environment)
    assert printed == (SNIPPETS / f"{name}.out").read_text(encoding="utf-8")


def test_every_output_is_that_of_a_program():
    assert {path.stem for path in SNIPPETS.glob("*.out")} == {
        "weather_first",
        "weather_many",
        "weather_program",
    }


# Limits


def test_limits_are_linked_as_the_page_says(load):
    module = load("limits")
    throttler = module.make_throttler()
    _, related = throttler.get_related_limits("order")
    consumed = {limit.limit_id: weight for limit, weight in related}
    assert consumed == {"order": 1, "weight": 1, "orders": 1, "orders-per-day": 1}
    _, related = throttler.get_related_limits("ticker")
    assert {limit.limit_id: weight for limit, weight in related} == {"ticker": 1, "weight": 2}
    half = module.make_throttler_for_half()
    assert half.limits_share_percentage == Decimal(50)
    assert {limit.limit_id: limit.limit for limit in half.rate_limits}["weight"] == 600


def test_free_capacity_is_told_without_waiting(load, run):
    module = load("limits")

    async def main():
        throttler = module.make_throttler()
        assert module.is_worth_it(throttler, 0)
        # 600 less the safety margin.
        taken = 0
        while module.refresh_if_free(throttler):
            taken += 1
        assert taken == 570
        assert not module.is_worth_it(throttler, 1)
        module.be_more_careful(throttler)
        limits = {limit.limit_id: limit.limit for limit in throttler.rate_limits}
        assert limits == {
            "weight": 600,
            "orders": 25,
            "orders-per-day": 2500,
            "ticker": 300,
            "order": 300,
        }
        # 1,140 of what are now 570 units are used: an order waits for the end of the minute.
        assert not module.is_worth_it(throttler, 1)
        assert module.is_worth_it(throttler, 61)

    run(main())


def test_limits_serve_other_work_too_and_priorities_requests(load, run, serve):
    module = load("limits")

    async def work():
        return "done"

    async def main():
        throttler = module.make_throttler()
        assert await module.do_something_else(throttler, work) == "done"
        async with serve() as server, a_manager() as manager:
            assert await module.cancel_first(manager, server.url()) == {"n": 1}
            assert await module.read_depth(manager, server.url(), 500) == {"n": 2}

    run(main())


@pytest.mark.parametrize(
    ("name", "status", "headers", "earliest", "latest"),
    [
        ("mapped", 200, {"X-MBX-USED-WEIGHT-1M": "95"}, 1, 60),
        ("mapped", 200, {"X-MBX-USED-WEIGHT-1M": "50"}, 0, 0),
        ("mapped", 429, {"Retry-After": "30"}, 10, 30),
        ("own_header", 200, {"X-Points-Left": "0"}, 1, 60),
        ("own_header", 200, {"X-Points-Left": "100"}, 0, 0),
        ("banned_by_403", 403, {}, 60, 120),
        ("deaf", 429, {"Retry-After": "30"}, 0, 0),
    ],
)
def test_a_server_corrects_the_limits(load, run, name, status, headers, earliest, latest):
    async def main():
        throttler = getattr(load("server_limits"), name)
        throttler.observe("ticker", status, headers)
        assert earliest <= throttler.estimate_wait("ticker") <= latest + 0.1

    run(main())


# REST


def test_a_read_and_an_order_with_a_key_are_repeated(load, run, serve):
    module = load("retries")
    seen = []

    async def fail_first(request):
        seen.append((request.method, request.headers.get("Idempotency-Key")))
        status = 503 if len(seen) % 2 else 200
        return web.json_response({"done": status == 200}, status=status)

    async def main():
        async with serve({"/": fail_first}) as server, module.make_factory() as factory:
            manager = await factory.get_rest_manager()
            assert await module.read(manager, server.url("/")) == {"done": True}
            assert await module.place(manager, server.url("/"), {"n": 1}) == {"done": True}
        assert [method for method, _ in seen] == ["GET", "GET", "POST", "POST"]
        assert seen[2][1] == seen[3][1] is not None

    run(main())


def test_requests_are_signed_in_each_of_the_ways_shown(load, run, serve):
    module = load("signing")

    async def sent(auth):
        async with serve() as server, a_manager(auth=auth) as manager:
            await manager.execute_request(
                server.url("/a?b=c d"), "api", data={"x": 1}, is_auth_required=True
            )
            return server.seen[0]

    async def main():
        request = await sent(module.bearer)
        assert request["headers"]["Authorization"] == "Bearer my-token"

        request = await sent(module.in_query)
        signed, _, signature = request["query"].rpartition("&signature=")
        expected = hmac.new(b"my-secret", signed.encode() + request["body"], hashlib.sha256)
        assert signature == expected.hexdigest()
        assert "recvWindow=5000" in signed

        request = await sent(module.in_headers)
        head = f"{request['headers']['X-Timestamp']}\nGET\n{request['target']}\n".encode()
        digest = hmac.digest(b"my-secret", head + request["body"], "sha256")
        assert request["headers"]["X-Sign"] == base64.b64encode(digest).decode()

        auth = module.MyAuth(b"my-secret")
        request = await sent(auth)
        content = request["target"].encode() + request["body"]
        expected = hmac.new(b"my-secret", content, hashlib.sha256).hexdigest()
        assert request["headers"]["X-Sign"] == expected
        message = await auth.ws_authenticate(WebSocketJSONRequest({"op": "login"}))
        stamp = message.payload["t"]
        expected = hmac.new(b"my-secret", stamp.encode(), hashlib.sha256).hexdigest()
        assert message.payload == {"op": "login", "t": stamp, "sign": expected}

    run(main())


def test_a_token_is_fetched_once_and_again_after_a_refusal(load, run, serve):
    logins = []

    async def login(request):
        logins.append(await request.json())
        return web.json_response({"access_token": f"t{len(logins)}", "expires_in": 3600})

    async def profile(request):
        is_good = request.headers["Authorization"] == f"Bearer t{max(valid, len(logins))}"
        return web.json_response({"ok": is_good}, status=200 if is_good else 401)

    valid = 1

    async def main():
        nonlocal valid
        async with serve({"/login": login, "/profile": profile}) as server:
            client = load("tokens").Client(server.url(""), "ada", "secret")
            profiles = await asyncio.gather(*(client.profile() for _ in range(5)))
            assert profiles == [{"ok": True}] * 5
            assert logins == [{"user": "ada", "password": "secret"}]
            valid = 2
            with pytest.raises(HTTPStatusError):
                await client.profile()
            assert await client.profile() == {"ok": True}
            assert len(logins) == 2
            await client.close()

    run(main())


def test_the_clock_of_the_server_is_known_before_the_first_signature_and_kept(load, run, serve):
    ahead_ms = 3_600_000
    asked = 0

    async def server_time(request):
        nonlocal asked
        asked += 1
        if asked in {2, 4}:
            return web.json_response({"error": "busy"}, status=503 if asked == 2 else 200)
        return web.json_response({"ms": time.time() * 1000 + ahead_ms})

    stamps = []

    async def balance(request):
        stamps.append(int(request.query["timestamp"]))
        return web.json_response(1)

    async def main():
        nonlocal ahead_ms
        module = load("clock")
        async with serve({"/time": server_time, "/balance": balance}) as server:
            client = module.Client(server.url(""))
            await asyncio.gather(client.balance(), client.balance())
            assert asked == 1
            hour_from_now = time.time() * 1000 + 3_600_000
            assert all(abs(stamp - hour_from_now) < 1_200_000 for stamp in stamps)

            ticks, slept = asyncio.Queue(), asyncio.Queue()

            async def sleep(seconds):
                await slept.put(seconds)
                await ticks.get()

            ahead_ms = 7_200_000
            keeping = asyncio.create_task(client.keep_time(60, sleep=sleep))
            # Two of them fail.
            for _ in range(8):
                assert await slept.get() == 60
                ticks.put_nowait(None)
            assert await slept.get() == 60
            keeping.cancel()
            await asyncio.wait([keeping])
            # Five samples of the new offset: nothing is left of the old one.
            assert abs(client.clock.time() - time.time() - 7200) < 1200
            await client.close()
        assert module.careful_clock.time() > 0

    run(main())


def test_processors_see_what_goes_and_comes(load, run, serve):
    module = load("processors")

    async def envelope(socket, _number):
        async for message in socket:
            await socket.send_json({"payload": message.json()})

    async def main():
        statuses = module.CountStatuses()
        async with (
            serve({"/ws": websocket(envelope)}) as server,
            module.make_factory(server.url(""), statuses) as factory,
        ):
            assert await module.get(factory, "/echo") == {"n": 1}
            assert statuses.counts == {200: 1}
            stream = await factory.get_ws_manager()
            await stream.connect(server.url("/ws"))
            for number in (1, 2):
                await stream.send(WebSocketJSONRequest({"op": "hi"}))
                assert (await stream.receive()).data == {"op": "hi", "id": number}
            await stream.disconnect()

    run(main())


def test_bodies_arrive_as_they_were_sent(load, run, serve, tmp_path):
    module = load("bodies")
    original = tmp_path / "original"
    original.write_bytes(os.urandom(300_000))

    async def give(request):
        return web.FileResponse(original)

    async def refuse(request):
        return web.Response(status=403, text="not yours")

    async def main():
        async with serve({"/file": give, "/refused": refuse}) as server, a_manager() as manager:
            url = server.url()
            await module.send_json(manager, url)
            await module.send_bytes(manager, url)
            await module.send_file(manager, url, original)
            await module.send_form(manager, url, original)
            bodies = [request["body"] for request in server.seen]
            assert bodies[:3] == [b'{"side": "buy"}', b"\x00\x01", original.read_bytes()]
            assert original.read_bytes() in bodies[3]
            assert b'filename="original"' in bodies[3]
            types = [request["headers"]["Content-Type"] for request in server.seen]
            assert types[:3] == ["application/json", *["application/octet-stream"] * 2]
            assert types[3].startswith("multipart/form-data; boundary=")

            progress = []
            copy = tmp_path / "copy"
            await module.download(
                manager, server.url("/file"), copy, lambda *step: progress.append(step)
            )
            assert copy.read_bytes() == original.read_bytes()
            assert len(progress) > 1
            assert progress[-1] == (300_000, 300_000)
            with pytest.raises(HTTPStatusError, match="not yours"):
                await module.download(manager, server.url("/refused"), copy, progress.append)

    run(main())


def test_a_factory_is_shared_by_workers(load, run, serve):
    async def main():
        async with serve() as server:
            answers = await load("sharing").crawl([server.url(f"/{n}") for n in range(10)])
            assert sorted(answer["n"] for share in answers for answer in share) == [*range(1, 11)]
            assert {seen["headers"]["User-Agent"] for seen in server.seen} == {"my-program/1.0"}

    run(main())


def test_errors_are_told_apart(load, run, serve, unused_port):
    module = load("errors")
    release = asyncio.Event()

    async def hang(request):
        await release.wait()
        return web.Response()

    async def fail(request):
        return web.Response(status=500, text="broken")

    async def main():
        policy = RetryPolicy(max_attempts=2, backoff_seconds=0)
        async with (
            serve({"/hang": hang, "/fail": fail}) as server,
            a_manager(retry=policy) as manager,
        ):
            say = module.describe
            assert await say(manager, server.url(), 60) == "answer: {'n': 1}"
            assert await say(manager, server.url("/fail"), 60) == "status 500 after 2: broken"
            assert await say(manager, server.url("/hang"), 0.2) == "not done within 0.2 s"
            release.set()
            nobody = f"http://127.0.0.1:{unused_port}/"
            assert await say(manager, nobody, 60) == "no answer: ConnectError"
            await manager.execute_request(server.url(), "api")
            unsigned = AsyncThrottler([RateLimit("api", 1, 1.0)])
            unsigned.rate_limits = [RateLimit("other", 1, 1.0)]
            async with ConnectionManagersFactory(unsigned) as factory:
                answer = await say(await factory.get_rest_manager(), server.url(), 60)
                assert answer == "something else: Rate limit not found for ID: api"

    run(main())


# WebSocket


def test_a_stream_logs_in_again_and_subscribes_again_in_order(load, run, serve):
    module = load("reconnect")
    received = []

    async def feed(socket, number):
        for _ in range(3):
            message = await socket.receive_json()
            received.append((number, message["op"], message.get("to")))
            if message["op"] == "login":
                await socket.send_json({"op": "login", "ok": True})
        await socket.send_json({"from": number})
        if number == 1:
            await socket.close(code=1012, message=b"restart")
        else:
            await socket.receive()

    told = []

    class Enough(Exception):
        pass

    async def on_message(data):
        told.append(data)
        if data == {"from": 2}:
            raise Enough

    async def on_gap(gap):
        told.append((gap.code, gap.reason))

    async def main():
        async with serve({"/ws": websocket(feed)}) as server, module.make_factory() as factory:
            with pytest.raises(Enough):
                await module.listen(factory, server.url("/ws"), on_message, on_gap)

    run(main())
    wanted = [("login", None), ("subscribe", "a"), ("subscribe", "b")]
    assert received == [(number, *rest) for number in (1, 2) for rest in wanted]
    assert told == [{"from": 1}, (1012, "restart"), {"from": 2}]


def test_what_was_left_is_not_subscribed_again(load, run, serve):
    module = load("reconnect")
    received = []

    async def feed(socket, number):
        if number == 2:
            received.append(await socket.receive_json())
            await socket.send_json("second")
            await socket.receive()
            return
        received.extend([await socket.receive_json() for _ in range(3)])
        await socket.close(code=1012)

    async def main():
        from networkpype import ReconnectPolicy

        policy = ReconnectPolicy(initial_delay_seconds=0)
        throttler = AsyncThrottler([RateLimit("ws", 100, 1.0)])
        async with (
            serve({"/ws": websocket(feed)}) as server,
            ConnectionManagersFactory(throttler, reconnect=policy) as factory,
        ):
            manager = await factory.get_ws_manager()
            await manager.connect(server.url("/ws"))
            first, second = (WebSocketJSONRequest({"to": name}, "ws") for name in "ab")
            await manager.subscribe(first)
            await manager.subscribe(second)
            await module.leave(manager, first)
            assert (await manager.receive()).code == 1012
            assert (await manager.receive()).data == "second"
            await manager.disconnect()

    run(main())
    assert received == [{"to": "a"}, {"to": "b"}, {"op": "leave", "to": "a"}, {"to": "b"}]


@pytest.mark.parametrize("name", ["latest", "drop_oldest", "block", "fail"])
def test_a_buffer_does_what_its_policy_says_when_the_program_is_slow(load, run, serve, name):
    module = load("overflow")
    last = 3000
    taken = []

    class Enough(Exception):
        pass

    async def main():
        flooded = asyncio.Event()

        async def flood(request):
            socket = web.WebSocketResponse(autoping=False)
            await socket.prepare(request)
            with contextlib.suppress(ConnectionError):
                for number in range(last + 1):
                    symbol = "last" if number == last else number % 10
                    await socket.send_json({"symbol": symbol, "number": number})
                await socket.ping()
                # Its pong says that all before it has been read; or else it is the end.
                await socket.receive()
            flooded.set()
            await socket.receive()
            return socket

        async def handle(data):
            taken.append(data["number"])
            if name != "block" and len(taken) == 1:
                await flooded.wait()
            if data["number"] == last:
                raise Enough

        async with serve({"/ws": flood}) as server, any_factory() as factory:
            expected = BufferOverflowError if name == "fail" else Enough
            with pytest.raises(expected):
                await module.prices(factory, server.url("/ws"), getattr(module, name), handle)

    run(main())
    if name == "latest":
        # The newest of each symbol; and one that may have been taken before them.
        assert set(taken) >= {*range(last - 10, last + 1)}
        assert len(taken) <= 12
    elif name == "drop_oldest":
        # The newest 1,000; and one that may have been taken before them.
        assert taken[-999:] == [*range(last - 998, last + 1)]
        assert last - 999 in taken
        assert len(taken) <= 1001
    elif name == "block":
        assert taken == [*range(last + 1)]
    else:
        assert taken == [*range(len(taken))]
        assert 1000 <= len(taken) <= 1001


# The README


def test_a_fresh_url_and_heartbeats(load, run, serve):
    module = load("reconnect")
    seen = []

    async def feed(socket, _number):
        seen.append(await socket.receive_json())
        await socket.send_json({"op": "pong"})
        await socket.send_json("data")
        await socket.receive()

    async def greet(request):
        seen.append(request.headers["X-Signature"])
        return await websocket(lambda socket, _: socket.send_json("hello"))(request)

    async def fetch_listen_key():
        return "key"

    async def main():
        async with (
            serve({"/ws/key": greet, "/beats": websocket(feed)}) as server,
            module.make_factory() as factory,
        ):
            manager = await factory.get_ws_manager()
            await module.connect_with_listen_key(
                manager, server.url("/ws"), fetch_listen_key, lambda: "signed"
            )
            assert (await manager.receive()).data == "hello"
            await manager.disconnect()
            await module.connect_with_heartbeat(manager, server.url("/beats"), seconds=0.05)
            assert (await manager.receive()).data == "data"
            await manager.disconnect()

    run(main())
    assert seen == ["signed", {"op": "ping"}]


def test_the_connector_of_the_readme_gets_everything(shop_url, environment, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if block.startswith("# connector.py\n")]
    assert len([line for line in code.splitlines() if line]) == 10
    assert code.count("http://127.0.0.1:8080/") == 1
    program = tmp_path / "connector.py"
    program.write_text(code.replace("http://127.0.0.1:8080/", shop_url), encoding="utf-8")
    assert run_program([program], environment) == "40 products\n"


# The pages and the reference


def public_modules():
    for module in pkgutil.walk_packages(networkpype.__path__, "networkpype."):
        is_private = any(part.startswith("_") for part in module.name.split(".")[1:])
        if not is_private and importlib.import_module(module.name).__all__:
            yield module.name


def test_every_public_module_is_in_the_reference():
    listed = tomllib.loads((ROOT / "docs" / "reference.toml").read_text(encoding="utf-8"))
    documented = [name for page in listed["page"] for name in page["modules"]]
    assert sorted(name for name in documented if name.startswith("networkpype")) == sorted(
        [*public_modules(), "networkpype"]
    )


def test_every_snippet_is_shown():
    shown = {
        path.name
        for page in DOCS.rglob("*.md")
        for path in map(Path, re.findall(r"<!-- snippet: (\S+)", page.read_text(encoding="utf-8")))
    }
    written = {path.name for path in SNIPPETS.iterdir() if path.suffix in {".py", ".out"}}
    assert written - shown == set()
