"""The names of asyncio that are not public: no other module of the server uses one.

asyncio documents the first three for those who implement tasks ("Extending", in its reference).
"""

import asyncio
from asyncio.tasks import _enter_task as enter_task
from asyncio.tasks import _leave_task as leave_task
from typing import Any

__all__ = ("allow_destroying_pending", "enter_task", "leave_task", "running_loop_or_none")

# Unlike `get_running_loop`, it does not raise.
running_loop_or_none = asyncio._get_running_loop


def allow_destroying_pending(task: asyncio.Task[Any]) -> None:
    """Do not log an error if `task` is pending when it is destroyed."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
