"""A topic with a type."""

from msgspec import Struct

from aiorest_ws import Application, Data, Request, SimpleRouter

router = SimpleRouter()


class OrderEvent(Struct):
    kind: str
    count: int


orders = router.topic("orders/{id}", payload=OrderEvent)


@router.put("/orders/{number}")
async def change(request: Request, number: int, count: Data[int]) -> int:
    position = await orders.publish(OrderEvent("changed", count), id=number)
    return position.offset


app = Application(router=router)
