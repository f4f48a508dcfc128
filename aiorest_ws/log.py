"""The logger of the server, its levels and its handlers."""

import inspect
import logging
import sys
from functools import cache, partial
from types import FrameType
from typing import Any, TextIO

from twisted.logger import ILogObserver, Logger, LogLevel, STDLibLogObserver, globalLogBeginner
from zope.interface import implementer

__all__ = (
    "LEVELS",
    "ConnectionLog",
    "get_logger",
    "log_to_stream",
    "log_to_twisted",
    "logger",
    "set_level",
)


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


logger = get_logger("aiorest-ws")

# Python's names of levels, and those of txaio, which programs written for 1.1 use.
LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


def set_level(level: str) -> None:
    """Set the level of the server's logger; raise ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}; the levels are {', '.join(LEVELS)}")
    logger.setLevel(LEVELS[level])


def log_to_stream(stream: TextIO | None = None) -> None:
    """Log the server's lines and Twisted's warnings to a stream, by default standard error.

    If the program has configured `logging`, its handlers are used instead.
    """
    if not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        _add_default(handler)
    # Unhandled failures of Deferreds are only in Twisted's log.
    _start_twisted_log()


def _add_default(handler: logging.Handler) -> None:
    """Add a handler that is used until the program configures handlers of its own."""

    def has_no_other(record: logging.LogRecord) -> bool:  # noqa: ARG001
        return logger.handlers == [handler] and not logging.getLogger().handlers

    handler.addFilter(has_no_other)
    logger.addHandler(handler)


@cache
def _start_twisted_log() -> None:
    globalLogBeginner.beginLoggingTo([_TwistedWarnings()], redirectStandardIO=False)


def log_to_twisted() -> None:
    """Log the server's lines to Twisted's log, as under twist and twistd.

    If the program has configured `logging`, its handlers are used instead.
    """
    if not logger.handlers and not logging.getLogger().handlers:
        _add_default(_ToTwisted())
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)


@implementer(ILogObserver)
class _TwistedWarnings:
    def __init__(self) -> None:
        name = "aiorest-ws.twisted"
        get_logger(name)
        self._observer = STDLibLogObserver(name)

    def __call__(self, event: dict[str, object]) -> None:
        level = event.get("log_level")
        if level is not None and level >= LogLevel.warn:
            self._observer(event)


class _ToTwisted(logging.Handler):
    _levels = (
        (logging.CRITICAL, LogLevel.critical),
        (logging.ERROR, LogLevel.error),
        (logging.WARNING, LogLevel.warn),
        (logging.INFO, LogLevel.info),
    )

    def __init__(self) -> None:
        super().__init__()
        self._logger = Logger("aiorest-ws")

    def emit(self, record: logging.LogRecord) -> None:
        level = next(
            (theirs for ours, theirs in self._levels if record.levelno >= ours), LogLevel.debug
        )
        self._logger.emit(level, "{text}", text=self.format(record))


class ConnectionLog:
    """The `log` of a connection: it drops Autobahn's lines below `error`.

    They contain whole requests, `Authorization` and `Cookie` included, and warn of mistakes of
    clients. Lines of the application are logged.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def debug(self, *args: Any, **values: Any) -> None:
        """Log a line of the application, if the level is low enough."""
        own = self._logger.debug
        # txaio's are partial objects; those of a level that is off are functions.
        if isinstance(own, partial) and not _is_autobahn(inspect.currentframe()):
            own(*args, **values)

    def __getattr__(self, name: str) -> Any:
        is_error = name in ("error", "critical", "failure")
        if not is_error and _is_autobahn(inspect.currentframe()):
            return _log_nothing
        return getattr(self._logger, name)


def _is_autobahn(frame: FrameType | None) -> bool:
    """Tell whether the function of `frame` was called by Autobahn."""
    caller = frame.f_back if frame is not None else None
    name: str = caller.f_globals.get("__name__", "") if caller is not None else ""
    return name.startswith("autobahn.")


def _log_nothing(*args: Any, **values: Any) -> None:
    """Drop a line."""
