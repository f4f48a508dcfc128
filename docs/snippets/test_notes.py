import asyncio
import json
from types import SimpleNamespace

import pytest
from twisted.internet.defer import succeed

from aiorest_ws import Request
from notes import app, router


class FakePool:
    """Holds one note."""

    def runQuery(self, sql, parameters=()):
        return succeed([(1, "buy milk")] if parameters in ((), ("1",)) else [])


async def call(**message):
    request = Request(**message)
    request.factory = SimpleNamespace(pool=FakePool())
    return json.loads(await router.process_request(request))


@pytest.mark.parametrize("url", ["/notes/2", "/notes/x"])
def test_an_unknown_note_is_a_404(url):
    assert asyncio.run(call(method="GET", url=url))["status"] == 404


def test_a_note_is_found_by_its_number():
    reply = asyncio.run(call(method="GET", url="/notes/1"))
    assert reply["data"] == {"id": 1, "text": "buy milk"}


def test_the_application_serves_the_router():
    assert app.router is router
