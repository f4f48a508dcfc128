"""Application: what it is made of, and the factory and the service that it makes."""

import logging
import sys

import pytest
import pytest_twisted
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept

from aiorest_ws.app import Application, load_application
from aiorest_ws.exceptions import BaseAPIException, ImproperlyConfigured
from aiorest_ws.limits import Limits
from aiorest_ws.log import logger, set_level
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.test.utils import override_settings
from aiorest_ws.urls.utils import resolve, reverse
from aiorest_ws.utils.websocket import deflate_offer_accept
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request
from support.hello import HELLO, HELLO_REPLY, hello_router


class OwnFactory(RequestHandlerFactory):
    pass


class OwnProtocol(RequestHandlerProtocol):
    pass


class Recorder:
    """A middleware that only says that it ran."""

    def __init__(self):
        self.requests = []

    def process_request(self, request, handler):
        self.requests.append(request)


class SecondRecorder(Recorder):
    pass


# Parts


def test_defaults():
    app = Application()
    assert app.factory is RequestHandlerFactory
    assert app.protocol is RequestHandlerProtocol
    assert (app.certificate, app.key, app.middlewares, app.isSecure) == (None, None, [], False)


def test_own_classes_are_kept():
    app = Application(factory=OwnFactory, protocol=OwnProtocol)
    assert (app.factory, app.protocol) == (OwnFactory, OwnProtocol)


def test_the_protocol_of_an_own_factory_counts():
    class FactoryWithProtocol(RequestHandlerFactory):
        protocol = OwnProtocol

    app = Application(factory=FactoryWithProtocol, router=hello_router())
    assert app.protocol is OwnProtocol
    assert app.generate_factory().protocol is OwnProtocol


@pytest.mark.parametrize("name", ["factory", "protocol"])
@pytest.mark.parametrize("wrong", [object, SimpleRouter, "a string", object()])
def test_a_wrong_class_is_a_type_error(name, wrong):
    with pytest.raises(TypeError, match=name):
        Application(**{name: wrong})


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="ip"):
        Application().run(ip="127.0.0.1")
    with pytest.raises(TypeError, match="sertificate"):
        Application(sertificate="x")


def test_middlewares_belong_to_one_application():
    first, second = Application(middlewares=[Recorder]), Application(middlewares=[Recorder])
    assert [type(middleware) for middleware in first.middlewares] == [Recorder]
    assert first.middlewares[0] is not second.middlewares[0]


def test_middlewares_of_the_settings_come_first():
    name = f"{Recorder.__module__}.Recorder"
    sys.modules.setdefault(Recorder.__module__, sys.modules[__name__])
    with override_settings(MIDDLEWARE_CLASSES=(SecondRecorder,)):
        app = Application(middlewares=[Recorder])
    assert [type(middleware) for middleware in app.middlewares] == [SecondRecorder, Recorder]
    with override_settings(MIDDLEWARE_CLASSES=(name,)):
        assert type(Application().middlewares[0]).__name__ == "Recorder"


@pytest.mark.parametrize("name", ["nowhere.Middleware", "aiorest_ws.app.Nothing", "Nothing"])
def test_a_middleware_that_cannot_be_imported_is_named(name):
    with (
        override_settings(MIDDLEWARE_CLASSES=(name,)),
        pytest.raises(ImproperlyConfigured, match=name),
    ):
        Application()


def test_half_a_key_pair_is_refused():
    app = Application(certificate="server.pem", router=hello_router())
    assert app.isSecure is False
    with pytest.raises(ImproperlyConfigured, match="certificate"):
        app.service()


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (("127.0.0.1", 8080), "ws://127.0.0.1:8080/"),
        (("localhost", 80, "api"), "ws://localhost:80/api"),
        (("localhost", 80, "/api"), "ws://localhost:80/api"),
        (("::1", 8080), "ws://[::1]:8080/"),
        (("[::1]", 8080), "ws://[::1]:8080/"),
    ],
)
def test_generate_url(arguments, url):
    assert Application().generate_url(*arguments) == url


def test_a_secure_url():
    app = Application(certificate="c.pem", key="k.pem")
    assert app.isSecure is True
    assert app.generate_url("host", 443) == "wss://host:443/"
    assert app.url == "wss://{0}:{1}/{2}"


# generate_factory


def register_view(router):
    router.get("/x")(lambda request: 1)


def register_topic(router):
    router.register_topic("orders")


def test_no_router_is_a_clear_error():
    with pytest.raises(ImproperlyConfigured, match="needs a router"):
        Application().generate_factory("ws://127.0.0.1:8080/")


def test_a_router_can_come_from_three_places():
    router = hello_router()

    class FactoryWithRouter(RequestHandlerFactory):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.router = router

    assert Application(router=router).generate_factory().router is router
    assert Application().generate_factory(router=router).router is router
    assert Application(factory=FactoryWithRouter).generate_factory().router is router


def test_a_router_of_the_call_wins_over_the_applications():
    router = hello_router()
    assert Application(router=SimpleRouter()).generate_factory(router=router).router is router


@pytest.mark.parametrize("register", [register_view, register_topic])
def test_an_application_has_a_router_of_its_own(register):
    app = Application()
    register(app.router)
    assert app.generate_factory().router is app.router
    assert app.generate_factory(router=app.router).router is app.router


def test_routes_of_applications_are_not_shared():
    first, second = Application(), Application()
    first.router.get("/x")(lambda request: 1)
    assert second.router.urls == []


def test_an_application_has_the_router_that_it_was_given():
    router = SimpleRouter()
    app = Application(router=router)
    assert app.router is router
    assert app.generate_factory().router is router  # without routes, too
    app = Application()
    app.router = router
    assert app.generate_factory().router is app.router is router
    app.router = None
    with pytest.raises(ImproperlyConfigured, match="needs a router"):
        app.generate_factory()


def test_the_routes_of_an_application_win_over_its_factorys():
    class FactoryWithRouter(RequestHandlerFactory):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.router = hello_router()

    app = Application(factory=FactoryWithRouter)
    app.router.get("/x")(lambda request: 1)
    assert app.generate_factory().router is app.router


@pytest.mark.parametrize("register", [register_view, register_topic])
def test_routes_that_a_server_would_not_have_are_an_error(register):
    app = Application()
    register(app.router)
    with pytest.raises(ImproperlyConfigured, match=r"app\.router has routes that this server"):
        app.generate_factory(router=hello_router())
    app.router.include(hello_router())
    app.generate_factory()


def test_a_wrong_router_is_a_type_error():
    with pytest.raises(TypeError, match="router"):
        Application().generate_factory(router=object())


def test_factory_options_reach_the_factory():
    class CookieFactory(RequestHandlerFactory):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.cookies = kwargs.get("cookies_dump", {})

    app = Application(
        factory=CookieFactory, router=hello_router(), factory_options={"cookies_dump": {"a": 1}}
    )
    assert app.generate_factory().cookies == {"a": 1}
    assert app.generate_factory(cookies_dump={"b": 2}).cookies == {"b": 2}


def test_an_unknown_factory_option_is_a_type_error():
    with pytest.raises(TypeError, match="cookies_dump"):
        Application(router=hello_router()).generate_factory(cookies_dump={})


def test_the_applications_middlewares_run_before_the_routers_and_once():
    seen = []

    class First(Recorder):
        def process_request(self, request, handler):
            seen.append("application")

    class Own(Recorder):
        def process_request(self, request, handler):
            seen.append("router")

    app = Application(middlewares=[First])
    router = hello_router()
    own = Own()
    router.middlewares.append(own)
    for _ in range(2):
        app.generate_factory(router=router)
    router.process_request(Request("GET", "/hello"))
    assert seen == ["application", "router"]
    assert router.middlewares == [own]


def test_generating_a_factory_sets_the_urlconf():
    Application().generate_factory("ws://127.0.0.1:8080/", router=hello_router())
    assert reverse("hello") == "ws://127.0.0.1:8080/hello/"
    assert resolve("ws://127.0.0.1:8080/hello/").view_name == "hello"


@pytest.mark.parametrize("level", ["debug", "info", "warn", "warning", "error", "critical"])
def test_log_levels(level):
    before = logger.level
    try:
        Application().generate_factory(router=hello_router(), log_level=level)
        assert logger.level == getattr(logging, "WARNING" if level == "warn" else level.upper())
    finally:
        logger.setLevel(before)


def test_an_unknown_log_level_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown log level 'loud'; the levels are trace, debug"):
        set_level("loud")


@pytest_twisted.ensureDeferred
async def test_compression_is_off_unless_asked_for(network):
    options = {
        "perMessageCompressionOffers": [PerMessageDeflateOffer()],
        "perMessageCompressionAccept": PerMessageDeflateResponseAccept,
    }
    for compress in (False, True):
        factory = Application(router=hello_router()).generate_factory(compress=compress)
        port = await network.serve(factory=factory)
        client = await network.connect(port, **options)
        assert bool(client.websocket_extensions_in_use) is compress
        assert await client.ask(HELLO) == HELLO_REPLY


def test_no_offer_of_deflate_is_accepted_as_none():
    assert deflate_offer_accept([object()]) is None


# Hooks and handlers


@pytest.mark.parametrize("name", ["on_startup", "on_shutdown", "on_connect", "on_disconnect"])
def test_a_hook_is_a_decorator_and_takes_one_argument(name):
    app = Application()

    def hook(argument):
        pass

    assert getattr(app, name)(hook) is hook
    with pytest.raises(TypeError, match=f"an {name} hook takes one argument"):
        getattr(app, name)(lambda: None)


def test_error_handlers_are_for_exceptions_and_are_no_coroutines():
    app = Application()
    with pytest.raises(TypeError, match="exception class"):
        app.error_handler("KeyError")

    async def handler(request, exc):
        pass

    with pytest.raises(TypeError, match="coroutine"):
        app.error_handler(KeyError)(handler)


def test_an_error_handler_turns_an_exception_into_a_failure():
    class Failing(MethodBasedView):
        def get(self, request):
            raise LookupError("order 42")

    app = Application()

    @app.error_handler(LookupError)
    def not_found(request, exc):
        return BaseAPIException(f"There is no {exc}.", status=404)

    router = SimpleRouter()
    router.register("/orders", Failing, "GET")
    app.generate_factory(router=router)
    assert (
        router.process_request(Request("GET", "/orders"))
        == b'{"detail":"There is no order 42.","status":404,"event_name":null}'
    )


# load_application


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the current directory, which is not on the path."""
    (tmp_path / "their_api.py").write_text(
        "from aiorest_ws.app import Application\n"
        "from aiorest_ws.routers import SimpleRouter\n"
        "router = SimpleRouter()\n"
        "app = Application(router=router)\n"
        "class Holder:\n"
        "    app = app\n"
        "nothing = 42\n"
    )
    (tmp_path / "broken_api.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield "their_api"
    sys.modules.pop("their_api", None)


def test_an_application_is_found_by_name_in_the_current_directory(module):
    app = load_application(f"{module}:app")
    assert isinstance(app, Application)
    assert load_application(f"{module}:Holder.app") is app


def test_a_router_is_wrapped_in_an_application(module):
    app = load_application(f"{module}:router")
    assert app.router is load_application(f"{module}:app").router


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_api", "package.module:name"),
        ("their_api:", "package.module:name"),
        (":app", "package.module:name"),
        ("nowhere_at_all:app", "no module 'nowhere_at_all'"),
        ("their_api.sub:app", "no module"),
        ("their_api:missing", "has no 'missing'"),
        ("their_api:nothing", "neither an Application nor a router"),
    ],
)
def test_a_name_that_leads_nowhere_is_explained(module, name, message):
    with pytest.raises(ImproperlyConfigured, match=message):
        load_application(name)


def test_a_module_that_lacks_something_itself_says_so(module):
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load_application("broken_api:app")


# Who may call


class Private(MethodBasedView):
    auth_required = True

    def get(self, request):
        return "in"


class Passing:
    def process_request(self, request, handler):
        """Let everything through."""


def private_router(middlewares=()):
    router = hello_router()
    router.register("/private", Private, "GET")
    router.middlewares.extend(middlewares)
    return router


def including(router):
    outer = SimpleRouter()
    outer.include(router)
    return outer


@pytest.mark.parametrize("wrap", [lambda router: router, including])
@pytest.mark.parametrize("limits", [None, Limits(messages_per_second_per_user=9)])
def test_a_view_that_nobody_can_ever_call_is_no_start(wrap, limits):
    with pytest.raises(ImproperlyConfigured, match="'/private/' has `auth_required`, but no midd"):
        Application(router=wrap(private_router()), limits=limits).generate_factory()


@pytest.mark.parametrize("hook", [Application.on_startup, Application.on_connect, None])
def test_a_middleware_or_a_hook_may_authenticate(hook):
    app = Application(router=private_router(), middlewares=() if hook is not None else (Passing,))
    if hook is not None:
        hook(app, lambda argument: None)
    app.generate_factory()


def test_a_middleware_of_an_included_router_may_authenticate():
    Application(router=including(private_router([Passing()]))).generate_factory()


def test_a_router_of_ones_own_may_authenticate():
    class Own(SimpleRouter):
        def process_request(self, request):
            request.user = "me"
            return super().process_request(request)

    Application(router=including(Own())).generate_factory()
    own = Own()
    own.register("/private", Private, "GET")
    Application(router=own).generate_factory()
