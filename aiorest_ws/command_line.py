"""The command line options of a program."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

__all__ = ("CommandLine",)


class CommandLine:
    """Defines and parses the options of a program."""

    def __init__(self) -> None:
        self.options = ArgumentParser()
        self._defined = {"-h", "--help"}

    def define(
        self,
        name: str,
        default: Any = None,
        help: str | None = None,  # noqa: A002 - a name of the contract
        type: Callable[[str], Any] | None = None,  # noqa: A002 - a name of the contract
    ) -> None:
        """Define the option `name` (`-f`, `--foo`, or `foo` for a positional one).

        A name that is defined already keeps its first definition.
        """
        if name in self._defined:
            return
        self.options.add_argument(name, default=default, help=help, type=type or str)
        self._defined.add(name)

    def parse_command_line(self) -> Namespace:
        """Parse `sys.argv`; for invalid options print the usage and exit with status 2."""
        return self.options.parse_args()
