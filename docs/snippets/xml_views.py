"""A view that replies in JSON or XML."""

from aiorest_ws.app import Application
from aiorest_ws.renderers import JSONRenderer, XMLRenderer
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView


class Recipe(MethodBasedView):
    renderers = (JSONRenderer, XMLRenderer)

    def get(self, request, name):
        return {"name": name, "steps": ["mix", "bake"], "minutes": 45}


router = SimpleRouter()
router.register("/recipes/{name}", Recipe, methods="GET")

app = Application(router=router)
