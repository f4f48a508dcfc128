"""Classes as views, in two routers."""

from aiorest_ws import Application, MethodBasedView, Request, SimpleRouter

stock = {"apples": 3}


class Article(MethodBasedView):
    def get(self, request: Request, name):
        return {"name": name, "count": stock.get(name, 0)}

    def put(self, request: Request, name):
        stock[name] = request.data["count"]
        return self.get(request, name)

    def delete(self, request: Request, name):
        return stock.pop(name, 0)


class Status(MethodBasedView):
    def get(self, request: Request):
        return "open"


shop = SimpleRouter()
shop.register("/articles/{name}", Article, methods=["GET", "PUT"], name="article")

router = SimpleRouter()
router.register("/status", Status, methods="GET")
router.include(shop)

app = Application(router=router)
