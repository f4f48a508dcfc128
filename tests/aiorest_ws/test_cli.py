"""`aiorest-ws run`, and `Application.run`, in processes of their own."""

import json
import re
import shutil
import signal
import socket
import ssl

import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from support.certificates import Certificate
from support.programs import HELLO_REPLY, SECONDS, ask, script
from support.requirements import skip_or_fail

pytestmark = pytest.mark.process

RUN = ("-m", "aiorest_ws", "run")


@pytest.mark.parametrize("name", ["api:app", "api:router"])
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_run_serves_until_a_signal_and_ends_with_status_0(start, name, with_signal):
    server = start(*RUN, name, "--port", "0")
    assert ask(server.url()) == HELLO_REPLY
    assert server.end(with_signal) == 0
    expected = [
        r"aiorest-ws \d+\.\d+\.\d+",
        r"Server started at ws://127\.0\.0\.1:\d+/",
        r"Reactor: AsyncioSelectorReactor on uvloop\.Loop",
        r"Quit the server with CONTROL-C\.",
    ]
    if name == "api:app":
        expected = ["started", *expected, "stopped"]
    assert len(server.lines) == len(expected)
    for pattern, line in zip(expected, server.lines, strict=True):
        assert re.fullmatch(pattern, line)


def test_application_run_blocks_and_returns_when_it_is_stopped(start, folder):
    (folder / "server.py").write_text(
        "from api import app\napp.run(port=0, path='api')\nprint('returned')\n"
    )
    server = start("server.py")
    url = server.wait_for(r"ws://127\.0\.0\.1:\d+/api").group(0)
    assert ask(url) == HELLO_REPLY
    assert server.end(signal.SIGINT) == 0
    assert server.lines[-1] == "returned"


def test_a_signal_closes_connections_with_1012(start):
    server = start(*RUN, "api:router", "--port", "0")
    with connect(server.url()) as websocket:
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=SECONDS)
    assert closed.value.rcvd.code == 1012
    assert server.join() == 0


def test_a_failure_is_one_log_entry_with_its_traceback(start):
    server = start(*RUN, "api:router", "--port", "0")
    reply = json.loads(ask(server.url(), '{"method":"GET","url":"/raise","token":"s3cret"}'))
    assert reply == {"detail": "Internal server error.", "status": 500, "event_name": None}
    server.end(signal.SIGINT)
    errors = [line for line in server.lines if " ERROR " in line]
    assert len(errors) == 1
    assert "<Request 'GET' '/raise'> failed" in errors[0]
    assert "KeyError: 'surprise'" in server.lines
    assert "s3cret" not in "\n".join(server.lines)


def test_a_busy_port_is_a_clear_error(start):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        server = start(*RUN, "api:router", "--port", str(port))
        assert server.join() == 1
    assert [line for line in server.lines if "ERROR" in line or "Traceback" in line] == []
    assert re.match(rf"aiorest-ws: Couldn't listen on 127.0.0.1:{port}: .*in use", server.lines[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:app"], "There is no module 'nowhere'."),
        (["api:missing"], "'api' has no 'missing'."),
        (["api"], "'api' is not of the form package.module:name."),
        (["api:app", "--port", "70000"], "70000 is not a TCP port"),
        (["api:app", "--certificate", "c.pem"], "TLS needs both, a `certificate` and its `key`."),
    ],
)
def test_wrong_arguments_are_explained_and_end_with_status_2(start, arguments, message):
    server = start(*RUN, *arguments)
    assert server.join() == 2
    assert message in server.lines[-1]
    assert "Traceback" not in "\n".join(server.lines)


def test_run_serves_wss(start, tls_files):
    certificate, key = tls_files
    server = start(
        *RUN, "api:router", "--port", "0", "--certificate", str(certificate), "--key", str(key)
    )
    url = server.url()
    assert url.startswith("wss://")
    context = ssl.create_default_context(cafile=str(certificate))
    assert ask(url, ssl=context, server_hostname="localhost") == HELLO_REPLY
    assert server.end(signal.SIGINT) == 0


def test_run_takes_a_key_with_a_password_and_asks_clients_for_certificates(start, tmp_path):
    authority = Certificate("authority")
    certificate, key = Certificate("localhost", authority).write(tmp_path, "secret")
    own_certificate, own_key = Certificate("client", authority).write(tmp_path)
    trusted, _ = authority.write(tmp_path)
    server = start(
        *RUN, "api:router", "--port", "0", "--certificate", str(certificate), "--key", str(key),
        "--ssl-keyfile-password", "secret", "--ssl-ca-certs", str(trusted), "--no-ssl-reload",
    )  # fmt: skip
    url = server.url()
    assert url.startswith("wss://")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(trusted)
    with pytest.raises((OSError, EOFError, WebSocketException)):
        ask(url, ssl=context, server_hostname="localhost")
    context.load_cert_chain(own_certificate, own_key)
    assert ask(url, ssl=context, server_hostname="localhost") == HELLO_REPLY
    assert server.end(signal.SIGINT) == 0
    assert "secret" not in "\n".join(server.lines)


def test_another_reactor_serves_deferreds_and_names_itself(start, folder):
    """A program that has chosen its reactor keeps it; asyncio awaitables then fail one call."""
    (folder / "server.py").write_text(
        "from twisted.internet import selectreactor\n"
        "selectreactor.install()\n"
        "from api import router\n"
        "from aiorest_ws.app import Application\n"
        "Application(router=router).run(port=0)\n"
    )
    server = start("server.py")
    url = server.url()
    assert server.wait_for(r"Reactor: (\w+)").group(1) == "SelectReactor"
    assert json.loads(ask(url, '{"method":"GET","url":"/both"}'))["status"] == 500
    assert ask(url) == HELLO_REPLY
    assert server.end(signal.SIGTERM) == 0
    errors = [line for line in server.lines if " ERROR " in line]
    assert len(errors) == 1
    assert "asyncio awaitables need the asyncio reactor, this is SelectReactor" in errors[0]


def test_the_console_script_is_the_command(start):
    if not shutil.which(script("aiorest-ws")):
        skip_or_fail("the console script needs an install of aiorest-ws")
    server = start(script("aiorest-ws"), "--version")
    assert server.join() == 0
    assert re.fullmatch(r"aiorest-ws \d+\.\d+\.\d+", server.lines[0])
