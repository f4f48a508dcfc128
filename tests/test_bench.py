"""`python -m bench server` at work, short: what it says, not how fast anything is."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the load generator needs epoll"),
    pytest.mark.skipif(
        shutil.which(os.environ.get("CC", "cc")) is None, reason="there is no C compiler"
    ),
    pytest.mark.process,
    pytest.mark.slow,
]


@pytest.fixture
def bench(monkeypatch):
    """Import a module of the bench, which is not installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


@pytest.fixture(scope="module")
def built():
    """A workshop for all tests: its programs take seconds to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        workshop = importlib.import_module("bench.processes").Workshop()
    yield workshop
    workshop.close()


@pytest.fixture
def workshop(built, monkeypatch):
    """The workshop; what a test changes of it is undone."""
    monkeypatch.setattr(built, "has_tls", built.has_tls)
    return built


@pytest.fixture
def serve(bench, workshop):
    """Start one of the peers, ours if not told otherwise; stop it in the end."""
    servers = []

    def start(peer=None, *, tls=False):
        server = bench("processes").Server(workshop, peer or bench("rows").OURS, tls=tls)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def row(bench):
    rows = {row.name: row for row in bench("rows").ROWS}
    return lambda name, **changes: replace(rows[name], **changes)


def run_bench(*arguments, environment=None):
    return subprocess.run(
        [sys.executable, "-m", "bench", "server", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_two_rows_come_out_as_a_table_and_as_json(tmp_path):
    file = tmp_path / "bench.json"
    rows = "one-in-flight,sixteen-in-flight"
    ran = run_bench(
        *("--rows", rows, "--peers", "echo", "--turns", "2", "--seconds", "0.2"),
        *("--json", str(file)),
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    document = json.loads(file.read_text())
    assert list(document["rows"]) == rows.split(",")
    for row in document["rows"].values():
        assert list(row["turns"]) == ["ours", "echo"]
        for turns in row["turns"].values():
            assert len(turns) == 2
            # Each reply was compared with the expected one: a wrong one ends the run.
            assert all(turn["count"] > 0 and turn["p50"] <= turn["max"] for turn in turns)
        assert row["ratios"]["echo"] > 0
    one, _sixteen = document["rows"].values()
    (goal,) = one["goals"]
    assert goal["peer"] == "echo"
    assert goal["measured"] == pytest.approx(one["ratios"]["echo"], abs=1e-3)
    assert "goal >= 0.5 (aim 0.6)  measured" in ran.stdout
    assert [line.split()[0] for line in ran.stdout.splitlines() if line.startswith("  ")].count(
        "ours"
    ) == 2


@pytest.mark.parametrize("generator", ["C", "Python"])
def test_a_wrong_reply_ends_the_run(bench, workshop, serve, row, generator):
    workshop.has_tls = False
    message, expected = bench("rows").CALL
    tls = generator == "Python"
    wrong = row("tls", tls=tls, work=(message, expected.replace(b'"7"', b'"8"')))
    server = serve(tls=tls)
    with pytest.raises(bench("processes").BenchError, match="a wrong reply"):
        workshop.run_load(wrong, server.port, 0.1, raw=False)
    with pytest.raises(bench("processes").BenchError, match="ours answers"):
        bench("server").start(workshop, wrong, bench("rows").OURS)


def test_a_server_that_is_no_websocket_server_ends_the_run(bench, workshop, serve, row):
    (echo,) = (peer for peer in bench("rows").PEERS if peer.name == "echo")
    server = serve(echo)
    with pytest.raises(bench("processes").BenchError, match="the handshake was answered by: GET"):
        workshop.run_load(row("one-in-flight"), server.port, 0.1, raw=False)


def test_a_server_that_goes_away_ends_the_run(bench, workshop, serve, row):
    server = serve()
    with contextlib.ExitStack() as stack:
        idle = workshop.idle_connections(row("memory"), server.port, 5)
        stack.enter_context(idle)()
        server.close()
        with pytest.raises(bench("processes").BenchError, match="did not stay open"):
            stack.close()


@pytest.mark.parametrize("in_python", [False, True])
def test_calls_go_through_tls(workshop, serve, row, in_python):
    if in_python:
        workshop.has_tls = False
    elif not workshop.has_tls:
        pytest.skip("the headers of OpenSSL are not installed")
    server = serve(tls=True)
    told = workshop.run_load(row("tls", connections=3, depth=2), server.port, 0.2, raw=False)
    assert told["count"] > 0
    assert told["p50"] <= told["p99"] <= told["max"]


@pytest.fixture
def slow_echo():
    """A server that gives back what it gets, a while later."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            client, _ = listening.accept()
            with client, contextlib.suppress(OSError):
                while data := client.recv(65536):
                    time.sleep(0.02)
                    client.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(SECONDS)


class PollingRow:
    """A row whose load is to look for replies all the time."""

    load_polls = True

    def __init__(self, row):
        self._row = row

    def __getattr__(self, name):
        return getattr(self._row, name)


def test_a_load_that_looks_for_replies_all_the_time_counts_only_its_work(
    workshop, row, slow_echo, monkeypatch
):
    commands = []
    start = workshop._start
    monkeypatch.setattr(
        workshop, "_start", lambda command: commands.append(command) or start(command)
    )
    monkeypatch.setattr(workshop, "server_core", -1)  # another one than the load has
    # As a row of many connections, with one of them.
    told = workshop.run_load(PollingRow(row("single")), slow_echo, 0.5, raw=True)
    assert "-b" in commands[0]
    assert told["count"] > 0
    assert told["busy"] < 0.5


def test_a_load_sleeps_where_waking_is_measured_or_there_is_one_core(
    workshop, serve, row, monkeypatch
):
    commands = []
    start = workshop._start
    monkeypatch.setattr(
        workshop, "_start", lambda command: commands.append(command) or start(command)
    )
    port = serve().port
    workshop.run_load(row("single"), port, 0.1, raw=False)
    monkeypatch.setattr(workshop, "server_core", workshop.load_core)
    workshop.run_load(row("one-in-flight"), port, 0.1, raw=False)
    assert len(commands) == 2
    assert not any("-b" in command for command in commands)


def test_handshakes_and_idle_connections_are_measured(bench, workshop, serve, row):
    server = serve()
    told = workshop.run_load(row("handshakes", connections=4), server.port, 0.2, raw=False)
    assert told["count"] > 0
    memory = row("memory", connections=20)
    took = bench("server").measure_memory(workshop, memory, bench("rows").OURS)
    assert took["resident_before"] > 1_000_000
    assert set(took) == {"bytes", "called", "resident_before"}


def test_large_messages_are_64_kib_of_json_and_come_back(bench, workshop, serve, row):
    message, expected = bench("rows").LARGE
    data = message[message.index(b"[") : message.rindex(b"]") + 1]
    assert len(data) == 65536
    assert json.loads(expected)["data"] == json.loads(data)
    told = workshop.run_load(row("large", connections=2), serve().port, 0.2, raw=False)
    assert told["count"] > 0


def test_a_ratio_is_the_median_of_the_ratios_of_the_turns(bench, row):
    # The medians are 20 and 10; turn by turn ours is 1, 4 and 0.5 times as fast.
    rates = {"ours": (20, 40, 5), "picows": (20, 10, 10)}
    turns = {
        name: [{"rate": rate, "p50": 1, "p99": 1, "max": 1} for rate in each]
        for name, each in rates.items()
    }
    result = bench("report").Result(row("one-in-flight"), turns)
    assert result.ratio("picows", "rate") == 1
    rate, p99 = result.verdicts()
    assert str(rate) == "goal >= 0.8 (aim 1)  measured 1.00  ok"
    assert str(p99) == "goal <= 1.5 (aim 1)  measured 1.00  ok"
    turns["ours"][0]["rate"] = 10
    assert result.verdicts()[0].is_met is False


def test_what_speaks_against_the_numbers_is_told(bench, row):
    turn = {"rate": 1, "p50": 1, "p99": 1, "max": 1}
    turns = {
        "ours": [{**turn, "busy": 0.5, "waited": 0.01, "load_waited": 0.04}],
        "aiohttp": [{**turn, "busy": 0.5, "waited": 0.2, "load_waited": 0.3}],
        "echo": [{**turn, "busy": 0.99, "waited": 0.0, "load_waited": 0.0}],
    }
    table = bench("report").Result(row("single"), turns).table()
    assert [line for line in table.splitlines() if "note" in line] == [
        "  note: aiohttp: something else had the server's core for 20% of a turn",
        "  note: aiohttp: something else had the load's core for 30% of a turn",
        "  note: echo: the load generator was the limit, not the server",
    ]


def test_check_fails_when_a_goal_is_missed(bench, monkeypatch, tmp_path):
    server = bench("server")
    monkeypatch.setattr(sys, "argv", ["bench", "--check"])
    report = bench("report")
    (row,) = (row for row in bench("rows").ROWS if row.name == "memory")
    for used, fails in ((8192, False), (8193, True)):
        result = report.Result(row, {"ours": [{"bytes": used, "called": used}]})
        monkeypatch.setattr(server, "run", lambda _options, result=result: [result])
        if fails:
            with pytest.raises(SystemExit) as caught:
                server.main()
            assert caught.value.code == 1
        else:
            server.main()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--rows", "single", "--json", "no-such-folder/bench.json"), "no folder no-such-folder"),
        (("--rows", "single", "--plot", "bench.png"), "--plot shows one-in-flight"),
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_the_run(arguments, reason):
    ran = run_bench(*arguments)
    assert ran.returncode == 1
    assert reason in ran.stderr
    assert ran.stdout == ""


def test_sigterm_ends_the_servers_too(tmp_path):
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench", "server", "--rows", "single", "--peers", "echo"),
            *("--turns", "1000", "--seconds", "0.1"),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    with running:
        limit = time.monotonic() + SECONDS
        while len(servers := _peers(children)) < 2 and time.monotonic() < limit:
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=SECONDS)
    assert len(servers) == 2
    assert running.returncode == 128 + signal.SIGTERM
    assert not [pid for pid in servers if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


def _peers(children):
    """Return the servers among the children of a process."""
    found = []
    for pid in children.read_text().split():
        with contextlib.suppress(OSError):
            if b"bench.peers" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_without_a_compiler_it_says_what_is_missing(tmp_path):
    environment = {"CC": "no-such-compiler", "TMPDIR": str(tmp_path)}
    ran = run_bench("--rows", "single", environment=environment)
    assert ran.returncode == 1
    assert list(tmp_path.iterdir()) == []
    assert "there is no C compiler" in ran.stderr


@pytest.mark.parametrize("arguments", [("--rows", "fast"), ("--turns", "0"), ("--peers", "us")])
def test_wrong_arguments_are_refused(arguments):
    ran = run_bench(*arguments)
    assert ran.returncode == 2
    assert arguments[0] in ran.stderr
