"""`Application`: a router, middlewares, hooks and a factory become a running service."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from aiorest_ws import __version__
from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.awaiting import drive, is_awaitable
from aiorest_ws.conf import settings
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.log import log_to_stream, log_to_twisted, logger, set_level
from aiorest_ws.request import ConnectionHook, RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import ErrorHandler
from aiorest_ws.status import WS_SERVICE_RESTART
from aiorest_ws.transports import describe_reactor, install_reactor
from aiorest_ws.urls.base import set_urlconf
from aiorest_ws.utils.websocket import deflate_offer_accept
from aiorest_ws.validators import check_and_set_subclass

__all__ = ("Application", "ApplicationService", "load_application")

CLOSING_SECONDS = 5
LISTEN_BACKLOG = 1024

FactoryHook = Callable[[Any], Any]
Hook = TypeVar("Hook", bound=Callable[..., Any])


class Application:
    """Put a server together and run it.

    `factory` and `protocol` are classes. With `certificate` and `key`, paths of PEM files, it
    serves `wss://`. `middlewares` are classes, made here; those of the setting
    MIDDLEWARE_CLASSES come before them. `factory_options` are keywords for the factory class.
    """

    def __init__(
        self,
        factory: type[RequestHandlerFactory] | None = None,
        protocol: type[RequestHandlerProtocol] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        middlewares: Any = (),
        *,
        router: AbstractRouter | None = None,
        factory_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._factory: type[RequestHandlerFactory] = RequestHandlerFactory
        self._protocol: type[RequestHandlerProtocol] | None = None
        self.factory = factory
        self.protocol = protocol
        self.certificate = certificate
        self.key = key
        self.router = router
        self.factory_options = dict(factory_options or {})
        classes = [_imported(middleware) for middleware in settings.MIDDLEWARE_CLASSES]
        self._middlewares = [middleware() for middleware in [*classes, *middlewares]]
        self._startup_hooks: list[FactoryHook] = []
        self._shutdown_hooks: list[FactoryHook] = []
        self._connect_hooks: list[ConnectionHook] = []
        self._disconnect_hooks: list[ConnectionHook] = []
        self._error_handlers: dict[type[BaseException], ErrorHandler] = {}

    @property
    def factory(self) -> type[RequestHandlerFactory]:
        """The class that makes and serves the connections."""
        return self._factory

    @factory.setter
    def factory(self, factory: type[RequestHandlerFactory] | None) -> None:
        if factory is not None:
            _check_class("factory", factory)
            check_and_set_subclass(self, "_factory", factory, RequestHandlerFactory)

    @property
    def protocol(self) -> type[RequestHandlerProtocol]:
        """The class of a connection; the factory's own unless another was given."""
        return self._protocol or self._factory.protocol

    @protocol.setter
    def protocol(self, protocol: type[RequestHandlerProtocol] | None) -> None:
        if protocol is not None:
            _check_class("protocol", protocol)
            check_and_set_subclass(self, "_protocol", protocol, RequestHandlerProtocol)

    @property
    def middlewares(self) -> list[Any]:
        """The middlewares of this application, in the order in which they see a request."""
        return self._middlewares

    @property
    def isSecure(self) -> bool:
        """Whether clients connect by `wss://`. Raises ImproperlyConfigured for half a key pair."""
        if bool(self.certificate) != bool(self.key):
            raise ImproperlyConfigured("TLS needs both, a `certificate` and its `key`.")
        return bool(self.certificate)

    @property
    def url(self) -> str:
        """The template of the server's URL: host, port and path."""
        return "wss://{0}:{1}/{2}" if self.isSecure else "ws://{0}:{1}/{2}"

    def generate_url(self, host: str, port: int, path: str = "") -> str:
        """Return the URL that clients connect to."""
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return self.url.format(host, port, path.lstrip("/"))

    # What the application does besides answering

    def on_startup(self, hook: Hook) -> Hook:
        """Call `hook(factory)` before the server listens; it may be a coroutine."""
        return _added(self._startup_hooks, hook, "on_startup", "the factory")

    def on_shutdown(self, hook: Hook) -> Hook:
        """Call `hook(factory)` when the last connection is closed; it may be a coroutine."""
        return _added(self._shutdown_hooks, hook, "on_shutdown", "the factory")

    def on_connect(self, hook: Hook) -> Hook:
        """Call `hook(connection)` for each client, before its first message; may be a coroutine.

        An exception closes that connection with 1011.
        """
        return _added(self._connect_hooks, hook, "on_connect", "the connection")

    def on_disconnect(self, hook: Hook) -> Hook:
        """Call `hook(connection)` when a client is gone; `connection.close_reason` says why."""
        return _added(self._disconnect_hooks, hook, "on_disconnect", "the connection")

    def error_handler(self, exception: type[BaseException]) -> Callable[[Hook], Hook]:
        """Turn exceptions of views into failures: `handler(request, exc) -> BaseAPIException`.

        The handler of the nearest base class is asked. It may raise a BaseAPIException instead.
        """
        if not inspect.isclass(exception) or not issubclass(exception, BaseException):
            raise TypeError(f"error_handler takes an exception class, not {exception!r}")

        def register(handler: Hook) -> Hook:
            if inspect.iscoroutinefunction(handler):
                raise TypeError("an error handler cannot be a coroutine")
            self._error_handlers[exception] = handler
            return handler

        return register

    # From here to a server

    def generate_factory(
        self,
        url: str | None = None,
        *,
        router: AbstractRouter | None = None,
        log_level: str | None = None,
        compress: bool = False,
        accept_function: Callable[[Any], Any] = deflate_offer_accept,
        **factory_options: Any,
    ) -> RequestHandlerFactory:
        """Return the factory of a server at `url`; further keywords go to the factory class.

        Raises ImproperlyConfigured without a router.
        """
        if log_level is not None:
            set_level(log_level)
        factory = self.factory(url, **{**self.factory_options, **factory_options})
        factory.protocol = self.protocol
        router = router if router is not None else self.router
        if router is not None:
            factory.router = router
        elif not factory.router._urls:
            raise ImproperlyConfigured(
                "An Application needs a router: Application(router=...) or run(router=...)."
            )
        self._equip(factory.router)
        factory.connect_hooks = self._connect_hooks
        factory.disconnect_hooks = self._disconnect_hooks
        if compress:
            factory.setProtocolOptions(perMessageCompressionAccept=accept_function)  # type: ignore[no-untyped-call]
        set_urlconf(
            {
                "path": (url or "").rstrip("/"),
                "urls": factory.router._urls,
                "routes": factory.router._routes,
            }
        )
        return factory

    def service(
        self,
        *,
        router: AbstractRouter | None = None,
        listen: str = "tcp:8080",
        path: str = "",
        log_level: str | None = None,
        compress: bool = False,
        accept_function: Callable[[Any], Any] = deflate_offer_accept,
    ) -> "ApplicationService":
        """Return a Twisted service for a `.tac` file; `listen` is a server endpoint string."""
        reactor = install_reactor()
        log_to_twisted()
        factory = self.generate_factory(
            None,
            router=router,
            log_level=log_level,
            compress=compress,
            accept_function=accept_function,
        )
        return ApplicationService(self, factory, serverFromString(reactor, listen), path)

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        path: str = "",
        log_level: str = "info",
        router: AbstractRouter | None = None,
        compress: bool = False,
        accept_function: Callable[[Any], Any] = deflate_offer_accept,
    ) -> None:
        """Serve until SIGINT or SIGTERM; port 0 takes a free one, which the banner tells.

        Blocks. Raises what kept the server from starting, CannotListenError for a busy port.
        """
        self.tcp_service(
            host,
            port,
            path,
            log_level=log_level,
            router=router,
            compress=compress,
            accept_function=accept_function,
        ).run()

    def tcp_service(
        self,
        host: str,
        port: int,
        path: str = "",
        *,
        log_level: str = "info",
        router: AbstractRouter | None = None,
        compress: bool = False,
        accept_function: Callable[[Any], Any] = deflate_offer_accept,
    ) -> "ApplicationService":
        """Return the service that `run` runs; it prints a banner and logs to standard error."""
        reactor = install_reactor()
        log_to_stream()
        factory = self.generate_factory(
            self.generate_url(host, port, path) if port else None,
            router=router,
            log_level=log_level,
            compress=compress,
            accept_function=accept_function,
        )
        endpoint_class = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        endpoint = endpoint_class(reactor, port, LISTEN_BACKLOG, host.strip("[]"))
        return ApplicationService(self, factory, endpoint, path, host=host, banner=print)

    def _equip(self, router: AbstractRouter) -> None:
        """Give the router this application's middlewares, before its own, and error handlers."""
        theirs = router.middlewares
        theirs[:0] = [ours for ours in self._middlewares if ours not in theirs]
        if self._error_handlers:
            router.error_handlers.update(self._error_handlers)  # type: ignore[attr-defined]

    def _wrapped(self, factory: RequestHandlerFactory) -> IProtocolFactory:
        """Return what listens: the factory itself, or TLS around it."""
        if not self.isSecure:
            return factory
        assert self.certificate is not None  # noqa: S101  isSecure has looked
        assert self.key is not None  # noqa: S101
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
        return TLSMemoryBIOFactory(options, isClient=False, wrappedFactory=factory)


class ApplicationService(Service):
    """An application that listens: Twisted starts and stops it.

    `listening` fires with the listening port. `failure` is the exception that kept the service
    from starting, which also stops the reactor.
    """

    def __init__(
        self,
        application: Application,
        factory: RequestHandlerFactory,
        endpoint: IStreamServerEndpoint,
        path: str = "",
        *,
        host: str | None = None,
        banner: Callable[[str], Any] | None = None,
    ) -> None:
        self.factory = factory
        self.failure: BaseException | None = None
        self.listening: Deferred[IListeningPort] = Deferred()
        self.port: IListeningPort | None = None
        self._application = application
        self._listening_factory = application._wrapped(factory)
        self._endpoint = endpoint
        self._path = path
        self._host = host
        self._banner = banner
        self._is_begun = False
        self._delayed: IDelayedCall | None = None
        self._starting: Deferred[Any] | None = None

    def privilegedStartService(self) -> None:
        """Listen while twistd may still bind a port under 1024, unless a hook has to run first."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        if not self._application._startup_hooks:
            self._begin()

    def startService(self) -> None:
        """Run the start-up hooks, then listen."""
        super().startService()  # type: ignore[no-untyped-call]
        if not self._is_begun:
            # Not yet: services are started before the loop that a hook may need.
            self._delayed = self.factory.reactor.callLater(0, self._begin)

    def stopService(self) -> Deferred[None]:
        """Stop listening, close every connection with 1012, run the shutdown hooks."""
        super().stopService()  # type: ignore[no-untyped-call]
        stopping = drive(self._stop())
        return stopping if isinstance(stopping, Deferred) else maybeDeferred(lambda: None)

    def run(self) -> None:
        """Run the reactor with this service until it is stopped; raise its `failure`."""
        reactor = self.factory.reactor
        reactor.addSystemEventTrigger("before", "shutdown", self.stopService)
        self.startService()
        reactor.run()
        if self.failure is not None:
            raise self.failure

    def _begin(self) -> None:
        self._is_begun = True
        port = drive(self._start())
        if isinstance(port, Deferred):
            self._starting = port.addCallbacks(self._started, _ignore_cancellation)
        else:
            self._started(port)

    async def _start(self) -> IListeningPort | None:
        try:
            for hook in self._application._startup_hooks:
                await _called(hook, self.factory)
            return await self._endpoint.listen(self._listening_factory)
        except Exception as exc:  # noqa: BLE001  the program is told, and the reactor stopped
            self.failure = exc
            if self._banner is None or not isinstance(exc, CannotListenError):
                logger.critical("the server cannot start: %s", exc, exc_info=exc)
            return None

    def _started(self, port: IListeningPort | None) -> None:
        if port is None:
            self.factory.reactor.callLater(0, self.factory.reactor.stop)
            return
        self.port = port
        self._announce()
        self.listening.callback(port)

    def _announce(self) -> None:
        reactor = describe_reactor(self.factory.reactor)
        url = self._url()
        if self._banner is None:
            logger.info("aiorest-ws %s serves %s on %s", __version__, url, reactor)
            return
        self._banner(f"aiorest-ws {__version__}")
        self._banner(f"Server started at {url}")
        self._banner(f"Reactor: {reactor}")
        self._banner("Quit the server with CONTROL-C.")
        sys.stdout.flush()

    def _url(self) -> str:
        assert self.port is not None  # noqa: S101  only called when listening
        address: Any = self.port.getHost()
        port = getattr(address, "port", None)
        if port is None:
            return str(address)
        return self._application.generate_url(self._host or address.host, port, self._path)

    async def _stop(self) -> None:
        if self._delayed is not None and self._delayed.active():
            self._delayed.cancel()
        if self._starting is not None:
            self._starting.cancel()
        if self.port is not None:
            await maybeDeferred(self.port.stopListening)
            self.port = None
        await self._close_connections()
        for hook in self._application._shutdown_hooks:
            try:
                await _called(hook, self.factory)
            except Exception as exc:  # noqa: BLE001  the other hooks run all the same
                logger.error("an on_shutdown hook failed", exc_info=exc)

    async def _close_connections(self) -> None:
        connections = list(self.factory.connections)
        for connection in connections:
            # sendClose() refuses this code.
            connection.sendCloseFrame(WS_SERVICE_RESTART, None, isReply=False)
        timer = self.factory.reactor.callLater(CLOSING_SECONDS, _abort, connections)
        await self.factory.last_closed()
        if timer.active():
            timer.cancel()


def load_application(name: str) -> Application:
    """Return the Application called `package.module:name`; a router is wrapped in one.

    The current directory comes first on the path. Raises ImproperlyConfigured.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise ImproperlyConfigured(f"{name!r} is not of the form package.module:name.")
    here = str(Path.cwd())
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise  # the module is there, and lacks something itself
        raise ImproperlyConfigured(f"There is no module {exc.name!r}.") from exc
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ImproperlyConfigured(f"{module_name!r} has no {attribute!r}.")
        found = getattr(found, part)
    if isinstance(found, AbstractRouter):
        return Application(router=found)
    if not isinstance(found, Application):
        raise ImproperlyConfigured(f"{name!r} is neither an Application nor a router: {found!r}.")
    return found


def _reasons(exc: SSL.Error) -> str:
    errors = exc.args[0] if exc.args else ()
    return "; ".join(reason for *_, reason in errors) or "OpenSSL does not say why"


async def _called(hook: FactoryHook, argument: Any) -> None:
    done = hook(argument)
    if is_awaitable(done):
        await done


def _abort(connections: list[RequestHandlerProtocol]) -> None:
    for connection in connections:
        if connection.state != connection.STATE_CLOSED:
            connection.transport.abortConnection()


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError)


def _added(hooks: list[Any], hook: Hook, name: str, argument: str) -> Hook:
    try:
        inspect.signature(hook).bind(None)
    except TypeError:
        raise TypeError(f"an {name} hook takes one argument: {argument}") from None
    hooks.append(hook)
    return hook


def _check_class(name: str, value: Any) -> None:
    if not inspect.isclass(value):
        raise TypeError(f"{name} must be a class, not {value!r}")


def _imported(middleware: Any) -> Any:
    if not isinstance(middleware, str):
        return middleware
    module_name, _, class_name = middleware.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"MIDDLEWARE_CLASSES names {middleware!r}, which cannot be imported: {exc}."
        ) from exc
