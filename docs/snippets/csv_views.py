"""A custom format: CSV."""

from aiorest_ws import Application, MethodBasedView, Request, SimpleRouter
from aiorest_ws.renderers import BaseRenderer, JSONRenderer


class CSVRenderer(BaseRenderer):
    format = "csv"

    def render(self, data):
        # `data` is the whole reply: {"data": [[...], ...], "event_name": ...}
        return "\n".join(",".join(map(str, row)) for row in data["data"]).encode()


class Table(MethodBasedView):
    renderers = (JSONRenderer, CSVRenderer)

    def get(self, request: Request):
        return [["apples", 3], ["pears", 12]]


router = SimpleRouter()
router.register("/table", Table, methods="GET")

app = Application(router=router)
