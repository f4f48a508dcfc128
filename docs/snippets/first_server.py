"""A server with two URLs."""

from aiorest_ws import Application, Request, SimpleRouter

router = SimpleRouter()


@router.get("/hello")
def hello(request: Request) -> str:
    return "Hello, world!"


@router.get("/hello/{name}")
def hello_name(request: Request, name: str, punctuation: str = "!") -> str:
    return f"Hello, {name}{punctuation}"


app = Application(router=router)

if __name__ == "__main__":
    app.run(host="127.0.0.1", port=8080)
