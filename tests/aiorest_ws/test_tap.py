"""The plugin for `twist`, and `twistd`."""

import json
import os
import signal
import socket
import subprocess
import sys
from functools import cache

import pytest

from aiorest_ws.tap import Options
from support.programs import HELLO, HELLO_REPLY, SECONDS, ask, script
from support.requirements import skip_or_fail

pytestmark = pytest.mark.process


@cache
def help_of_twist():
    return subprocess.run(
        [script("twist"), "--help"], capture_output=True, text=True, check=False, cwd="/"
    ).stdout


def needs_plugin():
    if "aiorest-ws" in help_of_twist():
        return
    skip_or_fail("the twist plugin needs a plain install of aiorest-ws (tox makes one)")


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_twist_serves_an_application(start, with_signal):
    needs_plugin()
    server = start(
        script("twist"), "--log-format=text", "aiorest-ws", "--app", "api:app",
        "--listen", "tcp:0:interface=127.0.0.1",
    )  # fmt: skip
    url = server.url()
    assert "AsyncioSelectorReactor on uvloop.Loop" in server.lines[-1]
    assert json.loads(ask(url, '{"method":"GET","url":"/both"}'))["data"] == "awaited"
    assert server.end(with_signal) == -with_signal
    assert "stopped" in server.lines[-1]


def test_twist_serves_a_router_on_a_unix_socket(start, folder):
    needs_plugin()
    server = start(
        script("twist"), "--log-format=text", "aiorest-ws", "--app", "api:router",
        "--listen", "unix:api.sock",
    )  # fmt: skip
    server.wait_for("aiorest-ws .* serves")
    from websockets.sync.client import unix_connect

    with unix_connect(str(folder / "api.sock"), "ws://localhost/") as websocket:
        websocket.send(HELLO)
        assert websocket.recv(timeout=SECONDS) == HELLO_REPLY
    server.end(signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--app is required"),
        (["--app", "nowhere:app"], "There is no module 'nowhere'."),
        (["--app", "api:app", "--log-level", "loud"], "--log-level must be one of"),
    ],
)
def test_twist_explains_wrong_options(start, arguments, message):
    needs_plugin()
    server = start(script("twist"), "aiorest-ws", *arguments)
    assert server.join() != 0
    assert message in "\n".join(server.lines)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (None, None, None, None, True)),
        (["--certificate", "c", "--key", "k"], ("c", "k", None, None, True)),
        (["--ssl-ca-certs", "ca", "--no-ssl-reload"], (None, None, "ca", None, False)),
        (["--ssl-keyfile-password", "pw"], (None, None, None, "pw", True)),
    ],
)
def test_the_options_of_tls_reach_the_application(folder, monkeypatch, arguments, expected):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = Options()
    options.parseOptions(["--app", "api:app", *arguments])
    sys.modules.pop("api")
    app = options["application"]
    given = (app.certificate, app.key, app.ssl_ca_certs, app.ssl_keyfile_password, app.ssl_reload)
    assert given == expected


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_twistd_serves_a_tac_file(start, folder, with_signal):
    (folder / "service.tac").write_text(
        "import sys\nsys.path.insert(0, '.')\n"
        "from twisted.application.service import Application\n"
        "from api import app\n"
        "application = Application('api')\n"
        "app.service(listen='tcp:0:interface=127.0.0.1').setServiceParent(application)\n"
    )
    server = start(script("twistd"), "--nodaemon", "--pidfile=", "--python", "service.tac")
    assert ask(server.url()) == HELLO_REPLY
    assert server.end(with_signal) == -with_signal


def test_twistd_serves_as_a_daemon(start, folder):
    """The loop is made before twistd forks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "service.tac").write_text(
        "import sys\nsys.path.insert(0, '.')\n"
        "from twisted.application.service import Application\n"
        "from api import app\n"
        "application = Application('api')\n"
        f"app.service(listen='tcp:{port}:interface=127.0.0.1').setServiceParent(application)\n"
    )
    command = start(
        script("twistd"), "--pidfile=daemon.pid", "--logfile=daemon.log", "--python", "service.tac"
    )
    assert command.join() == 0, command.lines
    pid = int((folder / "daemon.pid").read_text())
    try:
        log = folder / "daemon.log"
        while "serves ws://" not in log.read_text():
            os.kill(pid, 0)  # it lives
        assert ask(f"ws://127.0.0.1:{port}/") == HELLO_REPLY
    finally:
        os.kill(pid, signal.SIGTERM)
    while (folder / "daemon.pid").exists():
        assert "Traceback" not in log.read_text()
