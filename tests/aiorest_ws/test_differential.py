"""The server's protocol beside Autobahn's own: the same streams, and nothing to tell them apart.

AIOREST_WS_DIFFERENTIAL_STREAMS says how many streams, AIOREST_WS_DIFFERENTIAL_SEED which is first;
`tox -e differential` takes many. A difference names its seed: `compare(planned(SEED))` repeats it.
"""

import importlib
import importlib.util
import os
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aiorest_ws
from aiorest_ws.request import RequestHandlerFactory, RequestHandlerProtocol

pytestmark = pytest.mark.property

STREAMS = int(os.environ.get("AIOREST_WS_DIFFERENTIAL_STREAMS", "2000"))
FIRST_SEED = int(os.environ.get("AIOREST_WS_DIFFERENTIAL_SEED", "0"))
MOST_SECONDS = 45 * 60

# In so many streams a planted fault has to show: no more than a normal run has.
STREAMS_FOR_A_FAULT = 2000


def _load_parts() -> Any:
    # Tests are no package: importlib mode knows no siblings.
    folder = Path(__file__).parent / "differential"
    spec = importlib.util.spec_from_file_location("differential", folder / "__init__.py")
    assert spec is not None
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    return [importlib.import_module(f"differential.{name}") for name in ("harness", "streams")]


harness, streams = _load_parts()

# Our factory has defaults of its own for these.
COMMON_OPTIONS = {"failByDrop": True, "closeHandshakeTimeout": 5}

CORPUS = streams.recorded()

OURS = (RequestHandlerFactory, RequestHandlerProtocol)
THEIRS = (WebSocketServerFactory, WebSocketServerProtocol)


def planned(seed: int) -> Any:
    """Return the plan of a seed."""
    return streams.make_plan(Random(seed), CORPUS)


@cache
def by_autobahn(seed: int) -> tuple[Any, list[Any]]:
    """Return the plan of a seed and what Autobahn makes of it, which is the same each time."""
    plan = planned(seed)
    return plan, harness.play(*THEIRS, plan)


def compare_seeded(seed: int, ours: Any) -> str | None:
    """Return what `compare` does for a seed."""
    plan, theirs = by_autobahn(seed)
    return harness.difference(harness.play(*ours, plan), theirs)


def compare(plan: Any, ours: Any = OURS) -> str | None:
    """Return in which step ours is not like Autobahn, in words, or None."""
    return harness.difference(harness.play(*ours, plan), harness.play(*THEIRS, plan))


def seen(shots: list[Any]) -> Counter[Any]:
    """Count what happened on a connection, by kind; a close counts by the code that was sent."""
    kinds = Counter[Any]()
    for shot in shots:
        kinds.update(note[0] for note in shot["notes"])
        kinds.update(deed for deed in shot["transport"] if isinstance(deed, str))
    kinds["sent", shots[-1]["flags"]["localCloseCode"]] += 1
    kinds["pinged"] += shots[-1]["flags"]["autoPingPendingSeq"]
    kinds["clean"] += shots[-1]["flags"]["wasClean"]
    return kinds


def test_seeded_streams_come_out_as_from_plain_autobahn(capsys):
    begun = time.perf_counter()
    compared, kinds = 0, Counter[Any]()
    for seed in range(FIRST_SEED, FIRST_SEED + STREAMS):
        plan = planned(seed)
        theirs = harness.play(*THEIRS, plan)
        differs = harness.difference(harness.play(*OURS, plan), theirs)
        assert differs is None, f"seed {seed}: {plan}\n{differs}"
        kinds += seen(theirs)
        compared += 1
        if time.perf_counter() - begun > MOST_SECONDS:
            break
    seconds = time.perf_counter() - begun
    with capsys.disabled():
        print(f"\n{compared} streams compared in {seconds:.0f} s: {dict(kinds.most_common())}")  # noqa: T201
    assert compared == STREAMS
    # The streams are worth something only if they come everywhere.
    expected = ("message", "ping", "pong", "pinged", "closed", "clean", "heard", "late", "raised")
    codes = (None, 1000, 1002, 1007, 1009, 1012, 3999)
    kinds_expected = (*expected, "abort", "lose", *(("sent", code) for code in codes))
    assert [kind for kind in kinds_expected if not kinds[kind]] == []


@settings(
    derandomize=True,
    database=None,
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.randoms(use_true_random=False))
def test_streams_that_hypothesis_finds_come_out_as_from_plain_autobahn(random):
    plan = streams.make_plan(random, CORPUS)
    differs = compare(plan)
    assert differs is None, f"{plan}\n{differs}"


@pytest.mark.parametrize(("name", "stream"), CORPUS, ids=[name for name, _ in CORPUS])
@pytest.mark.parametrize("size", [None, 1, 7, 1460])
def test_recorded_session_is_understood_to_its_clean_end_however_it_is_cut(name, stream, size):
    size = size or len(stream)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    plan = harness.Plan([pieces], COMMON_OPTIONS, is_deflate_offered="deflate" in name)
    theirs = harness.play(*THEIRS, plan)
    differs = harness.difference(harness.play(*OURS, plan), theirs)
    assert differs is None, f"{name}: {differs}"
    kinds = seen(theirs)
    assert kinds["message"] >= 11
    assert kinds["pong"] >= 1
    assert kinds["clean"] == 1
    assert kinds["sent", 1000] == 1


# Only a valid stream does not tell how it was cut: Autobahn looks at a broken header each time
# that more of it has come, and fails the connection each time.
@pytest.mark.parametrize(("name", "stream"), CORPUS, ids=[name for name, _ in CORPUS])
@pytest.mark.parametrize("late_pieces", [1, 5])
def test_what_comes_while_the_transport_is_paused_is_understood(name, stream, late_pieces):
    pieces = [stream[at : at + 100] for at in range(0, len(stream), 100)]
    plan = harness.Plan(
        [pieces],
        COMMON_OPTIONS,
        is_deflate_offered="deflate" in name,
        slowness=0.8,
        late_pieces=late_pieces,
    )
    assert compare(plan) is None


def test_corpus_has_plain_and_compressed_sessions_of_several_clients():
    names = {name for name, _ in CORPUS}
    clients = {"aiohttp", "autobahn", "chromium", "websockets"}
    assert names == clients | {f"{client}-deflate" for client in clients} | {"node"}


def ordinary(count: int, payload: bytes = b"message") -> bytes:
    return streams.frame(0x81, payload) * count


def test_message_that_raises_in_a_later_turn_ends_the_connection():
    plan = harness.Plan([[ordinary(100)], [ordinary(3)]], acts={70: "raise"})
    shots = harness.play(*OURS, plan)
    assert seen(shots)["message"] == 70
    assert [note[0] for note in shots[1]["notes"]][-1] == "closed"
    assert shots[1]["lost"]


@pytest.mark.xfail(strict=True, reason="listeners are looked for before the message is handled")
def test_listener_that_a_message_adds_hears_that_message():
    plan = harness.Plan([[ordinary(1)], [ordinary(2)]], acts={1: "listen"})
    assert seen(harness.play(*THEIRS, plan))["heard"] == 3
    assert compare(plan) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("maxMessagePayloadSize", 5), ("maxFramePayloadSize", 5), ("applyMask", False)),
        *(("maskServerFrames", True), ("autoFragmentSize", 3), ("failByDrop", False)),
    ],
)
@pytest.mark.parametrize("is_cut", [True, False], ids=["one-a-read", "in-one-read"])
def test_option_that_a_message_changes_holds_from_then_on(name, value, is_cut):
    frames = [ordinary(1, b"a"), ordinary(1, b"longer than five"), streams.frame(0x81, b"\xff")]
    steps = [[part] for part in frames] if is_cut else [[b"".join(frames)]]
    plan = harness.Plan(
        steps, COMMON_OPTIONS, own_options={name: value}, own_options_in="onMessage"
    )
    assert compare(plan) is None


def test_limit_of_a_class_that_a_message_lowers_holds():
    steps = [[ordinary(1, b"a")], [ordinary(1, b"longer than five")]]
    plan = harness.Plan(
        steps,
        COMMON_OPTIONS,
        own_options={"maxMessagePayloadSize": 5},
        own_options_in="onMessage",
        variant="limited",
    )
    assert compare(plan) is None


# The real source without one of its guards: what the comparison is worth, what the guard is for.
NOT_ORDINARY = "first != TEXT and first != BINARY"
FAULTS = {
    "accepts RSV1": ("framing", NOT_ORDINARY, "first & 0xBF not in (TEXT, BINARY)"),
    "accepts a reserved opcode": ("framing", NOT_ORDINARY, "first not in (TEXT, BINARY, 0x83)"),
    "accepts a frame without FIN": ("framing", NOT_ORDINARY, "first | 0x80 not in (TEXT, BINARY)"),
    "accepts an unmasked frame": (
        "framing",
        "if size < 6:",
        "\n    ".join(
            (
                "if 1 < size < 128 and data[1] == size - 2 and data[0] in (TEXT, BINARY):",
                "    return data[2:]",
                "if size < 6:",
            )
        ),
    ),
    "does not look at the mask bit": (
        "framing",
        "second != size - 6 + _MASKED",
        "second & 0x7F != size - 6",
    ),
    "accepts an unmasked frame among others": ("framing", "if second < _MASKED:", "if False:"),
    "skips UTF-8 validation": ("framing", "not payload.isascii()", "False"),
    "accepts 16 bits of length that are too many": ("framing", "size - 8 < 126 or ", ""),
    "accepts 64 bits of length that are too many": ("framing", "size - 14 < 65536 or ", ""),
    "accepts 16 bits that are too many among others": ("framing", "end - start < 126", "False"),
    "accepts 64 bits that are too many among others": ("framing", "end - start < 65536", "False"),
    "ignores the size limit": ("framing", "size - start > limit or ", ""),
    "ignores the size limit among others": ("framing", "end - start > limit or ", ""),
    "takes a part of a frame": ("framing", "end > size or ", ""),
    "writes a wrong length": ("framing", "size.to_bytes(2)", "size.to_bytes(2, 'little')"),
    "takes the fast path inside a message": ("connection/autobahn", "or self.inside_message", ""),
    "takes the fast path inside a frame": (
        "connection/autobahn",
        "self.data or self.current_frame",
        "self.current_frame",
    ),
    "takes the fast path after a close": (
        "connection/fast_path",
        "if self._state != self.STATE_OPEN:",
        "if False:",
    ),
    "takes what was read with others after a close": (
        "connection/fast_path",
        " or self._receive_limit != limit",
        "",
    ),
    "ignores applyMask": ("connection/options", "and connection.applyMask ", ""),
    "ignores listeners": ("connection/autobahn", "or self._listeners", ""),
    "ignores overrides that see parts": (
        "connection/fast_path",
        "receives=not self._receives_in_parts",
        "receives=True",
    ),
    "ignores overrides that send parts": (
        "connection/fast_path",
        "sends=not self._sends_in_parts",
        "sends=True",
    ),
    "ignores tracked timings": ("connection/fast_path", "or self.trackedTimings is not None", ""),
    "does not compress": ("connection/autobahn", "self._perMessageCompress is None and", ""),
    "does not mask": ("connection/options", "connection.maskServerFrames or ", ""),
    "does not fragment": ("connection/options", " or connection.autoFragmentSize > 0", ""),
    "sends past the queue": ("connection/autobahn", "and not self.triggered", ""),
    "does not count a frame that came": ("connection/fast_path", "stats.ordinary_in += 1", "pass"),
    "does not count what came": (
        "connection/fast_path",
        "stats.ordinary_octets_in += len(payload)",
        "pass",
    ),
    "does not count a frame that left": (
        "connection/fast_path",
        "stats.ordinary_out += 1",
        "pass",
    ),
    "does not count what left": (
        "connection/fast_path",
        "stats.outgoingOctetsWireLevel += len(frame)",
        "pass",
    ),
    "does not restart the ping": (
        "connection/fast_path",
        "self._restart_ping()",
        "pass",
    ),
    "replies out of order": ("connection/fast_path", ".join(frames)", ".join(reversed(frames))"),
    "writes past the replies kept back": ("connection/fast_path", "if self._corked:", "if False:"),
    "loses a byte at a cut": (
        "connection/fast_path",
        "self._leave_unread(data[taken:])",
        "self._leave_unread(data[taken:] if len(data) - taken > 1 else b'')",
    ),
    "loses what follows a pause": (
        "connection/flow",
        "        self._take_queued()\n        self.consumeData()",
        "        self._take_queued()",
    ),
}


# What a connection is made of, from the ground floor up.
REBUILT = (
    "framing",
    *("connection/options", "connection/autobahn", "connection/handshake"),
    *("connection/fast_path", "connection/flow"),
    *("connection/factory", "connection/publishing", "connection/routing"),
    "connection/__init__",
    "request",
)


def planted(monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str) -> Any:
    """Return factory and protocol of a copy of the package in which one text is another."""
    package = Path(aiorest_ws.__file__).parent
    with monkeypatch.context() as patch:
        for name in REBUILT:
            path = package / f"{name}.py"
            source = path.read_text()
            if name == file:
                assert old in source, "the source has changed: plant this fault anew"
                source = source.replace(old, new)
            dotted = name.removesuffix("/__init__").replace("/", ".")
            module = ModuleType(f"aiorest_ws.{dotted}")
            patch.setitem(sys.modules, module.__name__, module)
            parent, _, leaf = module.__name__.rpartition(".")
            patch.setattr(sys.modules[parent], leaf, module)  # for `from parent import leaf`
            exec(compile(source, str(path), "exec"), vars(module))
            if name == "connection/flow":
                module.STALL_SECONDS = harness.WAIT_SECONDS  # as in the harness
    return module.RequestHandlerFactory, module.RequestHandlerProtocol


@pytest.mark.parametrize("fault", FAULTS)
def test_comparison_finds_a_server_that(fault, monkeypatch):
    ours = planted(monkeypatch, *FAULTS[fault])
    found = (seed for seed in range(STREAMS_FOR_A_FAULT) if compare_seeded(seed, ours))
    assert next(found, None) is not None


def test_comparison_finds_nothing_in_a_copy_without_a_fault(monkeypatch):
    ours = planted(monkeypatch, "framing", NOT_ORDINARY, NOT_ORDINARY)
    assert ours[1] is not RequestHandlerProtocol
    assert [seed for seed in range(100) if compare_seeded(seed, ours)] == []
