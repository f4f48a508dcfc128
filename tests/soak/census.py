"""What is left of connections: objects by type, asked of the server after a collection."""

from collections.abc import Mapping

from soak.processes import eventually
from soak.wire import Control

# A connection is made of these, and of nothing that outlives it.
PARTS = ("aiorest_ws.", "asyncio.", "autobahn.", "twisted.", "uvloop.", "_asyncio.")

# A masker serves one frame, and stays until the next one has come.
NO_PARTS = ("autobahn.nvx.",)

# The timers of connections share those of quarters of a second, which stay until they are due.
TIMERS = dict.fromkeys(("twisted.internet.base.DelayedCall", "uvloop.loop.UVTimer"), 120)

# Those of a route are made at its first call; the server has fewer than 20 routes.
PLANS = dict.fromkeys(("aiorest_ws.dispatch.plan.Plan", "aiorest_ws.dispatch.scopes.Scope"), 20)

AT_MOST = {**TIMERS, **PLANS}

PROTOCOL = "aiorest_ws.request.RequestHandlerProtocol"
TRANSPORT = "uvloop.loop.TCPTransport"

# How many objects of other types may have come since the first connections were gone, which have
# filled the caches: those are bounded, and not always equally full.
SPARE_OBJECTS = 2000

SETTLE_SECONDS = 60


class Census:
    """The count before, and what has been added since."""

    def __init__(self, control: Control) -> None:
        self._control = control
        control.ask("/state")
        self._before = control.ask("/census")
        self._others_before: int | None = None

    def now(self) -> Mapping[str, int]:
        """Return the count of each type of object."""
        return self._control.ask("/census")

    def more(self) -> dict[str, int]:
        """Return how many parts of connections there are more than before."""
        now = self.now()
        added = {
            name: now[name] - self._before.get(name, 0) - AT_MOST.get(name, 0)
            for name in sorted(now)
            if name.startswith(PARTS) and not name.startswith(NO_PARTS)
        }
        if self._others_before is not None:
            added["(any other)"] = _others(now) - self._others_before - SPARE_OBJECTS
        return {name: number for name, number in added.items() if number > 0}

    def assert_nothing_is_left(self) -> None:
        """Wait until the last connection is gone; fail if anything of it stays."""
        eventually(
            lambda: self._control.ask("/state")["connections"] == 1,
            SETTLE_SECONDS,
            lambda: self._control.ask("/state"),
        )
        eventually(lambda: not self.more(), SETTLE_SECONDS, self.more)
        if self._others_before is None:
            self._others_before = _others(self.now())


def _others(count: Mapping[str, int]) -> int:
    return sum(number for name, number in count.items() if not name.startswith(PARTS))
