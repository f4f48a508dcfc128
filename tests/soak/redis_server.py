"""A redis-server of one's own, which is stopped and killed, and a way to it that is counted."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import pytest

from soak.processes import eventually
from soak.wire import HOST
from support.requirements import require_program

PROGRAM = "redis-server"
START_SECONDS = 30
COMMAND_SECONDS = 10


def require_redis() -> None:
    """Skip the test where there is no redis-server; in CI there has to be one."""
    require_program(PROGRAM, package=PROGRAM)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]


class RedisServer:
    """A process that can be started again on the same port; what it has said yes to is on disk."""

    def __init__(self, folder: Path, core: int) -> None:
        self._folder = folder
        self._core = core
        self._log = folder / "redis.log"
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self.start()

    def start(self) -> None:
        arguments = [PROGRAM, "--port", str(self.port), "--bind", HOST, "--save", ""]
        arguments += ["--dir", str(self._folder), "--logfile", str(self._log)]
        # Else a kill would take back what publishers were told.
        arguments += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        os.sched_setaffinity(self._process.pid, {self._core})
        eventually(self._answers, START_SECONDS, lambda: self._log.read_text()[-2000:])

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.command("PING").startswith(b"+PONG")
        return False

    def command(self, line: str) -> bytes:
        """Return what Redis says to a command; a bulk reply is returned with its length."""
        with socket.create_connection((HOST, self.port), timeout=COMMAND_SECONDS) as raw:
            raw.sendall(line.encode() + b"\r\n")
            said = raw.recv(65536)
            if said.startswith(b"$"):
                head, _, said = said.partition(b"\r\n")
                while len(said) < int(head[1:]):
                    said += raw.recv(65536)
            return said

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()


class Proxy:
    """Hands on to a server what it gets, and counts the connections, whether or not it answers."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._attempts: list[float] = []
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._is_ready.wait(START_SECONDS):
            pytest.fail("the proxy does not begin")
        self.url = f"redis://{HOST}:{self.port}/0"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()

    def attempts(self, since: float) -> int:
        """Return how many connections were tried since then."""
        return sum(when >= since for when in list(self._attempts))

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._take, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_ready.set()
        await self._over.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._attempts.append(time.monotonic())
        writers = [writer]
        try:
            upstream, downstream = await asyncio.open_connection(HOST, self._target)
            writers.append(downstream)
            pumps = [
                asyncio.ensure_future(_pump(reader, downstream)),
                asyncio.ensure_future(_pump(upstream, writer)),
            ]
            try:
                # Either end takes the other with it.
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the target is away, or the proof is over: nothing comes after it
        finally:
            self._tasks.discard(task)
            for one in writers:
                one.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
