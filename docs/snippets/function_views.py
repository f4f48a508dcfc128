"""Functions as views."""

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter

temperatures = {}


@endpoint("/rooms/{room}/temperature", methods=["GET", "PUT"], name="temperature")
def temperature(request, room, *, celsius=None):
    if request.method == "PUT":
        temperatures[room] = celsius
    return temperatures.get(room)


@endpoint("/rooms", methods="GET")
def rooms(request, limit=10):
    return [
        {"room": room, "url": router.reverse("temperature", room)}
        for room in sorted(temperatures)[:limit]
    ]


router = SimpleRouter()
router.register_endpoint(temperature)
router.register_endpoint(rooms)

app = Application(router=router)
