"""The broker in memory: offsets, epochs, history and members."""

import gc

import pytest

from aiorest_ws.topics import memory
from aiorest_ws.topics.broker import Message, Position, Retention
from aiorest_ws.topics.memory import MemoryBroker

KEPT = Retention(messages=10, bytes=1000, seconds=60)


def run(coroutine):
    """Return what a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("it waits for something")


class Heard:
    def __init__(self):
        self.messages = []
        self.notes = []

    def deliver(self, message):
        self.messages.append((message.topic, message.offset, message.data, message.key))

    def joined(self, topic, member, info):
        self.notes.append(("joined", topic, member, info))

    def left(self, topic, member):
        self.notes.append(("left", topic, member))

    def resync(self):
        raise AssertionError("memory forgets nothing")


class Kept:
    """A broker with a clock of its own."""

    def __init__(self):
        self.now = 1000.0
        self.heard = Heard()
        self.broker = MemoryBroker(lambda: self.now)
        run(self.broker.start(self.heard))

    def publish(self, topic, *many, retention=KEPT, key=None):
        for data in many:
            position = run(
                self.broker.publish(topic, data, key=key, retention=retention, wait_seconds=0)
            )
        return position

    def kept(self, topic, after=None, messages=1000, size=10**9):
        after = after or Position("", 0)
        replay = run(self.broker.replay(topic, after, messages=messages, size=size))
        return [message.offset for message in replay.messages]


@pytest.fixture
def kept():
    return Kept()


def test_offsets_count_from_one_in_each_topic(kept):
    first = kept.publish("a", b"1")
    assert (first.offset, kept.publish("a", b"2", b"3").offset) == (1, 3)
    assert kept.publish("b", b"4", key="k").offset == 1
    assert run(kept.broker.head("a")) == Position(first.epoch, 3)
    assert kept.heard.messages == [
        ("a", 1, b"1", None),
        ("a", 2, b"2", None),
        ("a", 3, b"3", None),
        ("b", 1, b"4", "k"),
    ]


def test_a_topic_that_nobody_has_heard_of_is_at_0(kept):
    head = run(kept.broker.head("new"))
    assert head.offset == 0
    assert kept.publish("new", b"1") == Position(head.epoch, 1)


def test_epochs_of_different_brokers_differ():
    assert run(Kept().broker.head("a")).epoch != run(Kept().broker.head("a")).epoch


@pytest.mark.parametrize(
    ("retention", "offsets"),
    [
        (Retention(3, 1000, 60), [8, 9, 10]),
        (Retention(0, 1000, 60), []),
        (Retention(100, 4 * 7, 60), [7, 8, 9, 10]),
        (Retention(100, 4 * 7 - 1, 60), [8, 9, 10]),
        (Retention(100, 6, 60), []),
    ],
)
def test_history_is_kept_by_count_and_by_bytes(kept, retention, offsets):
    kept.publish("a", *[b"1234567"] * 10, retention=retention)
    assert kept.kept("a") == offsets
    assert run(kept.broker.head("a")).offset == 10


def test_history_is_kept_by_seconds_of_the_brokers_clock(kept):
    kept.publish("a", b"1")
    kept.now += 40
    kept.publish("a", b"2")
    kept.now += 20
    assert kept.kept("a") == [1, 2]
    kept.now += 0.5
    assert kept.kept("a") == [2]
    kept.now += 60
    assert kept.kept("a") == []
    # What is gone takes no room.
    kept.publish("a", b"12345", retention=Retention(256, 5, 60))
    assert kept.kept("a") == [3]


def test_a_replay_begins_behind_what_is_known_and_has_a_size(kept):
    epoch = kept.publish("a", *[b"12345"] * 8).epoch
    assert kept.kept("a", Position(epoch, 5)) == [6, 7, 8]
    assert kept.kept("a", Position(epoch, 8)) == []
    assert kept.kept("a", Position(epoch, 0), messages=2) == [1, 2]
    assert kept.kept("a", Position(epoch, 0), size=14) == [1, 2]
    assert kept.kept("a", Position(epoch, 0), size=15) == [1, 2, 3]
    assert kept.kept("a", Position(epoch, 3), size=1) == [4]  # one, whatever its size
    everything = list(range(1, 9))
    assert kept.kept("a", Position(epoch, 9)) == everything  # ahead
    assert kept.kept("a", Position("other", 3)) == everything


def test_a_message_repeats_its_data_byte_by_byte():
    message = Message('a"/é', "e", 7, b'{"x":"}"}')
    assert message.data == b'{"x":"}"}'
    assert message.size == len(message.data)
    assert message.body == '"topic":"a\\"/é","epoch":"e","offset":7,"data":{"x":"}"}}'.encode()


def test_what_is_idle_is_freed_and_comes_back_in_another_epoch(kept):
    before = kept.publish("a", b"1")
    kept.now += 60
    kept.broker.sweep()
    assert "a" in kept.broker.names
    kept.now += 0.5
    kept.broker.sweep()
    assert not kept.broker.names
    after = kept.publish("a", b"2")
    assert after.offset == 1
    assert after.epoch != before.epoch


def test_what_is_followed_or_has_members_keeps_its_epoch(kept):
    broker = kept.broker
    epoch = kept.publish("a", b"1").epoch
    broker.follow("a", KEPT)
    kept.now += 1000
    broker.sweep()
    assert run(broker.head("a")) == Position(epoch, 1)
    run(broker.enter("a", "m", b"null", is_announced=False))
    broker.unfollow("a")
    kept.now += 1000
    broker.sweep()
    assert run(broker.head("a")) == Position(epoch, 1)
    run(broker.leave("a", "m"))
    kept.now += 1000
    broker.sweep()
    assert not broker.names


def test_who_has_just_left_can_come_back_to_the_same_epoch(kept):
    epoch = kept.publish("a", b"1").epoch
    kept.broker.follow("a", KEPT)
    kept.now += 1000
    kept.broker.unfollow("a")
    kept.now += 59
    kept.broker.sweep()
    assert run(kept.broker.head("a")) == Position(epoch, 1)


def test_names_that_are_only_asked_for_are_not_kept(kept):
    for number in range(5000):
        name = f"a/{number}"
        kept.broker.follow(name, KEPT)
        run(kept.broker.enter(name, "m", b"null", is_announced=False))
        kept.broker.unfollow(name)
        run(kept.broker.leave(name, "m"))
        run(kept.broker.leave(name, "never there"))
        assert len(kept.broker.names) <= 1
    kept.broker.sweep()
    assert not kept.broker.names


def test_who_knows_of_a_topic_without_messages_has_missed_nothing_in_it(kept):
    kept.broker.follow("a", KEPT)
    head = run(kept.broker.head("a"))
    kept.broker.unfollow("a")
    kept.broker.sweep()
    assert not kept.broker.names
    assert run(kept.broker.head("a")) == head


def test_an_epoch_never_comes_back_with_other_messages(kept):
    seen = set()
    for _ in range(5):
        epoch = kept.publish("a", b"1").epoch
        assert epoch not in seen
        seen.add(epoch)
        run(kept.broker.head("asked for"))
        kept.now += 1000
        kept.broker.sweep()


def test_a_sweep_looks_at_a_part_of_many_topics_and_comes_to_all(kept, monkeypatch):
    monkeypatch.setattr(memory, "MIN_SWEPT_TOPICS", 10)
    for number in range(100):
        kept.publish(f"a/{number}", b"1")
    kept.now += 1000
    kept.broker.sweep()
    assert len(kept.broker.names) == 90
    for _ in range(10):
        kept.broker.sweep()
    assert not kept.broker.names


def test_a_sweep_lets_go_of_old_messages_of_a_topic_that_is_followed(kept):
    def in_memory():
        gc.collect()
        messages = [one for one in gc.get_objects() if isinstance(one, Message)]
        return [one.offset for one in messages if one.topic == "swept"]

    kept.broker.follow("swept", KEPT)
    kept.publish("swept", b"1", b"2")
    assert sorted(in_memory()) == [1, 2]
    kept.now += 61
    kept.broker.sweep()
    assert in_memory() == []
    assert run(kept.broker.head("swept")).offset == 2


def test_members_come_and_go_and_only_what_is_announced_is_told(kept):
    broker = kept.broker
    run(broker.enter("a", "m1", b"1", is_announced=True))
    run(broker.enter("a", "m2", b"2", is_announced=False))
    assert run(broker.members("a")) == {"m1": b"1", "m2": b"2"}
    assert run(broker.members("b")) == {}
    run(broker.leave("a", "m2"))
    run(broker.leave("a", "m1"))
    run(broker.leave("a", "m1"))
    assert run(broker.members("a")) == {}
    assert kept.heard.notes == [("joined", "a", "m1", b"1"), ("left", "a", "m1")]


def test_a_broker_that_has_stopped_tells_nobody(kept):
    run(kept.broker.stop())
    assert kept.publish("a", b"1").offset == 1
    assert not kept.heard.messages
