"""Resuming: whatever happens in any order, each reader gets all of it or is told."""

import json

import pytest
import pytest_twisted
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from aiorest_ws.topics import replay
from aiorest_ws.topics.subscription import Subscription
from aiorest_ws.transports import install_reactor
from support.replays import (
    HISTORY,
    PUSH_BYTES,
    Checker,
    Suspending,
    served,
    take_all,
)
from support.waiting import until


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
