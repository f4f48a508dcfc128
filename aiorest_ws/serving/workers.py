"""The service of an application: one process, or a supervisor and its workers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.serving.banner import Banner
from aiorest_ws.serving.service import ApplicationService, FactoryHook, ServerProcess
from aiorest_ws.serving.supervisor import Supervisor
from aiorest_ws.serving.worker import Worker
from aiorest_ws.transports.loop_port import LoopServerEndpoint
from aiorest_ws.transports.reactor import is_main_thread

__all__ = ("make_service",)


def make_service(
    workers: int,
    factory: RequestHandlerFactory,
    endpoint: IStreamServerEndpoint,
    *,
    startup_hooks: Sequence[FactoryHook],
    shutdown_hooks: Sequence[FactoryHook],
    make_url: Callable[[Any], str],
    print_line: Callable[[str], Any] | None,
) -> ApplicationService:
    """Return the service of one process, of a supervisor, or of the worker that this process is.

    Raises ImproperlyConfigured for an endpoint or topics that workers cannot share.
    """
    make_process = partial(
        ServerProcess, factory, startup_hooks=startup_hooks, shutdown_hooks=shutdown_hooks
    )
    banner = Banner(factory.reactor, make_url, print_line)
    # A worker may run a newer release of the program, with another number: the supervisor's holds.
    if not _is_several(workers) and not Worker.is_here():
        return ApplicationService(make_process(endpoint, banner))
    if len(getattr(factory.router, "topics", ())) and not factory.topics.broker.is_shared:
        raise ImproperlyConfigured(
            "Topics on memory are not shared by workers: give topics='redis://...'."
        )
    if not isinstance(endpoint, LoopServerEndpoint):
        raise ImproperlyConfigured(
            "Workers share a socket of the asyncio reactor's loop: tcp:, tcp6:, ssl: or unix: "
            "without sslmethod and dhParameters."
        )
    if not is_main_thread():
        raise ImproperlyConfigured("Workers need signals: call `app.run()` in the main thread.")
    worker = Worker.take()
    if worker is None:
        return ApplicationService(Supervisor(workers, factory, endpoint, banner))
    silent = Banner(factory.reactor, make_url, _print_nothing)
    process = make_process(endpoint.on(worker.socket), silent, is_replaced=True)
    worker.serve(process)
    return ApplicationService(process)


def _is_several(workers: Any) -> bool:
    """Tell whether there is to be more than one worker; raise ImproperlyConfigured."""
    if not isinstance(workers, int) or workers < 1:
        raise ImproperlyConfigured(f"workers must be a positive integer, not {workers!r}.")
    return workers > 1


def _print_nothing(line: str) -> None:
    """Leave the banner to the supervisor."""
