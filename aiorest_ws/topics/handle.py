"""`Topic`: what a program publishes to, typed."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from aiorest_ws.contract.annotations import Refused, checked, shown
from aiorest_ws.contract.replies import maker_of
from aiorest_ws.topics.broker import Position
from aiorest_ws.topics.routes import TopicRoute

__all__ = ("Topic",)

T = TypeVar("T")

_OPTIONS = ("key", "block", "wait_seconds")


class Topic(Generic[T]):
    """The topics of a pattern, as the router that has registered them returns it.

    `payload` is the type of what is published to them. A row of an ORM is sent as that.
    """

    def __init__(self, route: TopicRoute, payload: Any = None) -> None:
        self.payload = payload
        self._route = route
        self._make: Callable[[Any], Any] | None = None
        for name in route.pattern.parameters:
            if name in _OPTIONS:
                raise ValueError(
                    f"{route.pattern.text!r} cannot have {name!r}, as `publish` has it"
                )
        if payload is not None:
            try:
                checked(payload)
            except Refused as exc:
                raise TypeError(f"{shown(payload)} cannot be a payload: {exc}") from exc
            self._make = maker_of(payload)

    def __repr__(self) -> str:
        return f"<Topic {self._route.pattern.text}>"

    def name(self, **values: object) -> str:
        """Return the name of one topic, with the values of its parameters.

        Raises TypeError for other parameters, ValueError for what no name can have.
        """
        pattern = self._route.pattern
        if values.keys() != set(pattern.parameters):
            wanted = ", ".join(pattern.parameters) or "no parameters"
            raise TypeError(f"{pattern.text!r} has {wanted}, not {', '.join(values) or 'none'}")
        return pattern.fill({parameter: str(value) for parameter, value in values.items()})

    def publish(
        self,
        data: T,
        /,
        *,
        key: str | None = None,
        block: bool = False,
        wait_seconds: float = 0.0,
        **values: object,
    ) -> Deferred[Position]:
        """Send `data` to the subscribers of one topic; return an awaitable of its position.

        `values` are those of the topic's parameters; the options, and what is raised, are as in
        `RequestHandlerFactory.publish`. Raises RuntimeError if no server has these topics, or
        several of this process have.
        """
        topic, made = self.name(**values), self._made(data)
        published: Deferred[Position] = self._server().publish(
            topic, made, key=key, block=block, wait_seconds=wait_seconds
        )
        return published

    def publish_from_thread(
        self,
        data: T,
        /,
        *,
        key: str | None = None,
        block: bool = False,
        wait_seconds: float = 0.0,
        **values: object,
    ) -> Position:
        """Publish from another thread, such as that of a blocking view; blocks until then."""
        topic, made = self.name(**values), self._made(data)
        published: Position = self._server().publish_from_thread(
            topic, made, key=key, block=block, wait_seconds=wait_seconds
        )
        return published

    def _made(self, data: Any) -> Any:
        return data if self._make is None else self._make(data)

    def _server(self) -> Any:
        servers = {server for routes in self._route.homes for server in routes.servers}
        listening = {server for server in servers if server.numPorts}
        [*found] = listening if len(servers) > 1 else servers
        if len(found) != 1:
            how_many = "several servers have" if servers else "no server has"
            raise RuntimeError(f"{how_many} {self!r}; a factory publishes by the name of a topic")
        return found[0]
