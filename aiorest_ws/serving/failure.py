"""What a server that could not start says, and the exit status of its program."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.error import CannotListenError

from aiorest_ws.exceptions import ImproperlyConfigured, TopicsUnavailable
from aiorest_ws.internals.stdlib_private import exit_with
from aiorest_ws.internals.twisted_private import is_run_by_twisted
from aiorest_ws.log import logger
from aiorest_ws.transports.reactor import check_can_run, is_main_thread

__all__ = ("end_with", "report", "run_program", "start_failures_in_one_line")


class Program(Protocol):
    """What serves as long as a program runs."""

    @property
    def failure(self) -> BaseException | None:
        """The exception that kept it from starting."""

    def run(self) -> None:
        """Serve until it is stopped; raise `failure`."""


# Their messages need no place in the code.
_PLAIN = (CannotListenError, ImproperlyConfigured, TopicsUnavailable)


def report(failure: BaseException, *, is_raised: bool) -> None:
    """Log in one line why the server could not start, unless the program learns it otherwise.

    The traceback is logged at the level `debug`.
    """
    if not is_raised:
        logger.critical("the server cannot start: %s", _describe(failure))
        logger.debug("the server cannot start", exc_info=failure)


def run_program(make_service: Callable[..., Program], *args: Any, **kwargs: Any) -> None:
    """Make a service and run it, for a program that ends with it.

    If it cannot start, raises SystemExit with one line and status 1; its cause is the exception.
    """
    service = None
    try:
        check_can_run()
        service = make_service(*args, **kwargs)
        service.run()
    except BaseException as exc:
        is_start = isinstance(exc, Exception) if service is None else exc is service.failure
        if not (is_start or isinstance(exc, ImproperlyConfigured)):
            raise
        end = _program_exit(exc)
        if not is_main_thread():  # it ignores SystemExit
            print(end.code, file=sys.stderr)  # noqa: T201
        raise end from exc


@contextmanager
def start_failures_in_one_line() -> Iterator[None]:
    """Under twist and twistd, convert an exception to SystemExit with one line and status 1."""
    try:
        yield
    except Exception as exc:
        if is_run_by_twisted():
            raise _program_exit(exc) from exc
        raise


def end_with(failure: BaseException) -> None:
    """Set the exit status of twist or twistd, which would end with status 0."""
    if is_run_by_twisted():
        exit_with(_exit_status(failure))


def _program_exit(failure: BaseException) -> SystemExit:
    """Return what ends the program with one line on standard error, and status 1.

    Keeps the status of a SystemExit. The traceback is logged at the level
    `debug`.
    """
    logger.debug("the server cannot start", exc_info=failure)
    if isinstance(failure, SystemExit) and not isinstance(failure.code, str):
        return SystemExit(failure.code)
    words = "" if isinstance(failure, _PLAIN) else "the server cannot start: "
    return SystemExit(f"aiorest-ws: {words}{_describe(failure)}")


def _exit_status(failure: BaseException) -> int:
    if isinstance(failure, SystemExit) and not isinstance(failure.code, str):
        return failure.code or 0
    return 1


def _describe(failure: BaseException) -> str:
    """Return one line: the message, and where it was raised if that does not explain itself."""
    text = " ".join(str(failure).split())
    if isinstance(failure, _PLAIN):
        return text
    kind = type(failure).__name__
    frames = traceback.extract_tb(failure.__traceback__)
    place = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{text or kind} ({kind}{place})"
