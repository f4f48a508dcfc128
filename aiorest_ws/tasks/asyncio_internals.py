"""The names of asyncio that are not public: no other module of the server uses one.

asyncio documents the first three for those who implement tasks ("Extending", in its reference).
"""

import asyncio
from asyncio.tasks import _enter_task as enter_task
from asyncio.tasks import _leave_task as leave_task

__all__ = ("enter_task", "leave_task", "running_loop_or_none")

# Unlike `get_running_loop`, it does not raise.
running_loop_or_none = asyncio._get_running_loop
