"""A line for each reply, where one is asked for, and what a line may say."""

import json
import logging
import re

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.transports import install_reactor


@endpoint("/hello", "GET")
def hello(request):
    return "hello"


@endpoint("/later", "GET")
async def later(request):
    await deferLater(install_reactor(), 0.01)
    return "later"


@endpoint("/large", "GET")
def large(request):
    return "x" * 2000


@endpoint("/broken", "GET")
def broken(request):
    raise ValueError(request.log_id)


def served(**options):
    router = SimpleRouter()
    for function in (hello, later, large, broken):
        router.register_endpoint(function)
    return RequestHandlerFactory(router=router, **options)


def lines_of(caplog):
    return [record for record in caplog.records if record.name == "aiorest-ws.access"]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("message", "asked", "status", "size"),
    [
        ({"method": "GET", "url": "/hello"}, "<Request 'GET' '/hello'>", 200, 34),
        ({"method": "GET", "url": "/later"}, "<Request 'GET' '/later'>", 200, 34),
        ({"method": "GET", "url": "/nowhere"}, "<Request 'GET' '/nowhere'>", 404, 99),
        ({"method": "GET", "url": "/large"}, "<Request 'GET' '/large'>", 413, 70),
        ({"method": "GET", "url": "/hello?token=s3cr3t"}, "<Request 'GET' '/hello?...'>", 400, 83),
        (b"[]", "None", 400, 81),
    ],
)
@pytest_twisted.ensureDeferred
async def test_each_reply_is_a_line(network, caplog, binary, message, asked, status, size):
    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = served(access_log=True, limits=Limits(message_bytes=1000))
    client = await network.connect(await network.serve(factory=factory))
    if isinstance(message, dict):
        message |= {"token": "s3cr3t", "args": None, "data": "s3cr3t", "event_name": None}
    answer = await client.ask(message, binary)
    [line] = lines_of(caplog)
    peer = f"tcp4:127.0.0.1:{client.transport.getHost().port}"
    expected = (
        rf"{peer} ([0-9a-f]{{12}}|-) {re.escape(asked)} {status} {len(answer)} bytes \d+\.\d ms"
    )
    assert re.fullmatch(expected, line.getMessage())
    assert line.status == status
    assert line.bytes == len(answer)
    assert line.peer == peer
    assert line.event == "reply"
    assert line.milliseconds >= (9 if "later" in asked else 0)
    assert "s3cr3t" not in caplog.text


@pytest_twisted.ensureDeferred
async def test_without_it_there_is_no_line_and_replies_take_the_short_way(network, caplog):
    caplog.set_level(logging.DEBUG)
    factory = served()
    client = await network.connect(await network.serve(factory=factory))
    await client.ask({"method": "GET", "url": "/hello"})
    assert not lines_of(caplog)
    [connection] = factory.connections
    assert connection._reply_limit > 0


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_failure_of_ours_has_the_name_of_its_request_in_both_lines(network, caplog):
    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = served(access_log=True)
    client = await network.connect(await network.serve(factory=factory))
    assert json.loads(await client.ask({"method": "GET", "url": "/broken"}))["status"] == 500
    [line] = lines_of(caplog)
    [error] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.request_id == error.request_id == str(error.exc_info[1])
    assert error.peer == line.peer
    assert error.event == "failure"


def test_an_application_passes_it_on():
    router = SimpleRouter()
    assert Application(router=router, access_log=True).generate_factory().access_log
    assert not Application(router=router).generate_factory().access_log


@pytest.mark.logs_errors
@pytest_twisted.ensureDeferred
async def test_a_failure_that_cannot_be_encoded_is_logged_as_what_is_sent(network, caplog):
    class Breaking(RequestHandlerProtocol):
        def _encode_message(self, response, isBinary=False):
            raise ValueError("the application's")

    caplog.set_level(logging.INFO, "aiorest-ws")
    factory = served(access_log=True)
    factory.protocol = Breaking
    client = await network.connect(await network.serve(factory=factory))
    assert json.loads(await client.ask(b"[]"))["status"] == 500
    assert [line.status for line in lines_of(caplog)] == [500]
