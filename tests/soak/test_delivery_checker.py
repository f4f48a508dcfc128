"""The checker sees each thing that may go wrong with a delivery, and lets the rest pass."""

import pytest

from soak.delivery_checker import Follower, Ledger, Place

TOPIC = "orders/1"
HISTORY = 4


def push(offset, *, epoch="a", topic=TOPIC, data=None):
    return {
        "topic": topic,
        "epoch": epoch,
        "offset": offset,
        "data": f"{epoch}{offset}" if data is None else data,
    }


def gap(offset, *, epoch="a"):
    return {"topic": TOPIC, "epoch": epoch, "offset": offset, "gap": True}


def answer(offset, *, epoch="a", topic=TOPIC):
    return {"topic": topic, "epoch": epoch, "offset": offset}


@pytest.fixture
def ledger():
    ledger = Ledger(lambda topic: HISTORY)
    for _ in range(18):
        ledger.attempt(TOPIC)  # after the two that the follower finds
    return ledger


@pytest.fixture
def follower(ledger):
    """One that subscribes, and knows of everything up to offset 3."""
    follower = Follower(ledger, TOPIC, "one")
    follower.subscribing()
    follower.answered(answer(2))
    follower.take(push(3))
    return follower


def resume(follower, offset, *, epoch="a"):
    follower.left()
    follower.subscribing()
    follower.answered(answer(offset, epoch=epoch))


def kinds(ledger):
    return [fault.partition(":")[0] for fault in ledger.faults]


def test_complete_sequence_has_no_fault(ledger, follower):
    follower.take(push(4))
    resume(follower, 4)
    for offset in (5, 6, 7):
        follower.take(push(offset))
    follower.finish(Place("a", 7))
    ledger.finish({TOPIC: Place("a", 7)})
    assert not ledger.faults
    assert ledger.counts["pushes"] == 5


def test_skipped_offset_is_seen(ledger, follower):
    follower.take(push(5))
    assert kinds(ledger) == ["a skipped offset"]


def test_skipped_offset_at_the_end_is_seen(ledger, follower):
    follower.finish(Place("a", 4))
    assert kinds(ledger) == ["incomplete"]


def test_double_is_seen(ledger, follower):
    follower.take(push(3))
    assert kinds(ledger) == ["a double"]


def test_double_after_resume_is_seen(ledger, follower):
    resume(follower, 3)
    follower.take(push(3))
    assert kinds(ledger) == ["a double"]


def test_replay_after_the_first_live_message_is_seen(ledger, follower):
    resume(follower, 3)
    follower.take(push(6))
    follower.take(push(4))
    follower.take(push(5))
    follower.take(push(7))
    assert kinds(ledger) == ["a skipped offset", *["a replay after a later message"] * 2]


def test_messages_in_another_order_are_seen(ledger, follower):
    follower.take(push(5))
    follower.take(push(4))
    assert kinds(ledger) == ["a skipped offset", "a replay after a later message"]


def test_gap_that_had_to_be_is_no_fault(ledger, follower):
    resume(follower, 16)
    follower.take(gap(16))
    follower.take(push(17))
    follower.finish(Place("a", 17))
    assert not ledger.faults
    assert ledger.counts["gaps"] == 1
    assert not ledger.counts["live gaps"]


def test_missing_gap_is_seen(ledger, follower):
    resume(follower, 16)
    follower.take(push(17))
    assert kinds(ledger) == ["a missing gap"]


def test_gap_is_missing_also_when_nothing_comes_after_it(ledger, follower):
    resume(follower, 16)
    follower.finish(Place("a", 16))
    assert kinds(ledger) == ["incomplete"]


def test_gap_that_hides_what_is_kept_is_seen(ledger, follower):
    resume(follower, 17)
    follower.take(gap(17))
    assert kinds(ledger) == ["a gap that history does not explain"]


def test_gap_in_which_nothing_is_missing_is_seen(ledger, follower):
    follower.take(gap(3))
    assert kinds(ledger) == ["a gap in which nothing is missing"]


def test_gap_between_live_messages_is_counted(ledger, follower):
    follower.take(gap(10))
    assert not ledger.faults
    assert ledger.counts["live gaps"] == 1


def test_gap_short_of_the_answer_is_seen(ledger, follower):
    resume(follower, 16)
    follower.take(gap(15))
    assert kinds(ledger) == ["a gap that contradicts the answer"]


def test_another_epoch_is_seen(ledger, follower):
    follower.take(push(4, epoch="b"))
    assert kinds(ledger) == ["another epoch without a gap"]


def test_gap_to_another_epoch_is_seen_unless_it_may_be(ledger, follower):
    follower.take(gap(0, epoch="b"))
    assert kinds(ledger) == ["another epoch"]
    ledger.may_change_epoch = True
    follower.take(gap(0, epoch="c"))
    assert len(ledger.faults) == 1
    assert ledger.counts["epochs"] == 2


def test_push_without_a_subscription_is_seen(ledger, follower):
    follower.left()
    follower.take(push(4))
    assert kinds(ledger) == ["a push without a subscription"]


def test_push_before_the_answer_is_seen(ledger, follower):
    follower.left()
    follower.subscribing()
    follower.take(push(4))
    assert kinds(ledger) == ["a push without a subscription"]


def test_second_answer_is_seen(ledger, follower):
    follower.answered(answer(3))
    assert kinds(ledger) == ["an answer that nobody asked for"]


def test_push_and_answer_of_another_topic_are_seen(ledger, follower):
    follower.take(push(4, topic="orders/2"))
    follower.subscribing()
    follower.answered(answer(3, topic="orders/2"))
    assert kinds(ledger) == ["a push of another topic", "an answer that nobody asked for"]


def test_other_data_at_the_same_offset_is_seen(ledger, follower):
    ledger.confirm(TOPIC, Place("a", 4), "what was published")
    follower.take(push(4, data="something else"))
    assert kinds(ledger) == ["two messages have one offset"]


def test_one_message_at_two_offsets_is_seen(ledger, follower):
    follower.take(push(4, data="the same"))
    follower.take(push(5, data="the same"))
    assert kinds(ledger) == ["one message has two offsets"]


def test_confirmed_message_that_nobody_got_is_seen(ledger, follower):
    ledger.confirm(TOPIC, Place("a", 3), "a3")
    ledger.confirm(TOPIC, Place("a", 4), "a4")
    ledger.finish({TOPIC: Place("a", 5)})
    assert kinds(ledger) == ["nobody got a confirmed message"]


def test_confirmed_message_that_all_were_told_to_have_missed_is_no_fault(ledger, follower):
    ledger.confirm(TOPIC, Place("a", 16), "a16")
    resume(follower, 16)
    follower.take(gap(16))
    ledger.finish({TOPIC: Place("a", 16)})
    assert not ledger.faults


def test_confirmed_message_that_the_topic_has_lost_is_seen(ledger, follower):
    ledger.confirm(TOPIC, Place("a", 4), "a4")
    ledger.finish({TOPIC: Place("a", 3)})
    assert kinds(ledger) == ["a confirmed message is behind the head"]


def test_faults_are_all_counted_and_few_are_told(ledger, follower):
    for _ in range(100):
        follower.take(push(3))
    assert ledger.counts["all faults"] == 100
    assert len(ledger.faults) == 20
