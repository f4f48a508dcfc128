"""A topic with a type."""

from msgspec import Struct

from aiorest_ws import Application, Data, Request, SimpleRouter

router = SimpleRouter()


class OrderEvent(Struct):
    kind: str
    count: int


orders = router.topic("orders/{id}", payload=OrderEvent)
counts: dict[str, int] = {}


@orders.snapshot
def state(request: Request, topic: str) -> int:
    return counts.get(topic, 0)


@router.put("/orders/{number}")
async def change(request: Request, number: int, count: Data[int]) -> int:
    counts[f"orders/{number}"] = count
    position = await orders.publish(OrderEvent("changed", count), id=number)
    return position.offset


app = Application(router=router)
