"""Models of pydantic, which is never imported here, and its faults in words of ours."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import msgspec

from aiorest_ws.contract.faults import Fault, Place, own_text

__all__ = ("ModelChecker",)

_encode = msgspec.json.Encoder().encode

# By the name that pydantic gives to a fault; `{}` is what the model demands.
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string",
    "decimal_type": "must be a decimal number",
    "decimal_parsing": "must be a decimal number",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "datetime_type": "must be a date and time (RFC 3339)",
    "datetime_parsing": "must be a date and time (RFC 3339)",
    "datetime_from_date_parsing": "must be a date and time (RFC 3339)",
    "date_type": "must be a date (RFC 3339)",
    "date_parsing": "must be a date (RFC 3339)",
    "date_from_datetime_parsing": "must be a date (RFC 3339)",
    "time_type": "must be a time (RFC 3339)",
    "time_parsing": "must be a time (RFC 3339)",
    "none_required": "must be null",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "set_type": "must be an array",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_pattern_mismatch": "must match the pattern {pattern!r}",
}


class ModelChecker:
    """Make values of a type with models in it. Its errors are `unfit`."""

    def __init__(self, kind: Any) -> None:
        pydantic: Any = import_module("pydantic")
        self.unfit: type[Exception] = pydantic.ValidationError
        # Not `validate_python`: a strict model would not take a date, for example.
        self._read: Callable[[bytes], Any] = pydantic.TypeAdapter(kind).validate_json

    def make(self, value: Any) -> Any:
        """Return what the type makes of a JSON value."""
        return self._read(_encode(value))

    def faults(self, value: Any, place: Place) -> Iterator[Fault]:
        """Yield what is wrong with a JSON value."""
        try:
            self.make(value)
        except self.unfit as exc:
            errors: Any = exc
            for one in errors.errors(include_url=False, include_input=False):
                yield Fault(_where(one["loc"], value, place).path, _words(one))


def _where(location: tuple[Any, ...], value: Any, place: Place) -> Place:
    """Return the place of a fault. A location also names members of unions: they are left out."""
    for one in location:
        if (
            isinstance(value, dict)
            and isinstance(one, str)
            and (one in value or one is location[-1])
        ):
            place = place.key(one)
            value = value.get(one)
        elif isinstance(value, list) and isinstance(one, int):
            place = place.item(one)
            value = value[one] if one < len(value) else None
    return place


def _words(error: dict[str, Any]) -> str:
    context = error.get("ctx", {})
    if error["type"] in {"value_error", "assertion_error"}:
        return own_text(context.get("error"))
    words = _WORDS.get(error["type"], "is not valid").format(**context)
    return words.replace(" 1 characters", " 1 character").replace(" 1 items", " 1 item")
