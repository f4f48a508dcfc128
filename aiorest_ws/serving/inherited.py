"""What a subclass of `Application` written for 1.1 overrides: honoured, or refused at start."""

import logging.config
import ssl
from collections.abc import Callable
from typing import Any, cast

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.conf import settings
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.transports import TLS, OwnContext, TLSFiles
from aiorest_ws.urls.base import set_urlconf

__all__ = ("check_overrides", "configure_logging", "configure_urls", "tls_files", "tls_of")

# The functions and attributes of 1.1 that nothing calls or reads any more.
_INSTEAD = {
    "_allow_hixie76": "remove it: only version 13 of the protocol is spoken",
    "_enable_compressing": "give `compress` and `accept_function` to run(), or override "
    "generate_factory()",
    "_init_factory": "give Application(factory=..., factory_options=...), or override "
    "generate_factory()",
    "_init_urlconf": "call aiorest_ws.urls.base.set_urlconf() in a generate_factory() of your own",
    "_middlewares": "give Application(middlewares=...)",
    "_set_factory_router": "give Application(router=...), or set the router of the factory in a "
    "generate_factory() of your own",
}


def check_overrides(application: Any) -> None:
    """Raise ImproperlyConfigured if a subclass overrides what nothing calls any more."""
    kind = type(application)
    for name, instead in _INSTEAD.items():
        is_own = name != "_middlewares" and name in vars(application)
        if is_own or hasattr(kind, name):
            raise ImproperlyConfigured(
                f"{kind.__qualname__} has `{name}` of aiorest-ws 1.1, which has no effect now: "
                f"{instead}."
            )


def configure_logging() -> bool:
    """Configure `logging` as the settings say; tell whether they give the server's level.

    Raises ImproperlyConfigured.
    """
    configuration = settings.DEFAULT_LOGGING_SETTINGS
    if not configuration:
        return False
    try:
        logging.config.dictConfig(configuration)
    except (AttributeError, ImportError, TypeError, ValueError) as exc:
        raise ImproperlyConfigured(f"DEFAULT_LOGGING_SETTINGS cannot be used: {exc}.") from exc
    return "level" in configuration.get("loggers", {}).get("aiorest-ws", {})


def configure_urls(router: AbstractRouter, url: str | None) -> None:
    """Let `aiorest_ws.urls.utils` resolve names and paths with the routes of a server."""
    set_urlconf({"path": (url or "").rstrip("/"), "urls": router.urls, "routes": router.routes})


def tls_files(application: Any) -> TLSFiles | None:
    """Return the files of an application; raise ImproperlyConfigured for half a pair."""
    if bool(application.certificate) != bool(application.key):
        raise ImproperlyConfigured("TLS needs both, a `certificate` and its `key`.")
    if not application.certificate:
        for name in ("ssl_ca_certs", "ssl_keyfile_password"):
            if getattr(application, name) is not None:
                raise ImproperlyConfigured(f"`{name}` needs a `certificate` and its `key`.")
        return None
    return TLSFiles(
        application.certificate,
        application.key,
        ca_certs=application.ssl_ca_certs,
        password=application.ssl_keyfile_password,
        reloads=application.ssl_reload,
    )


def tls_of(
    application: Any,
    make: Callable[[], ssl.SSLContext | None],
    inherited: Callable[[Any], ssl.SSLContext | None],
) -> TLS | None:
    """Return the TLS of an application: of its files, or of a `make` that is not `inherited`.

    Raises ImproperlyConfigured.
    """
    if getattr(make, "__func__", None) is inherited:
        return tls_files(application)
    context = make()
    if context is None:
        return None
    if not isinstance(context, ssl.SSLContext):
        raise ImproperlyConfigured(
            f"`_get_ssl_context` must return an ssl.SSLContext or None, not {context!r}."
        )
    files = (application.certificate, application.key, application.ssl_ca_certs)
    watched = [path for path in files if path is not None] if application.ssl_reload else []
    return OwnContext(cast("Callable[[], ssl.SSLContext]", make), watched, context)
