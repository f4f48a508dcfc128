"""`Data[T]`: the parameter of a view that gets the `data` of a request."""

from typing import Annotated, TypeVar

__all__ = ("DATA", "Data")


class _Marker:
    def __repr__(self) -> str:
        return "DATA"


T = TypeVar("T")

DATA = _Marker()
"""Marks the parameter in `Annotated[T, DATA]`, which is `Data[T]`."""

Data = Annotated[T, DATA]
"""Annotates the parameter of a view that gets the `data` of a request, checked and made a `T`.

A type checker sees a `T`.
"""
