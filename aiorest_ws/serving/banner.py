"""What a server says when it listens."""

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IListeningPort

from aiorest_ws.log import logger
from aiorest_ws.transports.reactor import describe_reactor
from aiorest_ws.version import __version__

__all__ = ("Banner",)


class Banner:
    """Names the server's URL, its reactor and its workers.

    It goes to `print_line`, line by line, or to the log as one line without it. `make_url` turns
    the address of a port into a URL.
    """

    def __init__(
        self,
        reactor: Any,
        make_url: Callable[[Any], str],
        print_line: Callable[[str], Any] | None = None,
    ) -> None:
        self._reactor = reactor
        self._make_url = make_url
        self._print_line = print_line

    @property
    def is_printed(self) -> bool:
        """Whether it is printed and not logged."""
        return self._print_line is not None

    def show(self, port: IListeningPort, workers: int = 1) -> None:
        """Say that the server listens on `port`."""
        reactor = describe_reactor(self._reactor)
        url = self._make_url(port.getHost())
        if self._print_line is None:
            if workers > 1:
                reactor = f"{workers} workers, each on {reactor}"
            logger.info("aiorest-ws %s serves %s on %s", __version__, url, reactor)
            return
        self._print_line(f"aiorest-ws {__version__}")
        self._print_line(f"Server started at {url}")
        if workers > 1:
            self._print_line(f"Workers: {workers}")
        self._print_line(f"Reactor: {reactor}")
        self._print_line("Quit the server with CONTROL-C.")
        sys.stdout.flush()
