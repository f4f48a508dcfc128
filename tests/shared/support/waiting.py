"""Waiting for what no Deferred, pipe or exit status tells."""

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

from aiorest_ws.transports import install_reactor

PATIENCE_SECONDS = 60


async def until(condition: Callable[[], Any]) -> Any:
    """Wait in the reactor until `condition()` is true; return it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "it has not happened"
        await deferLater(install_reactor(), 0.01)
    return found


def block_until(condition: Callable[[], Any]) -> Any:
    """Wait in this thread until `condition()` is true; return it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.01)
    return found
