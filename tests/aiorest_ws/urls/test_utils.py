"""`resolve` and `reverse`, and that one undoes the other."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiorest_ws.abstract import AbstractEndpoint
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.urls import base
from aiorest_ws.urls.base import get_urlconf, set_urlconf
from aiorest_ws.urls.exceptions import NoMatch, NoReverseMatch
from aiorest_ws.urls.utils import RouteMatch, resolve, reverse
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

# No test hangs on the speed of the machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ROOT = "wss://example.org:8443"


class View(MethodBasedView):
    def get(self, request, *values):
        return values


class Foreign(AbstractEndpoint):
    def match(self, path):
        return ("found",) if path.startswith("/foreign/") else None


def urlconf_of(router, path=ROOT):
    return {"path": path, "urls": router._urls, "routes": router._routes}


@pytest.fixture
def router():
    router = SimpleRouter()
    router.register("/user", View, "GET", "users")
    router.register("/user/{id}", View, "GET", "user")
    router.register("/user/{id}/post/{number}", View, "GET", "post")
    router.register("/v{major}.{minor}/", View, "GET", "version")
    router.register("/nameless/{x}", View, "GET")
    return router


@pytest.fixture
def conf(router):
    return urlconf_of(router)


@pytest.fixture
def _no_urlconf(monkeypatch):
    monkeypatch.setattr(base, "_urlconf", {})


# reverse


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "url"),
    [
        ("users", (), {}, "/user/"),
        ("users", (), None, "/user/"),
        ("user", (1,), {}, "/user/1/"),
        ("user", ["1"], {"token": "123456"}, "/user/1/?token=123456"),
        ("post", ("a", 2.5), {}, "/user/a/post/2.5/"),
        ("version", (1, 0), {"q": "a b&c", "n": 1}, "/v1.0/?q=a+b%26c&n=1"),
    ],
)
def test_a_name_gives_its_url(conf, name, args, kwargs, url):
    assert reverse(name, conf, args, kwargs) == ROOT + url
    assert reverse(name, urlconf=conf, args=args, kwargs=kwargs, relative=True) == url


def test_a_slash_at_the_end_of_the_root_makes_no_second_one(router):
    assert reverse("users", urlconf_of(router, "ws://h:1/")) == "ws://h:1/user/"
    assert reverse("users", urlconf_of(router, "ws://h:1/api/")) == "ws://h:1/api/user/"


def test_an_unknown_name_has_no_url(conf):
    with pytest.raises(NoReverseMatch, match="'nobody'"):
        reverse("nobody", conf)


@pytest.mark.parametrize(
    ("name", "args"), [("users", (1,)), ("user", ()), ("user", (1, 2)), ("post", (1,))]
)
def test_the_number_of_values_must_be_the_templates(conf, name, args):
    with pytest.raises(ValueError, match=f"{len(args)} were given"):
        reverse(name, conf, args)


def test_a_router_reverses_its_own_names(router):
    assert router.reverse("user", 1) == "/user/1/"
    assert router.reverse("user", 1, token="123456") == "/user/1/?token=123456"
    with pytest.raises(NoReverseMatch):
        router.reverse("nobody")
    with pytest.raises(ValueError, match="takes 1 parameters, 0 were given"):
        router.reverse("user")


def test_a_query_of_a_router_may_have_any_name(router):
    assert router.reverse("users", name="Ada") == "/user/?name=Ada"


# resolve


@pytest.mark.parametrize(
    ("url", "name", "args", "kwargs"),
    [
        ("/user/", "users", (), {}),
        ("/user", "users", (), {}),
        (" /user ", "users", (), {}),
        ("/user/?token=1", "users", (), {}),
        ("/user?token=/x/", "users", (), {}),
        ("/user/1/", "user", ("1",), {"id": "1"}),
        ("/user/1/post/2", "post", ("1", "2"), {"id": "1", "number": "2"}),
        ("/v1.2/", "version", ("1", "2"), {"major": "1", "minor": "2"}),
        ("/nameless/y/", None, ("y",), {"x": "y"}),
    ],
)
def test_a_url_gives_the_name_behind_it(conf, url, name, args, kwargs):
    for absolute_or_not in (url, ROOT + url.strip()):
        match = resolve(absolute_or_not, conf)
        assert isinstance(match, RouteMatch)
        assert match.view_name == name
        assert tuple(match.args) == args
        assert match.kwargs == kwargs


@pytest.mark.parametrize(
    "url", ["", "user/", "/", "/nobody/", "/user/1/2/", "/USER/", f"{ROOT}5/user/", "ws://h/user/"]
)
def test_a_url_that_nobody_has_is_no_match(conf, url):
    with pytest.raises(NoMatch):
        resolve(url, conf)


def test_an_endpoint_of_another_class_is_asked_for_its_values(router):
    router._register_url(Foreign("/foreign", View, "GET", "theirs"))
    match = resolve("/foreign/land", urlconf_of(router))
    assert (match.view_name, match.args, match.kwargs) == ("theirs", ("found",), {})


def test_of_two_templates_the_first_registered_is_found():
    router = SimpleRouter()
    router.register("/{a}/x", View, "GET", "first")
    router.register("/a/{b}", View, "GET", "second")
    assert resolve("/a/x/", urlconf_of(router)).view_name == "first"


def test_a_url_resolves_to_the_view_that_would_answer_it():
    router = SimpleRouter()
    router.register("/user/{id}", View, "GET", "template")
    router.register("/user/me", View, "GET", "plain")
    assert resolve("/user/me/", urlconf_of(router)).view_name == "plain"


def test_endpoints_of_other_classes_are_asked_last():
    router = SimpleRouter()
    router._register_url(Foreign("/foreign", View, "GET", "theirs"))
    router.register("/foreign/{id}", View, "GET", "ours")
    request = Request("GET", "/foreign/land")
    assert router.process_request(request) == b'{"data":["land"],"event_name":null}'
    assert resolve("/foreign/land/", urlconf_of(router)).view_name == "ours"


# Both ways

# What a parameter can hold, without what ends the path of a URL.
values = st.text(st.characters(exclude_characters="{}/?", codec="utf-8"), min_size=1)
SEPARATE = ("users", "user", "post")


@UNHURRIED
@given(st.data())
def test_what_was_reversed_resolves_to_where_it_came_from(data):
    router = SimpleRouter()
    router.register("/user", View, "GET", "users")
    router.register("/user/{id}", View, "GET", "user")
    router.register("/user/{id}/post/{number}", View, "GET", "post")
    conf = urlconf_of(router)
    count = data.draw(st.integers(0, 2))
    args = tuple(data.draw(values) for _ in range(count))
    query = data.draw(st.dictionaries(st.text("abc", min_size=1), st.text(min_size=1), max_size=2))
    url = reverse(SEPARATE[count], conf, args, query, relative=data.draw(st.booleans()))
    match = resolve(url, conf)
    assert match.view_name == SEPARATE[count]
    assert tuple(match.args) == args


@UNHURRIED
@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)))
def test_a_query_can_be_read_back(query):
    router = SimpleRouter()
    router.register("/user", View, "GET", "users")
    url = reverse("users", urlconf_of(router), (), query)
    found = parse_qs(urlsplit(url).query, strict_parsing=bool(query))
    assert found == {name: [value] for name, value in query.items()}


# The urlconf of the process


@pytest.mark.usefixtures("_no_urlconf")
def test_the_urlconf_of_the_process_is_used_when_none_is_given(conf):
    set_urlconf(conf)
    assert get_urlconf() is conf
    assert get_urlconf("default") is conf
    assert reverse("user", args=[1]) == f"{ROOT}/user/1/"
    assert resolve("/user/1/").view_name == "user"


@pytest.mark.usefixtures("_no_urlconf")
def test_a_given_urlconf_goes_before_that_of_the_process(conf):
    set_urlconf({"path": "ws://other", "urls": [], "routes": {}})
    assert reverse("user", conf, [1]) == f"{ROOT}/user/1/"
    assert resolve("/user/1/", conf).view_name == "user"


@pytest.mark.usefixtures("_no_urlconf")
def test_without_a_urlconf_there_is_the_default_and_a_clear_error():
    default = object()
    assert get_urlconf() is None
    assert get_urlconf(default) is default
    with pytest.raises(LookupError, match="no urlconf"):
        reverse("user")
    with pytest.raises(LookupError, match="no urlconf"):
        resolve("/user/")


def test_a_match_has_no_values_of_its_own_accord():
    match = RouteMatch("name")
    assert (match.view_name, tuple(match.args), match.kwargs) == ("name", (), {})
