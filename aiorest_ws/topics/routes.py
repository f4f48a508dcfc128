"""What is registered: families of topics that clients may subscribe to."""

from collections.abc import Callable, Sequence
from typing import Any

from aiorest_ws.topics.names import Pattern

__all__ = ("POLICIES", "TopicRoute", "TopicRoutes")

# What becomes of a push that does not fit into what waits for a slow client.
POLICIES = ("block", "drop_oldest", "latest", "disconnect")

# Names that were asked for last, with their routes.
FOUND_NAMES = 4096


class TopicRoute:
    """A family of topics, and its rules."""

    def __init__(
        self,
        pattern: str,
        *,
        permission_classes: Sequence[Any] = (),
        history: int = 256,
        policy: str = "drop_oldest",
        presence: bool = False,
        on_subscribe: Callable[..., Any] | None = None,
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
        self.permission_classes = tuple(permission_classes)
        self.history = history
        self.policy = policy
        self.presence = bool(presence)
        self.on_subscribe = on_subscribe

    def __repr__(self) -> str:
        return f"<TopicRoute {self.pattern.text}>"


class TopicRoutes:
    """All of a router's. A name without parameters comes first, then the order of registration."""

    def __init__(self) -> None:
        self._plain: dict[str, TopicRoute] = {}
        self._families: list[TopicRoute] = []
        self._found: dict[str, tuple[TopicRoute, dict[str, str]]] = {}

    def __iter__(self) -> Any:
        return iter([*self._plain.values(), *self._families])

    def __len__(self) -> int:
        return len(self._plain) + len(self._families)

    def add(self, route: TopicRoute) -> None:
        """Add a family; raise ValueError for one that is there already."""
        if any(other.pattern.text == route.pattern.text for other in self):
            raise ValueError(f"{route.pattern.text!r} is registered already")
        if route.pattern.parameters:
            self._families.append(route)
        else:
            self._plain[route.pattern.text] = route
        self._found.clear()

    def find(self, name: str) -> tuple[TopicRoute, dict[str, str]] | None:
        """Return the family of a topic, and what its parameters are; None if there is none."""
        found = self._found.get(name)
        if found is not None:
            return found
        route = self._plain.get(name)
        if route is not None:
            return route, {}
        for family in self._families:
            values = family.pattern.match(name)
            if values is not None:
                if len(self._found) >= FOUND_NAMES:
                    self._found.clear()
                self._found[name] = (family, values)
                return family, values
        return None
