"""Exceptions with fields, declared like those of a dataclass."""

import inspect
from typing import Any, ClassVar, dataclass_transform, get_origin

__all__ = ("WithFields",)

_NO_FIELDS = frozenset({"detail", "default_detail", "status", "status_code"})


@dataclass_transform(kw_only_default=True)
class WithFields(Exception):
    """Makes keyword-only fields of the annotated names of its subclasses.

    `field_names` are those of a class. A subclass with an `__init__` of its own sets them there.
    """

    field_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = [
            name
            for name, annotation in inspect.get_annotations(cls).items()
            if name not in _NO_FIELDS and not _is_class_variable(annotation)
        ]
        cls.field_names = tuple(dict.fromkeys((*cls.field_names, *own)))

    def __init__(self, *, detail: Any = None, **fields: Any) -> None:
        kind = type(self)
        for name in fields:
            if name not in self.field_names:
                raise TypeError(f"{kind.__name__} has no field {name!r}")
        for name in self.field_names:
            if name not in fields and not hasattr(kind, name):
                raise TypeError(f"{kind.__name__} needs its field {name!r}")
        vars(self).update(fields)
        super().__init__(detail)

    def __reduce__(self) -> Any:
        return _made_again, (type(self), vars(self))


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return "ClassVar" in annotation.partition("[")[0]
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def _made_again(kind: type[WithFields], values: dict[str, Any]) -> WithFields:
    exc = kind.__new__(kind)
    vars(exc).update(values)
    return exc
