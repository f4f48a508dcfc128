"""Errors that are part of what a view promises."""

from typing import Any

from aiorest_ws import Application, DeclaredError, Request, SimpleRouter
from aiorest_ws.exceptions import NotFound

router = SimpleRouter(prefix="/orders")


class SoldOut(DeclaredError):
    status = 409
    default_detail = "Sold out."
    item: str
    left: int = 0


stock = {"apples": 3}


@router.post("/{item}", raises=(SoldOut,), errors={KeyError: NotFound})
def order(request: Request, item: str, *, count: int) -> Any:
    if stock[item] < count:
        raise SoldOut(item=item, left=stock[item])
    stock[item] -= count
    return stock[item]


app = Application(router=router)
