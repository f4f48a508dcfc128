"""Views whose annotations check what a client sends."""

from datetime import date
from enum import Enum
from typing import Annotated

from msgspec import Meta, Struct

from aiorest_ws import Application, Data, Request, SimpleRouter, ValidationError

router = SimpleRouter(prefix="/orders")


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Line(Struct):
    article: Annotated[str, Meta(min_length=1)]
    count: Annotated[int, Meta(ge=1)] = 1


class NewOrder(Struct, forbid_unknown_fields=True):
    lines: list[Line]
    size: Size = Size.SMALL
    due: date | None = None


orders: list[NewOrder] = []


@router.post("/")
def create(request: Request, order: Data[NewOrder], *, dry_run: bool = False) -> int:
    if order.due == date(2026, 12, 25):
        raise ValidationError(errors=[{"path": "data.due", "fault": "is a holiday"}])
    if not dry_run:
        orders.append(order)
    return len(orders)


@router.get("/{number}")
def read(request: Request, number: int, lines: int = 10) -> list[Line]:
    return orders[number - 1].lines[:lines]


app = Application(router=router)
