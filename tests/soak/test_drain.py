"""The end of a server under load, and of one whose views do not end."""

import json
import signal
import time

import pytest

from soak.processes import eventually
from soak.scale import IS_FULL, number
from soak.wire import call

pytestmark = pytest.mark.soak

RESTARTS = number("restarts", 2, 10)
CLIENTS = number("clients", 10, 100)
CALLS_PER_SECOND = number("calls_per_second", 300, 2_000)
LOAD_SECONDS = number("load_seconds", 1, 5)
SLOW_MS = 400

START_SECONDS = 60
END_SECONDS = 60
RESTARTING = "1012"
MANY = 1_000

# Short, or a test would last as long as the defaults.
BRIEFLY = {"drain_seconds": 0.5, "closing_seconds": 0.5}
# The watchdog's bound and what a busy machine may add; an hour is what the views sleep.
BOUND_SECONDS = BRIEFLY["drain_seconds"] + 2 * BRIEFLY["closing_seconds"]
SPARE_SECONDS = 20


def test_no_accepted_call_is_without_its_reply_when_the_server_stops(family, say):
    port = 0
    for _ in range(RESTARTS):
        server = family.server(port=port)
        port = server.port  # the next one takes the same
        clients = family.client("calls_until_closed", port, CLIENTS, CALLS_PER_SECOND, SLOW_MS)
        assert clients.result(START_SECONDS) == "ready"
        time.sleep(LOAD_SECONDS)
        server.signal(signal.SIGTERM)
        begun = time.monotonic()
        told = clients.result(END_SECONDS)
        accepted = server.result(END_SECONDS)
        assert server.wait(END_SECONDS) == 0
        say(seconds=round(time.monotonic() - begun, 2), accepted=accepted, **told)
        assert not told["faults"], told
        assert told["codes"] == {RESTARTING: CLIENTS}, told
        assert accepted["left"] == CLIENTS, accepted
        replies = told["answered"] + told.get("refused", 0)
        # What the kernel still held when the close frame left was never accepted.
        assert accepted["read"] == replies <= told["sent"], (accepted, told)
        assert told["answered"] > 0, told
        if IS_FULL:
            assert told["sent"] > CALLS_PER_SECOND * LOAD_SECONDS * 0.8, told
        assert "ERROR" not in server.error_text(), server.error_text()[-2000:]


def test_calls_that_were_read_and_wait_are_answered_too(family, say):
    server = family.server()
    asker, control = server.control(), server.control()
    calls = b"".join(
        call(f"/awaited/{number}", id=number, args={"seconds": 1}) for number in range(MANY)
    )
    control.write(calls)
    # Far more than may be in flight: some run, some wait, some are bytes only.
    eventually(
        lambda: asker.ask("/state")["octets"] > len(calls), SPARE_SECONDS, server.error_text
    )
    server.signal(signal.SIGTERM)
    replies = [json.loads(control.next()) for _ in range(MANY)]
    say(refused=sum(reply.get("status") == 503 for reply in replies))
    assert sorted(reply["id"] for reply in replies) == list(range(MANY))
    assert {reply.get("status") for reply in replies} <= {None, 503}
    with pytest.raises(ConnectionError, match=RESTARTING):
        control.next()
    assert server.wait(END_SECONDS) == 0


def _ended(server, begun, say):
    status = server.wait(BOUND_SECONDS + SPARE_SECONDS)
    say(seconds=round(time.monotonic() - begun, 2), status=status)
    return status


def test_view_that_blocks_for_ever_does_not_keep_the_process(family, say):
    server = family.server(limits=BRIEFLY)
    server.control().send("/block")
    assert server.result(START_SECONDS) == "blocks"
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert _ended(server, begun, say) == 1
    assert "in block" in server.error_text()  # what was cut
    assert time.monotonic() - begun >= BRIEFLY["drain_seconds"]


@pytest.mark.parametrize("path", ["/never", "/never-awaited"])
def test_call_that_never_ends_is_answered_with_503(family, say, path):
    server = family.server(limits=BRIEFLY)
    control = server.control()
    control.send(path)
    # The answer to a later call: the earlier one has been read.
    assert control.ask("/state")["connections"] == 1
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert json.loads(control.next())["status"] == 503
    assert time.monotonic() - begun >= BRIEFLY["drain_seconds"]
    with pytest.raises(ConnectionError, match=RESTARTING):
        control.next()
    assert _ended(server, begun, say) == 0


@pytest.mark.parametrize("path", ["/to-thread", "/defer-to-thread", "/blocking"])
def test_thread_that_never_ends_does_not_keep_the_process(family, say, path):
    server = family.server(limits=BRIEFLY)
    control = server.control()
    control.send(path)
    assert control.ask("/state")["connections"] == 1
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert json.loads(control.next())["status"] == 503
    assert _ended(server, begun, say) == 0


@pytest.mark.parametrize("path", ["/never", "/to-thread", "/defer-to-thread", "/blocking"])
def test_second_signal_ends_the_process_at_once(family, say, path):
    server = family.server(limits={"drain_seconds": 3600})
    control = server.control()
    control.send(path)
    assert control.ask("/state")["connections"] == 1
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    # It has understood when it refuses calls.
    while "data" in _reply_to(control, "/plain/1"):
        assert time.monotonic() - begun < SPARE_SECONDS
    server.signal(signal.SIGTERM)
    # The call that was running is cut off.
    assert _ended(server, begun, say) == 1


def test_second_signal_ends_a_process_that_blocks(family, say):
    server = family.server(limits={"drain_seconds": 3600})
    server.control().send("/block")
    assert server.result(START_SECONDS) == "blocks"
    threads = server.threads()
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    # Two signals that come together are one. The first has been understood when there is a
    # watchdog, which is a thread.
    eventually(lambda: server.threads() > threads, SPARE_SECONDS, server.error_text)
    # The thread may be another, so that this one comes with the first: it is sent again.
    eventually(
        lambda: server.signal(signal.SIGTERM) or server.has_ended(0.5),
        BOUND_SECONDS,
        server.error_text,
    )
    assert _ended(server, begun, say) == 1


def test_second_signal_without_calls_ends_with_success(family, say):
    server = family.server(limits={"drain_seconds": 3600, "closing_seconds": 3600})
    # It never answers the close frame, so that the server waits for it.
    control = server.control(answers_close=False)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    with pytest.raises(ConnectionError, match=RESTARTING):
        control.next()
    server.signal(signal.SIGTERM)
    assert _ended(server, begun, say) == 0


def _reply_to(control, url):
    control.send(url)
    return json.loads(control.next())
