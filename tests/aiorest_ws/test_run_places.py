"""`Application.run` in a thread, twice in a process, and beside a running loop."""

import re

import pytest

from support.programs import HELLO_REPLY, ask

pytestmark = pytest.mark.process

STOP = """
def stop():
    from twisted.internet import reactor
    reactor.callFromThread(reactor.stop)
"""

IN_A_THREAD = """
import threading
thread = threading.Thread(target=app.run, kwargs={"port": 0})
thread.start()
input()
stop()
thread.join()
print("joined")
"""

IN_AN_EXECUTOR = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor() as threads:
    served = threads.submit(app.run, port=0)
    input()
    stop()
    served.result()
print("joined")
"""

BESIDE_A_LOOP = """
import asyncio
async def main():
    served = asyncio.create_task(asyncio.to_thread(app.run, port=0))
    await asyncio.to_thread(input)
    stop()
    await served
asyncio.run(main())
print("joined")
"""

AFTER_A_LOOP = """
import asyncio, threading
asyncio.run(asyncio.sleep(0))
threading.Thread(target=lambda: (input(), stop())).start()
app.run(port=0)
asyncio.run(asyncio.sleep(0))
print("joined")
"""


@pytest.mark.parametrize("place", [IN_A_THREAD, IN_AN_EXECUTOR, BESIDE_A_LOOP, AFTER_A_LOOP])
def test_an_application_runs_in_any_thread_without_a_loop(start, folder, place):
    (folder / "server.py").write_text(f"from api import app\n{STOP}{place}")
    (folder / "input").write_text("")
    server = start("-c", INPUT_IS_A_FILE)
    assert ask(server.url()) == HELLO_REPLY
    (folder / "input").write_text("go on")
    assert server.join() == 0, server.lines
    assert server.lines[-1] == "joined"
    assert "stopped" in server.lines


# What `Server` starts has no standard input of its own.
INPUT_IS_A_FILE = """
import builtins, pathlib, runpy, time
def wait():
    while not pathlib.Path("input").read_text():
        time.sleep(0.02)
builtins.input = wait
runpy.run_path("server.py")
"""

IN_A_COROUTINE = """
import asyncio
async def main():
    app.run(port=0)
asyncio.run(main())
"""

IN_A_CALLBACK = """
import asyncio
loop = asyncio.new_event_loop()
loop.call_soon(lambda: app.run(port=0))
try:
    loop.run_forever()
finally:
    loop.close()
"""

TWICE = """
@app.on_startup
def end(factory):
    factory.reactor.callLater(0, factory.reactor.stop)
app.run(port=0)
app.run(port=0)
"""

ON_A_RUNNING_REACTOR = """
import threading
from aiorest_ws.transports import install_reactor
reactor = install_reactor()
def run():
    try:
        app.run(port=0)
    finally:
        reactor.callFromThread(reactor.stop)
reactor.callLater(0, threading.Thread(target=run).start)
reactor.run()
raise SystemExit(1)
"""

WORKERS_IN_A_THREAD = """
import threading
thread = threading.Thread(target=app.run, kwargs={"port": 0, "workers": 2})
thread.start()
thread.join()
raise SystemExit(1)
"""

HOOK_IN_A_THREAD = """
import threading
@app.on_startup
def fail(factory):
    raise KeyError("database")
thread = threading.Thread(target=app.run, kwargs={"port": 0})
thread.start()
thread.join()
raise SystemExit(1)
"""


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (IN_A_COROUTINE, "An event loop runs in this thread already: call `app.run()` before"),
        (IN_A_CALLBACK, "An event loop runs in this thread already: call `app.run()` before"),
        (TWICE, "A reactor runs once in a process: serve all applications at once"),
        (ON_A_RUNNING_REACTOR, "The reactor of this process runs already: start "),
        (WORKERS_IN_A_THREAD, "Workers need signals: call `app.run()` in the main thread."),
        (HOOK_IN_A_THREAD, "the server cannot start: 'database' "),
    ],
)
def test_where_it_cannot_run_one_sentence_says_what_to_do(start, folder, place, sentence):
    (folder / "server.py").write_text(f"from api import app\n{place}")
    server = start("server.py")
    assert server.join() == 1
    told = [line for line in server.lines if re.match("aiorest-ws: ", line)]
    assert len(told) == 1, server.lines
    assert sentence in told[0]
    assert "Traceback" not in "\n".join(server.lines)
