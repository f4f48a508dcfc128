"""A custom format: CSV."""

from aiorest_ws.app import Application
from aiorest_ws.renderers import BaseRenderer, JSONRenderer
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView


class CSVRenderer(BaseRenderer):
    format = "csv"

    def render(self, data):
        # `data` is the whole reply: {"data": [[...], ...], "event_name": ...}
        return "\n".join(",".join(map(str, row)) for row in data["data"]).encode()


class Table(MethodBasedView):
    renderers = (JSONRenderer, CSVRenderer)

    def get(self, request):
        return [["apples", 3], ["pears", 12]]


router = SimpleRouter()
router.register("/table", Table, methods="GET")

app = Application(router=router)
