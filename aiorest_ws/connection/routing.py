"""The router of all connections, and the threads for blocking views."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.connection.publishing import PublishingFactory
from aiorest_ws.dispatch.blocking import BlockingPool
from aiorest_ws.dispatch.failures import ErrorHandler
from aiorest_ws.dispatch.scopes import Equipment
from aiorest_ws.dispatch.user_rate import UserRateMiddleware
from aiorest_ws.internals.twisted_private import loop_of
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports.reactor import install_reactor

__all__ = ("RoutingFactory",)

BLOCKING_THREADS = 20


class RoutingFactory(PublishingFactory):
    """A factory with a router."""

    def __init__(
        self,
        *args: Any,
        router: AbstractRouter | None = None,
        blocking_threads: int = BLOCKING_THREADS,
        reactor: Any = None,
        **known: Any,
    ) -> None:
        reactor = install_reactor() if reactor is None else reactor
        super().__init__(*args, reactor=reactor, **known)
        self.equipment = Equipment()
        # For each message: a property would be slower.
        self.current_router: AbstractRouter = SimpleRouter()
        self._blocking_pool = BlockingPool(
            self.reactor, blocking_threads, self.limits.blocking_per_connection
        )
        if router is not None:
            self.router = router

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop of the server; raises AttributeError on another reactor."""
        loop = loop_of(self.reactor)
        if loop is None:
            raise AttributeError(
                f"`loop` needs the asyncio reactor, this is {type(self.reactor).__name__}"
            )
        return loop

    @property
    def router(self) -> AbstractRouter:
        """The router of every connection."""
        return self.current_router

    @router.setter
    def router(self, router: AbstractRouter) -> None:
        if not isinstance(router, AbstractRouter):
            raise TypeError(f"router must be an AbstractRouter, not {router!r}")
        self._topic_routes().servers.discard(self)
        self.current_router = router
        self._topic_routes().servers.add(self)
        per_second = self.limits.messages_per_second_per_user
        own = router.middlewares
        if per_second is not None and not any(isinstance(one, UserRateMiddleware) for one in own):
            # Who calls is known after a router's own.
            self.equipment.after = (UserRateMiddleware(per_second, self.reactor),)
        self._equip(router)

    def equip(
        self, middlewares: list[Any], error_handlers: Mapping[type[BaseException], ErrorHandler]
    ) -> None:
        """Put `middlewares` before those of the router, for the requests of this factory.

        Its `error_handlers` are asked before the router's for the same exception. Both may be
        changed later.
        """
        self.equipment.before = middlewares
        self.equipment.error_handlers = error_handlers
        self._equip(self.router)

    def _equip(self, router: AbstractRouter) -> None:
        if isinstance(router, SimpleRouter):
            router.dispatchers.add(self, self.equipment)
        if type(router).process_request is SimpleRouter.process_request:
            return
        # It may pass requests to the middlewares by itself: to those in its list.
        own, equipment = router.middlewares, self.equipment
        own[:0] = [one for one in equipment.before if one not in own]
        own += [one for one in equipment.after if one not in own]
        if equipment.error_handlers and not isinstance(router, SimpleRouter):
            router.error_handlers.update(equipment.error_handlers)  # type: ignore[attr-defined]

    def run_blocking(self, call: Callable[[], Any], connection: Any = None) -> Deferred[Any]:
        """Run `call` in the thread pool; raise ServiceUnavailable when too many wait already.

        Cancelling the Deferred of a call that has not begun takes it back.
        """
        return self._blocking_pool.run(call, connection)

    def stopFactory(self) -> None:
        """Stop the thread pool; a thread that is still busy ends with the process."""
        super().stopFactory()
        self._blocking_pool.stop()
