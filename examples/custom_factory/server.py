"""A factory of one's own keeps what all connections share."""

import argparse

from aiorest_ws import (
    Application,
    BaseAPIException,
    MethodBasedView,
    Request,
    RequestHandlerFactory,
    SimpleRouter,
)


class CustomHandlerFactory(RequestHandlerFactory):
    """Factory, which also provides access to the cookies."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._cookies = kwargs.get("cookies_dump", {})

    @property
    def cookies(self):
        return self._cookies


router = SimpleRouter()


@router.get("/hello")
def hello(request: Request) -> str:
    return "Hello, world!"


class Cookies(MethodBasedView):
    def get(self, request: Request):
        return request.factory.cookies


class Cookie(MethodBasedView):
    def get(self, request: Request, name):
        if name not in request.factory.cookies:
            raise BaseAPIException(f"There is no cookie {name!r}.", status=404)
        return request.factory.cookies[name]

    def put(self, request: Request, name):
        request.factory.cookies[name] = request.data
        return request.data


router.register("/cookies", Cookies, methods=["GET"])
router.register("/cookies/{name}", Cookie, methods=["GET", "PUT"])

app = Application(
    factory=CustomHandlerFactory,
    factory_options={"cookies_dump": {"theme": "dark", "language": "en"}},
    router=router,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    app.run(port=parser.parse_args().port)
