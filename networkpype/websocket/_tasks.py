"""Tasks that run in the background of a connection."""

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ("BackgroundTasks",)


class BackgroundTasks:
    """Keep references to running tasks, because a loop keeps only weak ones."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `coroutine` in a task of the running loop."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
