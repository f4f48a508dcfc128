"""`Application`: make a running service of a router, middlewares, hooks and a factory."""

import dataclasses
import importlib
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from twisted.internet.interfaces import IStreamServerEndpoint

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.conf import settings
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.limits import Limits
from aiorest_ws.log import log_to_stream, log_to_twisted, set_level
from aiorest_ws.request import ConnectionHook, RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.serving.failure import run_program, start_failures_in_one_line
from aiorest_ws.serving.hooks import (
    ErrorHandler,
    Hook,
    add_hook,
    adds_error_handler,
    check_auth_required,
    choose_router,
    import_middleware,
    set_class,
)
from aiorest_ws.serving.inherited import (
    check_overrides,
    configure_logging,
    tls_files,
    tls_of,
)
from aiorest_ws.serving.service import ApplicationService, FactoryHook
from aiorest_ws.serving.workers import make_service
from aiorest_ws.topics.broker import Broker
from aiorest_ws.topics.urls import MEMORY, is_memory
from aiorest_ws.transports import (
    TLS,
    endpoint_from_string,
    install_reactor,
    is_inside_tls,
    tcp_endpoint,
)
from aiorest_ws.urls.base import set_urlconf
from aiorest_ws.utils.websocket import deflate_offer_accept
from aiorest_ws.validators import check_encoder

__all__ = ("Application", "load_application")


class Application:
    """Configure a server and run it.

    `factory` and `protocol` are classes. With `certificate` and `key`, paths of PEM files, it
    serves `wss://`. `middlewares` are classes, which are instantiated here; those of the setting
    MIDDLEWARE_CLASSES come before them. With `access_log` each reply is logged.
    `factory_options` are keywords for the factory class. `topics` is where topics are stored,
    `memory` or the URL of a Redis server. `presence_info(request)` returns what the other
    subscribers of a topic may know about a client. `encoder(value)` returns what is sent in place
    of a value that JSON cannot hold; it raises for one that it does not know.

    With `ssl_ca_certs`, a PEM file of authorities, clients need a certificate.
    `ssl_keyfile_password` decrypts `key`. With `ssl_reload` new handshakes use renewed files.
    """

    # As in 1.1, a subclass may set them.
    _factory: type[RequestHandlerFactory] = RequestHandlerFactory
    _protocol: type[RequestHandlerProtocol] | None = None

    def __init__(
        self,
        factory: type[RequestHandlerFactory] | None = None,
        protocol: type[RequestHandlerProtocol] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        middlewares: Any = (),
        *,
        router: AbstractRouter | None = None,
        limits: Limits | None = None,
        access_log: bool = False,
        factory_options: Mapping[str, Any] | None = None,
        topics: str | Broker = MEMORY,
        presence_info: Callable[[Any], Any] | None = None,
        encoder: Callable[[Any], Any] | None = None,
        ssl_ca_certs: str | os.PathLike[str] | None = None,
        ssl_keyfile_password: str | bytes | None = None,
        ssl_reload: bool = True,
    ) -> None:
        self.factory = factory
        self.protocol = protocol
        self.certificate = certificate
        self.key = key
        self._own_router = SimpleRouter()
        self._router = router
        self.limits = limits
        self.access_log = access_log
        self.factory_options = dict(factory_options or {})
        self.topics = topics
        self.presence_info = presence_info
        self.encoder = check_encoder(encoder)
        self.ssl_ca_certs = ssl_ca_certs
        self.ssl_keyfile_password = ssl_keyfile_password
        self.ssl_reload = ssl_reload
        classes = [import_middleware(middleware) for middleware in settings.MIDDLEWARE_CLASSES]
        self._middlewares = [middleware() for middleware in [*classes, *middlewares]]
        self._startup_hooks: list[FactoryHook] = []
        self._shutdown_hooks: list[FactoryHook] = []
        self._connect_hooks: list[ConnectionHook] = []
        self._disconnect_hooks: list[ConnectionHook] = []
        self._error_handlers: dict[type[BaseException], ErrorHandler] = {}

    @property
    def factory(self) -> type[RequestHandlerFactory]:
        """The class of the factory of connections."""
        return self._factory

    @factory.setter
    def factory(self, factory: type[RequestHandlerFactory] | None) -> None:
        if factory is not None:
            set_class(self, "factory", factory, RequestHandlerFactory)

    @property
    def protocol(self) -> type[RequestHandlerProtocol]:
        """The class of a connection; by default that of the factory."""
        return self._protocol or self._factory.protocol

    @protocol.setter
    def protocol(self, protocol: type[RequestHandlerProtocol] | None) -> None:
        if protocol is not None:
            set_class(self, "protocol", protocol, RequestHandlerProtocol)

    @property
    def router(self) -> SimpleRouter:
        """The router of this application: one of its own, or the one that it was given."""
        return self._own_router if self._router is None else cast("SimpleRouter", self._router)

    @router.setter
    def router(self, router: AbstractRouter | None) -> None:
        self._router = router

    @property
    def middlewares(self) -> list[Any]:
        """The middlewares of this application, in the order in which they see a request."""
        return self._middlewares

    @property
    def isSecure(self) -> bool:
        """Whether there is a certificate with its key, so that clients connect by `wss://`."""
        return bool(self.certificate and self.key)

    @property
    def url(self) -> str:
        """The template of the server's URL: host, port and path."""
        return "wss://{0}:{1}/{2}" if self.isSecure else "ws://{0}:{1}/{2}"

    def limits_with(self, texts: Mapping[str, str]) -> Limits | None:
        """Return this application's limits, changed as the options of a command line say."""
        if not texts:
            return self.limits
        changed = Limits.from_texts(texts)
        return dataclasses.replace(
            self.limits or Limits(), **{name: getattr(changed, name) for name in texts}
        )

    def generate_url(self, host: str, port: int, path: str = "") -> str:
        """Return the URL that clients connect to."""
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return self.url.format(host, port, path.lstrip("/"))

    # Hooks

    def on_startup(self, hook: Hook) -> Hook:
        """Call `hook(factory)` before the server listens; it may be a coroutine."""
        return add_hook(self._startup_hooks, hook, "on_startup", "the factory")

    def on_shutdown(self, hook: Hook) -> Hook:
        """Call `hook(factory)` after the last connection is closed; it may be a coroutine."""
        return add_hook(self._shutdown_hooks, hook, "on_shutdown", "the factory")

    def on_connect(self, hook: Hook) -> Hook:
        """Call `hook(connection)` before the first message of a client; it may be a coroutine.

        An exception closes the connection with 1011.
        """
        return add_hook(self._connect_hooks, hook, "on_connect", "the connection")

    def on_disconnect(self, hook: Hook) -> Hook:
        """Call `hook(connection)` when a connection is closed; its `close_reason` says why."""
        return add_hook(self._disconnect_hooks, hook, "on_disconnect", "the connection")

    def error_handler(self, exception: type[BaseException]) -> Callable[[Hook], Hook]:
        """Convert exceptions of views to failures: `handler(request, exc) -> BaseAPIException`.

        The handler of the nearest base class is called. It may also raise a BaseAPIException.
        """
        return adds_error_handler(self._error_handlers, exception)

    # Servers

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

        Raises ImproperlyConfigured without a route, and for a view with `auth_required` if there
        is neither a middleware nor a hook.
        """
        if log_level is not None:
            set_level(log_level)
        check_overrides(self)
        options = {**self.factory_options, **factory_options}
        if self.limits is not None:
            options.setdefault("limits", self.limits)
        if self.access_log:
            options.setdefault("access_log", True)
        if not is_memory(self.topics):
            options.setdefault("topics", self.topics)
        if self.presence_info is not None:
            options.setdefault("presence_info", self.presence_info)
        if self.encoder is not None:
            options.setdefault("encoder", self.encoder)
        factory = self.factory(url, **options)
        factory.protocol = self.protocol
        given = self._router if router is None else router
        factory.router = choose_router(given, self._own_router, factory.router)
        factory.equip(self._middlewares, self._error_handlers)
        if not (self._startup_hooks or self._connect_hooks):  # these may authenticate
            check_auth_required(factory.router, factory.equipment)
        factory.connect_hooks = self._connect_hooks
        factory.disconnect_hooks = self._disconnect_hooks
        if compress:
            factory.setProtocolOptions(perMessageCompressionAccept=accept_function)
        set_urlconf(
            {
                "path": (url or "").rstrip("/"),
                "urls": factory.router.urls,
                "routes": factory.router.routes,
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
        workers: int = 1,
    ) -> ApplicationService:
        """Return a Twisted service for a `.tac` file; `listen` is a server endpoint string.

        With more than one of `workers` it starts that many processes of this program. Raises
        ImproperlyConfigured; under twist and twistd, SystemExit with one line.
        """
        reactor = install_reactor()
        log_level = None if configure_logging() else log_level
        log_to_twisted()
        with start_failures_in_one_line():
            factory = self.generate_factory(
                None,
                router=router,
                log_level=log_level,
                compress=compress,
                accept_function=accept_function,
            )
            tls = self._tls()
            endpoint = endpoint_from_string(reactor, listen, tls=tls)
            is_secure = tls is not None or is_inside_tls(listen)
            return self._service(factory, endpoint, path, workers, is_secure=is_secure)

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        path: str = "",
        log_level: str = "info",
        router: AbstractRouter | None = None,
        compress: bool = False,
        accept_function: Callable[[Any], Any] = deflate_offer_accept,
        workers: int = 1,
    ) -> None:
        """Serve until SIGINT or SIGTERM; port 0 takes a free one, which the banner shows.

        Blocks. If the server cannot start, raises SystemExit with one line that says why, which
        ends a program with status 1; its `__cause__` is the exception, which
        `tcp_service(...).run()` raises itself. The program must exit soon after it returns: the
        time to stop began with the signal, and when it is over the process is ended. With more
        than one of `workers` it starts that many processes of this program, which call this
        method too, and serve.
        """
        run_program(
            self.tcp_service,
            *(host, port, path),
            log_level=log_level,
            router=router,
            compress=compress,
            accept_function=accept_function,
            workers=workers,
        )

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
        workers: int = 1,
    ) -> ApplicationService:
        """Return the service that `run` runs; it prints a banner and logs to standard error."""
        reactor = install_reactor()
        level = None if configure_logging() else log_level
        log_to_stream()
        factory = self.generate_factory(
            self.generate_url(host, port, path) if port else None,
            router=router,
            log_level=level,
            compress=compress,
            accept_function=accept_function,
        )
        tls = self._tls()
        endpoint = tcp_endpoint(reactor, host, port, tls=tls)
        is_secure = tls is not None
        return self._service(
            factory, endpoint, path, workers, host=host, print_line=print, is_secure=is_secure
        )

    def _service(
        self,
        factory: RequestHandlerFactory,
        endpoint: IStreamServerEndpoint,
        path: str,
        workers: int,
        *,
        host: str | None = None,
        print_line: Callable[[str], Any] | None = None,
        is_secure: bool = False,
    ) -> ApplicationService:
        def make_url(address: Any) -> str:
            port = getattr(address, "port", None)
            if port is None:
                return str(address)
            url = self.generate_url(host or address.host, port, path)
            return url.replace("ws://", "wss://", 1) if is_secure else url

        return make_service(
            workers,
            factory,
            endpoint,
            startup_hooks=self._startup_hooks,
            shutdown_hooks=self._shutdown_hooks,
            make_url=make_url,
            print_line=print_line,
        )

    def _get_ssl_context(self) -> ssl.SSLContext | None:
        # Of 1.1: a subclass may override it, on the asyncio reactor.
        files = tls_files(self)
        return None if files is None else files.ssl_context()

    def _tls(self) -> TLS | None:
        return tls_of(self, self._get_ssl_context, Application._get_ssl_context)


def load_application(name: str) -> Application:
    """Import and return the Application `package.module:name`; a router is wrapped in one.

    The current directory is put first on the path. Raises ImproperlyConfigured.
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
            raise  # the module exists, and an import in it fails
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
