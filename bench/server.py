"""Compare aiorest_ws with other servers on the same work, in one run, taking turns.

    python -m bench server [--rows one-in-flight,memory] [--turns 5] [--seconds 2]

Each server is a process of its own, pinned to one core; the load generator has another.
bench/README.md tells what each row is.
"""

import argparse
import importlib.util
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.frames import first_reply
from bench.plot import PANELS, draw
from bench.processes import (
    IDLE_WARM_UP,
    BenchError,
    Server,
    Workshop,
    can_run,
    is_installed,
    raise_file_limit,
)
from bench.report import Result, machine
from bench.rows import OURS, PEERS, ROWS, Peer, Row

# Connections of the largest row, and the files that a process has open besides.
SPARE_FILES = 1000


def main() -> None:
    options = parse(sys.argv[1:])
    # As an exception, SIGTERM ends the servers too (`timeout python -m bench ...`).
    previous = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        results = run(options)
    except BenchError as exc:
        sys.exit(f"bench: {exc}")
    finally:
        signal.signal(signal.SIGTERM, previous)
    missed = [verdict for result in results for verdict in result.verdicts() if not verdict.is_met]
    if options.check and missed:
        sys.exit(1)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    rows, peers = [row.name for row in ROWS], [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="python -m bench server",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=_names(rows), default=rows, help=f"of {', '.join(rows)}")
    parser.add_argument("--peers", type=_names(peers), help=f"of {', '.join(peers)}")
    parser.add_argument("--turns", type=_positive(int), default=5)
    parser.add_argument("--seconds", type=_positive(float), default=2.0, help="of each turn")
    parser.add_argument("--idle-connections", type=_positive(int), default=5000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a PNG; needs matplotlib")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a goal is missed")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[Result]:
    _check_outputs(options)
    peers, left_out = choose(options.peers)
    rows = [
        replace(row, connections=options.idle_connections) if row.kind == "idle" else row
        for row in ROWS
        if row.name in options.rows
    ]
    raise_file_limit(max(row.connections for row in rows) + SPARE_FILES)
    results = []
    workshop = Workshop()
    try:
        about = machine(workshop.load_core, workshop.server_core)
        print(f"{about['processor']}, {about['cores']} cores, Python {about['python']}")
        print(
            f"{options.turns} turns of {options.seconds:g} s; revision {about['revision']}",
            flush=True,
        )
        if workshop.load_core == workshop.server_core:
            print("ONE CORE ONLY: the load takes time from the servers; the ratios say little.")
        for name in left_out:
            print(f"{name} is not installed (bench/requirements.txt): left out.")
        for row in rows:
            missing = [peer.name for peer in row.own if not can_run(peer)]
            if missing:
                print(f"\n{row.name} is left out: {', '.join(missing)} cannot run here.")
                continue
            servers = row.own or (OURS, *(peer for peer in peers if fits(peer, row)))
            result = measure(workshop, row, servers, options)
            print(f"\n{result.table()}", flush=True)
            results.append(result)
    finally:
        workshop.close()
    document = {
        **about,
        "turns": options.turns,
        "seconds": options.seconds,
        "rows": {result.row.name: result.document() for result in results},
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.plot:
        draw(document, options.plot)
    return results


def _check_outputs(options: argparse.Namespace) -> None:
    """Find out before the run, not after it, that a file cannot be written."""
    for path in (options.json, options.plot):
        if path and not path.parent.is_dir():
            raise BenchError(f"there is no folder {path.parent}")
    if options.plot and not PANELS.keys() & set(options.rows):
        raise BenchError(f"--plot shows {', '.join(PANELS)}: none of them is run")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise BenchError("--plot needs matplotlib (see bench/requirements.txt)")


def choose(names: list[str] | None) -> tuple[list[Peer], list[str]]:
    """Return the peers to measure, and the names of those that are not installed."""
    wanted = [peer for peer in PEERS if names is None or peer.name in names]
    missing = [peer.name for peer in wanted if not is_installed(peer)]
    if names is not None and missing:
        raise BenchError(f"not installed: {', '.join(missing)} (see bench/requirements.txt)")
    return [peer for peer in wanted if peer.name not in missing], missing


def fits(peer: Peer, row: Row) -> bool:
    return peer.is_websocket or not row.needs_websocket


def measure(
    workshop: Workshop, row: Row, peers: Sequence[Peer], options: argparse.Namespace
) -> Result:
    """Let the servers take turns on a row; each other turn goes backwards."""
    result = Result(row, {peer.name: [] for peer in peers})
    if row.tls and not workshop.has_tls:
        result.notes.append("no OpenSSL headers: the load is a Python program, and may be slower")
    if row.kind == "idle":
        for turn in range(options.turns):
            for peer in _in_turn(peers, turn):
                # A new process: one that had connections before would use their memory again.
                result.turns[peer.name].append(measure_memory(workshop, row, peer))
        return result
    servers: dict[str, Server] = {}
    try:
        for peer in peers:
            servers[peer.name] = start(workshop, row, peer)
        for turn in range(options.turns):
            for peer in _in_turn(peers, turn):
                server, raw = servers[peer.name], not peer.is_websocket
                waited, began = server.waited(), time.monotonic()
                try:
                    if row.kind == "fan-out":
                        told = workshop.run_fan_out(row, server, options.seconds)
                    else:
                        told = workshop.run_load(row, server.port, options.seconds, raw=raw)
                except BenchError as exc:
                    raise BenchError(f"{row.name}, {peer.name}: {exc}\n{server.errors()}") from exc
                told["waited"] = (server.waited() - waited) / (time.monotonic() - began)
                result.turns[peer.name].append(told)
    finally:
        for server in servers.values():
            server.close()
    return result


def measure_memory(workshop: Workshop, row: Row, peer: Peer) -> dict[str, float]:
    server = start(workshop, row, peer)
    try:
        # What the first connections load and cache is no cost of the others.
        with workshop.idle_connections(row, server.port, IDLE_WARM_UP) as call:
            call()
        before = server.resident()
        with workshop.idle_connections(row, server.port, row.connections) as call:
            opened = server.resident()
            call()
            called = server.resident()
    except BenchError as exc:
        raise BenchError(f"{row.name}, {peer.name}: {exc}\n{server.errors()}") from exc
    finally:
        server.close()
    return {
        "bytes": (opened - before) / row.connections,
        "called": (called - before) / row.connections,
        "resident_before": before,
    }


def start(workshop: Workshop, row: Row, peer: Peer) -> Server:
    """Start a server and see that it gives the very bytes that are expected."""
    server = Server(workshop, peer, tls=row.tls)
    try:
        # The generator of a fan-out looks by itself.
        if peer.is_websocket and row.kind != "fan-out":
            first = first_reply(server.port, row.work[0], tls=row.tls)
            if first != row.work[1]:
                raise BenchError(f"{peer.name} answers {first[:300]!r}")
    except (BenchError, ValueError, OSError) as exc:
        errors = server.errors()
        server.close()
        raise BenchError(f"{row.name}, {peer.name}: {exc}\n{errors}") from exc
    return server


def _in_turn(peers: Sequence[Peer], turn: int) -> Sequence[Peer]:
    return peers[::-1] if turn % 2 else peers


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse_names(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse_names


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse_number(text: str) -> float:
        number = kind(text)
        if not number > 0:
            raise argparse.ArgumentTypeError("it must be above 0")
        return number

    return parse_number


if __name__ == "__main__":
    main()
