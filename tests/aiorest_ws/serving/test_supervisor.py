"""Servers with workers: the start, and workers that die."""

import os
import re
import signal
import ssl
import textwrap
from pathlib import Path

import pytest
from websockets.sync.client import connect, unix_connect

from support.waiting import block_until
from support.workers import ask, pids_of

pytestmark = pytest.mark.process

# The start

FLAVOURS = {
    "script": ("server.py", "2"),
    "module": ("-m", "server", "2"),
    "-c": ("-c", "from api import app; app.run(port=0, workers=2)"),
    "command": ("-m", "aiorest_ws", "run", "api:app", "--port", "0", "--workers", "2"),
}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_worker_is_a_process_of_the_same_program(start, flavour):
    server = start(*FLAVOURS[flavour])
    url = server.url()
    pids = pids_of(url, 2)
    assert pids == set(server.workers())
    with connect(url) as client:
        assert ask(client, "/inherited") == []
    status, output = server.end(signal.SIGTERM)
    assert status == 0, output
    assert output.count("Server started at ") == 1
    assert "Workers: 2" in output
    assert {Path(server.folder, f"stopped.{pid}").exists() for pid in pids} == {True}
    assert len(output.splitlines()) == 5, output


def test_one_worker_is_the_process_itself(start):
    server = start("server.py", "1")
    assert pids_of(server.url(), 1) == {server.process.pid}
    assert "Workers" not in server.end(signal.SIGTERM)[1]


def test_workers_serve_wss(start, tls_files):
    certificate, key = map(str, tls_files)
    server = start(*FLAVOURS["command"], "--certificate", certificate, "--key", key)
    context = ssl.create_default_context(cafile=certificate)
    pids = pids_of(server.url(), 2, ssl=context, server_hostname="localhost")
    assert pids == set(server.workers())
    assert server.end(signal.SIGTERM)[0] == 0


TWIST = """
    import sys
    from twisted.application.twist._twist import Twist
    from twisted.plugin import getPlugins
    import twisted.application.twist._options as options
    from twisted.application.service import ServiceMaker

    # What the installed plugin says; an editable install has none.
    ours = ServiceMaker("aiorest-ws", "aiorest_ws.tap", "", "aiorest-ws")
    options.getPlugins = lambda interface: [ours]
    Twist.main(sys.argv)
"""


def test_twist_serves_a_unix_socket_with_workers(start, tmp_path):
    (tmp_path / "twist.py").write_text(textwrap.dedent(TWIST))
    server = start(
        "twist.py", "--log-format=text", "aiorest-ws", "--app", "api:app",
        "--workers", "2", "--listen", "unix:api.sock",
    )  # fmt: skip
    server.wait_for("serves .*api.sock.* on 2 workers, each on AsyncioSelectorReactor")
    path = str(tmp_path / "api.sock")
    found = set()
    block_until(lambda: found.add(pid_by(path)) or len(found) == 2)
    assert found == set(server.workers())
    status, output = server.end(signal.SIGTERM)
    assert status == -signal.SIGTERM, output  # as twist ends
    assert output.count("serves ") == 1
    assert not (tmp_path / "api.sock").exists()
    assert len(list(tmp_path.glob("stopped.*"))) == 2


def pid_by(path):
    with unix_connect(path, "ws://localhost/") as client:
        return ask(client, "/pid")


def test_a_worker_that_cannot_start_ends_the_server_with_its_status(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from api import app\n"
        "@app.on_startup\n"
        "def fail(factory):\n"
        "    raise RuntimeError('no database')\n"
        "app.run(port=0, workers=3)\n"
    )
    server = start("server.py")
    status, output = server.end()
    assert status == 1
    assert "the server cannot start: no database" in output
    assert re.search(
        r"CRITICAL.*worker \d, pid \d+, ended with status 1 before it listened", output
    )
    assert "Server started" not in output


def test_a_second_service_with_workers_is_refused(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from api import app\n"
        "first, second = (app.tcp_service('127.0.0.1', 0, workers=2) for _ in range(2))\n"
        "first.run()\n"
    )
    status, output = start("server.py").end()
    assert status == 1
    assert "Only one service of a process can have workers." in output


def test_a_server_that_starts_can_be_stopped(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "import os\n"
        "from twisted.internet.defer import Deferred\n"
        "from api import app\n"
        "@app.on_startup\n"
        "def never(factory):\n"
        # One write: the lines of two workers must not run into each other.
        "    os.write(1, b'starting\\n')\n"
        "    return Deferred()\n"
        "app.run(port=0, workers=2)\n"
    )
    server = start("server.py")
    server.wait_for("starting")
    server.wait_for("starting")
    status, output = server.end(signal.SIGINT)
    assert status == 0, output


# A worker that dies


def test_a_worker_that_is_killed_is_replaced_while_the_others_serve(start):
    server = start("server.py", "2")
    url = server.url()
    with connect(url) as client:
        stays = ask(client, "/pid")
        [goes] = set(server.workers()) - {stays}
        os.kill(goes, signal.SIGKILL)
        server.wait_for(rf"WARNING.*worker \d, pid {goes}, ended by SIGKILL; the next in 0.1 s")
        block_until(lambda: len(server.workers()) == 2)
        assert ask(client, "/pid") == stays
    assert pids_of(url, 2) == set(server.workers())
    assert goes not in server.workers()
    assert server.end(signal.SIGTERM)[0] == 0


def test_one_that_dies_again_and_again_is_replaced_more_slowly(start, tmp_path):
    server = start("server.py", "2")
    server.url()
    (tmp_path / "api.py").write_text("import sys\nsys.exit(3)\n")
    os.kill(server.workers()[0], signal.SIGKILL)
    pauses = [
        server.wait_for(rf"ended {how}; the next in ([\d.]+) s")[1]
        for how in ("by SIGKILL", "with status 3", "with status 3", "with status 3")
    ]
    assert pauses == ["0.1", "0.2", "0.4", "0.8"]
    assert server.end(signal.SIGTERM)[0] == 0


# The end of a service, with or without workers


def test_shutdown_hooks_run_once_when_the_service_stops_before_its_reactor(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from api import app\n"
        "service = app.tcp_service('127.0.0.1', 0)\n"
        "@app.on_shutdown\n"
        "def stopped(factory):\n"
        "    print('hook', flush=True)\n"
        "def stop(_):\n"
        "    reactor = service.factory.reactor\n"
        "    service.stopService().addCallback(lambda _: reactor.stop())\n"
        "service.listening.addCallback(stop)\n"
        "service.run()\n"
    )
    status, output = start("server.py").end()
    assert status == 0, output
    assert output.count("hook") == 1


def test_a_drain_that_fails_is_status_1_and_the_hooks_run(start, tmp_path):
    (tmp_path / "server.py").write_text(
        "from aiorest_ws.serving import service\n"
        "from api import app\n"
        "async def fail(factory):\n"
        "    raise RuntimeError('planted')\n"
        "service.drain = fail\n"
        "app.run(port=0)\n"
    )
    server = start("server.py")
    server.url()
    status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert "connections could not be closed" in output
    assert list(tmp_path.glob("stopped.*"))
