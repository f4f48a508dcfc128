"""A thousand clients at once, in a process of their own: every reply arrives and is right."""

import re
import resource
import signal
import subprocess
import sys

import pytest

from support.requirements import skip_or_fail

pytestmark = [pytest.mark.process, pytest.mark.slow]

CONNECTIONS = 1000
REQUESTS = 100
SECONDS = 300

SERVER = """
import asyncio
from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter
from twisted.internet.defer import Deferred

@endpoint("/plain/{number}", "GET")
def plain(request, number):
    return int(number) + 1

@endpoint("/async/{number}", "GET")
async def awaited(request, number):
    await asyncio.sleep(0)
    return int(number) + 2

@endpoint("/deferred/{number}", "GET")
def deferred(request, number):
    answer = Deferred()
    request.factory.reactor.callLater(0, answer.callback, int(number) + 3)
    return answer

router = SimpleRouter()
for function in (plain, awaited, deferred):
    router.register_endpoint(function)
Application(router=router).run(port=0)
"""

CLIENT = """
import asyncio, base64, json, sys
from websockets.asyncio.client import connect

url, connections, requests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
opened = asyncio.Event()
waiting = connections
KINDS = (("plain", 1), ("async", 2), ("deferred", 3))

async def client(name):
    global waiting
    async with connect(url, open_timeout=None, ping_interval=None, compression=None) as websocket:
        waiting -= 1
        if not waiting:
            opened.set()
        await opened.wait()  # all of them are connected at the same time
        for number in range(requests):
            kind, step = KINDS[(name + number) % 3]
            event = f"{name}/{number}"
            message = json.dumps(
                {"method": "GET", "url": f"/{kind}/{number}", "event_name": event}
            )
            binary = (name + number) % 2
            await websocket.send(base64.b64encode(message.encode()) if binary else message)
            reply = await websocket.recv()
            assert isinstance(reply, bytes) == bool(binary), reply
            reply = base64.b64decode(reply).decode() if binary else reply
            expected = {"data": number + step, "event_name": event}
            assert json.loads(reply) == expected, (reply, expected)
    return requests

async def main():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client(name)) for name in range(connections)]
    print(sum(task.result() for task in tasks), "right replies")

asyncio.run(main())
"""


@pytest.fixture
def many_files():
    """Raise the soft limit of open files for the processes of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        skip_or_fail(f"{wanted} open files are needed, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_clients_get_every_reply_and_the_log_has_nothing_to_say(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        while not (found := re.search(r"ws://\S+", "".join(lines))):
            line = server.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        client = subprocess.run(
            [sys.executable, "-c", CLIENT, found.group(), str(CONNECTIONS), str(REQUESTS)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert client.returncode == 0, client.stderr[-2000:]
        assert client.stdout == f"{CONNECTIONS * REQUESTS} right replies\n"
        server.send_signal(signal.SIGTERM)
        # On a slow machine a thousand handshakes in one turn of the loop are told of.
        lines += [line for line in server.stdout if " the loop " not in line]
        assert server.wait(SECONDS) == 0
    finally:
        server.kill()
        server.stdout.close()
        server.wait(SECONDS)
    expected = ["aiorest-ws", "Server started at", "Reactor:", "Quit the server with"]
    assert len(lines) == len(expected), "".join(lines)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
