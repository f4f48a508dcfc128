"""Tests on one kind of reactor."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted

from aiorest_ws.awaiting import start


def asyncio_test(test: Callable[..., Any]) -> Any:
    """Mark a test that awaits what asyncio has."""

    @functools.wraps(test)
    async def wrapped(*arguments: Any, **keywords: Any) -> None:
        await start(test(*arguments, **keywords))

    return pytest.mark.asyncio_reactor(pytest_twisted.ensureDeferred(wrapped))
