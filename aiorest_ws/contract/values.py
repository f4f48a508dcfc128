"""Check the values of one parameter."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import msgspec.inspect as nodes

from aiorest_ws.contract.annotations import Checked, every_part
from aiorest_ws.contract.decimals import Decimals
from aiorest_ws.contract.faults import Fault, Place, TooLong, faults
from aiorest_ws.contract.handlers import Parameter
from aiorest_ws.contract.kinds import wanted
from aiorest_ws.contract.spelling import Misspelt, reader, spelled

__all__ = ("UNFIT", "Value")

# Raised for a value that does not fit, besides what pydantic raises.
UNFIT = (msgspec.ValidationError, Misspelt)


def _convert_for(check: Checked) -> Callable[[Any, Any], Any]:
    """Return msgspec's `convert` for a type. It is slower if it looks for numbers in names."""
    has_other_names = check.node is not None and any(
        isinstance(part, nodes.DictType) and not isinstance(part.key_type, nodes.StrType)
        for part in every_part(check.node)
    )
    return partial(msgspec.convert, str_keys=True) if has_other_names else msgspec.convert


class Value:
    """A parameter whose values are checked."""

    def __init__(self, parameter: Parameter, check: Checked, path_name: str | None) -> None:
        self.name = parameter.name
        self.is_data = parameter.is_data
        self.path_name = path_name
        self.node: Any = check.node
        self.type = check.type
        self.models = check.models
        self.decimals = None if check.node is None else Decimals(check.node)
        self.convert = _convert_for(check)
        self._box = msgspec.defstruct("Box", [("value", check.type)], array_like=True)
        # Returns what the type makes of a text in a URL.
        self.read: Callable[[str], Any] = (check.node and reader(check.node)) or self._read

    def make(self, value: Any) -> Any:
        """Return what the type makes of a JSON value; raise what is in `unfit`."""
        if self.models is not None:
            return self.models.make(value)
        return self.convert((value,), self._box).value

    def _read(self, text: str) -> Any:
        return self.make(spelled(self.node, text))

    def check_decimals(self, value: Any) -> None:
        """Raise Misspelt for a text that is no Decimal here, but is one for msgspec."""
        if self.decimals is not None and not self.decimals.fit(value):
            raise Misspelt

    def faults(self, value: Any, *, is_text: bool) -> Iterator[Fault]:
        """Yield what is wrong with a JSON value, or a text in a URL."""
        start = "data" if self.is_data else f"args.{self.name}"
        place = Place.first(start if self.path_name is None else f"url.{self.path_name}")
        if is_text and self.models is None:
            try:
                value = spelled(self.node, value)
            except Misspelt:
                yield Fault(place.path, f"must be {wanted(self.node)}")
                return
        found = False
        with suppress(TooLong):
            for fault in self._faults(value, place):
                found = True
                yield Fault(place.path, "is missing") if self.is_data and value is None else fault
        where = None if found else self._where_unfit(value)
        if where is not None:
            yield Fault(f"{place.path}{where}", "is not valid")

    def _faults(self, value: Any, place: Place) -> Iterator[Fault]:
        if self.models is not None:
            return self.models.faults(value, place)
        return faults(self.node, value, place)

    def _where_unfit(self, value: Any) -> str | None:
        """Return the place in a value that msgspec finds first; None if the value fits."""
        try:
            self.make(value)
        except Misspelt:
            return ""
        except msgspec.ValidationError as exc:
            found = re.search(r" - at `\$\[0\](\S*)`$", str(exc))
            return found[1] if found else ""
        return None
