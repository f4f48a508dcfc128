"""Compile, for a handler and a path, the function that checks values and calls the handler."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import update_wrapper
from itertools import islice
from typing import Any, cast

import msgspec

from aiorest_ws.contract.bodies import Body
from aiorest_ws.contract.faults import MAX_FAULTS, Fault
from aiorest_ws.contract.handlers import Handler, Parameter
from aiorest_ws.contract.kinds import exact_types
from aiorest_ws.contract.spelling import spelled
from aiorest_ws.contract.values import UNFIT, Value
from aiorest_ws.exceptions import InvalidHandler, ValidationError
from aiorest_ws.wrappers import Request

__all__ = ("bound",)


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
            one.name: Value(one, one.check, names.get(one.name))
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
        self, request: Request, texts: Sequence[str], arguments: Mapping[str, Any]
    ) -> ValidationError:
        """Return the error with all faults of a call, in the order of the parameters."""
        found = islice(self._faults(request, texts, arguments), MAX_FAULTS)
        return ValidationError(errors=[one._asdict() for one in found])

    def _faults(
        self, request: Request, texts: Sequence[str], arguments: Mapping[str, Any]
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

    def _read_query(self, request: Request, arguments: dict[str, Any]) -> None:
        """Replace the texts of a query by the values that they spell."""
        for name in names_in_query(request):
            value = self.values.get(name)
            if value is not None and value.node is not None and name in arguments:
                arguments[name] = spelled(value.node, arguments[name])

    def convert_all(self, request: Request, arguments: dict[str, Any]) -> None:
        """Replace arguments by what their types make of them, if all fit."""
        if request.url and "?" in request.url:
            self._read_query(request, arguments)
        made = {}
        for name, value in self.values.items():
            if name in arguments:
                made[name] = value.make(arguments[name])
                value.check_decimals(arguments[name])
        arguments.update(made)


def names_in_query(request: Request) -> Sequence[str]:
    """Return the names of the arguments that are from the query of the URL."""
    return cast("Sequence[str]", getattr(request, "_query_names", ()))


def bound(
    handler: Handler, path: str, path_names: Sequence[str], *, by_name: bool
) -> Callable[..., Any] | None:
    """Return a function that is called like the handler, with values that are still to be checked.

    Path values are passed in the order of the path. The function raises ValidationError. Returns
    None for a handler without demands. Raises InvalidHandler for one that the path does not fit.
    """
    in_path = handler.in_path(path, path_names, by_name=by_name)
    binding = _Binding(handler, path_names, in_path)
    has_demands = bool(binding.values) or handler.data is not None
    if has_demands and len(in_path) < len(path_names) and not handler.takes_any_value:
        raise InvalidHandler(
            f"{path!r} has {len(path_names)} values, and {handler.label} takes {len(in_path)}."
        )
    if not (has_demands or handler.dependencies or handler.reply):
        return None
    return _Compiler(binding).function()


class _Compiler:
    """Write the function. One that takes `*values` and loops over parameters is much slower."""

    def __init__(self, binding: _Binding) -> None:
        self._binding = binding
        self._handler = binding.handler
        self._names: dict[str, Any] = {
            "handler": binding.handler.call,
            "refusal": binding.refusal,
            "reply": binding.handler.reply,
        }
        self._checks: list[str] = []

    def function(self) -> Callable[..., Any]:
        binding, handler = self._binding, self._handler
        own = [f"own{index}" for index in range(len(handler.own))]
        request = own[-1] if own else "request"
        own = own or ["request"]
        texts = [f"text{index}" for index in range(len(binding.path_names))]
        given = self._path_values(texts)
        if handler.data is not None:
            given[handler.data.name] = self._data(handler.data, request)
        self._arguments(request)
        unfit = [*UNFIT, *(one.models.unfit for one in binding.values.values() if one.models)]
        self._names["unfit"] = tuple(dict.fromkeys(unfit))
        answer = f"handler({', '.join([*own, *self._passed(given, texts)])})"
        source = [
            f"def call({', '.join([*own, *texts, '/', '**arguments'])}):",
            "    try:",
            *(f"        {line}" for line in self._checks or ["pass"]),
            "    except unfit:",
            f"        raise refusal({request}, [{', '.join(texts)}], arguments) from None",
            f"    return {answer if handler.reply is None else f'reply({answer})'}",
        ]
        exec("\n".join(source), self._names)  # noqa: S102  its names are identifiers of a signature
        call: Any = update_wrapper(self._names["call"], handler.function)
        call.__signature__ = self._signature(own)
        call.contract = handler
        data = None if handler.data is None else binding.values.get(handler.data.name)
        call.body = None if data is None or data.models is not None else Body(data)
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

    def _arguments(self, request: str) -> None:
        checked = [
            self._binding.values[one.name]
            for one in self._binding.arguments
            if one.name in self._binding.values
        ]
        if not checked:
            return
        is_exact = all(exact_types(value.node) for value in checked)
        self._names["convert_all"] = self._binding.convert_all
        self._checks += [
            f"if {self._type_check(checked) if is_exact else 'arguments'}:",
            f"    convert_all({request}, arguments)",
        ]

    def _type_check(self, checked: Sequence[Value]) -> str:
        """Return the test that simple arguments pass if they need not be converted, negated."""
        conditions = []
        for index, value in enumerate(checked):
            exact = exact_types(value.node)
            self._names[f"exact{index}"] = exact[0] if len(exact) == 1 else exact
            # One that is missing has its default.
            self._names[f"sample{index}"] = None if exact[0] is type(None) else exact[0]()
            found = f"type(arguments.get({value.name!r}, sample{index}))"
            conditions.append(f"{found} {'is' if len(exact) == 1 else 'in'} exact{index}")
        return f"not ({' and '.join(conditions)})"

    def _data(self, parameter: Parameter, request: str) -> str:
        value = self._binding.values.get(parameter.name)
        if value is None:
            lines = [f"data = {request}.data"]
        else:
            self._names.update(missing=object(), Request=Request, check=value.check_decimals)
            is_default = "" if parameter.is_required else "default if plain is None else "
            lines = [
                f"data = missing if type({request}) is Request else {request}.take(missing)",
                "if data is missing:",
                f"    plain = {request}.data",
                f"    data = {is_default}{self._conversion(value)}",
                "    check(plain)" if value.decimals else "",
            ]
        if not parameter.is_required:
            self._names["default"] = parameter.default
            lines.append("data = default if data is None else data")
        self._checks += filter(None, lines)
        return "data"

    def _conversion(self, value: Value) -> str:
        if inspect.isclass(value.type) and issubclass(value.type, msgspec.Struct):
            self._names.update(Body=value.type, convert=value.convert)
            return "convert(plain, Body)"
        self._names["make"] = value.make
        return "make(plain)"

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
        return [*in_order, *more, *by_name, "**arguments"]

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
