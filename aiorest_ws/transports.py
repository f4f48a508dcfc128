"""The reactor that a server runs on, and the endpoints that it listens on.

On the asyncio reactor a server is served by the loop's own transports, which are several times
faster than Twisted's; elsewhere by Twisted's, with the same behaviour.
"""

import asyncio
import os
import re
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from OpenSSL import SSL
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from aiorest_ws._loop_port import LoopServerEndpoint, TCPSocket, UNIXSocket
from aiorest_ws._loop_transport import HIGH_WATER_BYTES, LoopTransport
from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = (
    "LISTEN_BACKLOG",
    "LoopServerEndpoint",
    "TLSFiles",
    "describe_reactor",
    "endpoint_from_arguments",
    "endpoint_from_string",
    "install_reactor",
    "is_inside_tls",
    "set_high_water",
    "tcp_endpoint",
    "unix_endpoint",
    "unsent_bytes",
)

LISTEN_BACKLOG = 1024


def install_reactor() -> Any:
    """Return the reactor; install the asyncio one, on uvloop where it exists, if there is none."""
    if "twisted.internet.reactor" not in sys.modules:
        loop = _new_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
        from twisted.internet import reactor

        # Twisted's clock is the wall's: set forward, it would let all timers go at once.
        reactor.seconds = time.monotonic  # type: ignore[method-assign]
    from twisted.internet import reactor

    return reactor


def describe_reactor(reactor: IReactorCore) -> str:
    """Name a reactor, and the asyncio loop under it if there is one."""
    name = type(reactor).__name__
    loop = _loop_of(reactor)
    return name if loop is None else f"{name} on {type(loop).__module__}.{type(loop).__qualname__}"


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def _loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    if isinstance(reactor, asyncioreactor.AsyncioSelectorReactor):
        return reactor._asyncioEventloop
    return None


# TLS


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Paths of PEM files: the certificate with those that signed it, and its key.

    `chain` is for those that signed it, if they are in a file of their own.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    chain: str | os.PathLike[str] | None = None

    def twisted_options(self) -> CertificateOptions:
        """Return what Twisted's TLS takes; raise ImproperlyConfigured for files it cannot use."""
        options = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2)
        # Twisted's way for the files is an object of pyOpenSSL's that is on its way out.
        context = options.getContext()
        try:
            with self._certificates() as certificates:
                context.use_certificate_chain_file(certificates)
            context.use_privatekey_file(os.fspath(self.key))
            context.check_privatekey()
        except SSL.Error as exc:
            raise self._unusable(_reasons(exc)) from exc
        except OSError as exc:
            raise self._unusable(str(exc)) from exc
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Return what asyncio's TLS takes; raise ImproperlyConfigured for files it cannot use."""
        self.twisted_options()  # has the words for what is wrong
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            with self._certificates() as certificates:
                context.load_cert_chain(certificates, self.key)
        except OSError as exc:  # of which ssl.SSLError is one
            raise self._unusable(str(exc)) from exc
        return context

    @contextmanager
    def _certificates(self) -> Iterator[str]:
        """Name a file that has all certificates, for OpenSSL takes only one."""
        if self.chain is None:
            yield os.fspath(self.certificate)
            return
        with NamedTemporaryFile(suffix=".pem") as together:
            for path in (self.certificate, self.chain):
                found = re.findall(_PEM_CERTIFICATE, Path(path).read_bytes(), re.DOTALL)
                if not found:
                    raise self._unusable(f"there is no certificate in {str(path)!r}")
                together.write(b"\n".join([*found, b""]))
            together.flush()
            yield together.name

    def _unusable(self, why: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(
            f"The certificate {str(self.certificate)!r} and the key {str(self.key)!r} cannot "
            f"be used: {why}."
        )


_PEM_CERTIFICATE = rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----"


def _reasons(exc: SSL.Error) -> str:
    errors = exc.args[0] if exc.args else ()
    return "; ".join(reason for *_, reason in errors) or "OpenSSL does not say why"


# Whichever is the fastest for a reactor


@implementer(IStreamServerEndpoint)
class _TLSEndpoint:
    """TLS of Twisted's around an endpoint of Twisted's."""

    def __init__(self, endpoint: Any, tls: CertificateOptions) -> None:
        self._endpoint = endpoint
        self._tls = tls

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Return a Deferred with the listening port."""
        wrapped = TLSMemoryBIOFactory(self._tls, isClient=False, wrappedFactory=protocolFactory)
        listening: Deferred[IListeningPort] = self._endpoint.listen(wrapped)
        return listening


def tcp_endpoint(
    reactor: Any,
    host: str,
    port: int,
    *,
    backlog: int = LISTEN_BACKLOG,
    tls: TLSFiles | None = None,
) -> IStreamServerEndpoint:
    """Return the fastest endpoint that the reactor has; an empty `host` is all of IPv4's.

    Raises ImproperlyConfigured for TLS files that cannot be used.
    """
    host = host.strip("[]")
    if _loop_of(reactor) is not None:
        context = None if tls is None else tls.ssl_context()
        return LoopServerEndpoint(reactor, TCPSocket(host, port, backlog), context)
    kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    endpoint = kind(reactor, port, backlog, host)
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.twisted_options())


def unix_endpoint(
    reactor: Any,
    path: str,
    *,
    mode: int = 0o666,
    backlog: int = LISTEN_BACKLOG,
    lockfile: bool = False,
    tls: TLSFiles | None = None,
) -> IStreamServerEndpoint:
    """Return the fastest endpoint on a Unix socket that the reactor has.

    Raises ImproperlyConfigured for TLS files that cannot be used.
    """
    if _loop_of(reactor) is not None:
        context = None if tls is None else tls.ssl_context()
        where = UNIXSocket(path, mode, backlog, lockfile=lockfile)
        return LoopServerEndpoint(reactor, where, context)
    endpoint = UNIXServerEndpoint(reactor, path, backlog, mode, lockfile)
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.twisted_options())


# Endpoint strings

# The arguments of each kind in Twisted's order, which they have without their names.
_ARGUMENTS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": (
        *("port", "privateKey", "certKey", "sslmethod", "interface"),
        *("backlog", "extraCertChain", "dhParameters"),
    ),
    "unix": ("address", "mode", "backlog", "lockfile"),
}
_TWISTED_ONLY = {"sslmethod", "dhParameters"}


def endpoint_from_string(
    reactor: Any, description: str, *, tls: TLSFiles | None = None
) -> IStreamServerEndpoint:
    """Return an endpoint for a string such as `tcp:8080:interface=127.0.0.1`.

    `tcp:`, `tcp6:`, `ssl:` and `unix:` take Twisted's keywords; all other kinds are Twisted's.
    With `tls` connections are inside TLS. Raises ImproperlyConfigured for both ways to ask for
    it, and for TLS files that cannot be used.
    """
    if tls is not None and is_inside_tls(description):
        raise ImproperlyConfigured(f"TLS is asked for twice: by files and by {description!r}.")
    if _loop_of(reactor) is not None:
        kind, positional, named = _parts(description)
        endpoint = endpoint_from_arguments(reactor, kind, positional, named, tls=tls)
        if endpoint is not None:
            return endpoint
    endpoint = serverFromString(reactor, description.removeprefix("native:"))
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.twisted_options())


def endpoint_from_arguments(
    reactor: Any,
    kind: str,
    positional: Sequence[str],
    named: Mapping[str, str],
    *,
    tls: TLSFiles | None = None,
) -> IStreamServerEndpoint | None:
    """Return an endpoint of ours for the parts of an endpoint string.

    None is returned for a kind, or for a keyword of it, that only Twisted knows.
    """
    names = _ARGUMENTS.get(kind, ())
    given = dict(zip(names, positional, strict=False)) | dict(named)
    is_complete = len(given) == len(positional) + len(named) and names and names[0] in given
    if not is_complete or not set(given) <= set(names) - _TWISTED_ONLY:
        return None
    backlog = int(given.get("backlog", LISTEN_BACKLOG))
    if kind == "unix":
        return unix_endpoint(
            reactor,
            given["address"],
            mode=int(given.get("mode", "666"), 8),
            backlog=backlog,
            lockfile=bool(int(given.get("lockfile", "1"))),
            tls=tls,
        )
    if kind == "ssl":
        key = given.get("privateKey", "server.pem")
        tls = TLSFiles(given.get("certKey", key), key, given.get("extraCertChain"))
    host = given.get("interface", "::" if kind == "tcp6" else "")
    return tcp_endpoint(reactor, host, int(given["port"]), backlog=backlog, tls=tls)


def is_inside_tls(description: str) -> bool:
    """Tell whether the endpoint of a string is inside TLS, as far as its kind says so."""
    kinds = description.split(":")
    while kinds and kinds[0] in ("native", "haproxy"):
        del kinds[0]
    return kinds[:1] == ["ssl"]


def _parts(description: str) -> tuple[str, list[str], dict[str, str]]:
    r"""Split an endpoint string; a colon, an equals sign or a backslash may follow a `\`."""
    positional: list[str] = []
    named: dict[str, str] = {}
    # A colon at the end, so that no match is empty by mistake.
    for part in re.findall(r"((?:\\.|[^\\:])*):", description.removeprefix("native:") + ":"):
        [(name, equals, value)] = re.findall(r"^((?:\\.|[^\\=])*)(=?)(.*)$", part)
        if equals:
            named[_unescaped(name)] = _unescaped(value)
        else:
            positional.append(_unescaped(name))
    return positional[0], positional[1:], named


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


# What waits in a transport of either kind


def unsent_bytes(transport: Any) -> int:
    """Return how many bytes a transport has taken, and the system has not; 0 if nobody knows."""
    if isinstance(transport, LoopTransport):
        return transport.unsent_bytes
    # Twisted's have no name for it. Inside TLS the first is what is not encrypted yet.
    waiting = sum(map(len, getattr(transport, "_appSendBuffer", ())))
    rest = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return waiting + rest + int(getattr(transport, "_tempDataLen", 0))


def set_high_water(transport: Any, size: int) -> None:
    """Let a transport tell its producer to pause when more bytes than `size` wait."""
    if size == HIGH_WATER_BYTES:
        return  # as they are made
    if isinstance(transport, LoopTransport):
        transport.set_high_water(size)
    else:
        getattr(transport, "transport", transport).bufferSize = size
