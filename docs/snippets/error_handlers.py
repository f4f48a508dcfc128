"""Custom failures, and conversion of other exceptions."""

from aiorest_ws import (
    Application,
    BaseAPIException,
    MethodBasedView,
    Request,
    SimpleRouter,
)


class SoldOut(BaseAPIException):
    default_detail = "Sold out."
    status = 409


stock = {"apples": 3}


class Order(MethodBasedView):
    def post(self, request: Request, article, count):
        if stock[article] < count:
            raise SoldOut({"article": article, "left": stock[article]})
        return count / stock[article]


router = SimpleRouter()
router.register("/orders", Order, methods="POST")

app = Application(router=router)


@app.error_handler(LookupError)
def unknown(request, exc):
    return BaseAPIException(f"There is no {exc.args[0]!r}.", status=404)


@app.error_handler(TypeError)
def wrong_type(request, exc):
    raise BaseAPIException("`count` must be a number.")
