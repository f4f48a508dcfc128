"""Read what the parameters of a function demand, at its registration."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from aiorest_ws.contract.annotations import (
    Checked,
    Refused,
    checked,
    is_free,
    resolved,
    shown,
    split_data,
)
from aiorest_ws.contract.data import DATA
from aiorest_ws.contract.depends import Depends, provided
from aiorest_ws.contract.replies import reply_maker
from aiorest_ws.contract.spelling import is_spellable
from aiorest_ws.exceptions import InvalidHandler
from aiorest_ws.views import is_asynchronous

__all__ = ("Handler", "Parameter")

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Parameter(NamedTuple):
    """A parameter of a handler. `check` is None if it takes any value."""

    name: str
    kind: Any
    default: Any
    check: Checked | None = None
    is_data: bool = False

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def is_positional(self) -> bool:
        return self.kind in POSITIONAL


class Handler:
    """A function that answers requests.

    `own` are its parameters before those that a request can fill: `self` and the request. `filled`
    are the names of those that the server fills, whatever their annotations, and `dependencies`
    says how it makes some of them. `names` are local ones of the program. It is called as `call`,
    by default itself. Raises InvalidHandler for an annotation that cannot be checked.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        is_method: bool,
        filled: Collection[str],
        names: Mapping[str, Any],
        call: Callable[..., Any] | None = None,
    ) -> None:
        self.function = function
        self.is_method = is_method
        self.call = function if call is None else call
        self.label: str = getattr(function, "__qualname__", None) or type(function).__qualname__
        found = list(inspect.signature(function).parameters.values())
        own = 2 if is_method else 1
        while own and (len(found) < own or found[own - 1].kind not in POSITIONAL):
            own -= 1  # it takes them as `*args`
        self.own = tuple(parameter.name for parameter in found[:own])
        self.any_keyword = next((p.name for p in found if p.kind is p.VAR_KEYWORD), None)
        self.takes_any_value = any(p.kind is p.VAR_POSITIONAL for p in found)
        self.filled = frozenset(filled)
        self.dependencies: dict[str, Depends] = {}
        read = [self._read(p, names) for p in found[own:] if p.name not in self.filled]
        if self.dependencies:
            self.filled |= self.dependencies.keys()
            self.call = provided(self.call, self.dependencies, max(own - 1, 0))
        self.parameters = [
            one for one in read if one.kind not in VARIADIC and one.name not in self.filled
        ]
        data = [one.name for one in self.parameters if one.is_data]
        if len(data) > 1:
            raise InvalidHandler(
                f"{self.label} takes the `data` of a request twice, as {data[0]!r} and "
                f"as {data[1]!r}."
            )
        self.reply = reply_maker(function, names)
        self.data = next((one for one in self.parameters if one.is_data), None)

    def _read(self, parameter: inspect.Parameter, names: Mapping[str, Any]) -> Parameter:
        annotation = parameter.annotation
        plain = Parameter(parameter.name, parameter.kind, parameter.default)
        if isinstance(parameter.default, Depends):
            raise InvalidHandler(
                f"{self.label} has {parameter.default} as the default of {parameter.name!r}; it "
                "belongs in the annotation, Annotated[T, Depends(...)]."
            )
        if is_free(annotation):
            return plain
        try:
            annotation = resolved(self.function, annotation, names)
            if self._is_dependency(parameter, annotation):
                return plain
            annotation, is_data = split_data(annotation)
            if parameter.kind in VARIADIC:
                self._check_variadic(parameter, annotation, is_data)
                return plain
            check = None if is_free(annotation) else checked(annotation)
        except Refused as exc:
            raise InvalidHandler(
                f"{self.label} takes {parameter.name!r} as {shown(parameter.annotation)}, which "
                f"cannot be checked: {exc}."
            ) from exc.__cause__
        return plain._replace(check=check, is_data=is_data)

    def _is_dependency(self, parameter: inspect.Parameter, annotation: Any) -> bool:
        marks = getattr(annotation, "__metadata__", ())
        found = [one for one in marks if isinstance(one, Depends)]
        if not found:
            if any(one is Depends for one in marks):
                raise Refused("`Depends` needs a function, as in Depends(get_session)")
            return False
        if len(found) > 1 or DATA in marks:
            raise Refused("it can come from one place only")
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise Refused("the server fills it by its name, and it has none")
        self.dependencies[parameter.name] = found[0]
        return True

    def _check_variadic(
        self, parameter: inspect.Parameter, annotation: Any, is_data: bool
    ) -> None:
        is_text = parameter.kind is parameter.VAR_POSITIONAL and annotation is str
        if is_data or not (is_text or is_free(annotation)):
            raise Refused(f"`{parameter}` has no names for values; give each its own parameter")

    def check_thread(self) -> None:
        """Raise InvalidHandler for what cannot be done in a thread, of a `blocking` view."""
        for name, dependency in self.dependencies.items():
            if is_asynchronous(dependency.get):
                raise InvalidHandler(
                    f"{self.label} is `blocking`: it runs in a thread, which cannot wait for "
                    f"{name!r}, a coroutine or an asynchronous generator."
                )

    def in_path(self, path: str, names: Collection[str], *, by_name: bool) -> list[Parameter]:
        """Return the parameters that get the values in a path; raise InvalidHandler.

        They are fewer than the values if the handler takes fewer, or the others as `*values`.
        """
        if by_name:
            known = {one.name: one for one in self.parameters}
            found = [known[name] for name in names]
        else:
            free = [one for one in self.parameters if one.is_positional and not one.is_data]
            found = free[: len(names)]
        for one in found:
            self._check_in_path(path, one)
        return found

    def _check_in_path(self, path: str, parameter: Parameter) -> None:
        if parameter.is_data:
            raise InvalidHandler(
                f"{self.label} takes the `data` of a request as {parameter.name!r}, so {path!r} "
                "cannot name it too."
            )
        check = parameter.check
        if check is not None and (check.node is None or not is_spellable(check.node)):
            raise InvalidHandler(
                f"{self.label} takes {parameter.name!r} as {shown(check.type)}, which no text in "
                f"the URL {path!r} can spell."
            )
