"""A server with workers in processes of their own."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from websockets.sync.client import connect

SECONDS = 60


API = """
    import asyncio, os, sys, time
    from pathlib import Path
    from aiorest_ws.app import Application
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.limits import Limits
    from aiorest_ws.routers import SimpleRouter

    VERSION = 1
    router = SimpleRouter()

    def view(path):
        def register(function):
            router.register_endpoint(endpoint(path, "GET")(function))
            return function
        return register

    @view("/pid")
    def pid(request):
        return os.getpid()

    @view("/version")
    def version(request):
        return VERSION

    @view("/inherited")
    def inherited(request):
        return [name for name in os.environ if name.startswith("AIOREST_WS_W")]

    ran = os.open("ran.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @view("/run")
    async def run(request):
        os.write(ran, f"{request.id}\\n".encode())
        await asyncio.sleep(0.005)
        return "done"

    @view("/hang")
    async def hang(request):
        print("hanging", flush=True)
        await asyncio.sleep(3600)

    @view("/block")
    def block(request):
        print("blocking", flush=True)
        time.sleep(3600)

    app = Application(router=router, limits=Limits(drain_seconds=3600, closing_seconds=1))

    @app.on_shutdown
    def stopped(factory):
        Path(f"stopped.{os.getpid()}").touch()
"""


MAIN = """
    import sys
    from api import app
    app.run(port=0, workers=int(sys.argv[1]))
"""


class Server:
    """A process, and what it has printed so far."""

    def __init__(self, command, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._unread = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with self.process.stdout:
            for line in self.process.stdout:
                self._unread.put(line.rstrip("\n"))
        self._unread.put(None)

    def wait_for(self, pattern):
        """Read until a line has the pattern; return the match."""
        while (line := self._unread.get(timeout=SECONDS)) is not None:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("\n".join(self.lines))

    def url(self):
        url = self.wait_for(r"(wss?://\S+:\d+/)")[1]
        self.wait_for("CONTROL-C")
        return url

    def tell(self, number):
        self.process.send_signal(number)

    def end(self, number=None):
        """Wait until nobody has its output any more; return the status and the output."""
        if number is not None:
            self.tell(number)
        while (line := self._unread.get(timeout=SECONDS)) is not None:
            self.lines.append(line)
        return self.process.wait(SECONDS), "\n".join(self.lines)

    def workers(self):
        """Return the pids of its children."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError):  # a thread may end meanwhile
                found += (task / "children").read_text().split()
        return [int(pid) for pid in found]

    def close(self):
        # Its workers end with it, and these here by force.
        pids = self.workers() if self.process.poll() is None else []
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait(SECONDS)


def message(url, **keys):
    return json.dumps({"method": "GET", "url": url, **keys})


def ask(client, url):
    client.send(message(url))
    return json.loads(client.recv(SECONDS))["data"]


def pids_of(url, count, **options):
    """Connect until so many processes have answered; return their pids."""
    end = time.monotonic() + SECONDS
    found = set()
    while len(found) < count and time.monotonic() < end:
        with connect(url, **options) as client:
            found.add(ask(client, "/pid"))
    return found
