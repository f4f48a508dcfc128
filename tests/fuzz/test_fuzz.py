"""Whatever a client sends, the server answers to the letter or closes, and goes on.

AIOREST_WS_FUZZ_SECONDS (3) is how long each target is fuzzed, AIOREST_WS_FUZZ_SEED (0) with what;
`tox -e fuzz` takes ten minutes each. An input that fails is written to `failures`, and its path is
in the message; what has been mended goes to `corpus`, where every run plays it again.
"""

import gc
import importlib
import importlib.util
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred

from aiorest_ws.request import RequestHandlerFactory
from aiorest_ws.transports import install_reactor, tcp_endpoint


def _load(folder: Path, name: str, modules: tuple[str, ...]) -> Any:
    # Tests are no package: importlib mode knows no siblings.
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    return [importlib.import_module(f"{name}.{module}") for module in modules]


HERE = Path(__file__).parent
engine, server, output, handshakes, frames, messages = _load(
    HERE / "parts",
    "fuzz_parts",
    ("engine", "server", "output", "handshakes", "frames", "messages"),
)
[wire] = _load(HERE.parent / "aiorest_ws" / "conformance", "fuzz_conformance", ("wire",))

SECONDS = float(os.environ.get("AIOREST_WS_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("AIOREST_WS_FUZZ_SEED", "0"))

TARGETS = {
    target.name: target for target in (handshakes.Handshakes, frames.Frames, messages.Messages)
}
# Inputs of each target that are sent over real sockets, too.
ON_SOCKETS = 60

KEPT = [
    pytest.param(name, path, id=f"{name}-{path.stem}")
    for name, target in TARGETS.items()
    for path in engine.corpus(target)
]


def beside_the_loop(call: Any, *arguments: Any) -> Any:
    """Return what `call` does in a thread that has no loop.

    pytest-twisted's is running here, and a view's coroutine would wait for its next turn, which
    the clock of a fuzzed server does not make.
    """
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(call, *arguments).result()


class Watched:
    """A target, and the log beside it."""

    def __init__(self, target: Any, watch: Any) -> None:
        self.target = target
        self.watch = watch
        self.name, self.words, self.generate = target.name, target.words, target.generate

    def play(self, data: bytes) -> str:
        outcome = self.target.play(data)
        self.watch.check()
        return outcome

    def at_rest(self) -> None:
        self.watch.check()
        self.target.at_rest()


@pytest.fixture
def make_target():
    made = []
    with server.Watch() as watch:

        def make(name):
            target = TARGETS[name]()
            made.append(target)
            return Watched(target, watch)

        yield make
    for target in made:
        target.close()


@pytest.mark.property
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_harm(make_target, name, capsys):
    tally = beside_the_loop(engine.run, make_target(name), SEED, SECONDS)
    with capsys.disabled():
        outcomes = sorted(tally.outcomes.items(), key=lambda item: -item[1])
        print(f"\n{name}: {tally.plays} inputs in {tally.seconds:.0f} s: {dict(outcomes)}")  # noqa: T201


@pytest.mark.parametrize(("name", "path"), KEPT)
def test_input_that_was_kept_does_no_harm(make_target, name, path):
    target = make_target(name)
    beside_the_loop(target.play, path.read_bytes())
    target.at_rest()


@pytest.mark.property
@pytest.mark.parametrize("name", TARGETS)
@pytest_twisted.ensureDeferred
async def test_no_input_does_harm_on_a_real_socket(make_target, name):
    target = make_target(name)
    reactor = install_reactor()
    factory = RequestHandlerFactory(router=server.Views(reactor).router, reactor=reactor)
    port = await tcp_endpoint(reactor, "127.0.0.1", 0).listen(factory)
    number = port.getHost().port
    try:
        for play in range(ON_SOCKETS):
            data = engine.make_input(target, SEED, play)
            peer = await wire.connect(reactor, number)
            for piece in engine.pieces(target.target.stream(data)):
                peer.write(piece)
            # A client that has gone: what it has asked for is cancelled, or answered before.
            peer.end_writing()
            sent = await peer.end()
            engine.keep_if_it_fails(
                target, data, lambda sent=sent: f"{output.parse(sent, may_be_cut=True).status}"
            )
            target.watch.check()
        peer = await wire.connect(reactor, number)
        assert (await peer.open(server.REQUEST % b""))[""] == "101"
        peer.write(server.good_call(wire.frame))
        assert json.loads((await peer.next_frame()).payload) == server.GOOD_REPLY
        peer.write(wire.close(1000))
        assert (await peer.next_frame()).opcode == wire.CLOSE
        await peer.end()
        await factory.last_closed()
        assert factory.countConnections == 0
        gc.collect()
        target.watch.check()
    finally:
        await maybeDeferred(port.stopListening)
        factory.stopFactory()
