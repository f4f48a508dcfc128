"""The depth of a message: judged by its brackets alone, once, in time that its size bounds."""

import gc
import json
import sys

import pytest
import pytest_twisted
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept

from aiorest_ws.codecs import MAX_NESTING, decode_message
from aiorest_ws.exceptions import MalformedMessage
from aiorest_ws.utils.websocket import deflate_offer_accept
from support.handshakes import factory_with

TOO_DEEP = "The message is nested deeper than 128 levels."
SIZE = 2**16


def depth(value):
    """Return how deep lists and dicts are nested."""
    deepest, level = 0, [value]
    while level := [one for one in level if isinstance(one, (list, dict))]:
        deepest += 1
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return deepest


# Members of an array that look deeper than they are, or less deep.
DECEIVING = [
    '"' + "[" * 200 + '"',
    '"' + "]" * 200 + '"',
    '"' + "{" * 200 + '\\\\"',
    '"\\\\\\"' + "[" * 200 + '\\""',
    '"\\"]]]]\\\\"',
    '"\\\\","]"',
    '["\\\\\\\\","[[[["]',
    '"\\u005b\\u005d\\u0022"',
    '{"]]]":"[[["}',
    '{"\\"":["\\\\"]}',
    '"","",""',
    '"[","]","","]["',
    "[],{},[[]],{}",
    ",".join(["[]"] * 200),
    ",".join(['["[",{"]":{}}]'] * 100),
]


@pytest.mark.parametrize("inside", DECEIVING)
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"":', "}")])
def test_a_message_is_as_deep_as_its_value(inside, opening, closing):
    own = depth(json.loads(f"[{inside}]"))
    for levels in range(MAX_NESTING - own - 8, MAX_NESTING - own + 8):
        text = f'{{"data":{opening * levels}[{inside}]{closing * levels}}}'
        if levels + own + 1 > MAX_NESTING:
            with pytest.raises(MalformedMessage, match=TOO_DEEP):
                decode_message(text.encode())
        else:
            assert decode_message(text.encode()).data == json.loads(text)["data"]


def calls_to_decode(payload):
    """Return how many functions, each a pass over the text at most, decode a message."""
    calls = 0

    def count(frame, event, function):
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()  # what runs with a collection, of hypothesis for example, would count
    sys.setprofile(count)
    try:
        decode_message(payload)
    except MalformedMessage as exc:
        assert TOO_DEEP in str(exc.detail)  # noqa: PT017  it may be well
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def many(one, before="", after=""):
    """Return a message of SIZE bytes or so."""
    return "".join(
        (
            '{"url":"/a","data":',
            before,
            "[",
            ",".join([one] * (SIZE // (len(one) + 1))),
            "]",
            after,
            "}",
        )
    ).encode()


COSTLY = {
    "deep": many("[" * 120 + "]" * 120),
    "objects": many('{"a":' * 120 + "1" + "}" * 120),
    "strings between": many('["",' * 120 + '"["' + "]" * 120),
    "two by two": many("[[],[]]", "[" * 125, "]" * 125),
    "combs": many("[[],[[],[[],[[],[]]]]]"),
    "further member": many("[" * 120 + "]" * 120)[:-1] + b',"colour":1}',
    "too deep": many("[" * 127 + "]" * 127),
    "too deep event_name": many("[" * 127 + "]" * 127).replace(b"data", b"event_name"),
}
CHEAP = {
    **dict.fromkeys(COSTLY, many('["[",{}]')),
    "further member": many('["[",{}]')[:-1] + b',"colour":1}',
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_deep_message_takes_no_more_passes_than_a_flat_one(name):
    assert calls_to_decode(COSTLY[name]) <= calls_to_decode(CHEAP[name]) + 30


@pytest.mark.parametrize("levels", [MAX_NESTING, MAX_NESTING + 1])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("is_binary", [False, True])
@pytest_twisted.ensureDeferred
async def test_depth_is_judged_however_a_message_comes(network, levels, deflate, is_binary):
    factory = factory_with()
    if deflate:
        factory.setProtocolOptions(perMessageCompressionAccept=deflate_offer_accept)
    client = await network.connect(
        await network.serve(factory=factory),
        perMessageCompressionOffers=[PerMessageDeflateOffer()] if deflate else [],
        perMessageCompressionAccept=PerMessageDeflateResponseAccept,
    )
    assert bool(client.websocket_extensions_in_use) == deflate
    data = "[" * (levels - 1) + "]" * (levels - 1)
    reply = json.loads(
        await client.ask(f'{{"url":"/none","data":{data},"id":7}}'.encode(), is_binary)
    )
    assert reply["status"] == (404 if levels <= MAX_NESTING else 400)
    assert reply["id"] == 7
