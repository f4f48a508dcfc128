"""What RESTManager sends: bodies, content types and query parameters."""

import io
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, MultiDict

from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.base import RESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import RateLimit
from networkpype.throttler.throttler import AsyncThrottler

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def make_factory(limit: int = 10_000, **options: Any) -> ConnectionManagersFactory:
    throttler = AsyncThrottler([RateLimit("any", limit, 60.0)], safety_margin_pct=0.0)
    return ConnectionManagersFactory(throttler, **options)


class Mark(RESTPreProcessor):
    """Change everything that can be changed."""

    async def pre_process(self, request: RESTRequest) -> RESTRequest:
        request.headers["X-Mark"] = "1"
        if isinstance(request.params, dict):
            request.params["mark"] = "1"
        if isinstance(request.data, dict):
            request.data["mark"] = "1"
        request.url = request.url or request.endpoint_url
        return request


async def numbers():
    for number in range(3):
        yield f"{number}".encode()


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ({"a": 1, "none": None, "deep": {"none": None}}, b'{"a": 1, "deep": {"none": null}}'),
        ({}, b"{}"),
        ({"none": None}, b"{}"),
        ([1, None, {"a": 2}], b'[1, null, {"a": 2}]'),
        ([], b"[]"),
        ((1, 2), b"[1, 2]"),
        ("caf\u00e9", "caf\u00e9".encode()),
        ("", b""),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"xy"), b"xy"),
        (None, b""),
        ("x" * (2**20 + 1), b"x" * (2**20 + 1)),
        (b"x" * (2**20 + 1), b"x" * (2**20 + 1)),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}",
)
@pytest.mark.parametrize("method", [RESTMethod.POST, RESTMethod.GET, RESTMethod.DELETE])
def test_a_body_arrives_as_it_was_given(run, serve, method, data, sent):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            await manager.execute_request(server.url(), "any", data=data, method=method)
            assert server.seen[0]["body"] == sent
            assert server.seen[0]["method"] == str(method)

    run(main())


def test_files_iterators_and_forms_are_sent_as_they_are(run, serve, tmp_path):
    path = tmp_path / "upload.bin"
    path.write_bytes(b"0123456789" * 20_000)
    form = aiohttp.FormData()
    form.add_field("name", "value")
    form.add_field("file", io.BytesIO(b"content"), filename="f.txt")

    async def main() -> None:
        async with serve() as server, make_factory(rest_pre_processors=[Mark()]) as factory:
            manager = await factory.get_rest_manager()

            async def post(data: Any) -> dict[str, Any]:
                await manager.execute_request(
                    server.url(), "any", data=data, method=RESTMethod.POST
                )
                return server.seen[-1]

            with path.open("rb") as file:
                file.seek(10)
                seen = await post(file)
                assert seen["body"] == path.read_bytes()[10:]
                assert seen["headers"]["Content-Length"] == str(199_990)
                assert not file.closed
            assert (await post(io.BytesIO(b"memory")))["body"] == b"memory"
            seen = await post(numbers())
            assert (seen["body"], seen["headers"]["Transfer-Encoding"]) == (b"012", "chunked")
            seen = await post(form)
            assert seen["headers"]["Content-Type"].startswith("multipart/form-data; boundary=")
            assert b"content" in seen["body"]

    run(main())


@pytest.mark.parametrize("method", list(RESTMethod))
def test_the_default_content_type(run, serve, method):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            await manager.execute_request(server.url(), "any", method=method)
            expected = JSON if method in (RESTMethod.POST, RESTMethod.PUT) else FORM
            assert server.seen[0]["headers"].getall("Content-Type") == [expected]

    run(main())


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
@pytest.mark.parametrize("kind", [dict, CIMultiDict])
def test_the_callers_headers_win(run, serve, name, kind):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            headers = kind({name: "text/csv", "X-Other": "1"})
            await manager.execute_request(
                server.url(), "any", data="a,b", method=RESTMethod.POST, headers=headers
            )
            seen = server.seen[0]["headers"]
            assert seen.getall("Content-Type") == ["text/csv"]
            assert seen["X-Other"] == "1"
            assert headers == kind({name: "text/csv", "X-Other": "1"})

    run(main())


@pytest.mark.parametrize(
    ("params", "query"),
    [
        (
            {"a": 1, "none": None, "b": "x y", "c": "é/+", "l": [1, 2]},
            "a=1&b=x+y&c=%C3%A9/%2B&l=1&l=2",
        ),
        ({"none": None}, ""),
        ({}, ""),
        (None, ""),
        ([("a", 1), ("a", None), ("a", 2)], "a=1&a=2"),
        (MultiDict([("a", "1"), ("a", "2")]), "a=1&a=2"),
        ("raw=1&b=2", "raw=1&b=2"),
    ],
)
def test_params_are_sent_without_none(run, serve, params, query):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            await manager.execute_request(server.url(), "any", params=params)
            assert server.seen[0]["query"] == query

    run(main())


def test_params_join_the_query_of_the_url_and_encoded_leaves_it_alone(run, serve):
    async def main() -> None:
        async with serve() as server, make_factory() as factory:
            manager = await factory.get_rest_manager()
            url = server.url("/x?a=%2F")
            await manager.execute_request(url, "any", params={"b": "1"})
            await manager.execute_request(url, "any", params={"b": "1"}, encoded=True)
            assert [seen["query"] for seen in server.seen] == ["a=/&b=1", "a=%2F&b=1"]

    run(main())
