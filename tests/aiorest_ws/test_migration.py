"""What programs of 1.1 write still works: the table of the migration page, row by row."""

import logging
import re
import signal
import textwrap
from pathlib import Path

import pytest
import pytest_twisted

from aiorest_ws.app import Application
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.auth.user.abstractions import AbstractUser, User
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import (
    ImproperlyConfigured,
    InvalidHandler,
    InvalidPathArgument,
    NotSupportedArgumentType,
)
from aiorest_ws.limits import Limits
from aiorest_ws.log import logger
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.test.utils import override_settings
from aiorest_ws.urls.exceptions import NoReverseMatch
from aiorest_ws.urls.utils import resolve, reverse
from aiorest_ws.validators import (
    BaseValidator,
    EndpointNameValidator,
    HandlerValidator,
    MethodValidator,
    PathValidator,
    RouteArgumentsValidator,
)
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
SECRET = "x" * 64


class Orders(MethodBasedView):
    def get(self, request, *args, **kwargs):
        return "orders"


def router_with_orders():
    router = SimpleRouter()
    router.register("/orders", Orders, "GET", "orders")
    router.register("/orders/{id}", Orders, "GET", "order")
    return router


# `search_handler`


@pytest.mark.parametrize(
    ("url", "args"),
    [("/orders/", None), ("/orders/", {}), ("/orders/", {"a": 1}), ("/orders/7/", {"b": [2]})],
)
def test_what_search_handler_returns_belongs_to_the_caller(url, args):
    router = router_with_orders()
    request = Request("GET", url, args)
    found = []
    for _ in range(2):
        view, values, keywords = router.search_handler(request, url)
        assert isinstance(view, Orders)
        assert type(values) is tuple
        assert type(keywords) is dict
        found.append((values, dict(keywords)))
        keywords["mine"] = True
    assert found[0] == found[1] == (("7",) if "7" in url else (), args or {})
    assert request.args == (args or {})


# `@endpoint`


@pytest.mark.parametrize(
    ("path", "methods", "name"),
    [("/a", "GET", None), ("/b", ["GET", "post"], "b"), ("/c/{id}", ["DELETE"], "c")],
)
def test_an_endpoint_function_gives_its_registration(path, methods, name):
    @endpoint(path, methods, name, token="kept")
    def view(request, *args):
        return ("called", request, *args)

    registration = view()
    assert (registration[0], *registration[2:]) == (path, methods, name)
    assert issubclass(registration[1], MethodBasedView)
    assert registration[1].token == "kept"
    assert view("request", 1) == ("called", "request", 1)
    assert view(request="request") == ("called", "request")
    router = SimpleRouter()
    router.register(*registration)
    assert [one.name for one in router.urls] == [name]


# `User` and `generate`


@pytest.mark.parametrize("base", [User, AbstractUser])
@pytest.mark.parametrize("extra", [{"company": "x"}, {"role": 1, "team": []}, {"id_card": None}])
def test_a_user_of_a_subclass_has_arguments_of_its_own(base, extra):
    class Own(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = {name: kwargs.get(name) for name in extra}

    user = Own(1, first_name="Ann", is_staff=True, **extra)
    assert (user.extra, user.first_name, user.is_staff) == (extra, "Ann", True)
    for wrong in extra:
        with pytest.raises(TypeError, match=wrong):
            base(**{wrong: 1})


@pytest.mark.parametrize("name", ["name", "scope", "tenant_id"])
def test_a_token_manager_of_a_subclass_has_claims_of_its_own(name):
    class Own(JSONWebTokenManager):
        RESERVED_NAMES = (*JSONWebTokenManager.RESERVED_NAMES, name)

    class Passing(JSONWebTokenManager):
        def generate(self, data, **kwargs):
            return super().generate({**data, "seen": kwargs[name]}, **kwargs)

    manager = Own(secret_key=SECRET)
    token = manager.generate({"id": 1}, exp=60, **{name: "x"})
    assert manager.verify(token).items() >= {"id": 1, name: "x"}.items()
    passing = Passing(secret_key=SECRET)
    assert passing.verify(passing.generate({}, **{name: "x"})) == {"seen": "x"}
    with pytest.raises(TypeError, match=name):
        JSONWebTokenManager(secret_key=SECRET).generate({}, **{name: "x"})


# `validators`


@pytest.mark.parametrize(
    ("kind", "good", "bad", "error"),
    [
        (PathValidator, "/a", "a", InvalidPathArgument),
        (HandlerValidator, Orders, object, InvalidHandler),
        (MethodValidator, ["GET"], ("GET",), NotSupportedArgumentType),
        (EndpointNameValidator, "name", 1, NotSupportedArgumentType),
    ],
)
def test_the_validators_are_classes(kind, good, bad, error):
    assert issubclass(kind, BaseValidator)
    assert kind().validate(good) is None
    with pytest.raises(error):
        kind().validate(bad)


@pytest.mark.parametrize("part", ["path", "handler", "methods", "endpoint_name"])
def test_a_router_takes_a_validator_of_ones_own(part):
    class Strict(BaseValidator):
        def validate(self, value):
            raise ValueError(f"not {value!r}")

    class Own(RouteArgumentsValidator):
        pass

    setattr(Own, f"{part}_validator", Strict())

    class Router(SimpleRouter):
        args_validator = Own()

    with pytest.raises(ValueError, match="not "):
        Router().register("/a", Orders, "GET", "a")
    SimpleRouter().register("/a", Orders, "GET", "a")


# `reverse`


@pytest.mark.parametrize("urlconf", [{}, {"path": "ws://x"}, {"path": "", "urls": []}])
@pytest.mark.parametrize("relative", [False, True])
def test_a_urlconf_without_routes_has_no_names(urlconf, relative):
    with pytest.raises(NoReverseMatch):
        reverse("orders", urlconf, relative=relative)


def test_a_urlconf_without_path_has_relative_urls_only():
    router = router_with_orders()
    urlconf = {"routes": router.routes, "urls": router.urls}
    assert reverse("orders", urlconf, relative=True) == "/orders/"
    with pytest.raises(NoReverseMatch):
        reverse("orders", urlconf)
    assert resolve("/orders/7/", urlconf).args == ("7",)


# The loop and the transport


@pytest.mark.asyncio_reactor
@pytest.mark.parametrize("method", ["call_soon", "call_later", "create_task", "run_in_executor"])
@pytest_twisted.ensureDeferred
async def test_the_loop_of_a_factory_runs_what_it_is_given(network, method):
    from support.waiting import until

    done = []

    async def task():
        done.append(1)

    loop = RequestHandlerFactory().loop
    arguments = {
        "call_soon": (done.append, 1),
        "call_later": (0, done.append, 1),
        "create_task": (task(),) if method == "create_task" else (),
        "run_in_executor": (None, done.append, 1),
    }[method]
    kept = getattr(loop, method)(*arguments)
    await until(lambda: done)
    del kept


def test_the_loop_of_another_reactor_is_told():
    class Reactor:
        def seconds(self):
            return 0.0

    factory = RequestHandlerFactory(reactor=Reactor())
    assert getattr(factory, "loop", None) is None
    with pytest.raises(AttributeError, match="asyncio reactor, this is Reactor"):
        factory.loop  # noqa: B018


@pytest.mark.asyncio_reactor
@pytest_twisted.ensureDeferred
async def test_a_transport_has_the_methods_of_asyncio(network):
    class Protocol(RequestHandlerProtocol):
        def onOpen(self):
            opened.append(self)

    opened = []
    # Without pings, which would find that the client does not answer.
    factory = RequestHandlerFactory(router=router_with_orders(), limits=Limits(ping_seconds=0))
    factory.protocol = Protocol
    client = await network.connect(await network.serve(factory=factory))
    transport = opened[0].transport
    own = client.transport.getHost()
    assert transport.get_extra_info("peername") == (own.host, own.port)
    assert transport.get_extra_info("sockname")[1] == network.ports[0].getHost().port
    assert transport.get_extra_info("socket").fileno() >= 0
    assert transport.get_extra_info("nothing") is None
    assert transport.get_extra_info("nothing", "default") == "default"
    assert transport.is_closing() is False
    assert transport.is_reading() is True
    transport.pause_reading()
    assert transport.is_reading() is False
    transport.resume_reading()
    assert transport.get_write_buffer_size() == 0
    assert transport.can_write_eof() is True
    transport.writelines([b"\x81\x02", b"hi"])
    assert await client.receive() == b"hi"
    transport.close()
    assert transport.is_closing() is True
    await client.closed
    assert transport.is_closing() is True


PROGRAMS = {
    "task": "work = loop.create_task(work())",
    "call": "loop.call_soon(print, 'ran', 1)",
    "timer": "loop.call_later(0.01, print, 'ran', 1)",
    "new loop": "loop = asyncio.new_event_loop(); asyncio.set_event_loop(loop)\n"
    "work = asyncio.ensure_future(work(), loop=loop)",
}


@pytest.mark.process
@pytest.mark.parametrize("kind", PROGRAMS)
def test_what_a_program_put_on_its_loop_runs(start, folder, kind):
    (folder / "program.py").write_text(
        textwrap.dedent(
            """\
            import asyncio
            from aiorest_ws.app import Application
            from api import router

            async def work():
                await asyncio.sleep(0)
                print("ran", 1, flush=True)

            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            """
        )
        + PROGRAMS[kind]
        + "\nApplication(router=router).run(port=0)\n"
    )
    server = start("program.py")
    server.wait_for("ran 1")
    assert server.end(signal.SIGTERM) == 0


# Logging


@pytest.fixture
def logging_kept():
    before = (logger.level, list(logger.handlers), logger.propagate)
    yield
    logger.handlers[:] = before[1]
    logger.setLevel(before[0])
    logger.propagate = before[2]


@pytest.mark.usefixtures("logging_kept")
@pytest.mark.parametrize("level", ["DEBUG", "WARNING", None])
def test_the_logging_settings_are_applied_at_start(level):
    own = {"handlers": ["own"], **({} if level is None else {"level": level})}
    settings = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"own": {"class": "logging.NullHandler"}},
        "loggers": {"aiorest-ws": own},
    }
    with override_settings(DEFAULT_LOGGING_SETTINGS=settings):
        app = Application(router=SimpleRouter())
        assert not any(isinstance(one, logging.NullHandler) for one in logger.handlers)
        app.service(listen="tcp:0:interface=127.0.0.1", log_level="error")
    assert any(isinstance(one, logging.NullHandler) for one in logger.handlers)
    assert logger.level == getattr(logging, level or "ERROR")


@pytest.mark.parametrize("wrong", [{"version": 2}, {"handlers": 3}, {"version": 1, "loggers": 1}])
def test_logging_settings_that_cannot_be_used_are_named(wrong):
    with (
        override_settings(DEFAULT_LOGGING_SETTINGS=wrong),
        pytest.raises(ImproperlyConfigured, match="DEFAULT_LOGGING_SETTINGS"),
    ):
        Application(router=SimpleRouter()).service()


# The table

# The beginning of each row, and the tests that it is covered by: here, or in another file.
TESTS = {
    "`async def onMessage`": "connection/test_callbacks.py:test_a_callback_that_is_a_coroutine",
    "`await super()": "connection/test_callbacks.py:test_the_base_class_can_be_awaited",
    "`_get_ssl_context`": "serving/test_inherited.py:test_the_context_of_a_subclass_is_used",
    "`_correct_path`": "serving/test_inherited.py:"
    "test_a_router_whose_override_has_no_effect_is_refused",
    "`_register_url`": "serving/test_inherited.py:"
    "test_a_router_may_override_how_it_registers_a_url",
    "`_init_factory`": "serving/test_inherited.py:test_what_has_no_effect_is_refused_at_start",
    "`_factory`": "serving/test_inherited.py:test_the_classes_of_a_subclass_are_its_own",
    "`isSecure`": "serving/test_inherited.py:test_half_a_configuration_raises_only_at_start",
    "`factory.loop`": "test_migration.py:test_the_loop_of_a_factory_runs",
    "`transport.get_extra_info": "test_migration.py:test_a_transport_has_the_methods_of_asyncio",
    "tasks and calls": "test_migration.py:test_what_a_program_put_on_its_loop_runs",
    "`search_handler": "test_migration.py:test_what_search_handler_returns_belongs",
    "`path, view": "test_migration.py:test_an_endpoint_function_gives_its_registration",
    "`super().__init__": "test_migration.py:test_a_user_of_a_subclass_has_arguments",
    "`generate(data": "test_migration.py:test_a_token_manager_of_a_subclass_has_claims",
    "`BaseValidator`": "test_migration.py:test_the_validators_are_classes",
    "`reverse(name": "test_migration.py:test_a_urlconf_without_routes_has_no_names",
    "`DEFAULT_LOGGING_SETTINGS`": "test_migration.py:test_the_logging_settings_are_applied",
}


def test_each_row_of_the_migration_page_has_its_test():
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("## What programs of 1.1 write\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!1\.1 \|)(.+?) \| .+ \|$", section, re.MULTILINE)
    assert len(rows) == len(TESTS)
    for row in rows:
        [named] = [test for beginning, test in TESTS.items() if row.startswith(beginning)]
        file, _, test = named.partition(":")
        assert f"def {test}" in (Path(__file__).parent / file).read_text(encoding="utf-8")
