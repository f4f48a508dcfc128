"""A view that replies in JSON or XML."""

from aiorest_ws import Application, MethodBasedView, Request, SimpleRouter
from aiorest_ws.renderers import JSONRenderer, XMLRenderer


class Recipe(MethodBasedView):
    renderers = (JSONRenderer, XMLRenderer)

    def get(self, request: Request, name):
        return {"name": name, "steps": ["mix", "bake"], "minutes": 45}


router = SimpleRouter()
router.register("/recipes/{name}", Recipe, methods="GET")

app = Application(router=router)
