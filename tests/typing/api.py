"""Programs of users, never run: mypy --strict checks the signatures as they are seen from outside.

Where a `type: ignore` stands, mypy has to complain: warn_unused_ignores makes it a test.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, assert_type

from twisted.internet.defer import Deferred

from aiorest_ws.abstract import (
    AbstractEndpoint,
    AbstractMiddleware,
    AbstractPermission,
    AbstractRouter,
)
from aiorest_ws.app import Application, load_application
from aiorest_ws.auth.permissions import IsAuthenticated
from aiorest_ws.auth.token.backends import InMemoryTokenBackend
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.auth.token.middlewares import JSONWebTokenMiddleware
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.auth.user.models import UserSQLiteModel
from aiorest_ws.command_line import CommandLine
from aiorest_ws.conf import settings
from aiorest_ws.decorators import EndpointFunction, endpoint
from aiorest_ws.exceptions import BaseAPIException, ServiceUnavailable
from aiorest_ws.renderers import BaseRenderer, JSONRenderer, XMLRenderer
from aiorest_ws.request import CloseReason, RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.serving.service import ApplicationService
from aiorest_ws.status import WS_NORMAL, is_private
from aiorest_ws.test.utils import override_settings
from aiorest_ws.urls.base import get_urlconf, set_urlconf
from aiorest_ws.urls.utils import RouteMatch, resolve, reverse
from aiorest_ws.utils.websocket import deflate_offer_accept
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request, Response

# Views


class OutOfStock(BaseAPIException):
    default_detail = "This is sold out."
    status = 409


class CSVRenderer(BaseRenderer):
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any) -> bytes:
        return ",".join(map(str, data["data"])).encode(self.charset)


class ASCIIRenderer(JSONRenderer):
    compact = False
    ensure_ascii = True


class Orders(MethodBasedView):
    renderers = (JSONRenderer, XMLRenderer, CSVRenderer, ASCIIRenderer)
    auth_required = True
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request, order_id: str, *, limit: int = 10) -> dict[str, Any]:
        return {"id": order_id, "limit": limit}

    async def post(self, request: Request, order_id: str) -> list[int]:
        await asyncio.sleep(0)
        deferred: Deferred[int] = Deferred()
        number = await deferred
        assert_type(number, int)
        return [number]

    def put(self, request: Request, order_id: str) -> Deferred[str]:
        return Deferred()

    def delete(self, request: Request, *args: str, **kwargs: Any) -> None:
        raise OutOfStock(status=410)


class Reports(MethodBasedView):
    renderers = [JSONRenderer]
    blocking = True
    ordered: ClassVar[bool] = True

    def get_renderer(self, preferred_format: Any, *args: Any, **kwargs: Any) -> BaseRenderer:
        return super().get_renderer(preferred_format or "csv", *args, **kwargs)

    def dispatch(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)


@endpoint("/hello/{name}", methods="GET")
def hello(request: Request, name: str) -> str:
    return f"Hello, {name}!"


@endpoint(
    "/clock", methods=["GET", "POST"], name="clock", renderers=(XMLRenderer,), blocking=False
)
async def clock(request: Request, offset_hours: int = 0) -> float:
    return asyncio.get_running_loop().time() + offset_hours


assert_type(hello, EndpointFunction)
tested: str = hello(Request(), "Ada")


# Requests and responses


def read(request: Request) -> None:
    assert_type(request.args, dict[str, Any])
    assert_type(request.url, str | None)
    assert_type(request.id, str | int | None)
    assert_type(request.timeout, float | None)
    assert_type(request.token, str | None)
    assert_type(request.to_representation(), dict[str, Any])
    for value in (
        request.method,
        request.data,
        request.event_name,
        request.get_argument("a"),
        request.colour,
        request.user,
        request.token_payload,
        request.factory.cookies,
        request.connection.state.user_id,
    ):
        assert_type(value, Any)


def make() -> tuple[Request, ...]:
    return (
        Request(),
        Request("GET", "/orders", {"a": 1}, [1, 2], "event"),
        Request(method="GET", url="/", id=1, timeout=0.5, token="t", since={}, colour="red"),
        Request(args=[1]),  # type: ignore[arg-type]
        Request(timeout="soon"),  # type: ignore[arg-type]
    )


def answer(request: Request) -> Response:
    response = Response()
    assert_type(response.content, dict[str, Any])
    response.content = [1, 2]
    response.append_request(request)
    response.wrap_exception(ServiceUnavailable("Come back later."))
    response.status = None
    return response


# Middlewares and permissions


class Tenancy(AbstractMiddleware):
    request_attributes = ("tenant",)

    def process_request(self, request: Request, handler: MethodBasedView) -> None:
        request.tenant = "a"
        request.user = None

    def process_response(self, request: Request, response: Response) -> Response:
        return response


class Slow(AbstractMiddleware):
    async def process_request(self, request: Request, handler: Any) -> None:
        await asyncio.sleep(0)

    async def process_response(self, request: Request, response: Response) -> None:
        response.content["trace"] = 1


class Staff(AbstractPermission):
    @staticmethod
    def check(request: Request, handler: Any) -> bool:
        return bool(request.user.is_staff)


class Duck:
    def process_request(self, request: Request, handler: Any) -> None: ...


class Tokens(JSONWebTokenMiddleware):
    storage_backend = InMemoryTokenBackend
    manager = JSONWebTokenManager
    user_model = UserSQLiteModel


# Routing


class Suffix(AbstractEndpoint):
    def match(self, path: str) -> tuple[str, ...] | None:
        return (path,) if path.endswith(".txt/") else None


class Recorder(AbstractRouter):
    def process_request(self, request: Request) -> bytes | Awaitable[bytes]:
        return b"{}"


class OwnRouter(SimpleRouter):
    def process_request(self, request: Request) -> Any:
        return super().process_request(request)


def route() -> SimpleRouter:
    router = SimpleRouter()
    router.register("/orders/{id}", Orders, methods=["GET", "POST"], name="order")
    router.register("/reports", Reports, "GET")
    router.register_endpoint(hello)
    router.register_endpoint(clock)
    router.include(OwnRouter())
    router.include(Recorder())
    router.middlewares.append(Tenancy())
    router.middlewares.append(Duck())
    router.register("/orders", Orders(), "GET")  # type: ignore[arg-type]
    router.register("/orders", object, "GET")  # type: ignore[arg-type]
    router.register("/orders", Orders, ("GET",))  # type: ignore[arg-type]
    router.register_endpoint(read)  # type: ignore[arg-type]
    router.include(SimpleRouter)  # type: ignore[arg-type]
    Suffix("*.txt", Orders, ["GET"], "texts")
    assert_type(router.reverse("order", 7, token="t"), str)
    return router


def link() -> RouteMatch:
    set_urlconf({"path": "wss://localhost:8080", "urls": [], "routes": {}})
    get_urlconf(default=None)
    assert_type(reverse("order", args=["1"], kwargs={"token": "t"}, relative=True), str)
    reverse("order", args=[])
    return resolve("/orders/1/")


# Protocols and factories


class CustomHandlerFactory(RequestHandlerFactory):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cookies: dict[str, str] = kwargs.get("cookies_dump", {})

    @property
    def cookies(self) -> dict[str, str]:
        return self._cookies


class ChattyProtocol(RequestHandlerProtocol):
    def _decode_message(self, payload: bytes, isBinary: bool = False) -> Request:
        return super()._decode_message(payload, isBinary)

    def _encode_message(self, response: bytes, isBinary: bool = False) -> bytes:
        return super()._encode_message(response, isBinary)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if payload == b"ping":
            self.sendMessage(b"pong", isBinary)
        else:
            super().onMessage(payload, isBinary)

    def onOpen(self) -> None:
        self.sendMessage(b"hello")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self.close_reason is not None:
            assert_type(self.close_reason, CloseReason)
            assert_type(self.close_reason.code, int | None)


def equip() -> CustomHandlerFactory:
    factory = CustomHandlerFactory("ws://localhost:8080", cookies_dump={"a": "b"}, router=route())
    factory.protocol = ChattyProtocol
    factory.router = SimpleRouter()
    factory.router = "router"  # type: ignore[assignment]
    assert_type(factory.router, AbstractRouter)
    RequestHandlerFactory()
    return factory


# Applications

app = Application(
    factory=CustomHandlerFactory,
    protocol=ChattyProtocol,
    certificate=Path("cert.pem"),
    key="key.pem",
    middlewares=(Tenancy, Slow, Duck, JSONWebTokenMiddleware),
    router=route(),
    factory_options={"cookies_dump": {}},
)


@app.on_startup
async def open_pool(factory: CustomHandlerFactory) -> None:
    factory.pool = object()  # type: ignore[attr-defined]


@app.on_startup
def warm(factory: RequestHandlerFactory) -> None: ...


@app.on_shutdown
def close_pool(factory: RequestHandlerFactory) -> Deferred[None]:
    return Deferred()


@app.on_connect
async def greet(connection: RequestHandlerProtocol) -> None:
    connection.state.user_id = 7
    assert_type(connection.peer, str)
    connection.http_headers["origin"]


@app.on_disconnect
def part(connection: ChattyProtocol) -> None:
    connection.sendClose(4000, "bye")


@app.error_handler(KeyError)
def missing(request: Request, exc: KeyError) -> BaseAPIException:
    return BaseAPIException(f"There is no {exc}.", status=404)


@app.error_handler(ValueError)
def refuse(request: Request, exc: ValueError) -> OutOfStock:
    raise OutOfStock from exc


def serve() -> None:
    assert_type(app.isSecure, bool)
    assert_type(app.generate_url("localhost", 8080), str)
    assert_type(app.middlewares, list[Any])
    app.generate_factory("ws://localhost:8080", router=route(), cookies_dump={})
    app.run(
        host="0.0.0.0",
        port=8080,
        path="chat",
        log_level="debug",
        router=route(),
        compress=True,
        accept_function=deflate_offer_accept,
    )
    app.run(ip="127.0.0.1")  # type: ignore[call-arg]
    Application(factory=RequestHandlerFactory())  # type: ignore[arg-type]
    Application(protocol=Orders)  # type: ignore[arg-type]
    assert_type(app.service(listen="tcp:8080"), ApplicationService)
    app.service(router=route(), listen="unix:/run/a.sock", path="/", compress=True)
    assert_type(load_application("shop:app"), Application)


# The names of decorated hooks keep their types.
hook: Callable[[RequestHandlerFactory], None] = warm


# Settings, tokens, users, the command line


@override_settings(COMPACT_JSON=False)
def change_settings() -> str:
    with override_settings(DEBUG=True, SECRET_KEY="s" * 32):
        assert_type(settings.ANYTHING_OF_MINE, Any)
    settings.COMPACT_JSON = True
    return "changed"


assert_type(change_settings(), str)


class TokensForMe(JSONWebTokenManager):
    SECRET_KEY = "0123456789abcdef0123456789abcdef"
    HASH_ALGORITHM = "HS512"


def sign() -> dict[str, Any]:
    manager = JSONWebTokenManager(secret_key=b"0" * 32, algorithm="HS256")
    token = manager.generate({"name": "Ada"}, exp=3600, nbf=0, aud=["a", "b"])
    assert_type(token, str)
    InMemoryTokenBackend().save("access", token, user_id=1)
    return manager.verify(token)


def enrol(users: UserSQLiteModel) -> User:
    users.create_user(username="ada", password="pw", is_user=True)
    users.update_user(username="ada", email="ada@example.com")
    users.create_user(nickname="ada")  # type: ignore[call-arg]
    return users.get_user_by_username("ada")


def options() -> int:
    line = CommandLine()
    line.define("--port", default=8080, help="port to listen on", type=int)
    port: int = line.parse_command_line().port
    return WS_NORMAL if is_private(port) else port


@contextlib.asynccontextmanager
async def served(router: SimpleRouter) -> AsyncIterator[bytes]:
    reply = router.process_request(Request("GET", "/hello/Ada"))
    yield reply if isinstance(reply, bytes) else await reply
