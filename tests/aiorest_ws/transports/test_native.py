"""The prefix `native:` for Twisted's own programs."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint

from aiorest_ws.transports import LoopServerEndpoint, install_reactor
from aiorest_ws.transports.native import NativeParser
from support.transports import SECONDS, read_all


@pytest_twisted.ensureDeferred
async def test_a_native_string_is_known_to_twisted(tmp_path):
    reactor = install_reactor()
    endpoint = NativeParser().parseStreamServer(reactor, "tcp", "0", interface="127.0.0.1")
    kind = LoopServerEndpoint if hasattr(reactor, "_asyncioEventloop") else TCP4ServerEndpoint
    assert type(endpoint) is kind
    for arguments in (("tcp", "0", "a", "b", "c"), ("nonsense", "1"), ()):
        with pytest.raises(ValueError, match="native:"):
            NativeParser().parseStreamServer(reactor, *arguments)


@pytest.mark.process
@pytest.mark.parametrize("reactor", ["asyncio", "epoll"])
def test_twist_serves_a_directory_by_a_native_string(tmp_path, reactor):
    (tmp_path / "page.txt").write_text("a page")
    path = tmp_path / "s"
    options = [f"--reactor={reactor}", "--log-format=text"]
    command = [sys.executable, "-m", "twisted", *options, "web", "--path", "."]
    with subprocess.Popen(
        [*command, "--listen", f"native:unix:{path}:lockfile=0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        alarm = threading.Timer(SECONDS, process.kill)
        alarm.start()
        seen = []
        try:
            for line in process.stdout:
                seen.append(line)
                if "Starting reactor" in line:
                    break
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(SECONDS)
                client.connect(str(path))
                client.sendall(b"GET /page.txt HTTP/1.0\r\n\r\n")
                assert read_all(client).endswith(b"\r\n\r\na page"), seen
            process.send_signal(signal.SIGTERM)
            seen += process.stdout
        finally:
            process.kill()
            alarm.cancel()
    assert not path.exists()
    served_by_the_loop = any("Site listens on" in line for line in seen)
    assert served_by_the_loop is (reactor == "asyncio"), seen
