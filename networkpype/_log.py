"""Loggers that `logging.config` does not silence."""

import logging

__all__ = ("get_logger",)


class _NeverDisabled:
    """A mixin for a logger that is silenced by its level only.

    `logging.config` sets `disabled` on all loggers that it does not name.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Ignore it."""


def get_logger(name: str) -> logging.Logger:
    """Return the logger of that name, which ignores its attribute `disabled` from now on."""
    found = logging.getLogger(name)
    kind = type(found)
    if not isinstance(found, _NeverDisabled):
        # A program may have made it, of a class of its own; other loggers stay as they are.
        found.__class__ = type(kind.__name__, (_NeverDisabled, kind), {})
    return found
