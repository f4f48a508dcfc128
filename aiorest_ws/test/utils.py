"""Change settings during a test."""

import inspect
import unittest
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack, aclosing
from functools import wraps
from types import FunctionType, TracebackType
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred

from aiorest_ws.conf import is_setting_name, settings

__all__ = ("override_settings",)

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# The options of a decorated class, and the original of a wrapped method.
_OPTIONS = "__overridden_settings__"
_ORIGINAL = "__without_overridden_settings__"

_CASE_METHODS = ("run", "debug")
_CASE_CLASS_METHODS = ("setUpClass", "tearDownClass")
_PLAIN_HOOKS = ("setup_method", "teardown_method", "setup_class", "teardown_class")
_METHOD_TYPES = (FunctionType, classmethod, staticmethod)
_MISSING = object()


class override_settings:  # noqa: N801 - a name of the contract
    """Change settings inside a `with` block or a decorated function or class.

    A decorated function may also be a coroutine, a generator (a pytest fixture), or one that
    returns a Deferred: the values are in force until it has finished. In a decorated
    `unittest.TestCase` they are in force from `setUpClass` to `tearDownClass`, in another class in
    `test*` methods and in pytest's `setup_*` and `teardown_*`. The innermost value wins, and that
    of a subclass over that of its base. At the end all settings are restored; one that did not
    exist is deleted.
    """

    def __init__(self, **options: Any) -> None:
        for name in options:
            if not is_setting_name(name):
                raise TypeError(f"{name!r} is not a setting: only upper-case names are")
        self.options = options
        # A stack, because an instance can be entered several times at once (recursion, concurrent
        # coroutines): the outermost values are restored last.
        self._saved: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        self._saved.append({name: getattr(settings, name, _MISSING) for name in self.options})
        for name, value in self.options.items():
            setattr(settings, name, value)

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        for name, value in self._saved.pop().items():
            if value is not _MISSING:
                setattr(settings, name, value)
            elif hasattr(settings, name):
                delattr(settings, name)

    def __call__(self, decorated: Decorated) -> Decorated:
        if isinstance(decorated, type):
            self._decorate_class(decorated)
            return decorated
        if callable(decorated):
            return cast(Decorated, _decorate_function(self, decorated))
        raise TypeError(f"override_settings decorates functions and classes, not {decorated!r}")

    def _decorate_class(self, cls: type) -> None:
        inherited: dict[str, Any] = getattr(cls, _OPTIONS, {})
        own = _OPTIONS in vars(cls)
        # Of two decorators on one class the inner one, applied first, wins; so does a subclass.
        options = {**self.options, **inherited} if own else {**inherited, **self.options}
        setattr(cls, _OPTIONS, options)
        for name in _methods_to_wrap(cls):
            method = inspect.getattr_static(cls, name)
            kind = type(method) if isinstance(method, (classmethod, staticmethod)) else None
            function = _original(method.__func__ if kind else method)
            decorate = _decorate_hook if name in _PLAIN_HOOKS else _decorate_function
            wrapped = decorate(override_settings(**options), function)
            setattr(wrapped, _ORIGINAL, (wrapped, function))
            setattr(cls, name, kind(wrapped) if kind else wrapped)


def _original(function: Any) -> Any:
    wrapped, original = getattr(function, _ORIGINAL, (None, None))
    # Other decorators with `functools.wraps` copy our mark to their function.
    return original if wrapped is function else function


def _methods_to_wrap(cls: type) -> list[str]:
    if issubclass(cls, unittest.TestCase):
        # Not those that only unittest defines: a copy on `cls` would hide those of a mixin.
        names = [
            name
            for name in _CASE_CLASS_METHODS
            if inspect.getattr_static(cls, name) is not vars(unittest.TestCase)[name]
        ]
        return [*_CASE_METHODS, *names]
    return [
        name
        for name in dir(cls)
        if (name.startswith("test") or name in _PLAIN_HOOKS)
        and isinstance(inspect.getattr_static(cls, name), _METHOD_TYPES)
    ]


def _decorate_function(override: override_settings, function: Any) -> Any:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with override:
                return await function(*args, **kwargs)

        return coroutine

    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with override:
                async with aclosing(function(*args, **kwargs)) as items:
                    async for item in items:
                        yield item

        return async_generator

    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with override:
                return (yield from function(*args, **kwargs))

        return generator

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            stack.enter_context(override)
            result = function(*args, **kwargs)
            if isinstance(result, Deferred):
                result.addBoth(_close, stack.pop_all())
            return result

    return call


def _decorate_hook(override: override_settings, function: Any) -> Any:
    # pytest counts the parameters in the code of a hook to find out whether to pass the method or
    # the class, whatever the hook wraps.
    call = _decorate_function(override, function)
    if function.__code__.co_argcount < 2:

        @wraps(function)
        def hook(owner: Any) -> Any:
            return call(owner)

        return hook

    @wraps(function)
    def hook_with_argument(owner: Any, argument: Any) -> Any:
        return call(owner, argument)

    return hook_with_argument


def _close(result: Any, stack: ExitStack) -> Any:
    stack.close()
    return result
