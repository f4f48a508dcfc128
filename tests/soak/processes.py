"""The processes of a run: servers on one core, clients on the other."""

import contextlib
import json
import os
import queue
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from soak.wire import Control
from support.requirements import skip_or_fail

TESTS = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 60
POLITE = 19  # the nice value of attackers: the clients on their core are measured

# Linux: writing this to clear_refs makes the peak the present size. See proc_pid_clear_refs(5).
RESET_PEAK = "5"


def cores() -> tuple[int, int]:
    """Return the core of the server and that of its clients; one machine may have only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def raise_file_limit(wanted: int) -> None:
    """Let processes started from now on have so many files open, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        skip_or_fail(f"{wanted:,} open files are needed, the hard limit is {hard:,}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def eventually(holds: Callable[[], Any], seconds: float, told: Callable[[], Any]) -> Any:
    """Return the first true value of `holds()`; fail with `told()` after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {told()}")
        time.sleep(0.05)
    return found


def workers_of(pid: int) -> list[int]:
    """Return the processes that another one has started."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, children.read_text().split())
    return sorted(found)


def resident_peak(pid: int) -> int:
    """Return the most bytes that a process has held in memory since `reset_peak`."""
    return 1024 * _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)


def _status(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None, status
    return int(found[1])


class Process:
    """A process whose output is read line by line, each within a bound."""

    def __init__(
        self,
        arguments: list[str],
        *,
        core: int,
        errors: Path,
        env: Mapping[str, str] | None = None,
        nice: int = 0,
    ) -> None:
        self.errors = errors
        with errors.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", *arguments],
                cwd=TESTS,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.pid = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(self.pid, {core})
            os.setpriority(os.PRIO_PROCESS, self.pid, nice)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def line(self, seconds: float) -> str:
        """Return the next line of output."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            pytest.fail(f"no line within {seconds} s; errors: {self.error_text()[-2000:]}")
        if line is None:
            pytest.fail(f"it has ended; errors: {self.error_text()[-2000:]}")
        return line

    def result(self, seconds: float) -> Any:
        """Return the next line, which is JSON."""
        return json.loads(self.line(seconds))

    def tell(self, word: str) -> None:
        """Write a line to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def error_text(self) -> str:
        return self.errors.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def has_ended(self, seconds: float) -> bool:
        """Tell whether it ends within so many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait(self, seconds: float) -> int:
        """Return its exit status."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it has not ended within {seconds} s: {self.error_text()[-2000:]}")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(STOP_SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Server(Process):
    """A server of ours, started by its command."""

    def __init__(
        self,
        errors: Path,
        *,
        limits: Mapping[str, Any] | None = None,
        compress: bool = False,
        port: int = 0,
        log_level: str = "info",
        application: str = "soak.app:application",
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        words = ["-m", "aiorest_ws", "run", application, "--port", str(port)]
        words += ["--log-level", log_level, *arguments]
        if compress:
            words.append("--compress")
        env = {"AIOREST_WS_SOAK_LIMITS": json.dumps(limits) if limits else "", **(env or {})}
        super().__init__(words, core=cores()[0], errors=errors, env=env)
        self._controls: list[Control] = []
        try:
            self.port = self._read_banner()
        except BaseException:
            self.close()
            raise

    def _read_banner(self) -> int:
        end = time.monotonic() + START_SECONDS
        while not (found := re.search(r"ws://[^:]+:(\d+)", self.line(START_SECONDS))):
            assert time.monotonic() < end
        while "CONTROL-C" not in self.line(START_SECONDS):
            assert time.monotonic() < end
        return int(found[1])

    def control(self, **options: Any) -> Control:
        """Return a connection for questions."""
        control = Control(self.port, **options)
        self._controls.append(control)
        return control

    def close(self) -> None:
        super().close()
        for control in self._controls:
            control.close()

    def resident(self) -> int:
        """Return the bytes that it holds in memory."""
        return 1024 * self._status("VmRSS")

    def peak(self) -> int:
        """Return the most that it has held since `reset_peak`."""
        return 1024 * self._status("VmHWM")

    def threads(self) -> int:
        return self._status("Threads")

    def reset_peak(self) -> None:
        reset_peak(self.pid)

    def _status(self, name: str) -> int:
        return _status(self.pid, name)


class KernelMemory:
    """What the sockets of this machine hold in the kernel, at most, while it is watched."""

    def __enter__(self) -> Self:
        self._before = self._most = _socket_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.25):
            self._most = max(self._most, _socket_bytes())

    @property
    def growth(self) -> int:
        return self._most - self._before


def _socket_bytes() -> int:
    found = re.search(r"^TCP:.* mem (\d+)$", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * resource.getpagesize()


class Family:
    """The processes of one test, which ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[Process] = []

    def server(self, **options: Any) -> Server:
        number = len(self._processes)
        server = Server(self._folder / f"server-{number}.log", **options)
        self._processes.append(server)
        return server

    def client(self, program: str, port: int, *arguments: Any, nice: int = 0) -> Process:
        """Start `soak.<program>` on the clients' core."""
        errors = self._folder / f"{program}-{len(self._processes)}.log"
        words = ["-m", f"soak.{program}", str(port), *map(str, arguments)]
        process = Process(words, core=cores()[1], errors=errors, nice=nice)
        self._processes.append(process)
        return process

    def close(self) -> None:
        # Clients first: a server that is killed would only make them complain.
        for process in reversed(self._processes):
            process.close()
