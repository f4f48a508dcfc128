"""A real Redis server, and brokers on it."""

import secrets
import signal
import socket
import subprocess
import time

import pytest
import pytest_twisted

from aiorest_ws.awaiting import start
from aiorest_ws.topics.redis.broker import RedisBroker
from aiorest_ws.transports import install_reactor
from support.requirements import require_program

START_SECONDS = 30

# A server of a cluster also listens on the port 10,000 above its own.
MAX_PORT = 55_535


class RedisServer:
    """A redis-server on a port of its own; `start` after `kill` is the same one again."""

    def __init__(self, directory, *options):
        self.directory = directory
        self.options = options
        self.port = MAX_PORT + 1
        while self.port > MAX_PORT:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self.process = None
        self.start()

    def start(self):
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        self.process = subprocess.Popen(
            ["redis-server", *where, "--save", "", *self.options], stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + START_SECONDS
        while self.ask("PING") != b"+PONG":
            assert time.monotonic() < end, "redis-server does not start"
            time.sleep(0.02)

    def ask(self, *words):
        """Send a command; return the first line of the reply."""
        command = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in map(str.encode, words))
        try:
            with socket.create_connection(("127.0.0.1", self.port), START_SECONDS) as connection:
                connection.sendall(b"*%d\r\n" % len(words) + command)
                return connection.recv(4096).partition(b"\r\n")[0]
        except OSError:
            return b""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.go_on()
        self.kill()

    def url(self, prefix):
        return f"redis://127.0.0.1:{self.port}/0?prefix={prefix}"


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory):
    require_program("redis-server", package="redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.end()


@pytest.fixture
def redis_url(shared_redis):
    """The URL of a server, with a prefix that nobody else has."""
    return shared_redis.url(secrets.token_hex(4))


@pytest.fixture
def redis_server(tmp_path):
    """Make servers that a test may kill: `redis_server(*options)`."""
    require_program("redis-server", package="redis-server")
    servers = []

    def make(*options):
        servers.append(RedisServer(tmp_path, *options))
        return servers[-1]

    yield make
    for server in servers:
        server.end()


class Heard:
    """A receiver that writes down what it gets."""

    def __init__(self):
        self.messages = []
        self.notes = []
        self.resyncs = 0

    def deliver(self, message):
        self.messages.append(message)

    def joined(self, topic, member, info):
        self.notes.append(("join", topic, member, info))

    def left(self, topic, member):
        self.notes.append(("leave", topic, member))

    def resync(self):
        self.resyncs += 1


@pytest_twisted.async_yield_fixture
async def brokers():
    """Make brokers: `await brokers(url)` is one with its receiver, started."""
    made = []

    async def make(url, **options):
        broker, heard = RedisBroker(url, install_reactor(), **options), Heard()
        await start(broker.start(heard))
        made.append(broker)
        return broker, heard

    yield make
    for broker in made:
        await start(broker.stop())
