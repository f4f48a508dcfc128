"""asyncio tasks that a coroutine enters at its first step."""

__all__ = ()
