"""The reactor that a server runs on, and the endpoints that it listens on.

On the asyncio reactor a server is served by the loop's own transports, which are several times
faster than Twisted's; elsewhere by Twisted's, with the same behaviour.
"""

import asyncio
import os
import re
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from aiorest_ws._loop_transport import LoopTLSTransport, LoopTransport, address_of
from aiorest_ws.exceptions import ImproperlyConfigured

__all__ = (
    "LISTEN_BACKLOG",
    "LoopServerEndpoint",
    "TLSFiles",
    "describe_reactor",
    "endpoint_from_arguments",
    "endpoint_from_string",
    "install_reactor",
    "tcp_endpoint",
    "unix_endpoint",
)

_log = Logger("aiorest-ws")

LISTEN_BACKLOG = 1024
TLS_HANDSHAKE_SECONDS = 5


def install_reactor() -> Any:
    """Return the reactor; install the asyncio one, on uvloop where it exists, if there is none."""
    if "twisted.internet.reactor" not in sys.modules:
        loop = _new_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
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
    """Paths of PEM files: the certificate with those that signed it, and its key."""

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]

    def twisted_options(self) -> CertificateOptions:
        """Return what Twisted's TLS takes; raise ImproperlyConfigured for files it cannot use."""
        options = CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2)
        # Twisted's way for the files is an object of pyOpenSSL's that is on its way out.
        context = options.getContext()
        try:
            context.use_certificate_chain_file(os.fspath(self.certificate))
            context.use_privatekey_file(os.fspath(self.key))
            context.check_privatekey()
        except SSL.Error as exc:
            raise ImproperlyConfigured(
                f"The certificate {str(self.certificate)!r} and the key {str(self.key)!r} cannot "
                f"be used: {_reasons(exc)}."
            ) from exc
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Return what asyncio's TLS takes; raise ImproperlyConfigured for files it cannot use."""
        self.twisted_options()  # has the words for what is wrong
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context


def _reasons(exc: SSL.Error) -> str:
    errors = exc.args[0] if exc.args else ()
    return "; ".join(reason for *_, reason in errors) or "OpenSSL does not say why"


# The loop's own transports


@implementer(IStreamServerEndpoint)
class LoopServerEndpoint:
    """Listen with the transports of the asyncio reactor's loop.

    `bind` returns a listening socket; an OSError of its becomes CannotListenError. With an SSL
    context connections are inside TLS.
    """

    def __init__(
        self, reactor: Any, bind: Callable[[], socket.socket], tls: ssl.SSLContext | None = None
    ) -> None:
        loop = _loop_of(reactor)
        if loop is None:
            raise TypeError(f"{describe_reactor(reactor)} has no asyncio loop.")
        self._loop = loop
        self._bind = bind
        self._tls = tls

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Return a Deferred that has fired: with the port, or with CannotListenError.

        Connections wait in the port until the loop runs.
        """
        port = _LoopPort(self._loop, protocolFactory, self._bind, self._tls)
        try:
            port.startListening()
        except CannotListenError:
            return fail()
        return succeed(port)


@implementer(IListeningPort)
class _LoopPort:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Any,
        bind: Callable[[], socket.socket],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._bind = bind
        self._tls = tls
        self._address: Any = None
        self._serving: Deferred[asyncio.Server | None] | None = None

    def startListening(self) -> None:
        """Listen; raise CannotListenError if that cannot be."""
        listening = self._bind()
        self._address = listening.getsockname()
        self._factory.doStart()
        serving = asyncio.ensure_future(self._serve(listening), loop=self._loop)
        self._serving = Deferred.fromFuture(serving)
        self._serving.addErrback(self._give_up, listening)

    async def _serve(self, listening: socket.socket) -> asyncio.Server | None:
        is_unix = listening.family == socket.AF_UNIX
        create: Any = self._loop.create_unix_server if is_unix else self._loop.create_server
        kind = LoopTransport if self._tls is None else LoopTLSTransport
        timeout = None if self._tls is None else TLS_HANDSHAKE_SECONDS
        server: asyncio.Server = await create(
            lambda: kind(self._factory),
            sock=listening,
            ssl=self._tls,
            ssl_handshake_timeout=timeout,
            backlog=LISTEN_BACKLOG,
        )
        return server

    def _give_up(self, failure: Failure, listening: socket.socket) -> None:
        _log.failure("the loop does not serve {address}", failure, address=self._address)
        listening.close()

    def stopListening(self) -> Deferred[None]:
        """Accept no more; open connections go on."""
        serving, self._serving = self._serving, None
        if serving is None:
            return succeed(None)
        return serving.addCallback(self._stop)

    def _stop(self, server: asyncio.Server | None) -> None:
        if server is not None:
            server.close()
        if isinstance(self._address, str):
            Path(self._address).unlink(missing_ok=True)
        self._factory.doStop()

    def getHost(self) -> Any:
        """Return the address that this port listens on."""
        return address_of(self._address)


def _tcp_socket(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # As Twisted does: an IPv4 server may have the same port.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(backlog)
    except OSError as exc:
        listening.close()
        raise CannotListenError(host, port, exc) from exc
    return listening


def _unix_socket(path: str, mode: int, backlog: int) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        _remove_dead_socket(path)
        listening.bind(path)
        Path(path).chmod(mode)
        listening.listen(backlog)
    except OSError as exc:
        listening.close()
        raise CannotListenError(None, path, exc) from exc
    return listening


def _remove_dead_socket(path: str) -> None:
    """Remove what a server that was killed has left; a living one keeps its socket."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()


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
        return LoopServerEndpoint(reactor, lambda: _tcp_socket(host, port, backlog), context)
    kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    endpoint = kind(reactor, port, backlog, host)
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.twisted_options())


def unix_endpoint(
    reactor: Any,
    path: str,
    *,
    mode: int = 0o666,
    backlog: int = LISTEN_BACKLOG,
    tls: TLSFiles | None = None,
) -> IStreamServerEndpoint:
    """Return the fastest endpoint on a Unix socket that the reactor has.

    Raises ImproperlyConfigured for TLS files that cannot be used.
    """
    if _loop_of(reactor) is not None:
        context = None if tls is None else tls.ssl_context()
        return LoopServerEndpoint(reactor, lambda: _unix_socket(path, mode, backlog), context)
    endpoint = UNIXServerEndpoint(reactor, path, backlog, mode)
    return endpoint if tls is None else _TLSEndpoint(endpoint, tls.twisted_options())


# Endpoint strings


def endpoint_from_string(
    reactor: Any, description: str, *, tls: TLSFiles | None = None
) -> IStreamServerEndpoint:
    """Return an endpoint for a string such as `tcp:8080:interface=127.0.0.1`.

    `tcp:`, `ssl:` and `unix:` take Twisted's keywords; all other kinds are Twisted's. With `tls`
    connections are inside TLS whatever the string says.
    """
    kind, *parts = re.split(r"(?<!\\):", description)
    if kind == "ssl" and tls is not None:
        raise ImproperlyConfigured(f"TLS is asked for twice: by files and by {description!r}.")
    positional: list[str] = []
    named: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if equals:
            named[name] = _unescaped(value)
        else:
            positional.append(_unescaped(part))
    if _loop_of(reactor) is not None:
        endpoint = endpoint_from_arguments(reactor, kind, positional, named, tls=tls)
        if endpoint is not None:
            return endpoint
    endpoint = serverFromString(reactor, description)
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
    is_ours = set(given) <= {*names, "backlog"} and names and names[0] in given
    if not is_ours or len(given) != len(positional) + len(named):
        return None
    backlog = int(given.get("backlog", LISTEN_BACKLOG))
    if kind == "unix":
        mode = int(given.get("mode", "666"), 8)
        return unix_endpoint(reactor, given["address"], mode=mode, backlog=backlog, tls=tls)
    if kind == "ssl":
        key = given.get("privateKey", "server.pem")
        tls = TLSFiles(given.get("certKey", key), key)
    host = given.get("interface", "")
    return tcp_endpoint(reactor, host, int(given["port"]), backlog=backlog, tls=tls)


# The arguments that we take, those first that need no name.
_ARGUMENTS = {
    "tcp": ("port", "interface"),
    "ssl": ("port", "privateKey", "certKey", "interface"),
    "unix": ("address", "mode"),
}


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
