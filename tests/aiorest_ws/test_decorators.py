"""Functions as views."""

import functools
import inspect

import pytest

from aiorest_ws.decorators import EndpointFunction, endpoint
from aiorest_ws.exceptions import NotSupportedArgumentType
from aiorest_ws.renderers import XMLRenderer
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request


@endpoint(
    "/users/{id}", methods=["GET", " post "], name="user", renderers=(XMLRenderer,), colour=1
)
def user(request, user_id, *, detailed=False):
    """Tell about a user."""
    return user_id, detailed


def test_a_decorated_function_can_be_called_as_before():
    assert user(Request(), "7", detailed=True) == ("7", True)
    with pytest.raises(TypeError, match="missing"):
        user(Request())


def test_a_decorated_function_still_looks_like_itself():
    assert user.__name__ == "user"
    assert user.__doc__ == "Tell about a user."
    assert user.__module__ == __name__
    assert list(inspect.signature(user).parameters) == ["request", "user_id", "detailed"]


def test_a_decorated_function_knows_its_place():
    assert isinstance(user, EndpointFunction)
    assert (user.path, user.methods, user.name) == ("/users/{id}", ["GET", " post "], "user")
    assert user.attributes == {"renderers": (XMLRenderer,), "colour": 1}


def test_a_name_is_optional():
    assert endpoint("/", "GET")(lambda request: None).name is None


def test_a_view_answers_each_of_the_methods_with_the_function():
    view = user.as_view()
    assert issubclass(view, MethodBasedView)
    assert view.methods == ["get", "post"]
    for method in ("GET", "POST"):
        assert view().dispatch(Request(method), "7", detailed=True) == ("7", True)


def test_a_view_looks_like_the_function():
    view = user.as_view()
    assert (view.__name__, view.__doc__, view.__module__) == (
        "user",
        "Tell about a user.",
        __name__,
    )


def test_attributes_are_those_of_the_view():
    view = user.as_view()
    assert view.renderers == (XMLRenderer,)
    assert view.colour == 1
    assert not view.blocking
    assert endpoint("/", "GET", blocking=True)(lambda request: None).as_view().blocking


def test_a_function_does_not_become_a_method():
    @endpoint("/", "GET")
    def first_parameter(request):
        return request

    request = Request("GET")
    assert first_parameter.as_view()().dispatch(request) is request


def test_a_coroutine_function_stays_one():
    @endpoint("/", "GET")
    async def later(request):
        return 1

    assert inspect.iscoroutinefunction(later.as_view().get)


def test_views_of_one_function_are_not_shared():
    assert user.as_view() is not user.as_view()


@pytest.mark.parametrize("methods", [("GET",), None, "FETCH", ["GET", "dispatch"]])
def test_wrong_methods_are_refused_when_the_function_is_registered(methods):
    decorated = endpoint("/", methods)(lambda request: None)
    with pytest.raises(NotSupportedArgumentType):
        decorated.as_view()


def test_decorators_can_be_stacked():
    both = endpoint("/other", "PUT")(user)
    assert both.path == "/other"
    assert user.path == "/users/{id}"
    assert both.as_view()().dispatch(Request("PUT"), "7") == ("7", False)


def greet(greeting, request, name):
    return f"{greeting}, {name}!"


class Greeter:
    def __call__(self, request, name):
        return f"Hello, {name}!"


@pytest.mark.parametrize("function", [functools.partial(greet, "Hello"), Greeter()])
def test_any_callable_can_be_decorated(function):
    view = endpoint("/", "GET")(function).as_view()
    assert view().dispatch(Request("GET"), "Ada") == "Hello, Ada!"
