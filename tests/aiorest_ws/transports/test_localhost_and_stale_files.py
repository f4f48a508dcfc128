"""Listening at `localhost`, and at the path of a Unix socket whose server was killed."""

import gc
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from aiorest_ws.transports import endpoint_from_string, install_reactor, tcp_endpoint
from aiorest_ws.transports.reserved import reserve
from support.requirements import skip_or_fail
from support.transports import bounded

# Twisted's ports do not close a socket that they could not bind; it is dropped in the same test.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.*family=1:ResourceWarning")


class Greeter(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello")
        self.transport.loseConnection()


def greet():
    factory = Factory.forProtocol(Greeter)
    factory.noisy = False
    return factory


def read_in_thread(family, address):
    """Connect from a thread, and read to the end."""
    from twisted.internet.threads import deferToThread

    def read():
        with socket.socket(family) as client:
            client.settimeout(30)
            client.connect(address)
            return client.makefile("rb").read()

    return deferToThread(read)


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def needs_ipv6():
    if not has_ipv6():
        skip_or_fail("needs IPv6 on loopback")


def string_endpoint(name):
    return endpoint_from_string(install_reactor(), f"tcp:0:interface={name}")


def host_endpoint(name):
    return tcp_endpoint(install_reactor(), name, 0)


@pytest.mark.parametrize("make", [string_endpoint, host_endpoint])
@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "LocalHost"])
@pytest.mark.parametrize("is_reserved", [False, True])
@pytest_twisted.ensureDeferred
async def test_localhost_listens_on_both_families(make, name, is_reserved):
    needs_ipv6()
    endpoint = make(name)
    port = await (reserve(endpoint) if is_reserved else endpoint).listen(greet())
    number = port.getHost().port
    assert port.getHost().host == "127.0.0.1"
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        assert await bounded(read_in_thread(family, (address, number))) == b"hello"
    await port.stopListening()
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with pytest.raises(ConnectionRefusedError):
            await bounded(read_in_thread(family, (address, number)))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest_twisted.ensureDeferred
async def test_a_port_of_localhost_that_is_busy_on_one_family_is_refused(family):
    needs_ipv6()
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as busy:
        number = busy.getsockname()[1]
        with pytest.raises(CannotListenError, match=f"{host}:{number}"):
            await tcp_endpoint(install_reactor(), "localhost", number).listen(greet())
    # Nothing of it is left.
    port = await tcp_endpoint(install_reactor(), "localhost", number).listen(greet())
    await port.stopListening()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]"])
@pytest_twisted.ensureDeferred
async def test_an_address_is_listened_at_alone(host):
    needs_ipv6()
    port = await tcp_endpoint(install_reactor(), host, 0).listen(greet())
    number = port.getHost().port
    other = ("::1", socket.AF_INET6) if host == "127.0.0.1" else ("127.0.0.1", socket.AF_INET)
    with pytest.raises(ConnectionRefusedError):
        await bounded(read_in_thread(other[1], (other[0], number)))
    await port.stopListening()


# Unix sockets


@pytest.fixture
def path(tmp_path):
    return tmp_path / "api.sock"


def leave_behind(path, owner):
    """Leave what a server leaves that was killed; `owner` is the process named in its lock."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    Path(f"{path}.lock").symlink_to(str(owner))


def own_pid():
    return os.getpid()


def pid_of_another_process():
    return os.getppid()


def pid_of_nobody():
    with subprocess.Popen([sys.executable, "-c", ""]) as done:
        pass
    return done.pid


def first_pid():
    return 1


@pytest.mark.parametrize("owner", [own_pid, pid_of_another_process, pid_of_nobody, first_pid])
@pytest.mark.parametrize("rest", ["", ":mode=600", ":lockfile=0"])
@pytest_twisted.ensureDeferred
async def test_a_server_takes_the_place_of_one_that_was_killed(path, owner, rest):
    leave_behind(path, owner())
    endpoint = endpoint_from_string(install_reactor(), f"unix:{path}{rest}")
    port = await endpoint.listen(greet())
    assert await bounded(read_in_thread(socket.AF_UNIX, str(path))) == b"hello"
    await port.stopListening()
    assert not path.exists()


@pytest_twisted.ensureDeferred
async def test_a_lock_without_a_socket_is_stale(path):
    Path(f"{path}.lock").symlink_to(str(os.getpid()))
    port = await endpoint_from_string(install_reactor(), f"unix:{path}").listen(greet())
    await port.stopListening()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("rest", ["", ":lockfile=0"])
@pytest.mark.parametrize("owner", [own_pid, pid_of_another_process, pid_of_nobody])
@pytest_twisted.ensureDeferred
async def test_a_server_that_runs_keeps_its_socket(path, owner, rest):
    """Also if it listens in another container, where its process number means another process."""
    with socket.socket(socket.AF_UNIX) as running:
        running.bind(str(path))
        running.listen()
        Path(f"{path}.lock").symlink_to(str(owner()))
        with pytest.raises(CannotListenError):
            await endpoint_from_string(install_reactor(), f"unix:{path}{rest}").listen(greet())
        gc.collect()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_no_socket_stays(path):
    path.write_text("data")
    with pytest.raises(CannotListenError):
        await endpoint_from_string(install_reactor(), f"unix:{path}").listen(greet())
    gc.collect()
    assert path.read_text() == "data"


@pytest_twisted.ensureDeferred
async def test_a_folder_that_does_not_exist_is_an_error_of_listening(tmp_path):
    where = tmp_path / "absent" / "api.sock"
    with pytest.raises(CannotListenError):
        await endpoint_from_string(install_reactor(), f"unix:{where}").listen(greet())
    gc.collect()
