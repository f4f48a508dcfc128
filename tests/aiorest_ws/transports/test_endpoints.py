"""Endpoint strings."""

import socket
import ssl

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredQueue, maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.protocol import Factory

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.transports import (
    LoopServerEndpoint,
    TLSFiles,
    endpoint_from_string,
    install_reactor,
    is_inside_tls,
)
from support.transports import SECONDS, Echo, bounded, in_thread, read_exactly


def described(endpoint):
    """Return what an endpoint of ours listens on."""
    assert type(endpoint) is LoopServerEndpoint, endpoint
    return {name: value for name, value in vars(endpoint._where).items() if name != "_inode"}


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("tcp:8080", ("", 8080, 1024)),
        ("tcp:port=8080:interface=127.0.0.1:backlog=7", ("127.0.0.1", 8080, 7)),
        ("tcp:8080:127.0.0.1:7", ("127.0.0.1", 8080, 7)),
        (r"tcp:8080:interface=\:\:1", ("::1", 8080, 1024)),
        ("tcp6:8080", ("::", 8080, 1024)),
        (r"tcp6:8080:7:\:\:1", ("::1", 8080, 7)),
        ("native:tcp:8080", ("", 8080, 1024)),
    ],
)
def test_tcp_strings_are_served_by_the_loop(string, expected):
    found = described(endpoint_from_string(install_reactor(), string))
    assert (found["_host"], found["_port"], found["backlog"]) == expected


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize(
    ("string", "path", "mode", "backlog", "is_locked"),
    [
        ("unix:/run/a.sock", "/run/a.sock", 0o666, 1024, True),
        ("unix:address=/a:mode=600:backlog=7:lockfile=0", "/a", 0o600, 7, False),
        ("unix:/a:600:7:0", "/a", 0o600, 7, False),
        (r"unix:/a\:b\=c\\:mode=600", "/a:b=c\\", 0o600, 1024, True),
    ],
)
def test_unix_strings_are_served_by_the_loop(string, path, mode, backlog, is_locked):
    found = described(endpoint_from_string(install_reactor(), string))
    assert (found["_path"], found["_mode"], found["backlog"]) == (path, mode, backlog)
    assert (found["_lock"] is not None) is is_locked


@pytest.mark.parametrize("string", ["tcp:8080:speed=fast", "tcp", "unix", "tcp:1:2:3:4:5"])
def test_arguments_that_nobody_knows_are_refused(string):
    with pytest.raises(TypeError):
        endpoint_from_string(install_reactor(), string)


@pytest.mark.parametrize("string", ["nonsense:1", "tcp:many", "native:nonsense:1"])
def test_values_that_nobody_knows_are_refused(string):
    with pytest.raises(ValueError, match=r"nonsense|many"):
        endpoint_from_string(install_reactor(), string)


def test_arguments_that_only_twisted_knows_go_to_twisted(tls_files):
    chain, key = tls_files
    string = f"ssl:0:privateKey={key}:certKey={chain}:sslmethod=TLS_METHOD"
    with pytest.warns(DeprecationWarning, match="method"):
        endpoint = endpoint_from_string(install_reactor(), string)
    assert type(endpoint) is SSL4ServerEndpoint


@pytest.mark.parametrize(
    ("string", "expected"),
    [
        ("ssl:8443", True),
        ("native:ssl:8443", True),
        ("haproxy:ssl:8443", True),
        ("tcp:8080", False),
        ("unix:ssl", False),
        ("native", False),
    ],
)
def test_a_string_says_whether_its_endpoint_is_inside_tls(string, expected):
    assert is_inside_tls(string) is expected


def test_tls_cannot_be_asked_for_twice(tls_files):
    with pytest.raises(ImproperlyConfigured, match="twice"):
        endpoint_from_string(install_reactor(), "ssl:0", tls=TLSFiles(*tls_files))


@pytest.fixture
def split_files(tls_files, tmp_path):
    """A certificate, that of its authority, and the key, each in its own file."""
    chain, key = tls_files
    mark = b"-----BEGIN CERTIFICATE-----"
    own, authority = (mark + part for part in chain.read_bytes().split(mark)[1:])
    (tmp_path / "own.pem").write_bytes(own)
    (tmp_path / "authority.pem").write_bytes(authority)
    return tmp_path / "own.pem", tmp_path / "authority.pem", key


# Twisted's own `ssl:` gives pyOpenSSL objects that are on their way out.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("prefix", ["ssl", "native:ssl"])
@pytest_twisted.ensureDeferred
async def test_a_string_names_the_files_of_tls(split_files, tls_files, prefix):
    own, authority, key = split_files
    string = f"{prefix}:0:interface=127.0.0.1:privateKey={key}:certKey={own}"
    endpoint = endpoint_from_string(install_reactor(), f"{string}:extraCertChain={authority}")
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    factory.made = DeferredQueue()
    port = await endpoint.listen(factory)
    context = ssl.create_default_context(cafile=str(authority))

    def talk():
        address = ("127.0.0.1", port.getHost().port)
        with (
            socket.create_connection(address, SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"hi")
            return read_exactly(client, 2), chain_length(client)

    assert await in_thread(talk) == (b"hi", 2)
    await (await bounded(factory.made.get())).gone()
    await maybeDeferred(port.stopListening)


def chain_length(client):
    return len(client._sslobj.get_unverified_chain())  # public from Python 3.13 on
