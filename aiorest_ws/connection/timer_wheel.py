"""Timers for many connections: those of one quarter of a second share one of the reactor's."""

from collections.abc import Callable
from math import ceil
from typing import Any

from twisted.logger import Logger

__all__ = ("TimerWheel",)

SLOTS_PER_SECOND = 4

_log = Logger("aiorest-ws")


class _Timer:
    """A call that is due with its slot; what Autobahn asks of a delayed call is `cancel`."""

    __slots__ = ("_call", "_slot")

    def __init__(self, call: Callable[[], Any], slot: "dict[_Timer, None]") -> None:
        self._call: Callable[[], Any] | None = call
        self._slot = slot
        slot[self] = None

    def cancel(self) -> None:
        """Forget the call; harmless when it has been made."""
        self._call = None
        self._slot.pop(self, None)

    def fire(self) -> None:
        """Make the call, unless it was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class TimerWheel:
    """Replace Autobahn's batched timer, which searches a list for each cancellation.

    A call is never made early, and at most a slot late, unless the loop is. `lateness` is how many
    seconds after its time the slot came whose calls are made.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._slots: dict[int, dict[_Timer, None]] = {}
        self.lateness = 0.0

    def call_later(self, delay: float, call: Callable[[], Any]) -> _Timer:
        """Call `call` after `delay` seconds."""
        now = self._reactor.seconds()
        due = ceil((now + delay) * SLOTS_PER_SECOND)
        slot = self._slots.get(due)
        if slot is None:
            slot = self._slots[due] = {}
            self._reactor.callLater(max(0, due / SLOTS_PER_SECOND - now), self._fire, due)
        return _Timer(call, slot)

    def _fire(self, due: int) -> None:
        self.lateness = self._reactor.seconds() - due / SLOTS_PER_SECOND
        for timer in list(self._slots.pop(due)):
            try:
                timer.fire()
            except BaseException:  # noqa: BLE001  the other connections' are due all the same
                _log.failure("a timer of a connection failed")
