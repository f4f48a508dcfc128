import asyncio
import subprocess
import sys

import aiohttp
import pytest


@pytest.fixture
def url():
    command = [sys.executable, "-u", "-m", "aiorest_ws", "run", "first_server:app"]
    server = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    banner = iter(server.stdout.readline, "")
    yield next(line.split()[-1] for line in banner if line.startswith("Server started"))
    server.terminate()
    assert server.wait(timeout=30) == 0
    server.stdout.close()


async def ask(url, message):
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json(message)
        return await socket.receive_json()


def test_a_client_is_greeted(url):
    reply = asyncio.run(ask(url, {"method": "GET", "url": "/hello"}))
    assert reply == {"data": "Hello, world!", "event_name": None}
