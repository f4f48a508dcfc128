"""A server with two URLs."""

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter


@endpoint("/hello", methods="GET")
def hello(request):
    return "Hello, world!"


@endpoint("/hello/{name}", methods="GET")
def hello_name(request, name, punctuation="!"):
    return f"Hello, {name}{punctuation}"


router = SimpleRouter()
router.register_endpoint(hello)
router.register_endpoint(hello_name)

app = Application(router=router)

if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8080)
