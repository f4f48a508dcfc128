"""Readers that come back: what they must get, and a checker of it."""

import json
import random

from twisted.internet.task import deferLater

from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics.memory import MemoryBroker
from support.waiting import until

HISTORY = 12
PUSH_BYTES = 3000


class Suspending(MemoryBroker):
    """A broker as one over a network is: what it is asked for takes some turns of the loop."""

    def __init__(self, reactor):
        super().__init__(reactor.seconds)
        self._loop = reactor
        self._random = random.Random(7)

    async def _pause(self):
        for _ in range(self._random.randrange(3)):
            await deferLater(self._loop, 0)

    async def head(self, topic):
        await self._pause()
        head = await super().head(topic)
        await self._pause()
        return head

    async def replay(self, topic, after, *, messages, size):
        await self._pause()
        replay = await super().replay(topic, after, messages=messages, size=size)
        await self._pause()
        return replay

    async def enter(self, topic, member, info, *, is_announced):
        await self._pause()
        await super().enter(topic, member, info, is_announced=is_announced)
        await self._pause()


class Checker:
    """What one reader of one topic is told, over all of its connections: find what is wrong."""

    def __init__(self, published):
        self._published = published
        self.position = None
        self.faults = []
        self.gaps = 0
        self.may_gap = False
        self.is_owed_a_gap = False

    def answered(self, told):
        place = (told["epoch"], told["offset"])
        if self.position is not None and place != self.position:
            # A gap has to follow, which says this.
            self.is_owed_a_gap = True
            if not self.may_gap:
                self.faults.append(f"the answer {place} is not behind {self.position}")
        self.position = place

    def take(self, push):
        place = (push["epoch"], push["offset"])
        if push.get("gap"):
            if not self.may_gap:
                self.faults.append(f"needless gap {place} behind {self.position}")
            if self.position[0] == place[0] and place[1] < self.position[1]:
                self.faults.append(f"gap back from {self.position} to {place}")
            self.position = place
            self.gaps += 1
            self.is_owed_a_gap = False
            return
        if self.is_owed_a_gap:
            self.faults.append(f"no gap before {place}, and the client was behind")
        if place != (self.position[0], self.position[1] + 1):
            self.faults.append(f"{place} behind {self.position}")
        if self._published.get((push["topic"], *place)) != push["data"]:
            self.faults.append(f"{place} is {push['data']!r}")
        self.position = place


def take_all(client, checkers):
    """Give what has come to the checkers by `event_name`; return the other replies."""
    others = []
    while client.replies.pending:
        payload, _ = client.replies.pending.pop(0)
        message = json.loads(payload)
        if "topic" not in message:
            others.append(message)
        else:
            checkers[message["topic"], message["event_name"]].take(message)
    return others


def served(broker="memory", history=HISTORY, policy="drop_oldest", **limits):
    router = SimpleRouter()
    router.register_topic("t/{name}", history=history, policy=policy)
    return RequestHandlerFactory(router=router, topics=broker, limits=Limits(**limits))


async def session(network, factory, port, checker, since=True):
    """Connect and subscribe; `since` where the checker is."""
    client = await network.connect(port)
    message = {"method": "SUBSCRIBE", "url": "t/1", "event_name": "r"}
    if since and checker.position:
        epoch, offset = checker.position
        message["since"] = {"epoch": epoch, "offset": offset}
    answer = json.loads(await client.ask(message))
    checker.answered(answer["data"])
    return client


async def leave(factory, client):
    before = len(factory.connections)
    client.transport.abortConnection()
    await client.closed
    await until(lambda: len(factory.connections) < before)


class Source:
    def __init__(self, factory):
        self.factory = factory
        self.published = {}

    async def publish(self, count=1, size=0):
        for _ in range(count):
            data = [len(self.published), "x" * size]
            position = await self.factory.publish("t/1", data)
            self.published["t/1", position.epoch, position.offset] = data
        return (position.epoch, position.offset)
