"""A server that runs out of descriptors, and goes on when there are some again."""

import select
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [pytest.mark.asyncio_reactor, pytest.mark.process]

SECONDS = 30


PROCESS = textwrap.dedent(
    """
    import asyncio, os, resource, signal, socket, sys
    from twisted.internet import asyncioreactor

    loop_name, retry_seconds, certificate, key = sys.argv[1:]
    if loop_name == "asyncio":
        asyncioreactor.install(asyncio.SelectorEventLoop())
    from aiorest_ws.transports import acceptor, loop_port, sockets
    from aiorest_ws.log import log_to_stream
    from aiorest_ws.transports import LoopServerEndpoint, TLSFiles, install_reactor

    reactor = install_reactor()
    from twisted.internet.protocol import Factory, Protocol

    acceptor.RETRY_SECONDS = float(retry_seconds)
    acceptor.RECOVERY_SECONDS = 0.1
    loop_port.TLS_HANDSHAKE_SECONDS = 0.5
    log_to_stream()

    class Counting(socket.socket):
        attempts = 0

        def accept(self):
            self.attempts += 1
            return super().accept()

    class Echo(Protocol):
        def dataReceived(self, data):
            # A question is answered by the number of attempts to accept so far.
            answer = b"%d\\n" % counting.attempts if data == b"?" else data
            self.transport.write(answer)

    where = sockets.TCPSocket("127.0.0.1", 0, 500)
    plain = where.open()
    counting = Counting(fileno=plain.detach())
    counting.setblocking(False)
    where.open = lambda: counting
    context = TLSFiles(certificate, key).ssl_context() if certificate else None
    ports = []
    listening = LoopServerEndpoint(reactor, where, context).listen(Factory.forProtocol(Echo))
    listening.addCallback(ports.append)

    held = []

    def let_go():
        while held:
            os.close(held.pop())

    def say_port():
        if not certificate and retry_seconds != "600":
            # Nothing is left for clients until the signal.
            while True:
                try:
                    held.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    break
            signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(let_go))
        print(counting.getsockname()[1], flush=True)

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    reactor.callLater(0, say_port)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: ports[0].stopListening())
    reactor.run()
    """
)


class Process:
    """A server that may have no more than 64 descriptors."""

    def __init__(self, loop, retry_seconds, tls_files):
        self.running = subprocess.Popen(
            [sys.executable, "-c", PROCESS, loop, retry_seconds, *(tls_files or ("", ""))],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.clients = []
        self.port = int(self.running.stdout.readline())

    def dial(self):
        client = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        self.clients.append(client)
        return client

    def close(self):
        for client in self.clients:
            client.close()
        self.running.kill()
        self.running.communicate()

    def log_line(self):
        """Return the next line of the log."""
        assert select.select([self.running.stderr], [], [], SECONDS)[0], "nothing was logged"
        return self.running.stderr.readline()

    def end(self):
        """Stop the server; return the rest of the log."""
        self.running.terminate()
        return self.running.communicate(timeout=SECONDS)[1]


@pytest.fixture
def start():
    started = []

    def start(*args):
        started.append(Process(*args))
        return started[-1]

    yield start
    for process in started:
        process.close()


LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


def ask(client):
    """Return how often the server has tried to accept a connection."""
    client.sendall(b"?")
    return int(client.recv(20))


def served(clients):
    """Return those that have their echo by now; wait for the first."""
    poll = select.poll()
    by_number = {client.fileno(): client for client in clients}
    for number in by_number:
        poll.register(number, select.POLLIN)
    ready = [by_number[number] for number, _ in poll.poll(SECONDS * 1000)]
    assert ready, "nobody is served"
    for client in ready:
        assert client.recv(1) == b"x"
    return ready


@LOOPS
def test_clients_over_the_limit_of_descriptors_wait_and_are_served_as_others_end(start, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    process = start(loop, "600", None)
    waiting = [process.dial() for _ in range(100)]
    for client in waiting:
        client.sendall(b"x")
    assert "cannot accept connections now (too many open files)" in process.log_line()
    being_served = []
    while len(being_served) < 30:
        done = served(waiting)
        being_served += done
        waiting = [client for client in waiting if client not in done]
    # While it pauses the loop turns, and nothing is tried.
    attempts = ask(being_served[0])
    for _ in range(200):
        last = ask(being_served[0])
    assert last == attempts
    while waiting:
        being_served.pop().close()
        done = served(waiting)
        being_served += done
        waiting = [client for client in waiting if client not in done]
    # Two for each that was accepted, and two for each that has ended.
    assert ask(being_served[0]) < 400
    assert process.end() == ""


@LOOPS
def test_accepting_goes_on_by_itself_when_there_are_descriptors_again(start, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    process = start(loop, "0.05", None)
    clients = [process.dial() for _ in range(20)]
    for client in clients:
        client.sendall(b"x")
    assert "cannot accept connections now (too many open files)" in process.log_line()
    process.running.send_signal(signal.SIGUSR1)
    while clients:
        done = served(clients)
        clients = [client for client in clients if client not in done]
    assert "accepts connections again" in process.log_line()
    assert process.end() == ""


@LOOPS
def test_tls_handshakes_that_fail_make_room_for_those_that_wait(start, loop, tls_files):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    process = start(loop, "600", [str(path) for path in tls_files])
    for _ in range(70):
        process.dial()
    assert "cannot accept connections now" in process.log_line()
    context = ssl.create_default_context(cafile=str(tls_files[0]))
    inside = context.wrap_socket(process.dial(), server_hostname="localhost")
    process.clients.append(inside)
    inside.sendall(b"x")
    assert inside.recv(1) == b"x"
    assert process.end() == ""
