"""Functions as views."""

from aiorest_ws import Application, Request, SimpleRouter

router = SimpleRouter(prefix="/rooms")
temperatures: dict[str, float] = {}


@router.get("/{room}/temperature", name="temperature")
def temperature(request: Request, room: str) -> float | None:
    return temperatures.get(room)


@router.put("/{room}/temperature")
def set_temperature(request: Request, *, celsius: float, room: str) -> float:
    temperatures[room] = celsius
    return celsius


@router.get("/")
def rooms(request: Request, limit: int = 10) -> list[dict[str, str]]:
    return [
        {"room": room, "url": router.reverse("temperature", room)}
        for room in sorted(temperatures)[:limit]
    ]


app = Application(router=router)
