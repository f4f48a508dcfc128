"""`Application`: a router, middlewares, hooks and a factory become a running service."""

import dataclasses
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.conf import settings
from aiorest_ws.dispatch.failures import ErrorHandler
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.limits import Limits
from aiorest_ws.log import log_to_stream, log_to_twisted, set_level
from aiorest_ws.request import ConnectionHook, RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.serving.hooks import Hook, added, check_class, imported, is_several
from aiorest_ws.serving.service import ApplicationService, FactoryHook
from aiorest_ws.serving.supervisor import service_with_workers
from aiorest_ws.serving.worker import Worker
from aiorest_ws.topics.broker import Broker
from aiorest_ws.topics.urls import MEMORY, is_memory
from aiorest_ws.transports.endpoints import endpoint_from_string, is_inside_tls, tcp_endpoint
from aiorest_ws.transports.reactor import install_reactor
from aiorest_ws.transports.tls import TLSFiles
from aiorest_ws.urls.base import set_urlconf
from aiorest_ws.utils.websocket import deflate_offer_accept
from aiorest_ws.validators import check_and_set_subclass

__all__ = ("Application", "load_application")


class Application:
    """Put a server together and run it.

    `factory` and `protocol` are classes. With `certificate` and `key`, paths of PEM files, it
    serves `wss://`. `middlewares` are classes, made here; those of the setting
    MIDDLEWARE_CLASSES come before them. With `access_log` each reply is a line in the log.
    `factory_options` are keywords for the factory class. `topics` is where topics are kept,
    `memory` or the URL of a Redis server; what `presence_info(request)` returns is shown to those
    who may see who is on a topic.
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
        limits: Limits | None = None,
        access_log: bool = False,
        factory_options: Mapping[str, Any] | None = None,
        topics: str | Broker = MEMORY,
        presence_info: Callable[[Any], Any] | None = None,
    ) -> None:
        self._factory: type[RequestHandlerFactory] = RequestHandlerFactory
        self._protocol: type[RequestHandlerProtocol] | None = None
        self.factory = factory
        self.protocol = protocol
        self.certificate = certificate
        self.key = key
        self.router = router
        self.limits = limits
        self.access_log = access_log
        self.factory_options = dict(factory_options or {})
        self.topics = topics
        self.presence_info = presence_info
        classes = [imported(middleware) for middleware in settings.MIDDLEWARE_CLASSES]
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
            check_class("factory", factory)
            check_and_set_subclass(self, "_factory", factory, RequestHandlerFactory)

    @property
    def protocol(self) -> type[RequestHandlerProtocol]:
        """The class of a connection; the factory's own unless another was given."""
        return self._protocol or self._factory.protocol

    @protocol.setter
    def protocol(self, protocol: type[RequestHandlerProtocol] | None) -> None:
        if protocol is not None:
            check_class("protocol", protocol)
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

    def limits_with(self, texts: Mapping[str, str]) -> Limits | None:
        """Return this application's limits with those that a command line names."""
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

    # What the application does besides answering

    def on_startup(self, hook: Hook) -> Hook:
        """Call `hook(factory)` before the server listens; it may be a coroutine."""
        return added(self._startup_hooks, hook, "on_startup", "the factory")

    def on_shutdown(self, hook: Hook) -> Hook:
        """Call `hook(factory)` when the last connection is closed; it may be a coroutine."""
        return added(self._shutdown_hooks, hook, "on_shutdown", "the factory")

    def on_connect(self, hook: Hook) -> Hook:
        """Call `hook(connection)` for each client, before its first message; may be a coroutine.

        An exception closes that connection with 1011.
        """
        return added(self._connect_hooks, hook, "on_connect", "the connection")

    def on_disconnect(self, hook: Hook) -> Hook:
        """Call `hook(connection)` when a client is gone; `connection.close_reason` says why."""
        return added(self._disconnect_hooks, hook, "on_disconnect", "the connection")

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
        options = {**self.factory_options, **factory_options}
        if self.limits is not None:
            options.setdefault("limits", self.limits)
        if self.access_log:
            options.setdefault("access_log", True)
        if not is_memory(self.topics):
            options.setdefault("topics", self.topics)
        if self.presence_info is not None:
            options.setdefault("presence_info", self.presence_info)
        factory = self.factory(url, **options)
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
            factory.setProtocolOptions(perMessageCompressionAccept=accept_function)
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
        workers: int = 1,
    ) -> ApplicationService:
        """Return a Twisted service for a `.tac` file; `listen` is a server endpoint string.

        With `workers` it starts that many processes of this program, which serve.
        """
        reactor = install_reactor()
        log_to_twisted()
        factory = self.generate_factory(
            None,
            router=router,
            log_level=log_level,
            compress=compress,
            accept_function=accept_function,
        )
        endpoint = endpoint_from_string(reactor, listen, tls=self._tls())
        return self._service(factory, endpoint, path, workers, is_secure=is_inside_tls(listen))

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
        """Serve until SIGINT or SIGTERM; port 0 takes a free one, which the banner tells.

        Blocks. Raises what kept the server from starting, CannotListenError for a busy port. The
        program has to end soon after it returns: when the time to stop, which began with the
        signal, is over, the process is ended. With `workers` it starts that many processes of
        this program, which come here, too, and serve.
        """
        self.tcp_service(
            host,
            port,
            path,
            log_level=log_level,
            router=router,
            compress=compress,
            accept_function=accept_function,
            workers=workers,
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
        workers: int = 1,
    ) -> ApplicationService:
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
        endpoint = tcp_endpoint(reactor, host, port, tls=self._tls())
        return self._service(factory, endpoint, path, workers, host=host, banner=print)

    def _service(
        self,
        factory: RequestHandlerFactory,
        endpoint: IStreamServerEndpoint,
        path: str,
        workers: int,
        *,
        host: str | None = None,
        banner: Callable[[str], Any] | None = None,
        is_secure: bool = False,
    ) -> ApplicationService:
        def make_url(address: Any) -> str:
            port = getattr(address, "port", None)
            if port is None:
                return str(address)
            url = self.generate_url(host or address.host, port, path)
            return url.replace("ws://", "wss://", 1) if is_secure else url

        make: Callable[..., ApplicationService] = ApplicationService
        if is_several(workers) or Worker.is_here():
            if len(getattr(factory.router, "topics", ())) and not factory.topics.broker.is_shared:
                raise ImproperlyConfigured(
                    "Topics on memory are not shared by workers: give topics='redis://...'."
                )
            # A new release of the program may want another number: the supervisor's goes on.
            make = partial(service_with_workers, workers)
        return make(
            factory,
            endpoint,
            startup_hooks=self._startup_hooks,
            shutdown_hooks=self._shutdown_hooks,
            make_url=make_url,
            banner=banner,
        )

    def _equip(self, router: AbstractRouter) -> None:
        """Give the router this application's middlewares, before its own, and error handlers."""
        theirs = router.middlewares
        theirs[:0] = [ours for ours in self._middlewares if ours not in theirs]
        if self._error_handlers:
            router.error_handlers.update(self._error_handlers)  # type: ignore[attr-defined]

    def _tls(self) -> TLSFiles | None:
        if not self.isSecure:
            return None
        assert self.certificate is not None  # noqa: S101  isSecure has looked
        assert self.key is not None  # noqa: S101
        return TLSFiles(self.certificate, self.key)


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
