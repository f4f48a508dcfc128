"""The rolling restart, and the stop of a server with workers."""

import json
import os
import re
import signal
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.waiting import block_until
from support.workers import MAIN, SECONDS, ask, message, pids_of

pytestmark = pytest.mark.process


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# The rolling restart


class Load(threading.Thread):
    """A client that calls all the time, and connects again when it is told to."""

    def __init__(self, url, number):
        super().__init__(daemon=True)
        self.url, self.number = url, number
        self.answered, self.faults, self.reconnects = [], [], 0
        self.is_over = threading.Event()
        self.start()

    def run(self):
        count = 0
        while not self.is_over.is_set():
            try:
                with connect(self.url) as client:
                    while not self.is_over.is_set():
                        count += 1
                        name = f"{self.number}-{count}"
                        client.send(message("/run", id=name))
                        reply = json.loads(client.recv(SECONDS))
                        if reply.get("data") == "done" and reply["id"] == name:
                            self.answered.append(name)
                        elif reply.get("status") != 503:
                            self.faults.append(reply)
            except ConnectionClosed as exc:
                if exc.rcvd is None or exc.rcvd.code != 1012:
                    self.faults.append(exc)
                self.reconnects += 1
            except Exception as exc:  # noqa: BLE001  no other is expected
                self.faults.append(exc)

    def end(self):
        self.is_over.set()
        self.join(SECONDS)


def test_a_rolling_restart_under_load_loses_no_call_and_refuses_no_connection(start, tmp_path):
    server = start("server.py", "2")
    url = server.url()
    clients = [Load(url, number) for number in range(8)]
    api = (tmp_path / "api.py").read_text()
    for version in (2, 3):
        before = set(server.workers())
        (tmp_path / "api.py").write_text(api.replace("VERSION = 1", f"VERSION = {version}"))
        server.tell(signal.SIGHUP)
        if version == 2:
            server.wait_for("rolling restart of 2 workers")
            server.tell(signal.SIGHUP)  # in the midst of it means one more
            server.wait_for("rolling restart: done")
            server.wait_for("rolling restart of 2 workers")
        server.wait_for("rolling restart: done")
        assert not before & set(server.workers())
        assert len(server.workers()) == 2
        with connect(url) as client:
            assert ask(client, "/version") == version
    block_until(lambda: all(client.reconnects for client in clients))
    for client in clients:
        client.end()
    assert [client.faults for client in clients] == [[]] * 8
    status, output = server.end(signal.SIGTERM)
    assert status == 0, output
    answered = Counter(name for client in clients for name in client.answered)
    assert Counter((tmp_path / "ran.txt").read_text().split()) == answered
    assert len(answered) > 100


def test_a_rolling_restart_is_given_up_when_the_new_program_does_not_start(start, tmp_path):
    server = start("server.py", "2")
    url = server.url()
    before = set(server.workers())
    with connect(url) as client:
        (tmp_path / "api.py").write_text("1 / 0\n")
        server.tell(signal.SIGHUP)
        server.wait_for("ZeroDivisionError")
        server.wait_for(r"ERROR.*worker 1, pid \d+, ended with status 1 before it listened")
        server.wait_for("ERROR.*the rolling restart is aborted")
        assert ask(client, "/version") == 1
    assert set(server.workers()) == before
    assert server.end(signal.SIGTERM)[0] == 0


def test_a_hangup_of_a_worker_is_nothing(start):
    server = start("server.py", "2")
    url = server.url()
    for pid in server.workers():
        os.kill(pid, signal.SIGHUP)
    assert pids_of(url, 2) == set(server.workers())
    assert "ended" not in server.end(signal.SIGTERM)[1]


def test_a_stop_during_a_rolling_restart_stops_all(start):
    server = start("server.py", "2")
    server.url()
    server.tell(signal.SIGHUP)
    server.wait_for("rolling restart of 2 workers")
    status, output = server.end(signal.SIGTERM)
    assert status == 0, output
    assert "given up" not in output


# The stop


@pytest.mark.parametrize("to_all", [False, True], ids=["to the supervisor", "to all of them"])
def test_a_stop_under_load_answers_all_that_has_run(start, tmp_path, to_all):
    """systemd sends the signal to all processes of a service."""
    server = start("server.py", "2")
    url = server.url()
    clients = [Load(url, number) for number in range(8)]
    block_until(lambda: all(len(client.answered) > 5 for client in clients))
    workers = server.workers() if to_all else []
    for client in clients:
        client.is_over.set()  # the one that runs is the last
    for pid in [server.process.pid, *workers]:
        os.kill(pid, signal.SIGTERM)
    status, output = server.end()
    assert status == 0, output
    assert "second signal" not in output
    for client in clients:
        client.end()
    assert [client.faults for client in clients] == [[]] * 8
    answered = Counter(name for client in clients for name in client.answered)
    assert Counter((tmp_path / "ran.txt").read_text().split()) == answered


def test_a_running_call_is_waited_for_and_a_second_signal_ends_it(start):
    """Also when systemd sends the first to all processes of the service."""
    server = start("server.py", "2")
    with connect(server.url()) as client:
        client.send(message("/hang"))
        server.wait_for("hanging")
        server.tell(signal.SIGTERM)
        block_until(lambda: len(server.workers()) == 1)  # the other one had nothing to do
        [worker] = server.workers()
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.3)  # nothing is to happen
        assert server.workers() == [worker]
        status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert "all workers end: a second signal, SIGTERM" in output
    assert "GET' '/hang'" in output


def test_a_worker_that_blocks_is_ended_by_a_second_signal(start):
    server = start("server.py", "2")
    with connect(server.url()) as client:
        client.send(message("/block"))
        server.wait_for("blocking")
        server.tell(signal.SIGTERM)
        block_until(lambda: len(server.workers()) == 1)
        status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert "in block\n" in output


def test_a_worker_that_is_stuck_is_killed_when_its_time_is_over(start, tmp_path):
    api = (tmp_path / "api.py").read_text().replace("drain_seconds=3600", "drain_seconds=0.1")
    (tmp_path / "api.py").write_text(api.replace("closing_seconds=1", "closing_seconds=0.1"))
    (tmp_path / "server.py").write_text(
        "from aiorest_ws.serving import child\nchild.KILL_MARGIN_SECONDS = 0.3\n"
        + textwrap.dedent(MAIN)
    )
    server = start("server.py", "2")
    server.url()
    stuck = server.workers()[0]
    os.kill(stuck, signal.SIGSTOP)
    status, output = server.end(signal.SIGTERM)
    assert status == 1, output
    assert re.search(rf"ERROR.*pid {stuck} has not ended in 0.6 s and is killed", output)


def test_workers_answer_their_calls_and_end_when_the_supervisor_is_killed(start, tmp_path):
    server = start("server.py", "2")
    url = server.url()
    workers = server.workers()
    clients = [Load(url, number) for number in range(4)]
    block_until(lambda: all(len(client.answered) > 5 for client in clients))
    for client in clients:
        client.is_over.set()
    server.tell(signal.SIGKILL)
    block_until(lambda: all(map(has_ended, workers)))
    for client in clients:
        client.end()
    assert [client.faults for client in clients] == [[]] * 4
    answered = Counter(name for client in clients for name in client.answered)
    assert Counter((tmp_path / "ran.txt").read_text().split()) == answered
    assert len(list(tmp_path.glob("stopped.*"))) == 2


def test_a_worker_that_blocks_ends_in_its_time_when_the_supervisor_is_killed(start, tmp_path):
    api = (tmp_path / "api.py").read_text().replace("drain_seconds=3600", "drain_seconds=0.3")
    (tmp_path / "api.py").write_text(api)
    server = start("server.py", "2")
    with connect(server.url()) as client:
        client.send(message("/block"))
        server.wait_for("blocking")
        workers = server.workers()
        server.tell(signal.SIGKILL)
        block_until(lambda: all(map(has_ended, workers)))
