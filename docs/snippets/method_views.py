"""Classes as views, in two routers."""

from aiorest_ws.app import Application
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView

stock = {"apples": 3}


class Article(MethodBasedView):
    def get(self, request, name):
        return {"name": name, "count": stock.get(name, 0)}

    def put(self, request, name):
        stock[name] = request.data["count"]
        return self.get(request, name)

    def delete(self, request, name):
        return stock.pop(name, 0)


class Status(MethodBasedView):
    def get(self, request):
        return "open"


shop = SimpleRouter()
shop.register("/articles/{name}", Article, methods=["GET", "PUT"], name="article")

router = SimpleRouter()
router.register("/status", Status, methods="GET")
router.include(shop)

app = Application(router=router)
