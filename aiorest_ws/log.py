"""The logger of the server, and the ways from it to where a person reads."""

import logging
import sys
from functools import cache, partial
from typing import Any, TextIO

from twisted.logger import ILogObserver, Logger, LogLevel, STDLibLogObserver, globalLogBeginner
from zope.interface import implementer

__all__ = ("LEVELS", "ConnectionLog", "log_to_stream", "log_to_twisted", "logger", "set_level")

logger = logging.getLogger("aiorest-ws")

# Python's words and txaio's, which programs written for 1.1 pass.
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
    """Set the level of the server's logger; raise ValueError for an unknown word."""
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}; there are {', '.join(LEVELS)}")
    logger.setLevel(LEVELS[level])


def log_to_stream(stream: TextIO | None = None) -> None:
    """Write the server's lines, and Twisted's warnings, to a stream (standard error).

    A program that has set up `logging` itself keeps what it has.
    """
    if not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    # Otherwise nobody hears of an unhandled failure in a Deferred.
    _begin_twisted_log()


@cache
def _begin_twisted_log() -> None:
    globalLogBeginner.beginLoggingTo([_TwistedWarnings()], redirectStandardIO=False)


def log_to_twisted() -> None:
    """Write the server's lines to Twisted's log, as under twist and twistd.

    A program that has set up `logging` itself keeps what it has.
    """
    if not logger.handlers and not logging.getLogger().handlers:
        logger.addHandler(_ToTwisted())
        logger.propagate = False
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)


@implementer(ILogObserver)
class _TwistedWarnings:
    def __init__(self) -> None:
        self._observer = STDLibLogObserver("aiorest-ws.twisted")

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
    """A connection's `log`, with the lines of the application, and without Autobahn's own.

    Those hold whole requests, `Authorization` and `Cookie` included, and warn of what is a
    client's fault. Autobahn's errors go through.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def debug(self, *args: Any, **values: Any) -> None:
        """Log a line of the application's, if anybody has asked for lines so small."""
        own = self._logger.debug
        if isinstance(own, partial):  # txaio's way; what is off is a function
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not caller.startswith("autobahn."):
                own(*args, **values)

    def __getattr__(self, name: str) -> Any:
        if name not in ("error", "critical", "failure"):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.startswith("autobahn."):
                return _say_nothing
        return getattr(self._logger, name)


def _say_nothing(*args: Any, **values: Any) -> None:
    """Take a line that is not to be logged."""
