"""The registered topics, by pattern, and what publishes to them."""

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
from weakref import WeakSet

from twisted.internet.defer import Deferred

from aiorest_ws.contract.annotations import Refused, checked, shown
from aiorest_ws.contract.replies import maker_of
from aiorest_ws.limits import Limits
from aiorest_ws.log import logger
from aiorest_ws.topics.broker import Position, Retention
from aiorest_ws.topics.names import Pattern

__all__ = ("POLICIES", "Snapshot", "Topic", "TopicOptions", "TopicRoute", "TopicRoutes")

T = TypeVar("T")
Snapshotting = TypeVar("Snapshotting", bound=Callable[..., Any])

# What happens when the push queue of a slow client is full.
POLICIES = ("block", "drop_oldest", "latest", "disconnect")

# How many recently requested names are cached with their routes.
CACHED_NAMES = 4096


class TopicOptions(TypedDict, total=False):
    """What `router.topic` takes besides the pattern and the payload: as `register_topic` does."""

    permission_classes: Sequence[Any]
    history: int
    policy: str
    presence: bool
    on_subscribe: Callable[..., Any] | None


class Snapshot(NamedTuple):
    """The state of a topic at a position, as its `snapshot` function may return it."""

    value: Any
    position: Position


class TopicRoute:
    """The topics that match a pattern, and their options."""

    def __init__(
        self,
        pattern: str,
        *,
        permission_classes: Sequence[Any] = (),
        history: int = 256,
        policy: str = "drop_oldest",
        presence: bool = False,
        on_subscribe: Callable[..., Any] | None = None,
        payload: Any = None,
    ) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"a topic must be a string, not {pattern!r}")
        self.pattern = Pattern(pattern)
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {policy!r}")
        if isinstance(history, bool) or not isinstance(history, int) or history < 0:
            raise ValueError(f"history must be a number of messages, not {history!r}")
        for permission in permission_classes:
            if not callable(getattr(permission, "check", None)):
                raise TypeError(f"{permission!r} in permission_classes has no check()")
        if on_subscribe is not None and not callable(on_subscribe):
            raise TypeError(f"on_subscribe must be callable, not {on_subscribe!r}")
        if inspect.isgeneratorfunction(on_subscribe) or inspect.isasyncgenfunction(on_subscribe):
            raise TypeError(f"on_subscribe must return its answer, and {on_subscribe!r} yields it")
        self.permission_classes = tuple(permission_classes)
        self.history = history
        self.policy = policy
        self.presence = bool(presence)
        self.on_subscribe = on_subscribe
        # What the twins of this route have in common, which guards have made.
        self.topic: Topic[Any] = Topic(self.pattern, payload)
        self._noted_at = -1.0

    def __repr__(self) -> str:
        return f"<TopicRoute {self.pattern.text}>"

    def note_missing_answer(self) -> None:
        """Log that `on_subscribe` has returned None, at most once per second."""
        now = time.monotonic()
        if 0 <= self._noted_at > now - 1:
            return
        self._noted_at = now
        hook = self.on_subscribe
        while isinstance(hook, functools.partial):
            hook = hook.func
        name = getattr(hook, "__qualname__", None) or type(hook).__qualname__
        logger.warning(
            "on_subscribe of %s: %s returned None: return True to let the client in",
            self.pattern.text,
            name,
        )

    def retention(self, limits: Limits) -> Retention:
        """Return what is kept of these topics."""
        return Retention(self.history, limits.history_bytes, limits.history_seconds)


class TopicRoutes:
    """The topics of a router.

    A pattern without parameters wins, then the order of registration.
    """

    def __init__(self) -> None:
        self._plain: dict[str, TopicRoute] = {}
        self._patterns: list[TopicRoute] = []
        self._cache: dict[str, tuple[TopicRoute, dict[str, str]]] = {}
        # The factories whose router has them.
        self.servers: WeakSet[Any] = WeakSet()

    def __iter__(self) -> Iterator[TopicRoute]:
        return iter([*self._plain.values(), *self._patterns])

    def __len__(self) -> int:
        return len(self._plain) + len(self._patterns)

    def add(self, route: TopicRoute) -> None:
        """Add a route; raise ValueError if its pattern is registered already."""
        if any(other.pattern.text == route.pattern.text for other in self):
            raise ValueError(f"{route.pattern.text!r} is registered already")
        if route.pattern.parameters:
            self._patterns.append(route)
        else:
            self._plain[route.pattern.text] = route
        route.topic.homes.append(self)
        self._cache.clear()

    def find(self, name: str) -> tuple[TopicRoute, dict[str, str]] | None:
        """Return the route of a topic and the values of its parameters; None if none matches."""
        cached = self._cache.get(name)
        if cached is not None:
            return cached
        plain = self._plain.get(name)
        if plain is not None:
            return plain, {}
        for route in self._patterns:
            values = route.pattern.match(name)
            if values is not None:
                if len(self._cache) >= CACHED_NAMES:
                    self._cache.clear()
                self._cache[name] = (route, values)
                return route, values
        return None


class Topic(Generic[T]):
    """The topics of a pattern, as the router that has registered them returns it.

    `payload` is the type of what is published to them. A row of an ORM is sent as that.
    """

    def __init__(self, pattern: Pattern, payload: Any = None) -> None:
        self.payload = payload
        # The routers that have it.
        self.homes: list[TopicRoutes] = []
        self.first_state: Callable[[Any, str], Any] | None = None
        self._pattern = pattern
        self._make: Callable[[Any], Any] | None = None
        if payload is not None:
            try:
                checked(payload)
            except Refused as exc:
                raise TypeError(f"{shown(payload)} cannot be a payload: {exc}") from exc
            self._make = maker_of(payload)

    def __repr__(self) -> str:
        return f"<Topic {self._pattern.text}>"

    def snapshot(self, function: Snapshotting) -> Snapshotting:
        """Give new subscribers a first state: decorates `function(request, topic)`.

        It may be a coroutine. What it returns is the `snapshot` of the answer to a SUBSCRIBE. It
        is called when the place of the subscription is known, so what is pushed next may be in
        it already. If it returns a Snapshot, pushes follow the position of that.
        """
        if not callable(function):
            raise TypeError(f"snapshot decorates a function, not {function!r}")
        self.first_state = function
        return function

    def name(self, **values: object) -> str:
        """Return the name of one topic, with the values of its parameters.

        Raises TypeError for other parameters, ValueError for what no name can have.
        """
        pattern = self._pattern
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
        servers = {server for routes in self.homes for server in routes.servers}
        listening = {server for server in servers if server.numPorts}
        [*found] = listening if len(servers) > 1 else servers
        if len(found) != 1:
            how_many = "several servers have" if servers else "no server has"
            raise RuntimeError(f"{how_many} {self!r}; a factory publishes by the name of a topic")
        return found[0]
