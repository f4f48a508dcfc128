"""The receive buffer and its overflow policies."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from networkpype.exceptions import BufferOverflowError, ConfigurationError, DisconnectedError
from networkpype.websocket.buffer import Inbox, OverflowPolicy, ReceiveBuffer
from networkpype.websocket.response import WebSocketResponse

Run = Callable[[Any], Any]


def take_all(inbox: Inbox) -> list[Any]:
    """Return the data of what is in the inbox."""
    taken = []
    while (response := inbox.get_nowait()) is not None:
        taken.append(response.data)
    return taken


async def fill(inbox: Inbox, *items: Any) -> None:
    for item in items:
        await inbox.put(WebSocketResponse(item))


def test_messages_come_out_in_the_order_of_arrival(run: Run) -> None:
    """Without overflow nothing is lost or moved."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(max_messages=3))
        await fill(inbox, 1, 2, 3)
        assert take_all(inbox) == [1, 2, 3]
        assert inbox.dropped_count == 0

    run(scenario())


def test_block_waits_for_room(run: Run) -> None:
    """A full buffer holds its filler back until a message is taken."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="block", max_messages=2))
        filler = asyncio.create_task(fill(inbox, 1, 2, 3, 4))
        await asyncio.sleep(0)
        assert not filler.done()
        first = inbox.get_nowait()
        assert first is not None
        assert first.data == 1
        await asyncio.sleep(0)
        assert not filler.done()
        assert take_all(inbox) == [2, 3]
        await filler
        assert take_all(inbox) == [4]
        assert inbox.dropped_count == 0

    run(scenario())


def test_drop_oldest_keeps_the_newest_and_counts(run: Run) -> None:
    """The oldest message makes room, and is counted."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="drop_oldest", max_messages=2))
        await fill(inbox, 1, 2, 3, 4, 5)
        assert inbox.dropped_count == 3
        assert take_all(inbox) == [4, 5]

    run(scenario())


def test_latest_replaces_by_key_in_place(run: Run) -> None:
    """A newer message takes the place of an older one with its key, and keeps its turn."""

    async def scenario() -> None:
        settings = ReceiveBuffer(policy="latest", max_messages=10, key=lambda r: r.data[0])
        inbox = Inbox(settings)
        await fill(inbox, ("a", 1), ("b", 1), ("a", 2), (None, 1), (None, 2))
        assert inbox.dropped_count == 1
        assert take_all(inbox) == [("a", 2), ("b", 1), (None, 1), (None, 2)]

    run(scenario())


def test_latest_makes_room_when_full_of_other_keys(run: Run) -> None:
    """The bound holds for any number of keys."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="latest", max_messages=2, key=lambda r: r.data))
        await fill(inbox, "a", "b", "c", "b")
        assert inbox.dropped_count == 2
        assert take_all(inbox) == ["b", "c"]

    run(scenario())


def test_raise_refuses_what_does_not_fit(run: Run) -> None:
    """A full buffer raises for its filler; what it has stays."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(policy="raise", max_messages=2))
        with pytest.raises(BufferOverflowError, match="2 messages"):
            await fill(inbox, 1, 2, 3)
        assert take_all(inbox) == [1, 2]

    run(scenario())


def test_end_comes_after_the_messages(run: Run) -> None:
    """What arrived before the end is still received; then the first end is raised."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer())
        await fill(inbox, 1)
        inbox.end(KeyError("first"))
        inbox.end(KeyError("second"))
        await fill(inbox, 2)
        assert inbox.get_nowait() == WebSocketResponse(1)
        with pytest.raises(KeyError, match="first"):
            inbox.get_nowait()

    run(scenario())


def test_discard_wakes_both_sides(run: Run) -> None:
    """A filler that waits for room and a receiver are let go; nothing is handed out."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer(max_messages=1))
        filler = asyncio.create_task(fill(inbox, 1, 2))
        await asyncio.sleep(0)
        inbox.discard(DisconnectedError("gone"))
        await filler
        with pytest.raises(DisconnectedError):
            inbox.get_nowait()

        empty = Inbox(ReceiveBuffer())
        receiver = asyncio.create_task(empty.wait())
        await asyncio.sleep(0)
        assert empty.is_receiving
        empty.discard(DisconnectedError("gone"))
        await receiver
        assert not empty.is_receiving

    run(scenario())


def test_cancelled_receiver_takes_nothing(run: Run) -> None:
    """A message that arrives as its receiver is cancelled is there for the next one."""

    async def scenario() -> None:
        inbox = Inbox(ReceiveBuffer())
        receiver = asyncio.create_task(inbox.wait())
        await asyncio.sleep(0)
        await fill(inbox, 1)
        receiver.cancel()
        await asyncio.wait((receiver,))
        assert not inbox.is_receiving
        assert take_all(inbox) == [1]

    run(scenario())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"policy": "newest"}, "known: block, drop_oldest, latest, raise"),
        ({"max_messages": 0}, "at least 1"),
        ({"policy": "latest"}, "key"),
        ({"policy": OverflowPolicy.BLOCK, "key": id}, "key"),
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any], text: str) -> None:
    """A wrong configuration raises where it is made."""
    with pytest.raises(ConfigurationError, match=text):
        ReceiveBuffer(**settings)
