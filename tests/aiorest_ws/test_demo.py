"""The demo."""

import signal
import socket

import pytest

from support.programs import HELLO_REPLY, ask

pytestmark = pytest.mark.process


def test_the_demo_shows_requests_and_replies_and_ends(start):
    server = start("-m", "aiorest_ws", "demo", "--once")
    assert server.join() == 0
    text = "\n".join(server.lines)
    assert '--> text   {"method": "GET", "url": "/hello"}' in text
    assert f"<-- text   {HELLO_REPLY}" in text
    assert '<-- base64 {"data":"Hello, Grace!","event_name":null}' in text
    assert text.count("-->") == text.count("<--") == 8
    assert "Traceback" not in text


def test_the_demo_goes_on_until_a_signal(start):
    server = start("-m", "aiorest_ws", "demo", "--port", "0")
    url = server.url()
    server.wait_for("The server is still running")
    assert ask(url) == HELLO_REPLY
    assert server.end(signal.SIGINT) == 0


def test_the_demo_finds_a_port_when_its_own_is_busy(start):
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            busy.bind(("127.0.0.1", 8080))
            busy.listen()
        except OSError:
            pass  # somebody else keeps it busy for us
        server = start("-m", "aiorest_ws", "demo", "--once")
        assert ":8080/" not in server.url()
        assert server.join() == 0
