"""Compile, for a handler and a path, the function that checks values and calls the handler."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import msgspec

from aiorest_ws.contract.annotations import Checked
from aiorest_ws.contract.faults import (
    MAX_FAULTS,
    Fault,
    Place,
    faults,
    has_only_decimals,
    holds_decimals,
    wanted,
)
from aiorest_ws.contract.handlers import Handler, Parameter
from aiorest_ws.contract.models import ModelChecker
from aiorest_ws.contract.spelling import Misspelt, spelled
from aiorest_ws.exceptions import ValidationError

__all__ = ("bound",)

_EMPTY = inspect.Parameter.empty
_UNFIT = (msgspec.ValidationError, Misspelt)


class _Value:
    """A parameter whose values are checked."""

    def __init__(self, parameter: Parameter, check: Checked, path_name: str | None) -> None:
        self.name = parameter.name
        self.is_data = parameter.is_data
        self.path_name = path_name
        self.node: Any = check.node
        self.type = check.type
        self.models = ModelChecker(check.type) if check.node is None else None
        self.has_decimals = check.node is not None and holds_decimals(check.node)
        self._box = msgspec.defstruct("Box", [("value", check.type)], array_like=True)

    def make(self, value: Any) -> Any:
        """Return what the type makes of a JSON value; raise what is in `unfit`."""
        if self.models is not None:
            return self.models.make(value)
        box: Any = msgspec.convert((value,), self._box, str_keys=True)
        return box.value

    def read(self, text: str) -> Any:
        """Return what the type makes of a text in a URL."""
        return self.make(spelled(self.node, text))

    def check_decimals(self, value: Any) -> None:
        if not has_only_decimals(self.node, value):
            raise Misspelt

    def faults(self, value: Any, *, is_text: bool) -> Iterator[Fault]:
        """Yield what is wrong with a JSON value, or a text in a URL."""
        place = Place("data") if self.is_data else Place(f"args.{self.name}")
        if self.path_name is not None:
            place = Place(f"url.{self.path_name}")
        if is_text and self.models is None:
            try:
                value = spelled(self.node, value)
            except Misspelt:
                yield Fault(place.path, f"must be {wanted(self.node)}")
                return
        found = False
        for fault in self._faults(value, place):
            found = True
            yield Fault(place.path, "is missing") if self.is_data and value is None else fault
        if not found and not self._fits(value):
            yield Fault(place.path, "is not valid")

    def _faults(self, value: Any, place: Place) -> Iterator[Fault]:
        if self.models is not None:
            return self.models.faults(value, place)
        return faults(self.node, value, place)

    def _fits(self, value: Any) -> bool:
        try:
            self.make(value)
        except _UNFIT:
            return False
        return True


class _Binding:
    """What the calls of a handler at one path have in common."""

    def __init__(
        self, handler: Handler, path_names: Sequence[str], in_path: Sequence[Parameter]
    ) -> None:
        self.handler = handler
        self.path_names = path_names
        self.in_path = in_path
        names = dict(zip([one.name for one in in_path], path_names, strict=False))
        self.values = {
            one.name: _Value(one, one.check, names.get(one.name))
            for one in handler.parameters
            # Any text in a URL is a `str`.
            if one.check is not None and not (one.name in names and one.check.type is str)
        }
        self.arguments = [
            one
            for one in handler.parameters
            if one not in in_path and not one.is_data and one.kind is not one.kind.POSITIONAL_ONLY
        ]

    def refusal(
        self, request: Any, texts: Sequence[str], arguments: Mapping[str, Any]
    ) -> ValidationError:
        """Return the error with all faults of a call, in the order of the parameters."""
        found = islice(self._faults(request, texts, arguments), MAX_FAULTS)
        return ValidationError(errors=[one._asdict() for one in found])

    def _faults(
        self, request: Any, texts: Sequence[str], arguments: Mapping[str, Any]
    ) -> Iterator[Fault]:
        text_of = dict(zip([one.name for one in self.in_path], texts, strict=False))
        for name, value in self.values.items():
            parameter = next(one for one in self.handler.parameters if one.name == name)
            if value.path_name is not None:
                yield from value.faults(text_of[name], is_text=True)
            elif value.is_data:
                if request.data is not None or parameter.is_required:
                    yield from value.faults(request.data, is_text=False)
            elif name in arguments:
                is_text = name in names_in_query(request)
                yield from value.faults(arguments[name], is_text=is_text)

    def read_query(self, request: Any, arguments: dict[str, Any]) -> None:
        """Replace the texts of a query by the values that they spell."""
        for name in names_in_query(request):
            value = self.values.get(name)
            if value is not None and value.node is not None and name in arguments:
                arguments[name] = spelled(value.node, arguments[name])


def names_in_query(request: Any) -> Sequence[str]:
    """Return the names of the arguments that are from the query of the URL."""
    return cast("Sequence[str]", getattr(request, "_query_names", ()))


def bound(
    handler: Handler, path: str, path_names: Sequence[str], *, by_name: bool
) -> Callable[..., Any] | None:
    """Return a function that is called like the handler, with values that are still to be checked.

    Path values are passed in the order of the path. The function raises ValidationError. Returns
    None for a handler without demands.
    """
    in_path = handler.in_path(path, path_names, by_name=by_name)
    binding = _Binding(handler, path_names, in_path)
    if not binding.values and handler.data is None:
        return None
    return _Compiler(binding).function()


class _Compiler:
    """Write the function. One that takes `*values` and loops over parameters is much slower."""

    def __init__(self, binding: _Binding) -> None:
        self._binding = binding
        self._handler = binding.handler
        self._names: dict[str, Any] = {
            "handler": binding.handler.call,
            "binding": binding,
            "convert": msgspec.convert,
            "refusal": binding.refusal,
        }
        self._checks: list[str] = []

    def function(self) -> Callable[..., Any]:
        binding, handler = self._binding, self._handler
        own = [f"own{index}" for index in range(len(handler.own))]
        request = own[-1] if own else "request"
        own = own or ["request"]
        texts = [f"text{index}" for index in range(len(binding.path_names))]
        given = self._path_values(texts)
        given.update(self._arguments(request))
        if handler.data is not None:
            given[handler.data.name] = self._data(handler.data, request)
        self._decimals(request)
        unfit = [*_UNFIT, *(one.models.unfit for one in binding.values.values() if one.models)]
        self._names["unfit"] = tuple(dict.fromkeys(unfit))
        source = [
            f"def call({', '.join([*own, *texts, '/', '**arguments'])}):",
            "    try:",
            *(f"        {line}" for line in self._checks),
            "    except unfit:",
            f"        raise refusal({request}, [{', '.join(texts)}], arguments) from None",
            f"    return handler({', '.join([*own, *self._passed(given, texts)])})",
        ]
        exec("\n".join(source), self._names)  # noqa: S102  its names are identifiers of a signature
        call: Any = functools.update_wrapper(self._names["call"], handler.function)
        call.__signature__ = self._signature(own)
        call.contract = handler
        return cast("Callable[..., Any]", call)

    def _path_values(self, texts: Sequence[str]) -> dict[str, str]:
        given = {}
        for index, (parameter, text) in enumerate(zip(self._binding.in_path, texts, strict=False)):
            value = self._binding.values.get(parameter.name)
            given[parameter.name] = text
            if value is not None:
                self._names[f"read{index}"] = value.read
                self._checks.append(f"value{index} = read{index}({text})")
                given[parameter.name] = f"value{index}"
        return given

    def _arguments(self, request: str) -> dict[str, str]:
        """Convert all arguments at once, as the fields of a Struct."""
        arguments, values = self._binding.arguments, self._binding.values
        if not any(one.name in values for one in arguments):
            return {}
        fields = []
        for one in arguments:
            value = values.get(one.name)
            is_converted = value is not None and value.models is None
            kind = value.type if value is not None and is_converted else Any
            default = {} if one.is_required else {"default_factory": _always(one.default)}
            fields.append((one.name, kind, msgspec.field(**default)))
        self._names["Arguments"] = msgspec.defstruct("Arguments", fields, kw_only=True)
        self._checks += [
            f"if {request}.url and '?' in {request}.url:",
            f"    binding.read_query({request}, arguments)",
            "found = convert(arguments, Arguments, str_keys=True)",
        ]
        for index, one in enumerate(arguments):
            value = values.get(one.name)
            if value is not None and value.models is not None:
                self._names[f"make{index}"] = value.make
                self._checks += [
                    f"if {one.name!r} in arguments:",
                    f"    found.{one.name} = make{index}(found.{one.name})",
                ]
        return {one.name: f"found.{one.name}" for one in arguments}

    def _data(self, parameter: Parameter, request: str) -> str:
        value = self._binding.values.get(parameter.name)
        made = f"{request}.data"
        if value is not None:
            self._names["make"] = value.make
            made = f"make({request}.data)"
            if inspect.isclass(value.type) and issubclass(value.type, msgspec.Struct):
                self._names["Body"] = value.type
                made = f"convert({request}.data, Body, str_keys=True)"
        if not parameter.is_required:
            self._names["default"] = parameter.default
            made = f"default if {request}.data is None else {made}"
        self._checks.append(f"data = {made}")
        return "data"

    def _decimals(self, request: str) -> None:
        for index, value in enumerate(self._binding.values.values()):
            if value.has_decimals and value.path_name is None:
                self._names[f"decimals{index}"] = value.check_decimals
                given = "data" if value.is_data else f"arguments.get({value.name!r})"
                if value.is_data:
                    given = f"{request}.data"
                self._checks.append(f"decimals{index}({given})")

    def _passed(self, given: Mapping[str, str], texts: Sequence[str]) -> list[str]:
        """Return what the handler is called with."""
        more = texts[len(self._binding.in_path) :]
        in_order, by_name = [], []
        for index, one in enumerate(self._handler.parameters):
            is_in_order = one.kind is one.kind.POSITIONAL_ONLY or (one.is_positional and more)
            if one.name not in given and not is_in_order:
                continue
            self._names[f"default{index}"] = one.default
            value = given.get(one.name, f"default{index}")
            if is_in_order:
                in_order.append(value)
            else:
                by_name.append(f"{one.name}={value}")
        return [*in_order, *more, *by_name, *self._rest(given)]

    def _rest(self, given: Mapping[str, str]) -> list[str]:
        names = [one.name for one in self._binding.arguments]
        if not any(name in given for name in names):
            return ["**arguments"]
        if self._handler.any_keyword or self._handler.filled:
            self._names["known"] = frozenset(names)
            return ["**{name: arguments[name] for name in arguments if name not in known}"]
        return []

    def _signature(self, own: Sequence[str]) -> inspect.Signature:
        binding, handler = self._binding, self._handler
        shown = list(handler.own) or own
        taken = [one.name for one in binding.in_path]
        taken += [f"value{index}" for index in range(len(taken), len(binding.path_names))]
        positional = inspect.Parameter.POSITIONAL_ONLY
        parameters = [inspect.Parameter(name, positional) for name in (*shown, *taken)]
        parameters += [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default)
            for one in binding.arguments
        ]
        if handler.any_keyword is not None:
            parameters.append(
                inspect.Parameter(handler.any_keyword, inspect.Parameter.VAR_KEYWORD)
            )
        return inspect.Signature(parameters)


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value
