"""Topics in memory, without a server: positions, history, members, and what is freed."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import memory
from aiorest_ws.topics.broker import Message, Position, Retention
from aiorest_ws.topics.memory import MemoryBroker
from aiorest_ws.topics.names import Pattern, check_name, is_name

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
    assert kept.broker._topics["a"].size == 0


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
    assert "a" in kept.broker._topics
    kept.now += 0.5
    kept.broker.sweep()
    assert not kept.broker._topics
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
    assert not broker._topics


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
        assert len(kept.broker._topics) <= 1
    kept.broker.sweep()
    assert not kept.broker._topics


def test_who_knows_of_a_topic_without_messages_has_missed_nothing_in_it(kept):
    kept.broker.follow("a", KEPT)
    head = run(kept.broker.head("a"))
    kept.broker.unfollow("a")
    kept.broker.sweep()
    assert not kept.broker._topics
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
    assert len(kept.broker._topics) == 90
    for _ in range(10):
        kept.broker.sweep()
    assert not kept.broker._topics


def test_a_sweep_lets_go_of_old_messages_of_a_topic_that_is_followed(kept):
    kept.broker.follow("a", KEPT)
    kept.publish("a", b"1", b"2")
    kept.now += 61
    kept.broker.sweep()
    assert not kept.broker._topics["a"].kept
    assert run(kept.broker.head("a")).offset == 2


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


# Names

SEGMENTS = st.text(
    st.characters(exclude_characters="/{}*?[]", exclude_categories=["Cs", "Z", "C"]),
    min_size=1,
    max_size=40,
)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


@given(NAMES)
def test_a_name_of_segments_is_a_name_up_to_200_bytes(name):
    assert is_name(name) == (len(name.encode()) <= 200)


@given(NAMES, st.sampled_from([*"{}*?[] \t\n\r\x00\x1f\x7f\u2003\x85\u2028"]), st.integers(0, 50))
def test_a_name_has_no_blanks_nor_marks_of_patterns(name, mark, where):
    assert not is_name(name[:where] + mark + name[where:])


@pytest.mark.parametrize("name", ["", "/", "/a", "a/", "a//b", "a\n", "é" * 101, "x" * 201])
def test_what_is_no_name_is_refused_with_a_reason(name):
    assert not is_name(name)
    with pytest.raises(ValueError, match="cannot be the name of a topic"):
        check_name(name)


@pytest.mark.parametrize("name", [None, 7, b"a"])
def test_only_a_string_is_a_name(name):
    with pytest.raises(ValueError, match="cannot be the name"):
        check_name(name)


@given(NAMES, NAMES, NAMES)
@example("a", "b", "c.+")
def test_a_pattern_matches_what_its_parameters_make_of_it(before, value, after):
    text = f"{before}/{{one}}/{after}"
    assume(is_name(f"{before}/x/{after}"))
    pattern = Pattern(text)
    values = pattern.match(f"{before}/{value}/{after}")
    if "/" in value or not is_name(f"{before}/{value}/{after}"):
        assert values is None or values["one"] != value
    else:
        assert values == {"one": value}


@given(NAMES)
def test_a_pattern_without_parameters_matches_itself_only(name):
    if not is_name(name) or not is_name(name + "x"):
        return
    assert Pattern(name).match(name) == {}
    assert Pattern(name).match(name + "x") is None
    assert Pattern(name + "x").match(name) is None


def test_a_parameter_is_a_part_of_one_segment():
    pattern = Pattern("a/{x}-{y}/c")
    assert pattern.match("a/1-2/c") == {"x": "1", "y": "2"}
    for name in ("a/1-/c", "a/-/c", "a/1-2/3/c", "a/1/2/c", "b/1-2/c", "a/1-2/cc", "a/1-2/c/"):
        assert pattern.match(name) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "a b",
        "{}",
        "a/{x",
        "a/x}",
        "{1x}",
        "{x}/{x}",
        "{x y}",
        "a/*",
        "{x/y}",
    ],
)
def test_a_pattern_that_can_match_nothing_cannot_be_registered(text):
    with pytest.raises(ValueError, match=r"cannot be the name|not a valid parameter name|twice"):
        SimpleRouter().register_topic(text)


# Registration


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (ValueError, {"policy": "drop"}, "policy must be one of block, drop_oldest"),
        (ValueError, {"policy": None}, "policy must be one of"),
        (ValueError, {"history": -1}, "history must be a number of messages, not -1"),
        (ValueError, {"history": True}, "history must be"),
        (ValueError, {"history": 1.5}, "history must be"),
        (TypeError, {"on_subscribe": "f"}, "on_subscribe must be callable, not 'f'"),
        (TypeError, {"permission_classes": [object]}, "has no check()"),
        (TypeError, {"pattern": 7}, "a topic must be a string, not 7"),
    ],
)
def test_what_cannot_be_registered_is_told_at_once(kind, options, words):
    router = SimpleRouter()
    with pytest.raises(kind, match=re.escape(words)):
        router.register_topic(**{"pattern": "a", **options})
    assert not len(router.topics)


@pytest.mark.parametrize("text", ["a", "a/{x}"])
def test_a_topic_is_registered_once(text):
    router = SimpleRouter()
    router.register_topic(text)
    with pytest.raises(ValueError, match="registered already"):
        router.register_topic(text)


def test_a_name_comes_before_a_family_then_the_order_of_registration():
    router = SimpleRouter()
    for text in ("a/{x}", "a/{y}", "{z}/b", "a/b"):
        router.register_topic(text)
    found = {name: router.topics.find(name) for name in ("a/b", "a/c", "c/b", "c/d", "a")}
    assert [route and route[0].pattern.text for route in found.values()] == [
        "a/b",
        "a/{x}",
        "{z}/b",
        None,
        None,
    ]
    assert found["a/c"][1] == {"x": "c"}
    # What has been found before does not hide what is registered later.
    router.register_topic("a/c")
    assert router.topics.find("a/c")[0].pattern.text == "a/c"


def test_a_router_serves_the_topics_that_it_includes():
    inner, outer = SimpleRouter(), SimpleRouter()
    inner.register_topic("a/{x}", history=7)
    outer.register_topic("b")
    outer.include(inner)
    assert outer.topics.find("a/1")[0].history == 7
    assert inner.topics.find("b") is None
    with pytest.raises(ValueError, match="registered already"):
        outer.include(inner)


def test_very_many_names_that_are_asked_for_are_not_remembered():
    router = SimpleRouter()
    router.register_topic("a/{x}")
    for number in range(10_000):
        assert router.topics.find(f"a/{number}")[1] == {"x": str(number)}
        assert router.topics.find(f"b/{number}") is None
    assert len(router.topics._cache) <= 4096
