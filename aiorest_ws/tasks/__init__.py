"""An asyncio task for each coroutine, from its first step on."""

__all__ = ()
