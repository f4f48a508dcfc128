"""The table of annotations and values: what a view gets, and what a client is told."""

import json

import pytest
import pytest_twisted

from aiorest_ws import Data, Request, SimpleRouter
from aiorest_ws.contract.bodies import STRAIGHT_BYTES
from support.contracts import CASES, reply_of

IDS = [f"{index}-{text[:30]}" for index, (_, text, _) in enumerate(CASES)]


def serving(annotations):
    """A router with a view for each annotation, at `/0`, `/1`, ..., that returns its `data`."""
    router = SimpleRouter()
    for index, annotation in enumerate(annotations):

        def view(request: Request, value: Data[annotation]):
            return value

        router.post(f"/{index}")(view)
    return router


def message(index, text, blanks=""):
    return f'{{"method": "POST", "url": "/{index}", "data": {text}{blanks}}}'.encode()


def replied(router, payload):
    reply = json.loads(router.process_request(router.decode(payload)))
    assert reply.pop("event_name") is None
    return reply


@pytest.mark.parametrize(("annotation", "text", "expected"), CASES, ids=IDS)
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_value_is_made_or_refused_in_our_words(annotation, text, expected, size):
    blanks = " " * STRAIGHT_BYTES if size == "large" else ""
    router = serving([annotation])
    assert replied(router, message(0, text, blanks)) == reply_of(expected)


def test_the_table_has_at_least_150_cases():
    assert len({(str(annotation), text) for annotation, text, _ in CASES}) >= 150


@pytest_twisted.ensureDeferred
async def test_over_a_socket_small_and_large_and_binary_messages_are_answered_alike(network):
    annotations = [annotation for annotation, _, _ in CASES]
    client = await network.connect(await network.serve(serving(annotations)))
    wrong = []
    for index, (_, text, expected) in enumerate(CASES):
        wanted = {**reply_of(expected), "event_name": None}
        for blanks, binary in (("", False), (" " * STRAIGHT_BYTES, False), (" " * 9000, True)):
            reply = json.loads(await client.ask(message(index, text, blanks), binary))
            if reply != wanted:
                wrong.append((text, reply))
    assert wrong == []
