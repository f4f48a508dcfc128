import json

from aiorest_ws import Request
from first_server import router


def call(**message):
    return json.loads(router.process_request(Request(**message)))


def test_greets_by_name():
    reply = call(method="GET", url="/hello/Ada")
    assert reply == {"data": "Hello, Ada!", "event_name": None}


def test_says_that_there_is_no_such_url():
    reply = call(method="GET", url="/goodbye", event_name="parted")
    assert reply["status"] == 404
    assert reply["event_name"] == "parted"
