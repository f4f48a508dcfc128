"""The middleware: who calls, and who may."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from twisted.internet.defer import Deferred

from aiorest_ws.auth.exceptions import PermissionDeniedException
from aiorest_ws.auth.guard import check_access
from aiorest_ws.auth.permissions import IsAuthenticated
from aiorest_ws.auth.token.backends import InMemoryTokenBackend
from aiorest_ws.auth.token.exceptions import (
    BaseTokenException,
    InvalidSignatureException,
    ParsingTokenException,
    TokenExpiredException,
    TokenNotBeforeException,
    TokenNotProvidedException,
)
from aiorest_ws.auth.token.managers import JSONWebTokenManager
from aiorest_ws.auth.token.middlewares import BaseTokenMiddleware, JSONWebTokenMiddleware
from aiorest_ws.auth.user.abstractions import User
from aiorest_ws.auth.user.models import UserSQLiteModel
from aiorest_ws.awaiting import maybe_await
from aiorest_ws.exceptions import ImproperlyConfigured
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.test.utils import override_settings
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

pytestmark = pytest.mark.slow


def run_coroutine(coroutine):
    """Run to the end in a thread: the reactor's loop counts as running in this one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def judge(middleware, request, view):
    """Ask a middleware and then the guard, as the router does."""

    async def ask():
        await maybe_await(middleware.process_request(request, view))
        await check_access(request, view)

    run_coroutine(ask())


SECRET = "s3cret-" * 10
NOW = 1_700_000_000.0


class Manager(JSONWebTokenManager):
    def __init__(self):
        super().__init__(secret_key=SECRET, clock=lambda: NOW)


class Middleware(JSONWebTokenMiddleware):
    manager = Manager


class Public:
    pass


class Private:
    auth_required = True


def private(*permissions):
    return type("View", (), {"auth_required": True, "permission_classes": permissions})()


def permission(answer):
    """Make a permission that counts its calls."""

    class Permission:
        calls = []

        @staticmethod
        def check(request, handler):
            Permission.calls.append((request, handler))
            return answer() if callable(answer) else answer

    return Permission


@pytest.fixture
def middleware():
    made = Middleware(clock=lambda: NOW)
    yield made
    made.user_model.close()


@pytest.fixture
def token_of(middleware):
    """Make a user and a stored token of theirs."""

    def make(name, expired=None, **fields):
        fields.setdefault("is_user", True)
        middleware.user_model.create_user(username=name, password="p", **fields)
        user = middleware.user_model.get_user_by_username(name, with_id=True)
        token = middleware.manager.generate({"name": name}, exp=60)
        middleware.storage_backend.save("api", token, expired, user.id)
        return token

    return make


# Who calls


def test_without_a_token_the_user_is_anonymous(middleware):
    for token in (None, ""):
        request = Request(token=token)
        assert middleware.process_request(request, Public()) is None
        assert isinstance(request.user, User)
        assert not request.user.is_authenticated()
        assert request.token_payload is None


def test_a_stored_token_names_its_user(middleware, token_of):
    token_of("ben")
    request = Request(token=token_of("anna"))
    assert middleware.process_request(request, Public()) is None
    assert (request.user.username, request.user.id) == ("anna", 2)
    assert request.user.is_authenticated()
    assert request.token_payload == {"name": "anna", "exp": NOW + 60}
    assert middleware.storage_backend.get_token_by_username("api", "anna")["token"] == (
        request.token
    )


@pytest.mark.parametrize("stored", [False, True])
def test_a_token_of_no_user_is_anonymous_but_valid(middleware, stored):
    request = Request(token=middleware.manager.generate({"device": 5}))
    if stored:
        middleware.storage_backend.save("device", request.token)
    judge(middleware, request, Private())
    assert not request.user.is_authenticated()
    assert request.token_payload == {"device": 5}
    with pytest.raises(PermissionDeniedException):
        judge(middleware, request, private(IsAuthenticated))


def delete(model):
    assert model.delete_user("anna")


def deactivate(model):
    model.update_user(username="anna", is_active=False)


@pytest.mark.parametrize("end", [delete, deactivate])
def test_the_token_of_a_user_who_is_gone_opens_nothing(middleware, token_of, end):
    token = token_of("anna", is_superuser=True)
    end(middleware.user_model)
    request = Request(token=token)
    assert middleware.process_request(request, Public()) is None
    assert not request.user.is_authenticated()
    assert not request.user.is_superuser
    assert request.user.username == ""
    for view in (Private(), private(IsAuthenticated), private(permission(True))):
        with pytest.raises(PermissionDeniedException):
            judge(middleware, request, view)


def test_a_user_without_a_role_has_a_valid_token(middleware, token_of):
    request = Request(token=token_of("anna", is_user=False))
    judge(middleware, request, Private())
    assert request.user.username == "anna"
    with pytest.raises(PermissionDeniedException):
        judge(middleware, request, private(IsAuthenticated))


@pytest.mark.parametrize("view", [Public(), Private()])
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda m: "text", ParsingTokenException),
        (lambda m: m.generate({}) + "AAAA", InvalidSignatureException),
        (lambda m: m.generate({}, exp=-1), TokenExpiredException),
        (lambda m: m.generate({}, nbf=1), TokenNotBeforeException),
    ],
)
def test_a_bad_token_is_refused_on_every_view(middleware, view, make, error):
    request = Request(token=make(middleware.manager))
    with pytest.raises(error) as refused:
        middleware.process_request(request, view)
    assert refused.value.status == 401
    assert not hasattr(request, "user")


@pytest.mark.parametrize(("expired", "ended"), [(NOW + 1, False), (NOW, True), (NOW - 1, True)])
def test_a_stored_token_ends_when_the_store_says_so(middleware, token_of, expired, ended):
    request = Request(token=token_of("anna", expired))
    if ended:
        with pytest.raises(TokenExpiredException):
            middleware.process_request(request, Public())
    else:
        middleware.process_request(request, Public())
        assert request.user.username == "anna"


def test_the_real_clock_is_the_default():
    class Own(JSONWebTokenMiddleware):
        manager = lambda self: JSONWebTokenManager(secret_key=SECRET)  # noqa: E731

    own = Own()
    token = own.manager.generate({}, exp=60)
    own.storage_backend.save("api", token, "2001-01-01")
    with pytest.raises(TokenExpiredException):
        own.process_request(Request(token=token), Public())
    own.user_model.close()


# Who may


@pytest.mark.parametrize("auth_required", [False, None, 0])
def test_without_auth_required_permissions_are_asked_too(middleware, auth_required):
    asked = permission(False)
    view = private(asked)
    view.auth_required = auth_required
    request = Request()
    with pytest.raises(PermissionDeniedException):
        judge(middleware, request, view)
    assert asked.calls == [(request, view)]


@pytest.mark.parametrize("kind", [BaseTokenMiddleware, Middleware])
def test_a_middleware_leaves_the_judgement_to_the_router(kind):
    asked = permission(False)
    assert kind().process_request(Request(), private(asked)) is None
    assert asked.calls == []


def test_a_view_with_auth_required_needs_a_token(middleware):
    asked = permission(True)
    for token in (None, ""):
        for view in (Private(), private(asked)):
            with pytest.raises(TokenNotProvidedException) as refused:
                judge(middleware, Request(token=token), view)
            assert refused.value.status == 401
    assert asked.calls == []


@pytest.mark.parametrize(
    ("answers", "allowed", "asked"),
    [
        ([True], True, 1),
        ([1, "yes", [0]], True, 3),
        ([False], False, 1),
        ([None], False, 1),
        ([0], False, 1),
        ([True, "", True], False, 2),
        ([False, True], False, 1),
    ],
)
@pytest.mark.parametrize("kinds", ["plain", "coroutine", "mixed", "deferred"])
def test_every_permission_must_say_yes(middleware, token_of, answers, allowed, asked, kinds):
    async def later(answer):
        await asyncio.sleep(0)
        return answer

    def fired(answer):
        deferred = Deferred()
        deferred.callback(answer)
        return deferred

    def form(number, answer):
        if kinds == "coroutine" or (kinds == "mixed" and number % 2):
            return lambda: later(answer)
        return (lambda: fired(answer)) if kinds == "deferred" else answer

    permissions = [permission(form(number, answer)) for number, answer in enumerate(answers)]
    request = Request(token=token_of("anna"))
    view = private(*permissions)

    if allowed:
        judge(middleware, request, view)
    else:
        with pytest.raises(PermissionDeniedException) as refused:
            judge(middleware, request, view)
        assert refused.value.status == 403
    calls = [each.calls for each in permissions]
    assert calls == [[(request, view)]] * asked + [[]] * (len(answers) - asked)


def test_an_error_of_a_permission_is_not_hidden(middleware, token_of):
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        judge(middleware, Request(token=token_of("anna")), private(permission(fail)))


@pytest.mark.parametrize(
    ("user", "allowed"),
    [(User(is_user=True), True), (User(is_staff=True), True), (User(), False), (None, False)],
)
def test_is_authenticated(user, allowed):
    request = Request()
    assert IsAuthenticated.check(request, None) is False
    request.user = user
    assert IsAuthenticated.check(request, None) is allowed


# How it is made


@pytest.mark.parametrize("secret", ["", "secret_key", "short"])
def test_a_bad_secret_is_refused_when_the_middleware_is_made(secret):
    with override_settings(SECRET_KEY=secret), pytest.raises(ImproperlyConfigured):
        JSONWebTokenMiddleware()


@override_settings(SECRET_KEY=SECRET)
def test_the_settings_are_enough():
    middleware = JSONWebTokenMiddleware()
    request = Request(token=middleware.manager.generate({"id": 1}, exp=60))
    middleware.process_request(request, Private())
    assert request.token_payload["id"] == 1
    middleware.user_model.close()


def test_middlewares_share_nothing():
    first, second = Middleware(), Middleware()
    first.user_model.create_user(username="anna", password="p")
    assert second.user_model.get_user_by_username("anna").username == ""
    assert JSONWebTokenMiddleware.manager is JSONWebTokenManager
    assert JSONWebTokenMiddleware.user_model is UserSQLiteModel
    assert JSONWebTokenMiddleware.storage_backend is InMemoryTokenBackend
    for each in (first, second):
        each.user_model.close()


def test_what_it_sets_no_client_may_send():
    assert JSONWebTokenMiddleware.request_attributes == ("user", "token_payload")
    assert BaseTokenMiddleware.request_attributes == ("user",)


class OwnBackend:
    def get(self, token):
        return {"user_id": token.split(".")[1]}


class OwnUsers:
    def get_user_by_token(self, token):
        return User(username="own", is_user=True) if token["user_id"] else None


def test_stores_of_ones_own():
    class Own(Middleware):
        storage_backend = OwnBackend
        user_model = OwnUsers

    own = Own()
    request = Request(token=own.manager.generate({}))
    judge(own, request, private(IsAuthenticated))
    assert request.user.username == "own"
    own.user_model.get_user_by_token = lambda token: None
    with pytest.raises(PermissionDeniedException):
        judge(own, request, Private())


def test_a_backend_with_a_database_of_its_own_keeps_it():
    class Backend(InMemoryTokenBackend):
        def __init__(self):
            super().__init__()
            self.save("api", "kept")

    class Own(Middleware):
        storage_backend = Backend

    own = Own()
    assert own.storage_backend.get("kept")["name"] == "api"
    assert own.storage_backend.database is not own.user_model.database
    own.storage_backend.close()
    own.user_model.close()


def test_credentials_may_be_anything():
    class ByKey(BaseTokenMiddleware):
        keys = {"k1": User(username="anna", is_user=True)}

        def init_credentials(self, request):
            request.user = self.keys.get(request.token, User())

    by_key = ByKey()
    request = Request(token="k1")
    judge(by_key, request, private(IsAuthenticated))
    for token in ("k2", None):
        with pytest.raises(TokenNotProvidedException):
            judge(by_key, Request(token=token), private(IsAuthenticated))
    with pytest.raises(TokenNotProvidedException):
        judge(BaseTokenMiddleware(), request, Private())


@pytest.mark.parametrize("answer", [True, False, "later"])
def test_credentials_may_be_found_by_a_coroutine(answer):
    async def later():
        return True

    class Slow(BaseTokenMiddleware):
        async def init_credentials(self, request):
            await asyncio.sleep(0)
            request.user = User(username="anna", is_user=True)

    request = Request(token="k1")
    view = private(permission(later if answer == "later" else answer), IsAuthenticated)
    if answer:
        judge(Slow(), request, view)
        assert request.user.username == "anna"
    else:
        with pytest.raises(PermissionDeniedException):
            judge(Slow(), request, view)


# Under the router


class Whoami(MethodBasedView):
    auth_required = True
    permission_classes = (IsAuthenticated,)

    def get(self, request):
        return [request.user.username, request.token_payload["name"]]


class Guarded(Whoami):
    class Later:
        @staticmethod
        async def check(request, handler):
            return request.user.username == "anna"

    permission_classes = (IsAuthenticated, Later)


@pytest.fixture
def call(middleware):
    router = SimpleRouter()
    router.register("/whoami", Whoami, "GET")
    router.register("/guarded", Guarded, "GET")
    router.middlewares.append(middleware)

    def send(url, **keys):
        async def main():
            reply = router.process_request(Request(method="GET", url=url, **keys))
            return reply if isinstance(reply, bytes) else await reply

        return json.loads(run_coroutine(main()))

    return send


@pytest.mark.parametrize("url", ["/whoami", "/guarded"])
def test_replies_of_a_guarded_view(call, token_of, middleware, url):
    assert call(url, token=token_of("anna"))["data"] == ["anna", "anna"]
    refused = call(url)
    assert (refused["status"], refused["detail"]) == (401, "This call needs a token.")
    refused = call(url, token="a.b.c")
    assert (refused["status"], refused["detail"]) == (401, "The signature of the token is wrong.")
    stranger = call(url, token=middleware.manager.generate({"name": "x"}))
    assert (stranger["status"], stranger["detail"]) == (403, "Permission denied.")


def test_a_permission_that_has_to_be_awaited_can_say_no(call, token_of):
    token = token_of("ben")
    assert call("/whoami", token=token)["data"] == ["ben", "ben"]
    assert call("/guarded", token=token)["status"] == 403


def test_one_request_does_not_speak_for_the_next(call, token_of):
    assert call("/whoami", token=token_of("anna"))["data"] == ["anna", "anna"]
    assert call("/whoami")["status"] == 401


def test_errors_are_those_of_tokens():
    assert issubclass(TokenNotProvidedException, BaseTokenException)
