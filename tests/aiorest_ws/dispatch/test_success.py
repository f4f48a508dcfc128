"""How the result of a view is rendered."""

import pytest

from aiorest_ws.exceptions import BaseAPIException, SerializerError
from aiorest_ws.renderers import BaseRenderer, JSONRenderer, XMLRenderer
from aiorest_ws.wrappers import Request
from support.routers import (
    OUR_FAULT,
    UNRENDERABLE,
    Passing,
    ask,
    failure,
    lines,
    raising,
    router_of,
    success,
)


def test_a_format_chooses_the_renderer_of_a_success():
    router = router_of(lambda request: "found", renderers=(JSONRenderer, XMLRenderer))
    assert ask(router, args={"format": "json"}) == success("found")
    assert ask(router, args={"format": "yaml"}) == success("found")
    assert ask(router, args={"format": ["xml"]}) == success("found")
    reply = router.process_request(Request("GET", "/x", {"format": "xml"}, event_name="e"))
    assert b"<root><data>found</data><event_name>e</event_name></root>" in reply


def test_a_failure_is_always_json():
    router = router_of(raising(BaseAPIException("no")), renderers=(XMLRenderer,))
    assert ask(router, args={"format": "xml"}) == failure(400, "no")


def test_a_view_that_takes_format_gets_it_too():
    def view(request, format):
        return format

    router = router_of(view, renderers=(JSONRenderer, XMLRenderer))
    assert b"<data>xml</data>" in router.process_request(Request("GET", "/x", {"format": "xml"}))
    assert ask(router, args={"format": 7}) == success(7)


def test_get_renderer_of_a_view_gets_the_values_and_the_arguments():
    seen = []

    def get_renderer(view, preferred_format, *args, **kwargs):
        seen.append((preferred_format, args, kwargs))
        return JSONRenderer()

    router = router_of(lambda request, value, **arguments: 1, "/x/{id}", get_renderer=get_renderer)
    assert ask(router, url="/x/1", args={"format": "xml", "a": 2}) == success(1)
    assert seen == [("xml", ("1",), {"format": "xml", "a": 2})]


@pytest.mark.logs_errors
@pytest.mark.parametrize("middlewares", [0, 1])
@pytest.mark.parametrize("value", [object(), {"a": 1j}, "\ud800", (item for item in ())])
def test_what_cannot_be_rendered_is_our_fault(value, middlewares, caplog):
    router = router_of(lambda request: value, middlewares=[Passing()] * middlewares)
    assert ask(router, event_name="e") == failure(500, UNRENDERABLE, "e")
    (line,) = lines(caplog)
    assert line.exc_info[0] is SerializerError


@pytest.mark.logs_errors
@pytest.mark.parametrize("middlewares", [0, 1])
def test_renderers_that_are_no_list_are_our_fault(middlewares):
    router = router_of(
        lambda request: 1, renderers=JSONRenderer, middlewares=[Passing()] * middlewares
    )
    reply = ask(router, event_name="e")
    assert reply == failure(500, UNRENDERABLE, "e")


@pytest.mark.logs_errors
def test_a_renderer_that_breaks_is_our_fault():
    class Broken(BaseRenderer):
        def render(self, data):
            raise ZeroDivisionError

    assert ask(router_of(lambda request: 1, renderers=[Broken])) == failure(500, OUR_FAULT)


@pytest.mark.logs_errors
@pytest.mark.parametrize("rendered", ["text", None, {"data": 1}])
def test_a_renderer_that_gives_no_bytes_is_our_fault(rendered):
    class Wordy(BaseRenderer):
        def render(self, data):
            return rendered

    assert ask(router_of(lambda request: 1, renderers=[Wordy])) == failure(500, OUR_FAULT)
