from aiorest_ws import Request
from aiorest_ws.test.utils import override_settings
from first_server import router


@override_settings(COMPACT_JSON=False)
def test_replies_can_have_blanks():
    reply = router.process_request(Request(method="GET", url="/hello"))
    assert reply == b'{"data": "Hello, world!", "event_name": null}'
