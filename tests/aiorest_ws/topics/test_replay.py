"""Who comes back gets what was missed, exactly once and in order, or is told of a gap."""

import json

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from aiorest_ws.topics import replay
from aiorest_ws.topics.hub import Hub
from aiorest_ws.topics.memory import MemoryBroker
from aiorest_ws.topics.push_queue import PushQueue
from aiorest_ws.topics.subscription import Subscription
from aiorest_ws.transports import install_reactor
from support.replays import (
    HISTORY,
    PUSH_BYTES,
    Checker,
    Source,
    Suspending,
    leave,
    served,
    session,
    take_all,
)
from support.waiting import until

# One reader, step by step


@pytest.fixture(params=["memory", "suspending"])
def broker(request):
    return "memory" if request.param == "memory" else Suspending(install_reactor())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("missed", [0, 1, 5, HISTORY])
async def test_what_history_reaches_back_to_is_replayed_then_it_is_live(network, broker, missed):
    factory = served(broker)
    source = Source(factory)
    checker = Checker(source.published)
    port = await network.serve(factory=factory)
    client = await session(network, factory, port, checker)
    head = await source.publish(3)
    await until(lambda: len(client.replies.pending) == 3)
    take_all(client, {("t/1", "r"): checker})
    await leave(factory, client)
    for _ in range(missed):
        head = await source.publish()
    client = await session(network, factory, port, checker)
    await source.publish()
    head = await source.publish()
    await until(lambda: len(client.replies.pending) == missed + 2)
    take_all(client, {("t/1", "r"): checker})
    assert (checker.faults, checker.gaps, checker.position) == ([], 0, head)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("history", "missed"), [(HISTORY, HISTORY + 1), (HISTORY, 40), (0, 1), (1, 2)]
)
async def test_what_history_does_not_reach_back_to_is_a_gap_of_just_that(
    network, broker, history, missed
):
    factory = served(broker, history=history)
    source = Source(factory)
    checker = Checker(source.published)
    port = await network.serve(factory=factory)
    epoch, offset = await source.publish()
    checker.position = (epoch, offset)
    head = await source.publish(missed)
    checker.may_gap = True
    client = await session(network, factory, port, checker)
    assert checker.position == (epoch, head[1] - history)
    await until(lambda: len(client.replies.pending) == history + 1)
    first = json.loads(client.replies.pending[0][0])
    assert (first["gap"], first["offset"]) == (True, head[1] - history)
    take_all(client, {("t/1", "r"): checker})
    assert (checker.faults, checker.gaps, checker.position) == ([], 1, head)
    head = await source.publish()
    await until(lambda: client.replies.pending)
    take_all(client, {("t/1", "r"): checker})
    assert (checker.faults, checker.gaps, checker.position) == ([], 1, head)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("since", ["another epoch", "ahead"])
async def test_a_place_that_is_not_known_is_a_gap_and_then_all_that_is_kept_or_comes(
    network, broker, since
):
    factory = served(broker)
    source = Source(factory)
    port = await network.serve(factory=factory)
    epoch, head = await source.publish(3)
    checker = Checker(source.published)
    checker.may_gap = True
    checker.position = ("gone", 1) if since == "another epoch" else (epoch, 50)
    client = await session(network, factory, port, checker)
    kept = 3 if since == "another epoch" else 0
    assert checker.position == (epoch, head - kept)
    last = await source.publish()
    await until(lambda: len(client.replies.pending) == 1 + kept + 1)
    first = json.loads(client.replies.pending[0][0])
    assert (first["gap"], first["epoch"], first["offset"]) == (True, epoch, head - kept)
    take_all(client, {("t/1", "r"): checker})
    assert (checker.faults, checker.gaps, checker.position) == ([], 1, last)


@pytest_twisted.ensureDeferred
async def test_a_topic_that_was_freed_meanwhile_is_a_gap(network):
    clock = [0.0]
    factory = served(MemoryBroker(lambda: clock[0]))
    source = Source(factory)
    checker = Checker(source.published)
    port = await network.serve(factory=factory)
    checker.position = await source.publish(3)
    clock[0] = 1000
    factory.topics.broker.sweep()
    assert not factory.topics.broker.names
    checker.may_gap = True
    client = await session(network, factory, port, checker)
    head = await source.publish()
    await until(lambda: len(client.replies.pending) == 2)
    take_all(client, {("t/1", "r"): checker})
    assert (checker.faults, checker.gaps, checker.position) == ([], 1, head)


@pytest_twisted.ensureDeferred
async def test_a_replay_goes_at_the_pace_of_its_client(network, monkeypatch):
    monkeypatch.setattr(replay, "REPLAYED_MESSAGES", 2)
    factory = served(history=100, push_bytes=1000)
    source = Source(factory)
    checker = Checker(source.published)
    port = await network.serve(factory=factory)
    epoch, _ = await source.publish(50, size=400)
    checker.position = (epoch, 0)
    client = await session(network, factory, port, checker)
    [connection] = factory.connections
    connection.pauseProducing()
    sent = connection.trafficStats.outgoingWebSocketMessages
    head = await source.publish(20, size=400)
    for _ in range(20):
        await deferLater(network.reactor, 0)
    assert connection.trafficStats.outgoingWebSocketMessages == sent
    assert not connection.topic_subscriptions.queued_bytes
    connection.resumeProducing()
    await until(lambda: len(client.replies.pending) == 70)
    take_all(client, {("t/1", "r"): checker})
    assert (checker.faults, checker.gaps, checker.position) == ([], 0, head)


# The checker finds what it is there for


async def scenario(network, monkeypatch):
    """Live, slow, away and back; return what the checker has found."""
    monkeypatch.setattr(replay, "REPLAYED_MESSAGES", 2)
    factory = served(push_bytes=PUSH_BYTES)
    source = Source(factory)
    checker = Checker(source.published)
    checkers = {("t/1", "r"): checker}
    port = await network.serve(factory=factory)

    async def come_to(head):
        for _ in range(200):
            take_all(client, checkers)
            if checker.position == head or checker.faults:
                return
            await deferLater(network.reactor, 0.005)
        checker.faults.append(f"{head} was never reached, only {checker.position}")

    client = await session(network, factory, port, checker)
    await come_to(await source.publish(6))
    [connection] = factory.connections
    connection.pauseProducing()
    checker.may_gap = True
    head = await source.publish(30, size=300)
    connection.resumeProducing()
    await come_to(head)
    assert checker.gaps or checker.faults
    checker.may_gap = False
    await leave(factory, client)
    await source.publish(6)
    client = await session(network, factory, port, checker)
    await come_to(await source.publish(3))
    return checker.faults


@pytest_twisted.ensureDeferred
async def test_the_checker_finds_nothing_in_what_is_right(network, monkeypatch):
    assert await scenario(network, monkeypatch) == []


@pytest_twisted.ensureDeferred
async def test_the_checker_finds_an_offset_that_is_skipped(network, monkeypatch):
    fan_out = Hub._fan_out

    def skipping(self, topic, message):
        if message.offset != 4:
            fan_out(self, topic, message)
            return
        for subscription in topic.subscriptions:
            subscription.sent = 4

    monkeypatch.setattr(Hub, "_fan_out", skipping)
    assert await scenario(network, monkeypatch)


@pytest_twisted.ensureDeferred
async def test_the_checker_finds_a_replay_behind_the_first_live_message(network, monkeypatch):
    start_pushes = Hub.start_pushes

    def start_live(self, subscription):
        topic = self._topics[subscription.name]
        if topic.is_at(subscription):
            start_pushes(self, subscription)
            return
        subscription.is_started = True
        late = subscription.batch.messages
        topic.start_live(subscription)
        subscription.sent = topic.seen

        def send_late():
            for message in late:
                subscription.connection.send_push(subscription.payload(message.body), False)

        deferLater(install_reactor(), 0.01).addCallback(lambda _: send_late())

    monkeypatch.setattr(Hub, "start_pushes", start_live)
    assert await scenario(network, monkeypatch)


@pytest_twisted.ensureDeferred
async def test_the_checker_finds_what_is_dropped_without_a_gap(network, monkeypatch):
    monkeypatch.setattr(Subscription, "send_gap", lambda self, offset: None)
    assert await scenario(network, monkeypatch)


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_the_checker_finds_a_gap_that_nobody_is_told_of_at_the_end(network, monkeypatch):
    drop_one = PushQueue._drop_one

    def drop_last(self):
        # The newest instead of the oldest, and nothing is owed for it.
        for one in self._queueing:
            _, entry = one.waiting.popitem()
            self._count(one, entry, -1)
            return True
        return drop_one(self)

    monkeypatch.setattr(PushQueue, "_drop_one", drop_last)
    assert await scenario(network, monkeypatch)


@pytest_twisted.ensureDeferred
async def test_the_checker_finds_what_comes_twice(network, monkeypatch):
    send = Subscription.send

    def twice(self, entry):
        send(self, entry)
        if entry.offset == 38:  # one of those that are replayed
            self.connection.send_push(self.payload(entry.body), False)

    monkeypatch.setattr(Subscription, "send", twice)
    assert await scenario(network, monkeypatch)
