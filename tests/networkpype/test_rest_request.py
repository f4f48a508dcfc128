"""RESTMethod and RESTRequest."""

import asyncio
import io
from types import MappingProxyType

import aiohttp
import pytest
from multidict import CIMultiDict

from networkpype.exceptions import InvalidURLError
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest


def test_a_method_reads_as_the_bare_word():
    names = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
    assert [str(method) for method in RESTMethod] == names
    assert [repr(method) for method in RESTMethod] == names
    assert f"{RESTMethod.GET}" == RESTMethod("GET").value == "GET"


def test_fields_and_their_order_are_the_contracts():
    request = RESTRequest(RESTMethod.GET, "u", "e", {"p": 1}, "d", {"h": "1"}, True, "limit")
    assert request == RESTRequest(
        method=RESTMethod.GET,
        url="u",
        endpoint_url="e",
        params={"p": 1},
        data="d",
        headers={"h": "1"},
        is_auth_required=True,
        throttler_limit_id="limit",
    )
    bare = RESTRequest(RESTMethod.GET)
    assert (bare.url, bare.endpoint_url, bare.params, bare.data, bare.headers) == (None,) * 5
    assert (bare.is_auth_required, bare.throttler_limit_id) == (False, None)


@pytest.mark.parametrize(
    "url", [None, "http://user:hunter2@h/p?k=hunter2#hunter2", "/p?k=hunter2", "http://[hunter2"]
)
def test_repr_and_describe_tell_no_secret(url):
    secret = {"k": "hunter2"}
    request = RESTRequest(RESTMethod.GET, url, params=secret, data=secret, headers=secret)
    assert "hunter2" not in repr(request) + request.describe()
    assert repr(request).startswith("RESTRequest(method=GET, url=")


def test_a_copy_can_be_changed_without_changing_the_first():
    request = RESTRequest(
        RESTMethod.GET, "u", params={"l": [1]}, data={"l": [1]}, headers=CIMultiDict(a="1")
    )
    twin = request.copy()
    twin.url = "v"
    twin.params["l"].append(2)
    twin.data["l"].append(2)
    twin.headers["A"] = "2"
    assert (request.url, request.params, request.data) == ("u", {"l": [1]}, {"l": [1]})
    assert request.headers == CIMultiDict(a="1")
    assert RESTRequest(RESTMethod.GET).copy().headers == {}
    frozen = RESTRequest(RESTMethod.GET, headers=MappingProxyType({"a": "1"}))
    frozen.copy().headers["a"] = "2"
    assert frozen.headers == {"a": "1"}


def test_a_copy_shares_a_file_an_iterator_and_a_form():
    for body in (io.BytesIO(b"x"), iter([b"x"]), aiohttp.FormData({"a": "1"}), b"bytes", "text"):
        assert RESTRequest(RESTMethod.POST, data=body).copy().data is body


def test_a_copy_keeps_the_class_of_the_request():
    class Special(RESTRequest):
        pass

    assert type(Special(RESTMethod.GET).copy()) is Special


def test_something_that_is_no_url_is_an_invalid_url_error():
    with pytest.raises(InvalidURLError) as caught:
        RESTRequest(RESTMethod.GET, "http://[bad").wire_url()
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == "Request URL is not a URL."


async def pieces():
    yield b"a"
    yield b"b"


@pytest.mark.parametrize(
    ("data", "body", "content_type"),
    [
        (None, b"", None),
        ("caf\u00e9", "caf\u00e9".encode(), None),
        (b"x", b"x", None),
        (bytearray(b"x"), b"x", None),
        (memoryview(b"x"), b"x", None),
        ({"a": "1 2"}, b"a=1+2", "application/x-www-form-urlencoded"),
        ([("a", "1"), ("a", "2")], b"a=1&a=2", "application/x-www-form-urlencoded"),
        ([1, {"a": None}], b'[1, {"a": null}]', "application/json"),
        ([["a", 1], ["b"]], b'[["a", 1], ["b"]]', "application/json"),
        (io.BytesIO(b"file"), b"file", "application/octet-stream"),
        (aiohttp.FormData({"a": "1"}), b"a=1", "application/x-www-form-urlencoded"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0][:20],
)
def test_freeze_fixes_the_bytes_of_the_body(data, body, content_type):
    async def main() -> None:
        request = RESTRequest(RESTMethod.POST, "http://h/p", data=data)
        _url, frozen = await request.freeze()
        assert frozen == body
        assert request.data == (None if data is None else body)
        assert (request.headers or {}).get("Content-Type") == content_type

    asyncio.run(main())


def test_freeze_reads_an_iterator_and_leaves_a_given_content_type():
    async def main() -> None:
        headers = {"content-type": "text/plain"}
        request = RESTRequest(RESTMethod.POST, "http://h/p", data=pieces(), headers=headers)
        assert (await request.freeze())[1] == b"ab"
        assert request.headers == {"content-type": "text/plain"}

    asyncio.run(main())


def test_freeze_leaves_a_file_where_it_was():
    async def main() -> None:
        file = io.BytesIO(b"0123")
        file.seek(2)
        for _ in range(2):
            request = RESTRequest(RESTMethod.POST, "http://h/p", data=file)
            assert (await request.freeze())[1] == b"23"
            assert (file.closed, file.tell()) == (False, 2)

    asyncio.run(main())


def test_freeze_fixes_the_url_as_it_is_on_the_wire():
    async def main() -> None:
        request = RESTRequest(RESTMethod.GET, "http://h/p?a=1 2#frag", params={"b": "é/+"})
        url, _ = await request.freeze()
        assert str(url) == request.url == "http://h/p?a=1+2&b=%C3%A9/%2B"
        assert request.params is None
        assert str(request.wire_url()) == request.url
        # A second time changes nothing.
        assert (await request.freeze())[0] == url

    asyncio.run(main())
