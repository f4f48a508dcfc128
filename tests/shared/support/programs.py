"""Programs that serve: started, read and stopped by tests."""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

HELLO = '{"method":"GET","url":"/hello"}'
HELLO_REPLY = '{"data":"Hello, world!","event_name":null}'
SECONDS = 60

# With coverage, a thread of Python 3.11 spins while a signal is pending that the main thread does
# not handle because it waits in a lock. So it never waits for long at once.
WAIT_SECONDS = 0.1


API = """
    import asyncio
    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.routers import SimpleRouter

    @endpoint("/hello", "GET")
    def hello(request):
        return "Hello, world!"

    @endpoint("/both", "GET")
    async def both(request):
        await asyncio.sleep(0)
        return "awaited"

    @endpoint("/raise", "GET")
    def fail(request):
        raise KeyError("surprise")

    router = SimpleRouter()
    router.register_endpoint(hello)
    router.register_endpoint(both)
    router.register_endpoint(fail)
    app = Application(router=router)

    @app.on_startup
    async def start(factory):
        await asyncio.sleep(0)
        print("started", flush=True)

    @app.on_shutdown
    async def stop(factory):
        await asyncio.sleep(0)
        print("stopped", flush=True)
"""


class Server:
    """A server process, and what it has printed so far."""

    def __init__(self, command, folder, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._unread = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._unread.put(line.rstrip("\n"))
        self._unread.put(None)

    def _next_line(self):
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                line = self._unread.get(timeout=WAIT_SECONDS)
                break
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise
        if line is not None:
            self.lines.append(line)
        return line

    def wait_for(self, pattern):
        """Read until a line has the pattern; return the match."""
        while (line := self._next_line()) is not None:
            found = re.search(pattern, line)
            if found:
                return found
        pytest.fail("the server ended:\n" + "\n".join(self.lines))

    def url(self):
        return self.wait_for(r"(wss?://\S+:\d+/)").group(1)

    def end(self, with_signal):
        self.process.send_signal(with_signal)
        return self.join()

    def join(self):
        """Read to the end; return the exit status."""
        while self._next_line() is not None:
            pass
        self._end_reading()
        return self.process.wait(SECONDS)

    def kill(self):
        self.process.kill()
        self._end_reading()
        self.process.wait(SECONDS)

    def _end_reading(self):
        while self._reader.is_alive():
            self._reader.join(WAIT_SECONDS)
        self.process.stdout.close()


def ask(url, message=HELLO, **options):
    with connect(url, open_timeout=SECONDS, **options) as websocket:
        websocket.send(message)
        return websocket.recv(timeout=SECONDS)


def script(name):
    """The path of a script of this interpreter's environment."""
    return str(Path(sys.executable).with_name(name))
