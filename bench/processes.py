"""The processes of a run: the load generator, which is built first, and the servers."""

import contextlib
import datetime
import importlib.util
import json
import os
import queue
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.rows import REDIS_URL, SUBSCRIBE, Peer, Row

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 10
# Above the time of a turn; the generator itself gives up after 10 s without an event.
SPARE_SECONDS = 60
IDLE_WARM_UP = 50
SETTLE_SECONDS = 10


class BenchError(Exception):
    """A run that cannot be trusted, or cannot begin."""


def cores() -> tuple[int, int]:
    """Return the cores of the load and of the server; they are the same when there is one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def raise_file_limit(wanted: int) -> None:
    """Let this process and those that it starts have that many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    if not unlimited and hard < wanted:
        raise BenchError(f"{wanted:,} open files are needed, the hard limit is {hard:,}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def is_installed(peer: Peer) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in peer.needs)


def can_run(peer: Peer) -> bool:
    needs_redis = REDIS_URL in peer.arguments
    return is_installed(peer) and (not needs_redis or shutil.which("redis-server") is not None)


@contextlib.contextmanager
def _postponed_sigterm() -> Iterator[None]:
    """Let SIGTERM come afterwards."""
    came: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        if came:
            signal.raise_signal(signal.SIGTERM)


class Workshop:
    """A temporary folder with the built load generator, the messages and a certificate.

    It knows all processes, and ends in `close` those that are left.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aiorest-ws-bench-"))
        self._processes: list[subprocess.Popen[str]] = []
        self.load_core, self.server_core = cores()
        self.load = self.folder / "load"
        self.fanout = self.folder / "fanout"
        self._redis: str | None = None
        self.redis_pid = 0
        try:
            self.has_tls = self._build()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, command: list[str], core: int, **options: Any) -> subprocess.Popen[str]:
        """Start a process on that core."""
        # An exception inside Popen would leave a process that nobody knows.
        with _postponed_sigterm():
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options
            )
            self._processes.append(process)
        # It may have ended already.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, {core})
        return process

    def file(self, content: bytes) -> Path:
        """Return a file with that content."""
        path = self.folder / f"{abs(hash(content)):x}"
        if not path.exists():
            path.write_bytes(content)
        return path

    def certificate(self) -> tuple[Path, Path]:
        """Return the files of a certificate for 127.0.0.1 and of its key."""
        paths = self.folder / "certificate.pem", self.folder / "key.pem"
        if not paths[0].exists():
            write_certificate(*paths)
        return paths

    def redis(self) -> str:
        """Return the URL of a Redis server on the server's core, which keeps nothing on disk."""
        if self._redis is None:
            with socket.create_server((HOST, 0)) as taken:
                port = taken.getsockname()[1]
            command = ["redis-server", "--port", str(port), "--bind", HOST, "--save", ""]
            process = self.spawn([*command, "--appendonly", "no"], self.server_core)
            self.redis_pid = process.pid
            lines = Lines(process)
            while "Ready to accept" not in (line := lines.next(START_SECONDS) or "the end"):
                if line == "the end":
                    raise BenchError("redis-server does not start")
            self._redis = f"redis://{HOST}:{port}/0"
        return self._redis

    def run_fan_out(self, row: Row, server: "Server", seconds: float) -> dict[str, float]:
        """Run one turn of a row with topics."""
        arguments = [str(server.port), "-c", str(row.connections), "-s", str(seconds)]
        arguments += ["-b", str(self.file(SUBSCRIBE)), *self._texts(row)]
        for pid in server.processes():
            arguments += ["-p", str(pid)]
        return self._finish([str(self.fanout), *arguments], seconds)

    def run_load(self, row: Row, port: int, seconds: float, *, raw: bool) -> dict[str, float]:
        """Run one turn of a row against a server; return what the generator tells."""
        mode = "echo" if raw else row.kind
        arguments = [mode, str(port), "-c", str(row.connections), "-d", str(row.depth)]
        arguments += ["-s", str(seconds)]
        if row.kind == "calls":
            arguments += self._texts(row)
        command = [str(self.load)]
        is_in_c = not row.tls or self.has_tls
        if row.load_polls and is_in_c and self.load_core != self.server_core:
            arguments.append("-b")
        if row.tls:
            arguments.append("-t")
            if not is_in_c:
                command = [sys.executable, "-m", "bench.tlsload"]
        return self._finish([*command, *arguments], seconds)

    def _finish(self, command: list[str], seconds: float) -> dict[str, float]:
        with self._start(command) as load:
            try:
                out, err = load.communicate(timeout=seconds + SPARE_SECONDS)
            except subprocess.TimeoutExpired:
                load.kill()
                raise BenchError("the load generator did not come to an end") from None
        if load.returncode:
            raise BenchError(err.strip() or f"the load generator ended with {load.returncode}")
        told: dict[str, float] = json.loads(out)
        return told

    @contextlib.contextmanager
    def idle_connections(self, row: Row, port: int, count: int) -> Iterator[Callable[[], None]]:
        """Hold that many open connections; what it gives makes a call on each of them."""
        command = [str(self.load), "idle", str(port), "-c", str(count), *self._texts(row)]
        load = self._start(command)
        assert load.stdin is not None
        lines = Lines(load)

        def wait_for(word: str) -> None:
            if lines.next(SPARE_SECONDS) != word:
                load.kill()
                load.wait()
                assert load.stderr is not None
                raise BenchError(load.stderr.read().strip() or f"the load is never {word}")

        def call() -> None:
            assert load.stdin is not None
            load.stdin.write("\n")
            load.stdin.flush()
            wait_for("called")

        try:
            wait_for("ready")
            yield call
            load.stdin.close()
            if load.wait(STOP_SECONDS):
                raise BenchError("an idle connection did not stay open")
        finally:
            load.kill()
            load.wait()
            lines.close()
            for pipe in (load.stdin, load.stderr):
                assert pipe is not None
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _texts(self, row: Row) -> list[str]:
        message, expected = row.work
        return ["-m", str(self.file(message)), "-e", str(self.file(expected))]

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return self.spawn(
            command,
            self.load_core,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            errors="backslashreplace",  # a wrong reply is shown as it came
        )

    def _build(self) -> bool:
        """Build the generator, with OpenSSL where its headers are; return whether they are."""
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            raise BenchError(
                "The load generator is a C program and there is no C compiler: install one "
                "(apt-get install gcc libc6-dev), or name it by the variable CC."
            )
        source = Path(__file__).with_name("fanout.c")
        built = subprocess.run(
            [compiler, "-O2", "-o", str(self.fanout), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            raise BenchError(f"The load generator cannot be built:\n{built.stderr}")
        source = Path(__file__).with_name("load.c")
        plain = [compiler, "-O2", "-o", str(self.load), str(source)]
        if not subprocess.run(
            [*plain, "-DWITH_TLS", "-lssl", "-lcrypto"], capture_output=True, check=False
        ).returncode:
            return True
        built = subprocess.run(plain, capture_output=True, text=True, check=False)
        if built.returncode:
            raise BenchError(f"The load generator cannot be built:\n{built.stderr}")
        return False


class Lines:
    """The lines that a process prints, each waited for no longer than asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def next(self, seconds: float) -> str | None:
        """Return the next line, None at the end or after `seconds`."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Close the pipe of a process that has ended."""
        assert self._process.stdout is not None
        self._reader.join(STOP_SECONDS)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


class Server:
    """A peer's process, pinned to the server's core; `port` is where it listens."""

    def __init__(self, workshop: Workshop, peer: Peer, *, tls: bool) -> None:
        command = [sys.executable, "-m", f"bench.peers.{peer.module}"]
        command += [workshop.redis() if one == REDIS_URL else one for one in peer.arguments]
        if tls:
            certificate, key = workshop.certificate()
            command += ["--certificate", str(certificate), "--key", str(key)]
        self.peer = peer
        self._needed = [workshop.redis_pid] if REDIS_URL in peer.arguments else []
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  closed in close()
        self._process = workshop.spawn(
            command,
            workshop.server_core,
            stdin=subprocess.DEVNULL,
            stderr=self._errors,
            # The working copy, whatever is installed.
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._lines = Lines(self._process)
        try:
            self.port = self._find_port()
        except BaseException:
            self.close()
            raise

    def processes(self) -> list[int]:
        """Return its process, those that it has started, and the Redis server that it needs."""
        found = [self._process.pid]
        for children in Path(f"/proc/{self._process.pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
        return found + self._needed

    def resident(self) -> int:
        """Return its resident bytes once they do not change any more."""
        limit, before = time.monotonic() + SETTLE_SECONDS, -1
        while time.monotonic() < limit:
            fields = Path(f"/proc/{self._process.pid}/statm").read_text().split()
            size = int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
            if size == before:
                break
            before = size
            time.sleep(0.3)
        return before

    def waited(self) -> float:
        """Return for how many seconds it was ready to run while its core ran something else."""
        try:
            # proc(5) of Linux: time run, time waited (ns), timeslices; of the main thread.
            return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            return 0.0  # a kernel without CONFIG_SCHED_INFO

    def errors(self) -> str:
        """Return the end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read()[-2000:].strip()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lines.close()
        self._errors.close()

    def _find_port(self) -> int:
        limit = time.monotonic() + START_SECONDS
        while (line := self._lines.next(max(0.0, limit - time.monotonic()))) is not None:
            if found := re.search(r"://[^/\s]*:(\d+)", line):
                return int(found[1])
        raise BenchError(f"{self.peer.name} did not start: {self.errors()}")


def write_certificate(certificate: Path, key: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1; cryptography comes with Twisted[tls]."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
