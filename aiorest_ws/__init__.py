"""REST-style calls over WebSockets, on Autobahn and Twisted.

The names that most programs need. Each is imported from its module on first use.
"""

from aiorest_ws.version import __version__

# Not from `typing`, which takes longer to import than this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from aiorest_ws.app import Application
    from aiorest_ws.contract import DATA, Data, Depends
    from aiorest_ws.decorators import endpoint
    from aiorest_ws.exceptions import BaseAPIException, DeclaredError, ValidationError
    from aiorest_ws.limits import Limits
    from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
    from aiorest_ws.routers import SimpleRouter
    from aiorest_ws.views import MethodBasedView
    from aiorest_ws.wrappers import Request, Response

__all__ = (
    "DATA",
    "Application",
    "BaseAPIException",
    "Data",
    "DeclaredError",
    "Depends",
    "Limits",
    "MethodBasedView",
    "Request",
    "RequestHandlerFactory",
    "RequestHandlerProtocol",
    "Response",
    "SimpleRouter",
    "ValidationError",
    "__version__",
    "endpoint",
)

_MODULES = {
    "DATA": "aiorest_ws.contract",
    "Application": "aiorest_ws.app",
    "BaseAPIException": "aiorest_ws.exceptions",
    "Data": "aiorest_ws.contract",
    "DeclaredError": "aiorest_ws.exceptions",
    "Depends": "aiorest_ws.contract",
    "Limits": "aiorest_ws.limits",
    "MethodBasedView": "aiorest_ws.views",
    "Request": "aiorest_ws.wrappers",
    "RequestHandlerFactory": "aiorest_ws.request",
    "RequestHandlerProtocol": "aiorest_ws.request",
    "Response": "aiorest_ws.wrappers",
    "SimpleRouter": "aiorest_ws.routers",
    "ValidationError": "aiorest_ws.exceptions",
    "endpoint": "aiorest_ws.decorators",
}

# Type checkers must not see it: they would take every name for one of this package.
if not TYPE_CHECKING:

    def __getattr__(name):
        """Import a name from its module (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__():
        """List the names that are still to be imported too."""
        return sorted({*globals(), *__all__})
