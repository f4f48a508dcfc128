"""Who comes back gets what was missed, exactly once and in order, or is told of a gap."""

import json
import random

import pytest
import pytest_twisted
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from aiorest_ws.limits import Limits
from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import replay
from aiorest_ws.topics.hub import Hub
from aiorest_ws.topics.memory import MemoryBroker
from aiorest_ws.topics.push_queue import PushQueue
from aiorest_ws.topics.subscription import Subscription
from aiorest_ws.transports import install_reactor
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


# One reader, step by step


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


# Anything, in any order


class Machine(RuleBasedStateMachine):
    make_broker = None

    def __init__(self):
        super().__init__()
        reactor = install_reactor()
        self.published = {}
        self.heads = {"t/1": 0, "t/2": 0}
        self.readers = []
        self.checkers = {}
        self.wait(self.begin(reactor))

    @staticmethod
    def wait(work):
        # Hypothesis cannot wait for Deferreds, so it is in a thread of its own.
        return blockingCallFromThread(install_reactor(), ensureDeferred, work)

    @staticmethod
    def call(function, *args):
        return blockingCallFromThread(install_reactor(), function, *args)

    async def begin(self, reactor):
        self.network = NETWORKS[0](reactor)
        self.factory = served(self.make_broker(reactor), push_bytes=PUSH_BYTES)
        self.port = await self.network.serve(factory=self.factory)
        for number in range(3):
            self.readers.append({"number": number, "client": None, "topics": {}})

    def checker(self, reader, topic):
        key = (topic, reader["number"])
        if key not in self.checkers:
            self.checkers[key] = Checker(self.published)
        return self.checkers[key]

    async def connected(self, reader):
        if reader["client"] is None:
            known = set(self.factory.connections)
            reader["client"] = await self.network.connect(self.port)
            await until(lambda: len(self.factory.connections) > len(known))
            [reader["connection"]] = set(self.factory.connections) - known
            reader["topics"] = {}
            reader["is_paused"] = False

    def take(self, reader):
        if reader["client"] is not None:
            assert not take_all(reader["client"], self.checkers)
        for checker in self.checkers.values():
            assert not checker.faults, checker.faults

    readers_and_topics = {
        "number": st.integers(0, 2),
        "topic": st.sampled_from(["t/1", "t/2"]),
    }

    @rule(
        topic=st.sampled_from(["t/1", "t/2"]),
        count=st.integers(1, 20),
        size=st.sampled_from([0, 300]),
    )
    def publish(self, topic, count, size):
        self.wait(self.publish_many(topic, count, size))

    async def publish_many(self, topic, count, size):
        for _ in range(count):
            data = [len(self.published), "x" * size]
            position = await self.factory.publish(topic, data)
            self.published[topic, position.epoch, position.offset] = data
            self.heads[topic] = position.offset

    @rule(**readers_and_topics, meanwhile=st.integers(0, 3), from_start=st.booleans())
    def subscribe(self, number, topic, meanwhile, from_start):
        reader = self.readers[number]
        self.wait(self.connected(reader))
        if not reader["is_paused"]:
            self.wait(self.subscribe_now(reader, topic, meanwhile, from_start))

    async def subscribe_now(self, reader, topic, meanwhile, from_start):
        client = reader["client"]
        checker = self.checker(reader, topic)
        if topic in reader["topics"]:
            await client_asks(client, {"method": "UNSUBSCRIBE", "url": topic}, self.checkers)
            del reader["topics"][topic]
        message = {"method": "SUBSCRIBE", "url": topic, "event_name": reader["number"]}
        if checker.position is not None:
            epoch, offset = checker.position
            if from_start:
                offset = 0
                checker.position = (epoch, 0)
            message["since"] = {"epoch": epoch, "offset": offset}
            # Those that are published while it subscribes may be too many as well.
            checker.may_gap = self.heads[topic] + meanwhile - offset > HISTORY
        client.send(message)
        await self.publish_many(topic, meanwhile, 0)
        answers = []
        for _ in range(2000):
            while client.replies.pending and not answers:
                payload, _ = client.replies.pending.pop(0)
                told = json.loads(payload)
                if "topic" in told:
                    # Of the other topic: none of this one comes before the answer.
                    assert told["topic"] != topic
                    self.checkers[told["topic"], told["event_name"]].take(told)
                else:
                    answers.append(told)
            if answers:
                break
            await deferLater(self.network.reactor, 0.002)
        [answer] = answers
        checker.answered(answer["data"])
        reader["topics"][topic] = None

    @rule(**readers_and_topics)
    def unsubscribe(self, number, topic):
        reader = self.readers[number]
        if reader["client"] is None or reader["is_paused"]:
            return
        asked = {"method": "UNSUBSCRIBE", "url": topic}
        self.wait(client_asks(reader["client"], asked, self.checkers))
        reader["topics"].pop(topic, None)

    @rule(number=st.integers(0, 2))
    def disconnect(self, number):
        reader = self.readers[number]
        if reader["client"] is not None:
            self.call(self.take, reader)
            self.wait(self.part(reader))
            reader["client"] = None

    async def part(self, reader):
        if reader["is_paused"]:
            # Nothing is read from it, so that it is gone would not be seen.
            reader["connection"].dropConnection(abort=True)
        else:
            reader["client"].transport.abortConnection()
        await reader["client"].closed
        await until(lambda: reader["connection"] not in self.factory.connections)

    @rule(number=st.integers(0, 2))
    def pause(self, number):
        reader = self.readers[number]
        if reader["client"] is not None and not reader["is_paused"]:
            reader["is_paused"] = True
            for topic in reader["topics"]:
                self.checker(reader, topic).may_gap = True
            self.call(reader["connection"].pauseProducing)

    @rule(number=st.integers(0, 2))
    def resume(self, number):
        reader = self.readers[number]
        if reader["client"] is not None and reader["is_paused"]:
            reader["is_paused"] = False
            self.call(reader["connection"].resumeProducing)

    @rule(turns=st.integers(1, 3))
    def turn(self, turns):
        for _ in range(turns):
            self.wait(deferred_turn())
        for reader in self.readers:
            self.call(self.take, reader)

    def teardown(self):
        try:
            for number in range(3):
                self.resume(number)
            self.wait(self.all_come_to_the_head())
        finally:
            self.wait(self.network.close())
        hub = self.factory.topics
        assert not hub.names
        assert not hub.broker.followed

    async def all_come_to_the_head(self):
        for topic in ("t/1", "t/2"):
            await self.publish_many(topic, 1, 0)

        def is_done():
            for reader in self.readers:
                self.take(reader)
            return all(
                self.checker(reader, topic).position[1] == self.heads[topic]
                for reader in self.readers
                if reader["client"] is not None
                for topic in reader["topics"]
            )

        await until(is_done)
        await deferLater(self.network.reactor, 0)
        assert is_done()


async def deferred_turn():
    await deferLater(install_reactor(), 0)


async def client_asks(client, message, checkers):
    """Ask; what comes before the reply goes to the checkers."""
    client.send(message)
    for _ in range(2000):
        while client.replies.pending:
            payload, _ = client.replies.pending.pop(0)
            told = json.loads(payload)
            if "topic" not in told:
                return told
            checkers[told["topic"], told["event_name"]].take(told)
        await deferLater(install_reactor(), 0.002)
    raise AssertionError("no answer")


NETWORKS = []


async def run_machine(network, monkeypatch, make_broker):
    monkeypatch.setattr(replay, "REPLAYED_MESSAGES", 3)
    monkeypatch.setattr(replay, "RETRY_SECONDS", 0.002)
    monkeypatch.setitem(globals(), "NETWORKS", [type(network)])
    await deferToThread(
        run_state_machine_as_test,
        type("Machine", (Machine,), {"make_broker": staticmethod(make_broker)}),
        settings=settings(
            max_examples=100,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # To make a failure smaller takes minutes here.
            phases=[Phase.generate],
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.property
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("make_broker", [lambda reactor: "memory", Suspending])
async def test_whatever_happens_each_reader_gets_all_of_it_or_is_told(
    make_broker, network, monkeypatch
):
    await run_machine(network, monkeypatch, make_broker)


@pytest.mark.property
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("planted", ["skip", "twice", "no gap"])
async def test_a_fault_that_is_planted_is_found_among_all_that_happens(
    planted, network, monkeypatch
):
    send, send_gap = Subscription.send, Subscription.send_gap

    def faulty(self, entry):
        if planted == "skip" and entry.offset == self.sent + 1 and entry.offset % 7 == 0:
            self.sent = entry.offset
            return
        send(self, entry)
        if planted == "twice" and entry.offset is not None and entry.offset % 7 == 0:
            self.connection.send_push(self.payload(entry.body), self.is_binary)

    def silent(self, offset):
        if planted != "no gap":
            send_gap(self, offset)
            return
        self.sent, self.has_gap = offset, False

    monkeypatch.setattr(Subscription, "send", faulty)
    monkeypatch.setattr(Subscription, "send_gap", silent)
    found = []
    take = Machine.take

    def noting(self, reader):
        try:
            take(self, reader)
        except AssertionError as exc:
            found.append(str(exc))
            raise

    monkeypatch.setattr(Machine, "take", noting)
    # Sockets have a time of their own: what hypothesis cannot do again in the same way is flaky.
    with pytest.raises((AssertionError, ExceptionGroup, Flaky)):
        await run_machine(network, monkeypatch, lambda reactor: "memory")
    assert any("behind" in faults for faults in found)
